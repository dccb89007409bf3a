"""Pictures of a classifier's training and of its errors; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.spectrum import N_BINS
from fins.figures import BLUE, COLOURS, GREY, ORANGE, label_r2, new_figure, nines, save_figure
from fins.learning.plots import bands_by_bin
from fins.learning.r2 import r2_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fins.networks import Fin
    from fins.networks.spectral import SpectralFin


MOST_GROUPS = 60


def plot_confusion(path: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> None:
    """Counts of truth (row) and prediction (column); colours are shares of the row, recalls stand beside."""
    counts = np.asarray(confusion)
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    figure, axis = new_figure(2.6 + 0.62 * len(labels), 1.7 + 0.52 * len(labels))
    image = axis.imshow(shares, vmin=0, vmax=1, aspect="auto", cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axis.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    for row, n in enumerate(support):
        recall = f"{shares[row, row]:.2f}" if n else "–"
        axis.text(len(labels) - 0.4, row, recall, va="center", fontsize=8)
    axis.text(len(labels) - 0.4, -0.6, "recall", va="bottom", fontsize=8)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="predicted", ylabel="true")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, label="share of the row")
    save_figure(figure, path, title)


def plot_learning_curves(path: Path, history: Sequence[Mapping[str, Any]], kept: int, title: str) -> None:
    """Losses and validation UAR over the epochs of both phases; the finetuned one is shaded. Without a
    validation part, whose numbers are NaN then, just the training loss.

    history : a row an epoch, with epoch, phase, train_loss, validation_loss and validation_uar
    kept : the epoch whose weights are kept, from 1; it needn't be the one of the highest UAR
    """
    uar = [row["validation_uar"] for row in history]
    validates = not np.isnan(uar[kept - 1])
    figure, axes = new_figure(10 if validates else 5, 3.6, 1 + validates)
    left, *others = np.atleast_1d(axes)
    epochs = [row["epoch"] for row in history]
    style: dict[str, Any] = {"marker": "o" if len(epochs) < 30 else "", "ms": 3}
    left.plot(epochs, [row["train_loss"] for row in history], color=GREY, label="training", **style)
    left.set(xlabel="epoch", ylabel="loss")
    for right in others:
        left.plot(
            epochs, [row["validation_loss"] for row in history], color=BLUE, label="validation", **style
        )
        right.plot(epochs, uar, color=BLUE, **style)
        label = f"kept: epoch {kept}, {uar[kept - 1]:.3f}"
        right.plot(kept, uar[kept - 1], "o", color=ORANGE, ms=7, label=label)
        right.set(xlabel="epoch", ylabel="validation UAR")
    finetuned = [row["epoch"] for row in history if row["phase"] == "finetuned"]
    for axis in (left, *others):
        if finetuned:
            axis.axvspan(
                finetuned[0] - 0.5, finetuned[-1] + 0.5, color=GREY, alpha=0.13, lw=0, label="finetuned"
            )
        axis.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(axis="y", alpha=0.3)
        axis.legend(frameon=False)
    save_figure(figure, path, title)


def plot_groups(path: Path, groups: Mapping[str, Mapping[str, Any]], title: str, n_classes: int) -> None:
    """A bar of UAR for each group of `scores.score_groups`; a line at 1 / n_classes, which is chance.

    Of many groups only the lowest are drawn, and the title says so.
    """
    if len(groups) > MOST_GROUPS:
        title += f"; the lowest {MOST_GROUPS} of {len(groups)}"
        groups = dict(sorted(groups.items(), key=lambda item: item[1]["uar"])[:MOST_GROUPS])
    figure, axis = new_figure(7, 1.1 + 0.24 * len(groups))
    axis.barh(list(groups), [row["uar"] for row in groups.values()], color=BLUE)
    axis.axvline(1 / n_classes, color=ORANGE, lw=1.2)
    for place, row in enumerate(groups.values()):
        axis.text(1.02, place, f"{row['uar']:.2f}, n = {row['n_utterances']}", va="center", fontsize=8)
    axis.set(xlabel=f"UAR (line: chance, 1 / {n_classes})", xlim=(0, 1), ylim=(len(groups) - 0.4, -0.6))
    axis.tick_params(axis="y", labelsize=8, length=0)
    save_figure(figure, path, title)


def plot_risk(path: Path, curve: Mapping[str, Any], title: str) -> None:
    """Share of wrong answers over the share that is answered, surest first; a line at that of all.

    curve : area, coverage and risk, as `calibration.RiskCoverage` writes them
    """
    figure, axis = new_figure(5.5, 3.6)
    label = f"surest first, area {curve['area']:.3f}"
    marker = "o" if len(curve["risk"]) < 30 else ""
    axis.plot(curve["coverage"], curve["risk"], color=BLUE, marker=marker, ms=3, label=label)
    axis.axhline(curve["risk"][-1], color=GREY, lw=1, label="in any order")
    top = max(*curve["risk"], 0.05) * 1.08
    axis.set(xlabel="coverage: share that is answered", ylabel="risk: share that is wrong")
    axis.set(xlim=(0, 1), ylim=(0, top))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_recalls(
    path: Path, recalls: Mapping[str, Mapping[str, float]], labels: Sequence[str], title: str
) -> None:
    """Bars of recall for each label, one colour a corpus; what a corpus lacks has no bar."""
    emotions = [name for name in labels if any(name in row for row in recalls.values())]
    figure, axis = new_figure(10, 3.8)
    axis.set_axisbelow(True)
    width = 0.84 / len(recalls)
    for place, (corpus, row) in enumerate(recalls.items()):
        at = [
            number + (place - (len(recalls) - 1) / 2) * width
            for number, name in enumerate(emotions)
            if name in row
        ]
        values = [row[name] for name in emotions if name in row]
        bars = axis.bar(at, values, width, color=COLOURS[place % len(COLOURS)], label=corpus)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], fontsize=6, rotation=90, padding=2)
    axis.set_xticks(range(len(emotions)), emotions)
    axis.tick_params(axis="x", length=0)
    axis.set(ylabel="recall", ylim=(0, 1.09), yticks=np.linspace(0, 1, 6))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, path, title)


def plot_moved(path: Path, before: Fin, after: Fin, scores: Mapping[str, Any], title: str) -> None:
    """What finetuning did to a FIN: R² of each output, and where its weights moved.

    scores : r2_before and r2_after (fields of `R2`) and moved, as pipelines.report writes them
    Of a spectrum: its window, all layers as one, and the weights of its bands. Of the compact rms and zcr:
    their weights. Of other FINs: a bar for each parameter.
    """
    from fins.networks.spectral import SpectralFin
    from fins.networks.waveform import RmsFin, ZcrFin

    if isinstance(before, SpectralFin) and isinstance(after, SpectralFin):
        figure, ((fit, curves), (bands, difference)) = new_figure(12, 7, 2, 2)
        _draw_curves(curves, difference, _window_of(before), _window_of(after), "learned window")
        _draw_bands(figure, bands, bands_by_bin(before), bands_by_bin(after))
    elif isinstance(before, RmsFin | ZcrFin):
        figure, (fit, curves, difference) = new_figure(15, 4, 3)
        was, now = (fin.get_parameter("weights").detach().numpy() for fin in (before, after))
        _draw_curves(curves, difference, was, now, "learned weight")
    else:
        figure, (fit, bars) = new_figure(12, 4, 2)
        moved = scores["moved"]
        drawn = bars.barh(list(moved), [share or 0 for share in moved.values()], color=BLUE)
        labels = ["from 0" if share is None else f"{100 * share:.2g} %" for share in moved.values()]
        bars.bar_label(drawn, labels, padding=3)
        bars.invert_yaxis()
        bars.margins(x=0.15)
        bars.set(xlabel="length of the change over the length before")
    _draw_r2(fit, scores["r2_before"]["per_output"], scores["r2_after"]["per_output"])
    save_figure(figure, path, title)


def _draw_r2(axis: Any, before: Sequence[float | None], after: Sequence[float | None]) -> None:
    """Points on an axis of log(1 - R²), on which 0.999 and 0.9999 are as far apart as 0.9 and 0.99."""
    for values, colour, label, size in ((before, GREY, "before", 6), (after, ORANGE, "after", 4)):
        heights = nines(values)
        axis.plot(heights, "o", color=colour, ms=size, label=label)
        if len(values) == 1:
            place = (0, float(heights[0]))
            axis.annotate(r2_text(values[0]), place, (10, 0), textcoords="offset points", va="center")
    axis.set(xlabel="output", xlim=(-0.7, len(before) - 0.3), ylabel="R², on a scale of log(1 - R²)")
    if len(before) <= 20:
        axis.set_xticks(range(len(before)))
    label_r2(axis, [*before, *after])
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2)


def _draw_curves(curves: Any, difference: Any, before: NDArray, after: NDArray, what: str) -> None:
    """Weights over the samples of a window, and their change on a scale of its own."""
    curves.plot(before, color="black", lw=1, label="before", zorder=3)
    curves.plot(after, color=ORANGE, lw=1, label="after")
    low, high = min(0, before.min(), after.min()), max(0, before.max(), after.max())
    curves.set(xlabel="sample of the window", ylabel=what, ylim=(1.1 * low, 1.1 * high or 1))
    curves.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2)
    difference.plot(after - before, color=BLUE, lw=0.8)
    difference.axhline(0, color=GREY, lw=0.8)
    difference.set(xlabel="sample of the window", ylabel=f"{what}, after - before")


def _draw_bands(figure: Figure, axis: Any, before: NDArray, after: NDArray) -> None:
    """An image of the change, (band, bin), as a share of each band's largest weight before."""
    largest = np.abs(before).max(axis=1, keepdims=True)
    change = (after - before) / np.where(largest > 0, largest, 1)
    moved = np.abs(change[change != 0])
    most = float(np.quantile(moved, 0.999)) if len(moved) else 1.0
    hertz = np.arange(N_BINS) * SAMPLE_RATE / WINDOW
    bands = np.arange(len(change))
    image = axis.pcolormesh(hertz, bands, change, cmap="RdBu_r", vmin=-most, vmax=most, shading="nearest")
    axis.set(xscale="log", xlim=(40, SAMPLE_RATE / 2), xlabel="Hz", ylabel="band")
    label = "weights of the bands: after - before, share of the band's largest before"
    ticks = np.linspace(-most, most, 5)
    figure.colorbar(
        image, ax=axis, location="top", aspect=40, extend="both", label=label, ticks=ticks, format="%.0e"
    )


def _window_of(fin: SpectralFin) -> NDArray:
    """(2048,) magnitude that a FIN's spectrum gives to a sample, all layers as one, mean over the bins."""
    import torch

    with torch.no_grad():
        basis = fin.spectrum.components(torch.eye(WINDOW))  # (channel, sample, 2, place)
        return basis.norm(dim=2).mean(dim=(0, 2)).numpy()
