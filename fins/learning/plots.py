"""Pictures of a FIN's training and of what it imitates; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fins.figures import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    label_r2,
    new_figure,
    nines,
    save_figure,
    short_names,
)
from fins.learning.r2 import r2_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fins.features import Feature
    from fins.learning.stages import StageStep
    from fins.learning.trainer import FinEpoch
    from fins.networks.compact import CompactFin
    from fins.networks.spectral import SpectralFin


def plot_learning_curve(path: Path, history: Sequence[FinEpoch], title: str) -> None:
    """Losses (log scale) and validation R² (log of its distance from 1) over the windows seen."""
    from matplotlib.ticker import EngFormatter

    figure, (left, right) = new_figure(10, 3.6, 2)
    seen = [row.windows_seen for row in history]
    style: dict[str, Any] = {"marker": "o" if len(seen) < 30 else "", "ms": 3}
    left.plot(seen, [row.train_loss for row in history], color=GREY, label="training", **style)
    left.plot(seen, [row.validation_loss for row in history], color=BLUE, label="validation", **style)
    left.set(yscale="log", xlabel="windows seen", ylabel="squared or absolute error")
    left.set_title("loss, of outputs scaled to deviation 1", fontsize=10)
    left.legend(frameon=False)
    scores = [row.validation_r2 for row in history]
    right.plot(seen, nines(scores), color=BLUE, **style)
    label_r2(right, scores)
    right.set(xlabel="windows seen", ylabel="R² (uniform)")
    for axis in (left, right):
        axis.xaxis.set_major_formatter(EngFormatter())
    right.set_title(f"validation, best {r2_text(max(scores))}", fontsize=10)
    save_figure(figure, path, title)


def plot_stages(path: Path, steps: Sequence[StageStep], title: str) -> None:
    """The loss of each stage over its steps, on a log scale."""
    names = list(dict.fromkeys(row.stage for row in steps))
    figure, axis = new_figure(7, 3.8)
    for name, colour in zip(names, COLOURS, strict=False):
        rows = [row for row in steps if row.stage == name]
        axis.plot([row.step for row in rows], [row.loss for row in rows], color=colour, lw=1, label=name)
    axis.set(yscale="log", xlabel="step", ylabel="squared error of a batch of noise")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    save_figure(figure, path, title)


def plot_learned(path: Path, fin: CompactFin, title: str) -> None:
    """What the weights have become: the window and kernels of a spectrum with its bands, or the weights."""
    from fins.networks.spectral import SpectralFin

    if isinstance(fin, SpectralFin):
        figure, (left, middle, right) = new_figure(14, 4, 3)
        _draw_bin(left, fin)
        kernels = fin.spectrum.kernels.detach()[:, 0].numpy()
        most = float(np.abs(kernels).max())
        image = middle.imshow(
            kernels, aspect="auto", cmap="RdBu_r", interpolation="nearest", vmin=-most, vmax=most
        )
        middle.set(xlabel="tap", ylabel="channel")
        middle.set_title("learned kernels, real part", fontsize=10)
        figure.colorbar(image, ax=middle, label="weight")
        _draw_bands(right, fin)
    else:
        figure, axis = new_figure(8, 3.4)
        weights = fin.get_parameter("weights").detach()
        axis.plot(weights, color=BLUE, lw=0.8)
        axis.set(xlabel="sample of the window", ylabel="learned weight", ylim=(0, 1.2 * float(weights.max())))
    save_figure(figure, path, title)


def _draw_bin(axis: Axes, fin: SpectralFin) -> None:
    """One bin of the learned spectrum, sample by sample."""
    import torch

    from fins.audio import WINDOW

    with torch.no_grad():
        basis = fin.spectrum.components(torch.eye(WINDOW))  # the four layers as one
    kernel = basis[5, :, :, 1]  # channel 5 at place 1: bin 69
    axis.plot(kernel[:, 0], color=BLUE, lw=0.7, label="real part")
    axis.plot(kernel.norm(dim=1), color=ORANGE, lw=1.2, label="magnitude")
    axis.set(xlabel="sample of the window", ylabel="weight", yticks=[0])
    axis.set_title("bin 69 (743 Hz), all layers as one", fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _draw_bands(axis: Axes, fin: SpectralFin) -> None:
    """Some of the learned bands over the frequency."""
    from fins.audio import SAMPLE_RATE, WINDOW

    bands = bands_by_bin(fin)
    hertz = np.arange(bands.shape[1]) * SAMPLE_RATE / WINDOW
    step = max(1, len(bands) // 12)
    for number, row in enumerate(bands[::step]):
        axis.plot(hertz, row / np.abs(row).max(), lw=0.8, color=COLOURS[number % len(COLOURS)])
    axis.set(xscale="log", xlim=(40, 11_025), xlabel="Hz", yticks=[0, 1])
    axis.set_xticks([100, 1_000, 10_000], ["100", "1,000", "10,000"])
    axis.set_title(f"learned bands, {'each' if step == 1 else f'one of {step}'}, peak 1", fontsize=10)


def bands_by_bin(fin: SpectralFin) -> NDArray:
    """(n_bands, 1025) learned weights of the bands by the bin of the spectrum."""
    import torch

    from fins.features.spectrum import N_BINS
    from fins.networks.fourier import N_POWERS, bin_of_power

    with torch.no_grad():
        table = fin.table()(torch.eye(N_POWERS)).T
        return torch.zeros(len(table), N_BINS).index_add(1, bin_of_power(), table).numpy()


def plot_conditions(path: Path, scores: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """A table in colours: a row a condition, a column a FIN, its number R², its colour -log10(1 - R²).

    Below 0 it is as dark as at 0.
    """
    conditions = list(scores)
    runs = list(dict.fromkeys(run for row in scores.values() for run in row))
    figure, axis = new_figure(4.2 + 1.1 * len(runs), 1.8 + 0.36 * len(conditions))
    values = np.array([[scores[name].get(run) for run in runs] for name in conditions], dtype=float)
    most = max(2.0, float(np.nanmax(nines(values), initial=0)))
    image = axis.imshow(nines(values), vmin=0, vmax=most, aspect="auto", cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        text = r2_text(None if np.isnan(value) else value)
        dark = not nines(value) > 0.6 * most
        axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    axis.set_xticks(range(len(runs)), short_names(runs).values(), rotation=20, ha="right")
    axis.set_yticks(range(len(conditions)), conditions)
    axis.tick_params(length=0)
    bar = figure.colorbar(image, ax=axis, label="R²", extend="min")
    label_r2(bar.ax, values)
    bar.ax.set_ylim(0, most)
    bar.ax.grid(False)
    save_figure(figure, path, title)


def plot_true_against_imitated(
    path: Path, truth: NDArray, imitation: NDArray, feature: Feature, title: str
) -> None:
    """One output: a scatter and a stretch of time. Several: both as images over time, and their scatter."""
    if feature.n_outputs == 1:
        figure, (scatter, over_time) = new_figure(10, 4, 2)
        shown = slice(0, 400)
        over_time.plot(truth[shown, 0], color=GREY, lw=2.5, label="closed form")
        over_time.plot(imitation[shown, 0], color=ORANGE, lw=1, label="FIN")
        over_time.set(xlabel="window (23 ms apart)", ylabel=feature.unit)
        over_time.set_title("over time", fontsize=10)
        over_time.legend(frameon=False)
    else:
        figure, (scatter, left, right) = new_figure(13, 4, 3)
        levels = _draw_images((left, right), (truth, imitation), feature)
        figure.colorbar(left.images[0], ax=[left, right], label=levels)
    points = np.random.default_rng(0).permutation(truth.size)[:8_000]
    level: Callable[[NDArray], NDArray] = np.asarray
    unit = feature.unit.split(",")[0]
    if feature.n_outputs > 1 and feature.scale in ("power", "amplitude"):
        level, unit = _image_of(feature, truth)
    x, y = (level(values.reshape(-1)[points]) for values in (truth, imitation))
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    scatter.plot(ends, ends, color=GREY, lw=1)
    scatter.plot(x, y, ".", ms=2, alpha=0.3, color=BLUE, rasterized=True)
    scatter.set(xlabel=f"closed form ({unit})", ylabel="FIN")
    which = "windows" if feature.n_outputs == 1 else "outputs of windows"
    scatter.set_title(f"{which}, one against the other", fontsize=10)
    save_figure(figure, path, title)


def _draw_images(axes: Sequence[Axes], values: Sequence[NDArray], feature: Feature) -> str:
    """Truth and imitation over time, in the same colours; returns their unit."""
    from matplotlib.ticker import MaxNLocator

    as_image, unit = _image_of(feature, values[0])
    images = [as_image(table[:300]).T for table in values]
    low, high = np.percentile(images[0], [1, 99])
    for axis, image, name in zip(axes, images, ("closed form", "FIN"), strict=True):
        axis.imshow(
            image, aspect="auto", origin="lower", interpolation="nearest", vmin=low, vmax=high, cmap="magma"
        )
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="window (23 ms apart)", ylabel=feature.outputs)
        axis.set_title(f"{name}, over time", fontsize=10)
    return unit


def plot_r2_per_output(path: Path, scores: Mapping[str, Sequence[float | None]], title: str) -> None:
    """A dot for each output, one colour a set of windows, over log(1 - R²); below -99 it stays at the end.

    A feature of one output gets one row a set, with its value.
    """
    if all(len(values) == 1 for values in scores.values()):
        figure, axis = new_figure(7, 1.3 + 0.4 * len(scores))
        _draw_single(axis, {name: values[0] for name, values in scores.items()})
    else:
        figure, axis = new_figure(10, 3.8)
        _draw_outputs(axis, scores)
    save_figure(figure, path, title)


def _draw_single(axis: Axes, scores: Mapping[str, float | None]) -> None:
    values, places = list(scores.values()), np.arange(len(scores))
    axis.hlines(places, 0, nines(values), color=BLUE, lw=2)
    axis.plot(nines(values), places, "o", color=BLUE)
    label_r2(axis, values, "x")
    axis.set_xlim(right=1.25 * axis.get_xlim()[1])
    for place, value in enumerate(values):
        _write_r2(axis, value, place, fontsize=10)
    axis.set_yticks(places, list(scores))
    axis.set(xlabel="R²", ylim=(len(values) - 0.4, -0.6))


def _draw_outputs(axis: Axes, scores: Mapping[str, Sequence[float | None]]) -> None:
    n_outputs = max(map(len, scores.values()))
    for number, (name, values) in enumerate(scores.items()):
        at = np.arange(len(values)) + 0.5 * (number - (len(scores) - 1) / 2) / len(scores)
        size = 4 if n_outputs < 40 else 2.5
        axis.plot(at, nines(values), "o", ms=size, color=COLOURS[number % len(COLOURS)], label=name)
    label_r2(axis, [value for values in scores.values() for value in values])
    axis.set(xlabel="output", ylabel="R²", xlim=(-0.6, n_outputs - 0.4))
    if n_outputs <= 20:
        axis.set_xticks(range(n_outputs))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _write_r2(axis: Axes, value: float | None, place: float, fontsize: float) -> None:
    """The number beside its dot, readable over a line too."""
    from matplotlib.patheffects import withStroke

    at = 0.0 if value is None else float(nines(value))
    axis.annotate(
        r2_text(value),
        (at, place),
        (8, 0),
        textcoords="offset points",
        va="center",
        fontsize=fontsize,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _image_of(feature: Feature, truth: NDArray) -> tuple[Callable[[NDArray], NDArray], str]:
    """How outputs are made alike, so that each can be seen beside the others, and in what unit."""
    if feature.scale in ("power", "amplitude"):
        times = 10 if feature.scale == "power" else 20
        return lambda values: times * np.log10(np.maximum(values, 10 ** (-100 / times))), "dB"
    if feature.scale == "likeness":
        return np.asarray, feature.unit.split(",")[0]
    mean, deviation = truth.mean(axis=0), truth.std(axis=0)
    return lambda values: (values - mean) / np.where(deviation > 0, deviation, 1), "deviations from the mean"


def plot_report(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """A group a run, a dot a corpus over log(1 - R²); what was published is a line of the same colour."""
    names = list(runs[0]["values"])
    shown = [
        (run, [name for name in names if run["values"][name] is not None or run["published"].get(name)])
        for run in runs
    ]
    height = sum(len(known) + 1 for _, known in shown)
    figure, axis = new_figure(9, 1.4 + 0.19 * height)
    labelled: set[str] = set()
    place, middles = 0.0, []
    for run, known in shown:
        middles.append(place + (len(known) - 1) / 2)
        for name in known:
            colour = COLOURS[names.index(name) % len(COLOURS)]
            _draw_corpus(
                axis, place, name, (run["values"][name], run["published"].get(name)), colour, labelled
            )
            place += 1
        axis.axhline(place, color=GREY, lw=0.5, alpha=0.5)
        place += 1
    every = [value for run in runs for kind in ("values", "published") for value in run[kind].values()]
    label_r2(axis, every, "x")
    axis.set_xlim(right=1.15 * axis.get_xlim()[1])
    axis.set_yticks(middles, [run["title"] for run in runs])
    axis.set(xlabel="R²", ylim=(place - 1, -1))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    save_figure(figure, path, "R² beside the published")


def _draw_corpus(
    axis: Axes,
    place: float,
    name: str,
    scores: tuple[float | None, float | None],
    colour: str,
    labelled: set[str],
) -> None:
    """The R² of one run on one corpus, and the published one; a name is in the legend once."""
    value, published = scores
    if published is not None:
        label = "" if f"{name}: published" in labelled else f"{name}: published"
        axis.vlines(nines(published), place - 0.4, place + 0.4, color=colour, lw=3, label=label)
        labelled.add(f"{name}: published")
        if value is None:
            _write_r2(axis, published, place, fontsize=7)
    if value is not None:
        axis.plot(nines(value), place, "o", ms=5, color=colour, label="" if name in labelled else name)
        labelled.add(name)
        _write_r2(axis, value, place, fontsize=7)
