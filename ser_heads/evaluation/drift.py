"""What finetuning did to the FINs of classifiers, with pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fins.audio import SAMPLE_RATE
from fins.data.splits import SPLIT, evenly, rows_not_trained_on
from fins.data.table import UtteranceTable
from fins.documents import table_of_rows
from fins.features import Feature, compute_feature, get_feature
from fins.learning.degradations import evaluate
from fins.learning.r2 import R2Accumulator, r2_text
from fins.networks import Fin
from fins.progress import SILENT, Watch
from fins.runs import locked, read_config, write_atomically, write_json
from fins.tensors import WEIGHTS
from ser_heads.evaluation.plots import plot_moved
from ser_heads.evaluation.predictions import check_out, read_result
from ser_heads.layers.frame_norm import VoicingAndPitch
from ser_heads.models import fins_in, load

FROZEN_WEIGHTS = "frozen.safetensors"  # of a run: what it had at the end of its first phase
STEP = 2.0**-15  # of a 16-bit sample
FAINTEST = {"power": 1e-10, "amplitude": 1e-5}  # below it a level isn't taken lower


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


class TunedFin:
    """One FIN of a run before and after finetuning, and how far its outputs went, window by window.

    r2 : before and after, against the closed form
    went : of each window the mean distance of outputs after from those before, in the unit of `in_unit`
    rounded : the same of the outputs before from those of windows that were rounded to 16 bits once more
    """

    def __init__(self, before: Fin, after: Fin) -> None:
        self.before, self.after = before, after
        self.feature = get_feature(before.config.feature)
        self.r2 = [R2Accumulator(self.feature.n_outputs) for _ in range(2)]
        self.went: list[NDArray[np.float64]] = []
        self.rounded: list[NDArray[np.float64]] = []

    def add(self, windows: NDArray[np.float32], again: NDArray[np.float32]) -> None:
        """Take some windows in, and the same ones rounded again."""
        truth = compute_feature(self.feature, windows)
        outputs = [evaluate(fin, windows) for fin in (self.before, self.after)]
        for imitation, accumulator in zip(outputs, self.r2, strict=True):
            accumulator.update(truth, imitation)
        before, after, rounded = (
            in_unit(self.feature, values)[0] for values in (*outputs, evaluate(self.before, again))
        )
        self.went.append(np.abs(after - before).mean(axis=1))
        self.rounded.append(np.abs(rounded - before).mean(axis=1))

    def scores(self) -> dict[str, Any]:
        """What report.json holds of it. One that moved less than 16 bits round is called frozen."""
        before, after = (accumulator.result() for accumulator in self.r2)
        went, rounding = np.concatenate(self.went), float(np.median(np.concatenate(self.rounded)))
        median, largest = np.quantile(went, (0.5, 0.95))
        unit = in_unit(self.feature, np.zeros((1, self.feature.n_outputs), np.float32))[1]
        return {
            "r2_before": asdict(before),
            "r2_after": asdict(after),
            "moved": moved(self.before, self.after),
            "drift": {"unit": unit, "median": float(median), "p95": float(largest), "rounding": rounding},
            "frozen": bool(median <= rounding),
            "n_windows": before.n_windows,
        }


def in_unit(feature: Feature, values: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """(n, n_outputs) → the same in a unit that a person knows, and its name: levels in dB, rates of zero
    crossings in Hz, likenesses of periods in semitones above 100 Hz, 0 where nothing is voiced.
    """
    if feature.name == "pitch":
        with torch.no_grad():
            melody = VoicingAndPitch()(torch.from_numpy(values)[None], torch.ones(1, len(values)))
        return melody[0, :, 1:2].double().numpy(), "semitones"
    if feature.name == "zcr":
        return values.astype(np.float64) * SAMPLE_RATE / 2, "Hz"
    if (faintest := FAINTEST.get(feature.scale)) is not None:
        factor = 10 if feature.scale == "power" else 20
        return factor * np.log10(np.maximum(values, faintest).astype(np.float64)), "dB"
    return values.astype(np.float64), feature.unit.split(",")[0]


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
                feature = fin.feature.name
                name = picture_name(place, run, feature, [path.name for path in pictures])
                pictures.append(out / name)
                title = f"{run.name}: {feature}"
                plot_moved(pictures[-1], fin.before, fin.after, fins[feature], title)
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
    return [TunedFin(one, other) for one, other in zip(before, after, strict=True)]


def stores_of(run: Path) -> tuple[Path, ...]:
    """The stores that a run was made of; ValueError if they are gone."""
    stores = tuple(Path(path) for path in read_config(run).get("store", []))
    if not stores or not all(path.is_file() for path in stores):
        raise ValueError(f"the stores of {run} aren't there any more: give --store")
    return stores


def score_tuned(
    fins: Sequence[TunedFin], run: Path, stores: Sequence[Path], most: int, watch: Watch
) -> dict[str, Any]:
    """Feature → R² against the closed form of all windows, before and after, and how far the FIN moved.

    Of utterances that the run didn't learn from, at most so many, evenly spread.
    """
    parts = {part: described["n_utterances"] for part, described in read_result(run)["parts"].items()}
    rng = np.random.default_rng(0)
    with UtteranceTable(stores) as table:
        places = evenly(rows_not_trained_on(run / SPLIT, parts, table.rows).rows, most)
        # numpy's threads and torch's wait for each other in a loop
        with threadpool_limits(1, "blas"), watch.bar(len(places), "utterances") as bar:
            for place in places:
                windows = windows_of(table, int(place))
                again = windows + STEP * rng.uniform(-0.5, 0.5, windows.shape).astype(np.float32)
                for fin in fins:
                    fin.add(windows, again)
                bar.update()
    return {fin.feature.name: fin.scores() for fin in fins}


def windows_of(table: UtteranceTable, place: int) -> NDArray[np.float32]:
    """(n_windows, 2048) of one utterance."""
    row = table.rows.iloc[place]
    store = table.stores[row["store"]]
    windows = store.window_slice(int(row["row"]))
    return store.windows(windows.start, windows.stop)


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
            moves = (*largest_move(drift["moved"]), drift_text(drift))
            cells.append((f"{run}: {row['model']}", feature, f"{drift['n_windows']:,}", *r2, *moves))
        if {share for drift in row["fins"].values() for share in drift["moved"].values()} == {0.0}:
            why = "no finetuned epoch validated better, or they had no rate"
            still += ["", f"{run} kept the FINs of its frozen phase: {why}."]
    about = (
        "R² uniform against the closed form, in utterances that the run didn't learn from. How far a "
        "parameter moved is the length of its change over its length before; how far outputs went, the "
        "median and the 95th percentile over windows of their mean distance. A FIN whose outputs went no "
        "further than rounding to 16 bits moves them is called frozen."
    )
    names = ("run", "FIN", "windows", "R² before", "R² after", "moved most", "by", "outputs went")
    return "\n".join([about, "", table_of_rows(names, cells), *still])


def drift_text(scores: Mapping[str, Any]) -> str:
    """How far outputs went, in words."""
    drift = scores["drift"]
    went = f"{drift['median']:.2g} ({drift['p95']:.2g}) {drift['unit']}"
    if not scores["frozen"]:
        return went
    return f"{went}: frozen" if drift["p95"] else "frozen"


def largest_move(shares: Mapping[str, float | None]) -> tuple[str, str]:
    """The parameter that moved furthest, and its share, in words."""
    # what was 0 and isn't any more counts as the largest move of all
    name, share = max(shares.items(), key=lambda item: np.inf if item[1] is None else item[1])
    if share is None:
        return name, "from 0"
    if share == 0:
        return "–", "0 %"
    return name, f"{100 * share:.2g} %" if share < 10 else f"{share:,.0f} times"
