"""The page of a search: its trials as a table, a picture and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fins.documents import as_text, table_of_rows
from fins.figures import GREY, ORANGE, new_figure, save_figure
from fins.runs import write_atomically
from fins.tables import write_table
from ser_heads.experiments.search.trials import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PICTURE = "trials.csv", "trials.png"
SHOWN = 10  # trials on the page, at most
DEFAULT = 0  # number of the trial that is the model's own


def write_search(out: Path, result: Mapping[str, Any], records: Sequence[TrialRecord]) -> None:
    """trials.csv, trials.png and README.md."""
    trials = result["trials"]
    rows = [{**trial, **trial["options"]} for trial in trials]
    write_table(out / TABLE, pd.DataFrame(rows, dtype=object).drop(columns="options"))
    curves = [[row["uar"] for row in record.rows] for record in records]
    title = f"{result['search']}: {result['n_trials']} trials of {result['model']}, seed {result['seed']}"
    plot_trials(out / PICTURE, curves, result["best"]["trial"], title)
    blocks = [f"# {as_text(title)}", as_text(result["about"]), "\n".join(describe_search(result))]
    blocks += [f"![Trials]({PICTURE})", trial_table(trials)]
    failed = [trial for trial in trials if trial["state"] == "failed"]
    blocks += [f"Trial {trial['trial']} failed: {as_text(trial['why'])}" for trial in failed]
    write_atomically(out / "README.md", "\n\n".join(blocks) + "\n")


def describe_search(result: Mapping[str, Any]) -> list[str]:
    """What came out, as lines of Markdown."""
    validation = result["parts"]["validation"]
    n, n_speakers = validation["n_utterances"], len(validation["speakers"])
    return [
        describe_gain(result),
        "",
        "```sh",
        result["command"],
        "```",
        "",
        describe_trials(result),
        "",
        f"UAR is the mean of five epochs on {n:,} validation utterances (speakers: {n_speakers}), at the "
        "best of them: that of the best of many trials is too good. The test part hasn't been touched: the "
        "command scores it. Which trials are stopped depends on the order in which they reach an epoch, so "
        "with several at once on the machine; the configurations, and the numbers of an epoch, don't.",
    ]


def describe_gain(result: Mapping[str, Any]) -> str:
    """What the search found, in a sentence."""
    best, default = result["best"], result["default"]
    if result["gain"] is None:
        return f"The default has no score: {default['why'] or 'the time was spent before its first epoch'}."
    if best["trial"] == default["trial"]:
        return f"No trial was better than the default, whose validation UAR is {percent(default['uar'])} %."
    return (
        f"The best is trial {best['trial']}: validation UAR {percent(best['uar'])} % in {best['epochs']} "
        f"epochs; the default has {percent(default['uar'])} % in {default['epochs']}, "
        f"{100 * result['gain']:.1f} points less."
    )


def describe_trials(result: Mapping[str, Any]) -> str:
    """How the trials ended, in a sentence."""
    n_ended = result["n_finished"] + result["n_stopped"] + result["n_failed"]
    n_left = result["n_trials"] - n_ended
    lost = f", {result['n_lost']} processes lost and started again" if result["n_lost"] else ""
    left = f", {n_left} unfinished when the time was spent" if n_left else ""
    return (
        f"{result['n_trials']} trials in {result['seconds'] / 60:.1f} minutes: {result['n_finished']} were "
        f"trained for {result['epochs']} epochs or until they converged, {result['n_stopped']} were stopped "
        f"early by ASHA (grace {result['grace']}, reduction {result['reduction']}), {result['n_failed']} "
        f"failed{left}{lost}."
    )


def trial_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """The best trials and the default as a table of Markdown."""
    ranked = sorted((trial for trial in trials if trial["epochs"]), key=lambda trial: -trial["uar"])
    shown = [trial for place, trial in enumerate(ranked) if trial["trial"] == DEFAULT or place < SHOWN]
    options = list(trials[0]["options"])
    rows = []
    for trial in shown:
        name = f"{DEFAULT} (default)" if trial["trial"] == DEFAULT else str(trial["trial"])
        values = (str(trial["options"][option]) for option in options)
        rows.append((name, percent(trial["uar"]), str(trial["epochs"]), trial["state"], *values))
    return table_of_rows(("trial", "UAR %", "epochs", "state", *options), rows)


def percent(share: float) -> str:
    """A share of 1 in %."""
    return f"{100 * share:.1f}"


def plot_trials(path: Path, curves: Sequence[Sequence[float]], best: int, title: str) -> None:
    """Left each trial's validation UAR over its epochs, right that of all trials; the best of them so far.

    curves : of each trial, the default first, (n_epochs,) UAR, which may be empty
    best : number of the best one
    """
    figure, (left, right) = new_figure(11, 4, 2)
    drawn = {number: curve for number, curve in enumerate(curves) if curve}
    colours = plot_curves(left, drawn, best)
    figure.colorbar(colours, ax=left, label="UAR at the end of the trial")
    scores = np.array([curve[-1] for curve in drawn.values()])
    right.plot(list(drawn), scores, "o", color=GREY, ms=4, label="trials")
    highest = np.maximum.accumulate(scores)
    right.step(list(drawn), highest, where="post", color=ORANGE, lw=2, label="best so far")
    if DEFAULT in drawn:
        right.axhline(drawn[DEFAULT][-1], color="black", ls="--", lw=1.2, label="default")
    left.set(xlabel="epoch", ylabel="validation UAR, best so far")
    right.set(xlabel="trial", ylabel="validation UAR")
    for axis in (left, right):
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(frameon=False, loc="best")
    save_figure(figure, path, title)


def plot_curves(axis: Axes, curves: Mapping[int, Sequence[float]], best: int) -> Any:
    """A line for each trial, in the colour of its last score; returns the scale of colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scores = [curve[-1] for curve in curves.values()]
    colours = ScalarMappable(Normalize(min(scores), max(max(scores), min(scores) + 1e-3)), "viridis")
    for number, curve in curves.items():
        style: dict[str, Any] = {"color": colours.to_rgba(np.array(curve[-1])), "lw": 1.2}
        if number == DEFAULT:
            label = f"default: {curve[-1]:.3f}"
            style = {"color": "black", "lw": 2, "ls": "--", "label": label, "zorder": 3}
        if number == best:
            which = "the default" if number == DEFAULT else f"trial {best}"
            style |= {"color": ORANGE, "lw": 2.5, "label": f"best: {curve[-1]:.3f}, {which}", "zorder": 4}
        axis.plot(np.arange(1, len(curve) + 1), curve, marker="o", markevery=[-1], ms=4, **style)
    return colours
