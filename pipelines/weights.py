"""python -m pipelines.weights: learn the FINs that come with the package again, and write their cards."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fins.checkpoints import SHIPPED, WEIGHTS
from fins.command import run_command
from fins.report import cell_of, score_conditions
from fins.runs import CONFIG, RESULT, read_json, write_json
from fins.stages import Learned
from fins.store import Store
from fins.train import TrainConfig, describe_scores, describe_stages
from fins.train import main as train


@dataclass(frozen=True)
class WeightsConfig:
    """Learn the shipped FINs from noise and write weights, results and cards into the package."""

    names: tuple[str, ...] = tuple(SHIPPED)
    """Of the FINs that are learned."""
    store: tuple[Path, ...] = ()
    """Stores to score them on, and to degrade; they see none of it while they learn."""
    seed: int = 0
    """Of weights and noise."""
    utterances: int = 100
    """At most so many of each store are degraded."""
    runs: Path = Path("runs/shipped")
    """Folder for the runs that the weights are from."""
    out: Path = SHIPPED["mfcc"].parent
    """Folder of the weights: the package's own."""


def main(config: WeightsConfig) -> None:
    """One FIN after the other; a run that is there already isn't made again."""
    config.out.mkdir(parents=True, exist_ok=True)
    stores = [Store(path) for path in config.store]
    unknown = sorted(set(config.names) - set(SHIPPED))
    if unknown:
        raise ValueError(f"there is no shipped FIN {unknown[0]}: the known ones are {', '.join(SHIPPED)}")
    for name in config.names:
        feature, _, kind = name.partition("_")
        topology: Any = kind or "compact"
        run = config.runs.resolve() / name
        train(TrainConfig(feature, topology=topology, test_store=config.store, seed=config.seed, out=run))
        result = read_json(run / RESULT)
        for row in result["r2"]:  # where a store lay says nothing to others
            row["store"] = Path(row["store"]).name
        degraded = score_conditions([{"run": str(run), **result}], stores, config.utterances)
        for row in degraded:
            row["store"] = Path(row["store"]).stem
            row["run"] = name
            del row["per_output"]
        versions = read_json(run / CONFIG)["versions"]
        shutil.copyfile(run / WEIGHTS, config.out / f"{name}.safetensors")
        write_json(config.out / f"{name}.json", {**result, "versions": versions, "conditions": degraded})
        (config.out / f"{name}.md").write_text(card_of(name, result, versions, degraded, config))
    print(f"written to {config.out}")


def card_of(
    name: str,
    result: dict[str, Any],
    versions: dict[str, str],
    degraded: list[dict[str, Any]],
    config: WeightsConfig,
) -> str:
    """What a user should know of one FIN's weights, as Markdown."""
    stores = list(dict.fromkeys(row["store"] for row in degraded))
    conditions = list(dict.fromkeys(row["condition"] for row in degraded))
    cells = {(row["store"], row["condition"]): cell_of(row) for row in degraded}
    return "\n".join(
        [
            f"# {name}",
            "",
            f'`fins.load("{name}")`: (batch, 2048) samples at 22,050 Hz → {result["feature"]}, in its own '
            f"unit. {result['parameters']:,} parameters, all trainable; "
            f"{result['multiply_adds_per_window']:,} multiply-adds a window.",
            "",
            f"Learned from random weights (seed {config.seed}) and noise alone, stage by stage, in "
            f"{result['seconds']:.0f} s on a CPU. No recording was used, so no corpus's licence attaches: "
            "the weights are under the package's own.",
            "",
            f"    python -m fins.train --feature {result['feature']} --topology {result['topology']} "
            f"--seed {config.seed}",
            "",
            describe_stages([Learned(**stage) for stage in result["stages"]]),
            "",
            "R² against the closed form, on all windows, silence included:",
            "",
            describe_scores(result["r2"]),
            "",
            f"R² uniform (variance-weighted) under conditions, at most {config.utterances} clips a corpus:",
            "",
            f"| condition | {' | '.join(stores)} |",
            "|---|" + "--:|" * len(stores),
            *(
                f"| {condition} | {' | '.join(cells[store, condition] for store in stores)} |"
                for condition in conditions
            ),
            "",
            f"Made with {', '.join(f'{library} {version}' for library, version in versions.items())}.",
            "",
        ]
    )


if __name__ == "__main__":
    run_command(main, WeightsConfig, WeightsConfig.__doc__ or "")
