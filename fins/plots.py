"""Pictures of a FIN's training and of what it imitates; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fins.scores import r2_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fins.compact import CompactFin, SpectralFin
    from fins.features import Feature
    from fins.stages import StageStep
    from fins.training import Epoch

GREY, BLUE, ORANGE = "0.45", "#2166ac", "#d6604d"
COLOURS = (BLUE, ORANGE, "#5aae61", "#9970ab", GREY, "#8c510a", "#c51b7d", "#bfa100")


def new_figure(width: float, height: float, n_columns: int = 1, n_rows: int = 1) -> tuple[Figure, Any]:
    """A figure that needs no screen and touches no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns)
    for axis in np.atleast_1d(axes).flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_learning_curve(path: Path, history: Sequence[Epoch], title: str) -> None:
    """Losses (log scale) and validation R² over the windows seen."""
    figure, (left, right) = new_figure(10, 3.6, 2)
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


def plot_stages(path: Path, steps: Sequence[StageStep], title: str) -> None:
    """The loss of each stage over its steps, on log scales."""
    names = list(dict.fromkeys(row.stage for row in steps))
    figure, axis = new_figure(7, 3.8)
    for name, colour in zip(names, COLOURS, strict=False):
        rows = [row for row in steps if row.stage == name]
        axis.plot([row.step for row in rows], [row.loss for row in rows], color=colour, lw=1, label=name)
    axis.set(yscale="log", xlabel="step", ylabel="squared error of a batch of noise")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_learned(path: Path, fin: CompactFin, title: str) -> None:
    """What the weights have become: the window and kernels of a spectrum with its bands, or the weights."""
    import torch

    from fins.audio import SAMPLE_RATE, WINDOW
    from fins.compact import SpectralFin
    from fins.features import N_BINS

    if not isinstance(fin, SpectralFin):
        figure, axis = new_figure(8, 3.4)
        weights = fin.get_parameter("weights").detach()
        axis.plot(weights, color=BLUE, lw=0.8)
        axis.set(xlabel="sample of the window", ylabel="learned weight", ylim=(0, 1.2 * float(weights.max())))
        figure.suptitle(title)
        figure.savefig(path, dpi=120)
        return
    figure, (left, middle, right) = new_figure(14, 4, 3)
    table = bands_by_bin(fin)
    with torch.no_grad():
        basis = fin.spectrum.components(torch.eye(WINDOW))  # the four layers as one, sample by sample
    kernel = basis[5, :, :, 1]  # channel 5 at place 1: bin 69
    left.plot(kernel[:, 0], color=BLUE, lw=0.7, label="real part")
    left.plot(kernel.norm(dim=1), color=ORANGE, lw=1.2, label="magnitude")
    left.set(xlabel="sample of the window", title="bin 69 (743 Hz), all layers as one", yticks=[0])
    left.legend(frameon=False, fontsize=8, loc="lower left")
    middle.imshow(fin.spectrum.kernels.detach()[:, 0], aspect="auto", cmap="RdBu_r", interpolation="nearest")
    middle.set(xlabel="tap", ylabel="channel", title="learned kernels, real part")
    hertz = torch.arange(N_BINS) * SAMPLE_RATE / WINDOW
    step = max(1, len(table) // 12)
    for number, row in enumerate(table[::step]):
        right.plot(hertz, row / np.abs(row).max(), lw=0.8, color=COLOURS[number % len(COLOURS)])
    every = "each" if step == 1 else f"one of {step}"
    right.set(
        xscale="log", xlim=(40, 11_025), xlabel="Hz", yticks=[0, 1], title=f"learned bands, {every}, peak 1"
    )
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def bands_by_bin(fin: SpectralFin) -> NDArray:
    """(n_bands, 1025) learned weights of the bands by the bin of the spectrum."""
    import torch

    from fins.features import N_BINS
    from fins.fourier import N_POWERS, bin_of_power

    with torch.no_grad():
        table = fin.table()(torch.eye(N_POWERS)).T
        return torch.zeros(len(table), N_BINS).index_add(1, bin_of_power(), table).numpy()


def plot_conditions(path: Path, scores: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """A table in colours: a row a condition, a column a FIN, the number R²; below 0 it is as dark as at 0."""
    conditions = list(scores)
    runs = list(dict.fromkeys(run for row in scores.values() for run in row))
    figure, axis = new_figure(3.4 + 1.1 * len(runs), 1.6 + 0.36 * len(conditions))
    values = np.array([[scores[name].get(run) for run in runs] for name in conditions], dtype=float)
    axis.imshow(values.clip(0, 1), vmin=0, vmax=1, aspect="auto", cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        text = r2_text(None if np.isnan(value) else value)
        axis.text(
            column, row, text, ha="center", va="center", color="white" if value < 0.6 else "black", fontsize=8
        )
    axis.set_xticks(range(len(runs)), runs, rotation=20, ha="right")
    axis.set_yticks(range(len(conditions)), conditions)
    axis.tick_params(length=0)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_true_against_imitated(
    path: Path, truth: NDArray, imitation: NDArray, feature: Feature, title: str
) -> None:
    """One output: a scatter and a stretch of time. Several: both as images over time, and their scatter."""
    if feature.n_outputs == 1:
        figure, (scatter, over_time) = new_figure(10, 4, 2)
        shown = slice(0, 400)
        over_time.plot(truth[shown, 0], color=GREY, lw=1.5, label="closed form")
        over_time.plot(imitation[shown, 0], color=ORANGE, lw=1, label="FIN")
        over_time.set(xlabel="window (23 ms apart)", ylabel=feature.unit)
        over_time.legend(frameon=False)
    else:
        figure, (scatter, left, right) = new_figure(13, 4, 3)
        as_image, unit = _image_of(feature, truth)
        shown = slice(0, 300)
        low, high = np.percentile(as_image(truth[shown]), [1, 99])
        for axis, values, name in ((left, truth, "closed form"), (right, imitation, "FIN")):
            image = axis.imshow(
                as_image(values[shown]).T, aspect="auto", origin="lower", vmin=low, vmax=high, cmap="magma"
            )
            axis.set(title=name, xlabel="window (23 ms apart)", ylabel=feature.outputs)
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
        figure, axis = new_figure(7, 1.2 + 0.4 * len(scores))
        single = [value for (value,) in scores.values()]
        bars = axis.barh(list(scores), np.clip([value or 0 for value in single], 0, 1), color=BLUE)
        axis.bar_label(bars, [f" {r2_text(value)}" for value in single])
        axis.invert_yaxis()
        axis.set(xlabel="R²", xlim=(0, 1.0))
        figure.suptitle(title)
        figure.savefig(path, dpi=120)
        return
    figure, axis = new_figure(10, 3.8)
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


def _image_of(feature: Feature, truth: NDArray) -> tuple[Callable[[NDArray], NDArray], str]:
    """How outputs are made alike, so that each can be seen beside the others, and in what unit."""
    if feature.name == "mel":
        return lambda power: 10 * np.log10(np.maximum(power, 1e-10)), "dB"
    if feature.name == "chroma":
        return np.asarray, feature.unit.split(",")[0]
    mean, deviation = truth.mean(axis=0), truth.std(axis=0)
    return lambda values: (values - mean) / np.where(deviation > 0, deviation, 1), "deviations from the mean"


def plot_report(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """A group of bars a run, one bar a corpus; the published R² as a mark over its bar."""
    names = list(runs[0]["values"])
    colours = dict(zip(names, COLOURS * len(names), strict=False))
    figure, axis = new_figure(max(7, 1.8 + 2 * len(runs)), 4)
    width = 0.8 / len(names)
    marked, labelled = False, set()
    for place, run in enumerate(runs):
        for number, name in enumerate(names):
            at = place + (number - (len(names) - 1) / 2) * width
            value, published = run["values"][name], run["published"].get(name)
            if value is not None:
                label = "" if name in labelled else name
                labelled.add(name)
                axis.bar(at, max(value, 0), width, color=colours[name], label=label)
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
