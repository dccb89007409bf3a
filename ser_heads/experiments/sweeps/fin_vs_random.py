"""What a FIN's pretraining is worth: one head on the same mel feature, that comes about in five ways.

closed_form: computed. frozen: imitated by the FIN as it is. tuned: the same FIN, frozen for three
quarters of the epochs and then learning too. random: the same layers from random weights, learning from the
start. permuted: a FIN whose bands are of shuffled bins, treated as the tuned one. Each with 5, 10, 25, 50 and
100 % of the training speakers, in more epochs where they are few. Made for RAVDESS and SAVEE, three seeds,
with ESD as what none of them knows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from data_manifests.labels import order_labels
from fins.networks import SHIPPED
from fins.runs import HISTORY, read_json
from fins.tables import read_table
from ser_heads.evaluation.predictions import read_predictions
from ser_heads.evaluation.scores import difference, holm
from ser_heads.experiments import RunConfig, configure
from ser_heads.experiments.comparison_plots import plot_over_seconds, plot_shares
from ser_heads.experiments.sweeps.conclusion import Columns, Conclusion
from ser_heads.training.recipe import Recipe
from ser_heads.training.schedule import recent_means

PERCENT = (5, 10, 25, 50, 100)
EPOCHS = 12  # with all speakers: an hour and a half for three seeds on two cores
RANDOM_RATE = 1e-3  # of random weights: validation UAR 29.5, with 1e-4 27.8 (seed 0, 20 epochs, head at 1e-3)
PRETRAINED = ("frozen", "tuned", "permuted")
CLAIMS = (  # of the FIN publication, as better and worse
    ("tuned", "random"),
    ("random", "frozen"),
    ("tuned", "closed_form"),
)
QUESTIONS = (("frozen", "closed_form"), ("tuned", "permuted"))
THRESHOLD = 0.9  # of the best validation UAR that an arm reaches on average
SIGNIFICANT = 0.05
AT_EACH = "over all shares"

Key = tuple[str, int, int]
"""Arm, percent of the training speakers, seed."""
Runs = dict[Key, Mapping[str, Any]]
"""Rows of the comparison."""
History = list[tuple[float, float]]
"""Epoch by epoch: seconds so far, and UAR."""


def runs() -> dict[str, RunConfig]:
    return {
        f"{arm}-{percent}": configure("fin", fins=("mel",), training_speakers=percent / 100, **options)
        for percent in PERCENT
        for arm, options in arms_of(round(EPOCHS / (percent / 100) ** 0.5)).items()
    }


def arms_of(n_epochs: int) -> dict[str, dict[str, Any]]:
    """Arm → its options, of so many epochs in all."""
    n_late = round(n_epochs / 4)
    frozen = {"patience": n_epochs, "frozen_epochs": n_epochs, "finetuned_epochs": 0}
    tuned = frozen | {"frozen_epochs": n_epochs - n_late, "finetuned_epochs": n_late}
    from_start = frozen | {"frozen_epochs": 0, "finetuned_epochs": n_epochs}
    rates = {"finetuning_rate": Recipe.learning_rate, "fin_rate": RANDOM_RATE}
    return {
        "closed_form": {"pretraining": "closed_form", **frozen},
        "frozen": frozen,
        "tuned": tuned,
        "random": {"pretraining": "none", **from_start, **rates},
        "permuted": {"pretraining": "permuted", **tuned},
    }


def conclude(out: Path, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Of all runs that have a result, named <arm>-<percent>; writes two pictures into the folder."""
    runs = runs_of(rows)
    arms = list(dict.fromkeys(arm for arm, _, _ in sorted(runs, key=lambda key: key[1:])))
    uars = {"test": {key: row["by_part"]["test"]["uar"] for key, row in runs.items()}}
    if all("unseen" in row for row in runs.values()):
        uars["unseen"] = {key: row["unseen"]["uar"] for key, row in runs.items()}
    areas = {part: {arm: areas_under(values, arm) for arm in arms} for part, values in uars.items()}
    histories = {key: history_of(out, key[0], row) for key, row in runs.items()}
    times = times_to_threshold(histories, arms)
    paired = paired_differences(out, runs)
    plot_shares(out / "shares.png", {part: curves(values, arms) for part, values in uars.items()})
    most = max(percent for _, percent, _ in runs)
    full = {arm: [lines for key, lines in histories.items() if key[:2] == (arm, most)] for arm in arms}
    plot_over_seconds(out / "seconds.png", full, times["threshold"])
    tables = {
        f"UAR % by share of the training speakers, {part}": share_table(values, arms, areas[part])
        for part, values in uars.items()
    }
    title = f"Until validation UAR is {100 * times['threshold']:.1f} %, {with_most(runs)}"
    tables[title] = time_table(times)
    tables["Paired differences in UAR, points"] = paired_table(paired)
    pictures = {
        "shares": "UAR by share of the training speakers: mean over seeds, and their range",
        "seconds": f"validation UAR over seconds, {with_most(runs)}, pretraining counted",
    }
    return Conclusion(
        sentences(paired), tables, pictures, {"areas": areas, "times": times, "differences": paired}
    )


def runs_of(rows: Sequence[Mapping[str, Any]]) -> Runs:
    """By arm, percent and seed."""
    named: Runs = {}
    for row in rows:
        arm, percent = row["name"].rsplit("-", 1)
        named[arm, int(percent), row["seed"]] = row
    return named


def with_most(runs: Runs) -> str:
    """The largest share of the training speakers, in words."""
    most = max(percent for _, percent, _ in runs)
    return "with all training speakers" if most == 100 else f"with {most} % of the training speakers"


def curves(uars: Mapping[Key, float], arms: Sequence[str]) -> dict[str, dict[int, list[float]]]:
    """Arm → percent → UAR of each seed."""
    lines: dict[str, dict[int, list[float]]] = {arm: {} for arm in arms}
    for (arm, percent, _), uar in sorted(uars.items()):
        lines[arm].setdefault(percent, []).append(uar)
    return lines


def areas_under(uars: Mapping[Key, float], arm: str) -> list[float]:
    """Of each seed: mean UAR along the logarithm of the share of speakers, by trapezoids."""
    areas = []
    for seed in sorted({seed for other, _, seed in uars if other == arm}):
        points = sorted((percent, uar) for (a, percent, s), uar in uars.items() if (a, s) == (arm, seed))
        where, heights = np.log([percent for percent, _ in points]), [uar for _, uar in points]
        width = where[-1] - where[0]
        areas.append(float(trapezoid(heights, where) / width) if width else float(heights[0]))
    return areas


def history_of(out: Path, arm: str, row: Mapping[str, Any]) -> History:
    """Epoch by epoch: seconds so far, those of pretraining among them, and the last five's validation UAR."""
    history = read_table(out / row["folder"] / HISTORY)
    before = pretraining_seconds() if arm in PRETRAINED else 0.0
    uars = history["validation_uar"].astype(float).tolist()
    seconds = [before + value for value in history["seconds"].astype(float)]
    return list(zip(seconds, recent_means(uars), strict=True))


def pretraining_seconds() -> float:
    """That the shipped FIN of mel took, on the machine that it was made on."""
    return float(read_json(SHIPPED["mel"].with_suffix(".json"))["seconds"])


def times_to_threshold(histories: Mapping[Key, History], arms: Sequence[str]) -> dict[str, Any]:
    """threshold : UAR; by_arm : arm → epochs and seconds of each seed, None where it isn't reached; at the
    largest share."""
    most = max(percent for _, percent, _ in histories)
    full = {arm: [line for key, line in sorted(histories.items()) if key[:2] == (arm, most)] for arm in arms}
    highest = [[max(uar for _, uar in line) for line in lines] for lines in full.values()]
    threshold = THRESHOLD * max(float(np.mean(uars)) for uars in highest if uars)
    by_arm: dict[str, dict[str, list[float | None]]] = {}
    for arm, lines in full.items():
        times: dict[str, list[float | None]] = {"epochs": [], "seconds": []}
        for line in lines:
            first = next((n for n, (_, uar) in enumerate(line) if uar >= threshold), None)
            times["epochs"].append(None if first is None else first + 1)
            times["seconds"].append(None if first is None else line[first][0])
        by_arm[arm] = times
    return {"percent": most, "threshold": threshold, "by_arm": by_arm}


def paired_differences(out: Path, runs: Runs) -> list[dict[str, Any]]:
    """Of each pair of arms, with all speakers and over all shares: better minus worse in UAR on the same test
    utterances of all seeds, with Holm's correction over all of them.

    A speaker's utterances are resampled and exchanged together, whatever the seeds and shares.
    """
    most = max(percent for _, percent, _ in runs)
    differences = []
    for better, worse in (*CLAIMS, *QUESTIONS):
        pairs = {
            key: (row, runs[worse, key[1], key[2]])
            for key, row in runs.items()
            if key[0] == better and (worse, key[1], key[2]) in runs
        }
        for share, chosen in {
            with_most(runs): [pair for key, pair in pairs.items() if key[1] == most],
            AT_EACH: list(pairs.values()),
        }.items():
            if chosen:
                facts = {"better": better, "worse": worse, "share": share, "n_runs": len(chosen)}
                differences.append({**facts, **difference_of(out, chosen)})
    corrected = holm([1.0 if row["p"] is None else row["p"] for row in differences])
    return [{**row, "p_corrected": p} for row, p in zip(differences, corrected, strict=True)]


def difference_of(out: Path, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    """Of the predictions of pairs of runs, those of all pairs taken together."""
    tables: tuple[list[pd.DataFrame], list[pd.DataFrame]] = [], []
    for pair in pairs:
        better, worse = (read_predictions(out / row["folder"]).table for row in pair)
        if better["utterance"].tolist() != worse["utterance"].tolist():
            raise ValueError(f"{pair[0]['label']} and {pair[1]['label']} have other test utterances")
        tables[0].append(better)
        tables[1].append(worse)
    first, second = (pd.concat(parts, ignore_index=True) for parts in tables)
    labels = order_labels([*first["emotion"], *first["answer"], *second["answer"]])
    places = {label: place for place, label in enumerate(labels)}
    truth, ours, theirs = (
        column.map(places).to_numpy() for column in (first["emotion"], first["answer"], second["answer"])
    )
    gain = difference(truth, ours, theirs, first["speaker"].tolist(), labels)
    interval = gain.interval_95["uar"]
    return {
        "by": gain.by["uar"],
        "interval_95": None if interval is None else list(interval),
        "p": gain.p["uar"],
        "n_speakers": gain.n_speakers,
    }


def sentences(paired: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answers in plain words, one of each pair of arms."""
    lines = []
    for better, worse in (*CLAIMS, *QUESTIONS):
        is_claim = (better, worse) in CLAIMS
        rows = [row for row in paired if (row["better"], row["worse"]) == (better, worse)]
        verdicts = "; ".join(
            f"{row['share']} {verdict_of(row, is_claim)} ({describe_difference(row)})" for row in rows
        )
        question = f"Published: {better} above {worse}." if is_claim else f"Is {better} above {worse}?"
        if rows:
            lines.append(f"{question} {verdicts.capitalize()}.")
    return lines


def verdict_of(row: Mapping[str, Any], is_claim: bool) -> str:
    """In a word or two, after Holm's correction."""
    if row["p_corrected"] >= SIGNIFICANT:
        return "not settled"
    if is_claim:
        return "confirmed" if row["by"] > 0 else "refuted"
    return "yes" if row["by"] > 0 else "no, below"


def describe_difference(row: Mapping[str, Any]) -> str:
    """Points, interval and corrected p."""
    interval = f", {points_between(row)}" if row["interval_95"] is not None else ""
    return f"{100 * row['by']:+.1f} points{interval}, p {row['p_corrected']:.3f}"


def points_between(row: Mapping[str, Any]) -> str:
    """The interval of a difference; nothing of one speaker."""
    if row["interval_95"] is None:
        return ""
    low, high = row["interval_95"]
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def share_table(
    uars: Mapping[Key, float], arms: Sequence[str], areas: Mapping[str, Sequence[float]]
) -> Columns:
    """Share of the speakers → arm → UAR over seeds; last the area under all shares."""
    lines = curves(uars, arms)
    percents = sorted({percent for line in lines.values() for percent in line})
    columns: Columns = {
        f"{percent} %": {arm: mean_and_deviation(lines[arm].get(percent, [])) for arm in arms}
        for percent in percents
    }
    columns["area"] = {arm: mean_and_deviation(areas[arm]) for arm in arms}
    return columns


def time_table(times: Mapping[str, Any]) -> Columns:
    """Epochs and seconds → arm → those of each seed."""
    return {
        unit: {
            arm: ", ".join("never" if value is None else f"{value:.0f}" for value in values[unit])
            for arm, values in times["by_arm"].items()
        }
        for unit in ("epochs", "seconds")
    }


def paired_table(paired: Sequence[Mapping[str, Any]]) -> Columns:
    """What each difference is, between which points it lies, and how likely it is by chance."""
    columns: Columns = {"difference": {}, "95 % interval": {}, "p": {}, "p, corrected": {}}
    for row in paired:
        name = f"{row['better']} - {row['worse']}, {row['share']}"
        columns["difference"][name] = f"{100 * row['by']:+.1f}"
        columns["95 % interval"][name] = points_between(row)
        columns["p"][name] = "" if row["p"] is None else f"{row['p']:.4f}"
        columns["p, corrected"][name] = f"{row['p_corrected']:.4f}"
    return columns


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean in %, ± deviation of several."""
    if not values:
        return ""
    text = f"{100 * np.mean(values):.1f}"
    return text if len(values) < 2 else f"{text} ± {100 * np.std(values, ddof=1):.1f}"
