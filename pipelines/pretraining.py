"""What pretraining is worth, from the runs of the sweep fin_vs_random: curves, times, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import trapezoid

from fins.checkpoints import SHIPPED
from fins.runs import HISTORY, read_json
from pipelines.results import read_predictions, read_table
from pipelines.sweeps import Columns, Conclusion
from ser_heads.comparison_plots import plot_over_seconds, plot_shares
from ser_heads.scores import difference, holm
from ser_heads.training import recent_means

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


def conclude(out: Path, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Of all runs that have a result, named <arm>-<percent>; writes two pictures into the folder."""
    runs: Runs = {}
    for row in rows:
        arm, percent = row["name"].rsplit("-", 1)
        runs[arm, int(percent), row["seed"]] = row
    arms = list(dict.fromkeys(arm for arm, _, _ in sorted(runs, key=lambda its: its[1:])))
    uars = {"test": {key: row["by_part"]["test"]["uar"] for key, row in runs.items()}}
    if all("unseen" in row for row in runs.values()):
        uars["unseen"] = {key: row["unseen"]["uar"] for key, row in runs.items()}
    areas = {part: {arm: areas_under(its, arm) for arm in arms} for part, its in uars.items()}
    histories = {key: history_of(out, key[0], row) for key, row in runs.items()}
    times = times_to_threshold(histories, arms)
    paired = paired_differences(out, runs)
    plot_shares(out / "shares.png", {part: curves(its, arms) for part, its in uars.items()})
    most = max(percent for _, percent, _ in runs)
    full = {arm: [its for key, its in histories.items() if key[:2] == (arm, most)] for arm in arms}
    plot_over_seconds(out / "seconds.png", full, times["threshold"])
    tables = {
        f"UAR % by share of the training speakers, {part}": share_table(its, arms, areas[part])
        for part, its in uars.items()
    }
    title = f"Until validation UAR is {100 * times['threshold']:.1f} %, {with_most(runs)}"
    tables[title] = time_table(times)
    tables["Paired differences in UAR, points"] = paired_table(paired)
    return Conclusion(
        answers(paired),
        tables,
        {
            "shares": "UAR by share of the training speakers: mean over seeds, and their range",
            "seconds": f"validation UAR over seconds, {with_most(runs)}, pretraining counted",
        },
        {"areas": areas, "times": times, "differences": paired},
    )


def with_most(runs: Runs) -> str:
    """The largest share of the training speakers, in words."""
    most = max(percent for _, percent, _ in runs)
    return "with all training speakers" if most == 100 else f"with {most} % of the training speakers"


def curves(uars: Mapping[Key, float], arms: Sequence[str]) -> dict[str, dict[int, list[float]]]:
    """Arm → percent → UAR of each seed."""
    found: dict[str, dict[int, list[float]]] = {arm: {} for arm in arms}
    for (arm, percent, _), uar in sorted(uars.items()):
        found[arm].setdefault(percent, []).append(uar)
    return found


def areas_under(uars: Mapping[Key, float], arm: str) -> list[float]:
    """Of each seed: mean UAR along the logarithm of the share of speakers, by trapezoids."""
    areas = []
    for seed in sorted({seed for its, _, seed in uars if its == arm}):
        its = sorted((percent, uar) for (a, percent, s), uar in uars.items() if (a, s) == (arm, seed))
        where, heights = np.log([percent for percent, _ in its]), [uar for _, uar in its]
        width = where[-1] - where[0]
        areas.append(float(trapezoid(heights, where) / width) if width else float(heights[0]))
    return areas


def history_of(out: Path, arm: str, row: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Epoch by epoch: seconds so far, those of pretraining among them, and the last five's validation UAR."""
    header, rows = read_table(out / row["folder"] / HISTORY)
    before = pretraining_seconds() if arm in PRETRAINED else 0.0
    uars = [float(its[header.index("validation_uar")]) for its in rows]
    seconds = [before + float(its[header.index("seconds")]) for its in rows]
    return list(zip(seconds, recent_means(uars), strict=True))


def pretraining_seconds() -> float:
    """That the shipped FIN of mel took, on the machine that it was made on."""
    return float(read_json(SHIPPED["mel"].with_suffix(".json"))["seconds"])


def times_to_threshold(
    histories: Mapping[Key, Sequence[tuple[float, float]]], arms: Sequence[str]
) -> dict[str, Any]:
    """threshold : UAR; by_arm : arm → epochs and seconds of each seed, None where it isn't reached; at the
    largest share."""
    most = max(percent for _, percent, _ in histories)
    full = {key: its for key, its in histories.items() if key[1] == most}
    reached = {arm: [max(u for _, u in its) for key, its in full.items() if key[0] == arm] for arm in arms}
    threshold = THRESHOLD * max(float(np.mean(its)) for its in reached.values())
    by_arm: dict[str, dict[str, list[float | None]]] = {}
    for arm in arms:
        found: dict[str, list[float | None]] = {"epochs": [], "seconds": []}
        for _, its in sorted((key, its) for key, its in full.items() if key[0] == arm):
            there = [n for n, (_, uar) in enumerate(its) if uar >= threshold]
            found["epochs"].append(there[0] + 1 if there else None)
            found["seconds"].append(its[there[0]][0] if there else None)
        by_arm[arm] = found
    return {"percent": most, "threshold": threshold, "by_arm": by_arm}


def paired_differences(out: Path, runs: Runs) -> list[dict[str, Any]]:
    """Of each pair of arms, with all speakers and over all shares: better minus worse in UAR on the same test
    utterances of all seeds, with Holm's correction over all of them.

    A speaker's utterances are resampled and exchanged together, whatever the seeds and shares.
    """
    most = max(percent for _, percent, _ in runs)
    found = []
    for better, worse in (*CLAIMS, *QUESTIONS):
        pairs = {
            key: (row, runs[worse, key[1], key[2]])
            for key, row in runs.items()
            if key[0] == better and (worse, key[1], key[2]) in runs
        }
        for share, its in {
            with_most(runs): [pair for key, pair in pairs.items() if key[1] == most],
            AT_EACH: list(pairs.values()),
        }.items():
            if its:
                facts = {"better": better, "worse": worse, "share": share, "n_runs": len(its)}
                found.append({**facts, **difference_of(out, its)})
    corrected = holm([1.0 if its["p"] is None else its["p"] for its in found])
    return [{**its, "p_corrected": p} for its, p in zip(found, corrected, strict=True)]


def difference_of(out: Path, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    """Of the predictions of pairs of runs, those of all pairs taken together."""
    truth: list[str] = []
    answers: tuple[list[str], list[str]] = [], []
    speakers: list[str] = []
    for pair in pairs:
        said = [read_predictions(out / row["folder"]) for row in pair]
        if said[0].names != said[1].names:
            raise ValueError(f"{pair[0]['label']} and {pair[1]['label']} have other test utterances")
        truth += said[0].truth
        speakers += said[0].speakers
        for answered, its in zip(answers, said, strict=True):
            answered += its.answer
    labels = sorted(set(truth) | set(answers[0]) | set(answers[1]))
    place = {label: number for number, label in enumerate(labels)}
    first, second = ([place[its] for its in column] for column in answers)
    found = difference([place[its] for its in truth], first, second, speakers, labels)
    interval = found.interval_95["uar"]
    return {
        "by": found.by["uar"],
        "interval_95": None if interval is None else list(interval),
        "p": found.p["uar"],
        "n_speakers": found.n_speakers,
    }


def answers(paired: Sequence[Mapping[str, Any]]) -> list[str]:
    """In plain words, of each pair."""
    lines = []
    for better, worse in (*CLAIMS, *QUESTIONS):
        claimed = (better, worse) in CLAIMS
        its = [row for row in paired if (row["better"], row["worse"]) == (better, worse)]
        said = "; ".join(f"{row['share']} {verdict_of(row, claimed)} ({describe(row)})" for row in its)
        asked = f"Published: {better} above {worse}." if claimed else f"Is {better} above {worse}?"
        if its:
            lines.append(f"{asked} {said.capitalize()}.")
    return lines


def verdict_of(row: Mapping[str, Any], claimed: bool) -> str:
    if row["p_corrected"] >= SIGNIFICANT:
        return "not settled"
    if claimed:
        return "confirmed" if row["by"] > 0 else "refuted"
    return "yes" if row["by"] > 0 else "no, below"


def describe(row: Mapping[str, Any]) -> str:
    """Points, interval and corrected p."""
    text = f"{100 * row['by']:+.1f} points"
    if row["interval_95"] is not None:
        text += f", {100 * row['interval_95'][0]:+.1f} to {100 * row['interval_95'][1]:+.1f}"
    return f"{text}, p {row['p_corrected']:.3f}"


def share_table(
    uars: Mapping[Key, float], arms: Sequence[str], areas: Mapping[str, Sequence[float]]
) -> Columns:
    found = curves(uars, arms)
    percents = sorted({percent for its in found.values() for percent in its})
    columns: Columns = {
        f"{percent} %": {arm: spread(found[arm].get(percent, [])) for arm in arms} for percent in percents
    }
    columns["area"] = {arm: spread(areas[arm]) for arm in arms}
    return columns


def time_table(times: Mapping[str, Any]) -> Columns:
    columns: Columns = {"epochs": {}, "seconds": {}}
    for arm, its in times["by_arm"].items():
        for what, values in its.items():
            columns[what][arm] = ", ".join("never" if value is None else f"{value:.0f}" for value in values)
    return columns


def paired_table(paired: Sequence[Mapping[str, Any]]) -> Columns:
    names = [f"{its['better']} - {its['worse']}, {its['share']}" for its in paired]
    columns: Columns = {"difference": {}, "95 % interval": {}, "p": {}, "p, corrected": {}}
    for name, its in zip(names, paired, strict=True):
        interval = its["interval_95"]
        columns["difference"][name] = f"{100 * its['by']:+.1f}"
        columns["95 % interval"][name] = (
            "" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
        )
        columns["p"][name] = "" if its["p"] is None else f"{its['p']:.4f}"
        columns["p, corrected"][name] = f"{its['p_corrected']:.4f}"
    return columns


def spread(values: Sequence[float]) -> str:
    """Mean in %, ± deviation of several."""
    if not values:
        return ""
    text = f"{100 * np.mean(values):.1f}"
    return text if len(values) < 2 else f"{text} ± {100 * np.std(values, ddof=1):.1f}"
