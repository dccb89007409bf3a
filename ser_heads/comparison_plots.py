"""Pictures of several classifiers side by side; each function writes one PNG.

A row is a run as pipelines.compare has it: label, labels, confusion, and by_part with scores of each part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fins.plots import BLUE, COLOURS, GREY, ORANGE, new_figure

N_COLUMNS = 4  # of panels
LONGEST = 44  # letters of a label; a longer one is cut in its middle


def shorten(label: str, longest: int = LONGEST) -> str:
    """A label that fits, its middle left out if need be."""
    half = (longest - 1) // 2
    return label if len(label) <= longest else f"{label[:half]}…{label[-half:]}"


def plot_uars(path: Path, kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A dot a run: UAR on the test part with its interval, that of validation as a ring; a line at chance.

    kinds : what runs are held against each other under → its rows, from top to bottom
    """
    n = sum(map(len, kinds.values()))
    n_lines = n + len(kinds) * (len(kinds) > 1)
    figure, axis = new_figure(9, 1.5 + 0.27 * n_lines)
    line, ticks, names = 0.0, [], []
    for title, rows in kinds.items():
        if len(kinds) > 1:
            axis.text(0.5, line, title, fontsize=9, fontweight="bold", va="center")
            line += 1
        first = line
        for row in rows:
            test, validation = row["by_part"]["test"], row["by_part"]["validation"]
            named = line == 0 or (line == 1 and len(kinds) > 1)
            interval = test["interval_95"]["uar"]
            if interval is not None:
                axis.plot([100 * bound for bound in interval], [line, line], color=BLUE, lw=1.5)
            ring = {"mfc": "none", "color": GREY, "label": "validation" if named else None}
            axis.plot(100 * validation["uar"], line, "o", ms=5, zorder=3, **ring)
            dot = {"color": BLUE, "label": "test, 95 % interval" if named else None}
            axis.plot(100 * test["uar"], line, "o", ms=6, zorder=4, **dot)
            axis.text(101.5, line, f"{100 * test['uar']:.1f}", va="center", fontsize=8)
            ticks.append(line)
            names.append(shorten(row["label"]))
            line += 1
        for n_labels in {len(row["labels"]) for row in rows}:
            chance = {"color": ORANGE, "label": "chance" if first <= 1 else None}
            axis.plot([100 / n_labels] * 2, [first - 0.5, line - 0.5], lw=1.2, zorder=1, **chance)
    axis.set_yticks(ticks, names, fontsize=8)
    axis.set(xlim=(0, 100), ylim=(line - 0.4, -0.6), xlabel="UAR %")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def plot_confusions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A panel a run: truth (row) and prediction (column) in % of the row, darker for more."""
    figure, axes = _panels(len(rows), 3.0)
    for axis, row in zip(axes, rows, strict=False):
        counts, labels = np.asarray(row["confusion"]), row["labels"]
        shares = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
        axis.imshow(shares, vmin=0, vmax=1, aspect="auto", cmap="Blues")
        for (true, said), share in np.ndenumerate(shares):
            colour = "white" if share > 0.55 else "black"
            axis.text(said, true, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6)
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        axis.tick_params(length=0, labelsize=6, pad=1)
        axis.spines[:].set_visible(False)
        uar = row["by_part"]["test"]["uar"]
        axis.set_title(f"{shorten(row['label'])}\nUAR {100 * uar:.1f} %", fontsize=8)
    figure.supxlabel("predicted", fontsize=8)
    figure.supylabel("true", fontsize=8)
    figure.savefig(path, dpi=120)


def plot_histories(
    path: Path,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    chances: Mapping[str, float] | None = None,
) -> None:
    """A panel a run: over its epochs the losses, or validation UAR on one scale for all, where chances are
    given.

    histories : run → a row an epoch, with train_loss, validation_loss and validation_uar
    """
    figure, axes = _panels(len(histories), 1.9, share=chances is not None)
    for axis, (label, rows) in zip(axes, histories.items(), strict=False):
        epochs = range(1, len(rows) + 1)
        style: dict[str, Any] = {"marker": "o" if len(epochs) < 30 else "", "ms": 2, "lw": 1}
        if chances is None:
            axis.plot(epochs, [row["train_loss"] for row in rows], color=GREY, label="training", **style)
        else:
            axis.axhline(100 * chances[label], color=ORANGE, lw=1, label="chance")
        shown, scale = ("validation_loss", 1) if chances is None else ("validation_uar", 100)
        axis.plot(epochs, [scale * row[shown] for row in rows], color=BLUE, label="validation", **style)
        axis.set_xlim(0.5, len(rows) + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1, nbins=5)
        axis.tick_params(labelsize=6)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(shorten(label), fontsize=8)
    if chances is not None:
        best = max(row["validation_uar"] for rows in histories.values() for row in rows)
        axes[0].set_ylim(0, min(100, 110 * best))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("loss" if chances is None else "UAR %", fontsize=8)
    figure.savefig(path, dpi=120)


def plot_shares(path: Path, panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> None:
    """UAR over the share of training speakers, a panel a test: a line through means, bars over all values.

    panels : what is tested on → line → percent → UAR of each seed
    """
    figure, axes = new_figure(4.6 * len(panels), 3.8, len(panels))
    axes = list(np.atleast_1d(axes).flat)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for number, (name, its) in enumerate(lines.items()):
            shift = 1.02 ** (number - len(lines) / 2)  # so that bars don't hide each other
            where = [percent * shift for percent in its]
            means = [100 * np.mean(values) for values in its.values()]
            spans = [
                [mean - 100 * min(values), 100 * max(values) - mean]
                for mean, values in zip(means, its.values(), strict=True)
            ]
            colour = COLOURS[number % len(COLOURS)]
            axis.errorbar(
                where,
                means,
                np.array(spans).T,
                color=colour,
                marker="o",
                ms=4,
                lw=1.3,
                elinewidth=0.8,
                label=name,
            )
        percents = sorted({percent for its in lines.values() for percent in its})
        axis.set_xscale("log")
        axis.set_xticks(percents, [f"{percent}" for percent in percents])
        axis.minorticks_off()
        axis.grid(axis="y", alpha=0.3)
        axis.set(xlabel="% of the training speakers", ylabel="UAR %", title=title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=120)


def plot_over_seconds(
    path: Path, lines: Mapping[str, Sequence[Sequence[tuple[float, float]]]], threshold: float
) -> None:
    """Line → a history for each seed, of seconds and UAR; a dashed line at the threshold."""
    figure, axis = new_figure(7, 3.8)
    for number, (name, histories) in enumerate(lines.items()):
        for place, its in enumerate(histories):
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "lw": 1.1}
            seconds, uars = zip(*its, strict=True)
            axis.plot(seconds, [100 * uar for uar in uars], label=None if place else name, **style)
    axis.axhline(100 * threshold, color=GREY, ls="--", lw=1)
    axis.set(xlabel="seconds", ylabel="validation UAR %", ylim=(0, None), xlim=(0, None))
    axis.grid(axis="y", alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=120)


def _panels(n: int, height: float, share: bool = False) -> tuple[Any, list[Any]]:
    """A figure with a panel for each of n, at most N_COLUMNS side by side; height of one in inches."""
    n_columns = min(n, N_COLUMNS)
    n_rows = -(-n // n_columns)
    figure, axes = new_figure(0.4 + 3.1 * n_columns, 0.7 + (0.3 + height) * n_rows, n_columns, n_rows)
    axes = list(np.atleast_1d(axes).flat)
    for axis in axes[n:]:
        axis.remove()
    if share:
        for axis in axes[1:n]:
            axis.sharey(axes[0])
    return figure, axes[:n]
