"""python -m pipelines.report: what finetuning did to the FINs of classifiers, with pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from fins.checkpoints import WEIGHTS, load_tensors
from fins.command import run_command
from fins.conditions import evaluate
from fins.features import compute_feature, get_feature
from fins.networks import Fin
from fins.runs import CONFIG, held, read_json, write_json
from fins.scores import R2Accumulator, r2_text
from pipelines.results import check_out, evenly_spread, find_unseen, read_result
from pipelines.train import FROZEN_WEIGHTS
from ser_heads.data import UtteranceTable
from ser_heads.models import load_model
from ser_heads.plots import plot_moved


@dataclass(frozen=True)
class ReportConfig:
    """Tell what finetuning did to the FINs of classifiers: whether they still imitate their closed forms, and
    how far their weights moved.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of pipelines.train."""
    store: tuple[Path, ...] = ()
    """Stores whose recordings the R² is of; by default the test part of those that each run is of."""
    out: Path | None = None
    """Folder for README.md, report.json and the pictures; by default <first run>/report."""
    utterances: int = 200
    """At most so many for each run, evenly spread; none that it learned from."""


@dataclass(frozen=True)
class Pair:
    """One FIN of a run, with its weights before and after finetuning."""

    feature: str
    before: Fin
    after: Fin


def main(config: ReportConfig) -> None:
    """Score before and after, measure, draw, write; the table is printed too."""
    if not config.runs:
        raise ValueError("there is nothing to report on: give the folder of a run of pipelines.train")
    if config.utterances < 1:
        raise ValueError("--utterances is at least 1")
    runs = tuple(dict.fromkeys(run.resolve() for run in config.runs))
    out = config.out or config.runs[0] / "report"
    check_out(out)
    pairs = [read_pairs(run) for run in runs]
    chosen = [choose(run, config.store, config.utterances) for run in runs]
    rows: list[dict[str, Any]] = []
    pictures: list[Path] = []
    with held(out):
        for place, run in enumerate(runs):
            fins = score(pairs[place], *chosen[place])
            rows.append({"run": str(run), "model": read_result(run)["model"], "fins": fins})
            for pair in pairs[place]:
                name = picture_name(place, run, pair.feature, [path.name for path in pictures])
                pictures.append(out / name)
                title = f"{run.name}: {pair.feature}"
                plot_moved(pictures[-1], pair.before, pair.after, fins[pair.feature], title)
        text = describe(rows)
        images = [f"![{path.stem}]({path.name})" for path in pictures]
        page = ["# What finetuning did to the FINs", "", text, "", *images, ""]
        (out / "README.md").write_text("\n".join(page))
        write_json(out / "report.json", {"runs": rows})
    print(text)
    print(f"written to {out}")


def read_pairs(run: Path) -> list[Pair]:
    """The FINs of a run; ValueError if it is no run of pipelines.train, or none that finetuned FINs."""
    read_result(run)
    after, _, _ = load_model(run / WEIGHTS)
    if after.fins is None or not (run / FROZEN_WEIGHTS).is_file():
        raise ValueError(f"{run} finetuned no FINs: train it with --finetuned-epochs above 0 and FINs")
    before, _, _ = load_model(run / FROZEN_WEIGHTS)
    assert before.fins is not None
    _, header = load_tensors(run / FROZEN_WEIGHTS)
    features = [fin["feature"] for fin in header["fins"]]
    both = zip(features, before.fins.fins.values(), after.fins.fins.values(), strict=True)
    return [Pair(feature, was, its) for feature, was, its in both]  # type: ignore[arg-type]


def choose(run: Path, stores: Sequence[Path], most: int) -> tuple[UtteranceTable, NDArray[np.int64]]:
    """Utterances that a run didn't learn from, of some stores or its own; at most so many, evenly spread."""
    if not stores:
        stores = [Path(path) for path in read_json(run / CONFIG).get("config", {}).get("store", [])]
        missing = [str(path) for path in stores if not path.is_file()]
        if missing or not stores:
            raise ValueError(f"the stores of {run} aren't there any more: give --store")
    unseen = find_unseen(run, stores, trimmed=False)
    return unseen.table, evenly_spread(unseen.rows, most)


def score(pairs: Sequence[Pair], table: UtteranceTable, utterances: NDArray[np.int64]) -> dict[str, Any]:
    """Feature → R² against the closed form of all windows, before and after, and how far weights moved."""
    sums = [[R2Accumulator(get_feature(pair.feature).n_outputs) for _ in range(2)] for pair in pairs]
    # numpy's threads and torch's wait for each other in a loop
    with threadpool_limits(1, "blas"):
        for utterance in tqdm(utterances, unit=" utterances", leave=False):
            store = table.stores[table.store[utterance]]
            its = store.window_slice(int(table.row[utterance]))
            windows = store.windows(its.start, its.stop)
            for pair, accumulators in zip(pairs, sums, strict=True):
                truth = compute_feature(get_feature(pair.feature), windows)
                for fin, accumulator in zip((pair.before, pair.after), accumulators, strict=True):
                    accumulator.update(truth, evaluate(fin, windows))
    fins = {}
    for pair, accumulators in zip(pairs, sums, strict=True):
        before, after = (accumulator.result() for accumulator in accumulators)
        fins[pair.feature] = {
            "r2_before": asdict(before),
            "r2_after": asdict(after),
            "moved": moved(pair.before, pair.after),
            "n_windows": before.n_windows,
        }
    return fins


def moved(before: Fin, after: Fin) -> dict[str, float | None]:
    """Parameter → length of its change over its length before; None if that was 0 and isn't any more."""
    shares: dict[str, float | None] = {}
    for name, was in before.named_parameters():
        change = float((after.get_parameter(name) - was).detach().double().norm())
        length = float(was.detach().double().norm())
        shares[name] = change / length if length > 0 else None if change > 0 else 0.0
    return shares


def picture_name(place: int, run: Path, feature: str, taken: Sequence[str]) -> str:
    """The first run's pictures are named by the feature, those of others by run and feature."""
    name = re.sub(r"[^\w.-]", "_", feature if place == 0 else f"{run.name}-{feature}")
    return f"{name}.png" if f"{name}.png" not in taken else f"{name}-{place + 1}.png"


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a row a run and FIN."""
    lines = [
        "R² uniform against the closed form, in utterances that the run didn't learn from. How far a "
        "parameter moved is the length of its change over its length before.",
        "",
        "| run | FIN | windows | R² before | R² after | moved most | by |",
        "|---|---|--:|--:|--:|---|--:|",
    ]
    still = []
    for row in rows:
        run = Path(row["run"]).name
        for feature, its in row["fins"].items():
            lines.append(
                f"| {run}: {row['model']} | {feature} | {its['n_windows']:,} "
                f"| {r2_text(its['r2_before']['uniform'])} | {r2_text(its['r2_after']['uniform'])} "
                f"| {largest_move(its['moved'])} |"
            )
        if {share for its in row["fins"].values() for share in its["moved"].values()} == {0.0}:
            still.append(f"{run} kept the FINs of its frozen phase: no finetuned epoch validated better.")
    return "\n".join([*lines, *(["", *still] if still else [])])


def largest_move(shares: Mapping[str, float | None]) -> str:
    """The parameter that moved furthest, and its share, as two cells."""
    # what was 0 and isn't any more counts as the largest move of all
    name, share = max(shares.items(), key=lambda item: np.inf if item[1] is None else item[1])
    if share is None:
        return f"{name} | from 0"
    if share == 0:
        return "– | 0 %"
    return f"{name} | {100 * share:.2g} %" if share < 10 else f"{name} | {share:,.0f} times"


if __name__ == "__main__":
    run_command(main, ReportConfig, ReportConfig.__doc__ or "")
