"""Pictures of a search's trials; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fins.plots import GREY, ORANGE, new_figure


def plot_trials(path: Path, trials: Sequence[Mapping[str, Any]], best: int, title: str) -> None:
    """Left each trial's validation UAR over its epochs, right that of all trials; the best of them so far.

    trials : the default first, each with `number` and `curve`, (n_epochs,) UAR, which may be empty
    best : number of the best one
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, (left, right) = new_figure(11, 4, 2)
    drawn = [its for its in trials if its["curve"]]
    scores = np.array([its["curve"][-1] for its in drawn])
    colours = ScalarMappable(Normalize(scores.min(), max(scores.max(), scores.min() + 1e-3)), "viridis")
    for its, score in zip(drawn, scores, strict=True):
        style: dict[str, Any] = {"color": colours.to_rgba(score), "lw": 1.2}
        if its is trials[0]:
            style = {"color": "black", "lw": 2, "ls": "--", "label": f"default: {score:.3f}", "zorder": 3}
        if its["number"] == best:
            which = "the default" if its is trials[0] else f"trial {best}"
            style |= {"color": ORANGE, "lw": 2.5, "label": f"best: {score:.3f}, {which}", "zorder": 4}
        epochs = np.arange(1, len(its["curve"]) + 1)
        left.plot(epochs, its["curve"], marker="o", markevery=[-1], ms=4, **style)
    left.set(xlabel="epoch", ylabel="validation UAR, best so far")
    left.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.colorbar(colours, ax=left, label="UAR at the end of the trial")
    numbers = [its["number"] for its in drawn]
    right.plot(numbers, scores, "o", color=GREY, ms=4, label="trials")
    right.step(numbers, np.maximum.accumulate(scores), where="post", color=ORANGE, lw=2, label="best so far")
    if trials[0]["curve"]:
        right.axhline(trials[0]["curve"][-1], color="black", ls="--", lw=1.2, label="default")
    right.set(xlabel="trial", ylabel="validation UAR")
    right.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
        axis.legend(frameon=False, loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
