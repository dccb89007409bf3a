"""What finetuning did to the FINs of classifiers, with pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fins.data.splits import SPLIT, evenly, rows_not_trained_on
from fins.data.table import UtteranceTable
from fins.documents import table_of_rows
from fins.features import compute_feature, get_feature
from fins.learning.degradations import evaluate
from fins.learning.r2 import R2Accumulator, r2_text
from fins.networks import Fin
from fins.progress import SILENT, Watch
from fins.runs import locked, read_config, write_atomically, write_json
from fins.tensors import WEIGHTS
from ser_heads.evaluation.plots import plot_moved
from ser_heads.evaluation.predictions import check_out, read_result
from ser_heads.models import fins_in, load

FROZEN_WEIGHTS = "frozen.safetensors"  # of a run: what it had at the end of its first phase


@dataclass(frozen=True)
class DriftOptions:
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

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("there is nothing to report on: give the folder of a run of pipelines.train")
        if self.utterances < 1:
            raise ValueError("--utterances is at least 1")


@dataclass(frozen=True)
class TunedFin:
    """One FIN of a run, with its weights before and after finetuning."""

    feature: str
    before: Fin
    after: Fin


def report_drift(options: DriftOptions, watch: Watch = SILENT) -> tuple[Path, str]:
    """Score before and after, measure, draw, write; returns the folder and its table as Markdown."""
    runs = tuple(dict.fromkeys(Path(os.path.realpath(run)) for run in options.runs))
    out = options.out or options.runs[0] / "report"
    check_out(out)
    tuned = [read_tuned(run) for run in runs]
    stores = [options.store or stores_of(run) for run in runs]
    rows: list[dict[str, Any]] = []
    pictures: list[Path] = []
    with locked(out):
        for place, run in enumerate(runs):
            fins = score_tuned(tuned[place], run, stores[place], options.utterances, watch)
            rows.append({"run": str(run), "model": read_result(run)["model"], "fins": fins})
            for fin in tuned[place]:
                name = picture_name(place, run, fin.feature, [path.name for path in pictures])
                pictures.append(out / name)
                title = f"{run.name}: {fin.feature}"
                plot_moved(pictures[-1], fin.before, fin.after, fins[fin.feature], title)
        text = describe_drift(rows)
        images = [f"![{path.stem}]({path.name})" for path in pictures]
        page = ["# What finetuning did to the FINs", "", text, "", *images, ""]
        write_atomically(out / "README.md", "\n".join(page))
        write_json(out / "report.json", {"runs": rows})
    return out, text


def read_tuned(run: Path) -> list[TunedFin]:
    """The FINs of a run; ValueError if it is no run of pipelines.train, or none that finetuned FINs."""
    read_result(run)
    after = fins_in(load(run / WEIGHTS))
    if not after or not (run / FROZEN_WEIGHTS).is_file():
        raise ValueError(f"{run} finetuned no FINs: train it with --finetuned-epochs above 0 and FINs")
    before = fins_in(load(run / FROZEN_WEIGHTS))
    return [TunedFin(one.config.feature, one, other) for one, other in zip(before, after, strict=True)]


def stores_of(run: Path) -> tuple[Path, ...]:
    """The stores that a run was made of; ValueError if they are gone."""
    stores = tuple(Path(path) for path in read_config(run).get("store", []))
    if not stores or not all(path.is_file() for path in stores):
        raise ValueError(f"the stores of {run} aren't there any more: give --store")
    return stores


def score_tuned(
    fins: Sequence[TunedFin], run: Path, stores: Sequence[Path], most: int, watch: Watch
) -> dict[str, Any]:
    """Feature → R² against the closed form of all windows, before and after, and how far weights moved.

    Of utterances that the run didn't learn from, at most so many, evenly spread.
    """
    parts = {part: described["n_utterances"] for part, described in read_result(run)["parts"].items()}
    sums = [[R2Accumulator(get_feature(fin.feature).n_outputs) for _ in range(2)] for fin in fins]
    with UtteranceTable(stores) as table:
        places = evenly(rows_not_trained_on(run / SPLIT, parts, table.rows).rows, most)
        # numpy's threads and torch's wait for each other in a loop
        with threadpool_limits(1, "blas"), watch.bar(len(places), "utterances") as bar:
            for place in places:
                add_windows(windows_of(table, int(place)), fins, sums)
                bar.update()
    scores = {}
    for fin, accumulators in zip(fins, sums, strict=True):
        before, after = (accumulator.result() for accumulator in accumulators)
        scores[fin.feature] = {
            "r2_before": asdict(before),
            "r2_after": asdict(after),
            "moved": moved(fin.before, fin.after),
            "n_windows": before.n_windows,
        }
    return scores


def windows_of(table: UtteranceTable, place: int) -> NDArray[np.float32]:
    """(n_windows, 2048) of one utterance."""
    row = table.rows.iloc[place]
    store = table.stores[row["store"]]
    windows = store.window_slice(int(row["row"]))
    return store.windows(windows.start, windows.stop)


def add_windows(
    windows: NDArray[np.float32], fins: Sequence[TunedFin], sums: Sequence[Sequence[R2Accumulator]]
) -> None:
    """Take some windows into the sums, before and after, of each FIN."""
    for fin, accumulators in zip(fins, sums, strict=True):
        truth = compute_feature(get_feature(fin.feature), windows)
        for network, accumulator in zip((fin.before, fin.after), accumulators, strict=True):
            accumulator.update(truth, evaluate(network, windows))


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


def describe_drift(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a row a run and FIN."""
    cells, still = [], []
    for row in rows:
        run = Path(row["run"]).name
        for feature, drift in row["fins"].items():
            r2 = (r2_text(drift[when]["uniform"]) for when in ("r2_before", "r2_after"))
            moves = largest_move(drift["moved"])
            cells.append((f"{run}: {row['model']}", feature, f"{drift['n_windows']:,}", *r2, *moves))
        if {share for drift in row["fins"].values() for share in drift["moved"].values()} == {0.0}:
            still += ["", f"{run} kept the FINs of its frozen phase: no finetuned epoch validated better."]
    about = (
        "R² uniform against the closed form, in utterances that the run didn't learn from. How far a "
        "parameter moved is the length of its change over its length before."
    )
    names = ("run", "FIN", "windows", "R² before", "R² after", "moved most", "by")
    return "\n".join([about, "", table_of_rows(names, cells), *still])


def largest_move(shares: Mapping[str, float | None]) -> tuple[str, str]:
    """The parameter that moved furthest, and its share, in words."""
    # what was 0 and isn't any more counts as the largest move of all
    name, share = max(shares.items(), key=lambda item: np.inf if item[1] is None else item[1])
    if share is None:
        return name, "from 0"
    if share == 0:
        return "–", "0 %"
    return name, f"{100 * share:.2g} %" if share < 10 else f"{share:,.0f} times"
