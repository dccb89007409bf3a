"""python -m pipelines.weights: learn the FINs that come with the package again, and write their cards."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fins.command import run_command
from fins.data.store import Store
from fins.learning.cards import fin_card
from fins.learning.report import score_conditions
from fins.learning.run import FinRunConfig, train_fin
from fins.networks import SHIPPED
from fins.progress import SILENT, TqdmWatch, Watch
from fins.runs import CONFIG, read_json, write_atomically, write_json
from fins.tensors import WEIGHTS


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

    def __post_init__(self) -> None:
        unknown = sorted(set(self.names) - set(SHIPPED))
        if unknown:
            raise ValueError(f"there is no shipped FIN {unknown[0]}: the known ones are {', '.join(SHIPPED)}")


def main(config: WeightsConfig) -> None:
    """One FIN after the other; a run that is there already isn't made again."""
    watch = TqdmWatch()
    for name in config.names:
        make_weights(name, config, watch)
    print(f"written to {config.out}")


def make_weights(name: str, config: WeightsConfig, watch: Watch = SILENT) -> None:
    """Learn one FIN, score it, and write its weights, result and card."""
    feature, _, kind = name.partition("_")
    topology: Any = kind or "compact"
    run = config.runs.resolve() / name
    settings = FinRunConfig(feature, topology=topology, test_store=config.store, seed=config.seed, out=run)
    result = asdict(train_fin(settings, watch))
    for row in result["r2"]:  # where a store lay says nothing to others
        row["store"] = Path(row["store"]).name
    stores = [Store(path) for path in config.store]
    degraded = score_conditions([{"run": str(run), **result}], stores, config.utterances, watch)
    for row in degraded:
        row["store"] = Path(row["store"]).stem
        row["run"] = name
        del row["per_output"]
    versions = read_json(run / CONFIG)["versions"]
    config.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / WEIGHTS, config.out / f"{name}.safetensors")
    write_json(config.out / f"{name}.json", {**result, "versions": versions, "conditions": degraded})
    card = fin_card(name, result, versions, degraded, config.utterances)
    write_atomically(config.out / f"{name}.md", card)


if __name__ == "__main__":
    run_command(main, WeightsConfig)
