"""Pictures of a FIN's training and of what it imitates; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fins.features import Feature
    from fins.training import Epoch

GREY, BLUE, ORANGE = "0.45", "#2166ac", "#d6604d"
COLOURS = (BLUE, ORANGE, "#5aae61", "#9970ab", GREY, "#8c510a")


def _figure(width: float, height: float, n_columns: int = 1) -> tuple[Figure, Any]:
    """A figure that needs no screen and touches no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, n_columns)
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_learning_curve(path: Path, history: Sequence[Epoch], title: str) -> None:
    """Losses (log scale) and validation R² over the windows seen."""
    figure, (left, right) = _figure(10, 3.6, 2)
    seen = [row.windows_seen / 1e6 for row in history]
    marker = "o" if len(seen) < 30 else ""
    left.plot(seen, [row.train_loss for row in history], color=GREY, marker=marker, ms=3, label="training")
    left.plot(
        seen, [row.validation_loss for row in history], color=BLUE, marker=marker, ms=3, label="validation"
    )
    left.set(yscale="log", xlabel="windows seen (millions)", ylabel="loss (outputs scaled to deviation 1)")
    left.legend(frameon=False)
    right.plot(seen, [row.validation_r2 for row in history], color=BLUE, marker=marker, ms=3)
    best = max(row.validation_r2 for row in history)
    right.set(
        xlabel="windows seen (millions)",
        ylabel="validation R² (uniform)",
        ylim=(max(-0.05, min(row.validation_r2 for row in history) - 0.05), 1.01),
        title=f"best {best:.4f}",
    )
    right.grid(axis="y", alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_true_against_imitated(
    path: Path, truth: NDArray, imitation: NDArray, feature: Feature, title: str
) -> None:
    """One output: a scatter and a stretch of time. Several: both as images over time, and their scatter."""
    if feature.n_outputs == 1:
        figure, (scatter, over_time) = _figure(10, 4, 2)
        shown = slice(0, 400)
        over_time.plot(truth[shown, 0], color=GREY, lw=1.5, label="closed form")
        over_time.plot(imitation[shown, 0], color=ORANGE, lw=1, label="FIN")
        over_time.set(xlabel="window (23 ms apart)", ylabel=feature.unit)
        over_time.legend(frameon=False)
    else:
        figure, (scatter, left, right) = _figure(13, 4, 3)
        as_image = _decibel if feature.name == "mel" else np.asarray
        shown = slice(0, 300)
        low, high = np.percentile(as_image(truth[shown]), [1, 99])
        for axis, values, name in ((left, truth, "closed form"), (right, imitation, "FIN")):
            image = axis.imshow(
                as_image(values[shown]).T, aspect="auto", origin="lower", vmin=low, vmax=high, cmap="magma"
            )
            axis.set(title=name, xlabel="window (23 ms apart)", ylabel=feature.outputs)
        unit = "dB" if feature.name == "mel" else feature.unit.split(",")[0]
        figure.colorbar(image, ax=[left, right], label=unit)
    points = np.random.default_rng(0).permutation(truth.size)[:8_000]
    x, y = truth.reshape(-1)[points], imitation.reshape(-1)[points]
    scatter.plot(x, y, ".", ms=2, alpha=0.3, color=BLUE, rasterized=True)
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    scatter.plot(ends, ends, color=GREY, lw=1)
    scatter.set(xlabel="closed form", ylabel="FIN", title=feature.unit)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_r2_per_output(path: Path, scores: Mapping[str, Sequence[float | None]], title: str) -> None:
    """Bars for each output, one colour a set of windows; what lies below 0 is cut and marked.

    A feature of one output gets one bar a set, with its value.
    """
    if all(len(values) == 1 for values in scores.values()):
        figure, axis = _figure(7, 1.2 + 0.4 * len(scores))
        single = [0.0 if value is None else value for (value,) in scores.values()]
        bars = axis.barh(list(scores), np.clip(single, 0, 1), color=BLUE)
        axis.bar_label(bars, [f" {number:.4f}" for number in single])
        axis.invert_yaxis()
        axis.set(xlabel="R²", xlim=(0, 1.0))
        figure.suptitle(title)
        figure.savefig(path, dpi=120)
        return
    figure, axis = _figure(10, 3.8)
    axis.set_axisbelow(True)
    width = 0.8 / len(scores)
    for place, (name, values) in enumerate(scores.items()):
        numbers = np.array([np.nan if value is None else value for value in values])
        at = np.arange(len(numbers)) + (place - (len(scores) - 1) / 2) * width
        colour = COLOURS[place % len(COLOURS)]
        axis.bar(at, np.clip(numbers, 0, 1), width, color=colour, label=name)
        below = numbers < 0
        axis.plot(at[below], np.zeros(below.sum()), "v", color=colour, ms=4, clip_on=False)
    axis.set(xlabel="output", ylabel="R² (▼ below 0)", ylim=(0, 1.0))
    if len(numbers) <= 20:
        axis.set_xticks(range(len(numbers)))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _decibel(power: NDArray) -> NDArray:
    return 10 * np.log10(np.maximum(power, 1e-10))


def plot_report(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """A group of bars a run, one bar a corpus; the published R² as a mark over its bar."""
    names = list(runs[0]["values"])
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    figure, axis = _figure(max(7, 1.8 + 2 * len(runs)), 4)
    width = 0.8 / len(names)
    marked = False
    for place, run in enumerate(runs):
        for number, name in enumerate(names):
            at = place + (number - (len(names) - 1) / 2) * width
            value, published = run["values"][name], run["published"].get(name)
            if value is not None:
                axis.bar(at, max(value, 0), width, color=colours[name], label="" if place else name)
                axis.annotate(f"{value:.2f}", (at, max(value, 0)), ha="center", va="bottom", fontsize=6)
            if published is not None:
                axis.plot(
                    [at - width / 2, at + width / 2],
                    [published] * 2,
                    color="black",
                    lw=2,
                    label="" if marked else "published",
                )
                marked = True
    axis.set_xticks(range(len(runs)), [run["title"] for run in runs])
    axis.set(ylabel="R²", ylim=(0, 1.05))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=120)
