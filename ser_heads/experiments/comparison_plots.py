"""Pictures of several classifiers side by side; each function writes one PNG.

A row is a run as pipelines.compare has it: label, labels, confusion, and by_part with scores of each part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fins.figures import BLUE, COLOURS, GREY, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLUMNS = 4  # of panels
LONGEST = 44  # letters of a label; a longer one is cut in its middle
GAP = 0.06  # between rows of panels, by the height of one: a title is nearer to its own


def shorten(label: str, longest: int = LONGEST) -> str:
    """A label that fits, its middle left out if need be."""
    half = (longest - 1) // 2
    return label if len(label) <= longest else f"{label[:half]}…{label[-half:]}"


def plot_uars(path: Path, kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A dot a run: UAR on the test part with its interval, that of validation as a ring; a line at chance.

    kinds : what runs are held against each other under → its rows, from top to bottom
    """
    n_lines = sum(map(len, kinds.values())) + len(kinds) * (len(kinds) > 1)
    figure, axis = new_figure(9, 1.5 + 0.27 * n_lines)
    line, ticks, names = 0.0, [], []
    for title, rows in kinds.items():
        if len(kinds) > 1:
            axis.text(0.5, line, title, fontsize=9, fontweight="bold", va="center")
            line += 1
        first = line
        for row in rows:
            plot_uar(axis, row, line)
            ticks.append(line)
            names.append(shorten(row["label"]))
            line += 1
        for n_labels in {len(row["labels"]) for row in rows}:
            axis.plot(
                [100 / n_labels] * 2,
                [first - 0.5, line - 0.5],
                color=ORANGE,
                lw=1.2,
                zorder=1,
                label="chance",
            )
    axis.set_yticks(ticks, names, fontsize=8)
    axis.set(xlim=(0, 100), ylim=(line - 0.4, -0.6), xlabel="UAR %")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    add_legend(figure, axis, 3)
    save_figure(figure, path)


def plot_uar(axis: Axes, row: Mapping[str, Any], line: float) -> None:
    """One run: its dot, its interval, its ring and its number."""
    test, validation = row["by_part"]["test"], row["by_part"]["validation"]
    interval = test["interval_95"]["uar"]
    if interval is not None:
        axis.plot([100 * bound for bound in interval], [line, line], color=BLUE, lw=1.5)
    axis.plot(100 * validation["uar"], line, "o", ms=5, zorder=3, mfc="none", color=GREY, label="validation")
    axis.plot(100 * test["uar"], line, "o", ms=6, zorder=4, color=BLUE, label="test, 95 % interval")
    axis.text(101.5, line, f"{100 * test['uar']:.1f}", va="center", fontsize=8)


def add_legend(figure: Figure, axis: Axes, n_columns: int, **options: Any) -> None:
    """One above the whole figure, of what is drawn in a panel, each label once."""
    handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=n_columns, frameon=False, **options
    )


def plot_confusions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A panel a run: truth (row) and prediction (column) in % of the row, darker for more."""
    figure, axes = new_panels(len(rows), 3.0)
    for axis, row in zip(axes, rows, strict=True):
        counts, labels = np.asarray(row["confusion"]), row["labels"]
        shares = 100 * counts / np.maximum(counts.sum(axis=1), 1)[:, None]
        image = axis.imshow(shares, vmin=0, vmax=100, aspect="auto", cmap="Blues")
        for (true, answer), share in np.ndenumerate(shares):
            colour = "white" if share > 55 else "black"
            axis.text(answer, true, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=6)
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        axis.tick_params(length=0, labelsize=6, pad=1)
        axis.spines[:].set_visible(False)
        uar = row["by_part"]["test"]["uar"]
        axis.set_title(f"{shorten(row['label'])}\nUAR {100 * uar:.1f} %", fontsize=8)
    bar = figure.colorbar(image, ax=axes, label="% of the true emotion", aspect=40, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    figure.supxlabel("predicted", fontsize=8)
    figure.supylabel("true", fontsize=8)
    save_figure(figure, path)


def plot_histories(
    path: Path,
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    chances: Mapping[str, float] | None = None,
) -> None:
    """A panel a run: over its epochs the losses, or validation UAR on one scale for all, where chances are
    given.

    histories : run → a row an epoch, with train_loss, validation_loss and validation_uar
    """
    figure, axes = new_panels(len(histories), 1.9, share=chances is not None)
    for axis, (label, rows) in zip(axes, histories.items(), strict=True):
        epochs = range(1, len(rows) + 1)
        style: dict[str, Any] = {"marker": "o" if len(epochs) < 30 else "", "ms": 2, "lw": 1}
        if chances is None:
            axis.plot(epochs, [row["train_loss"] for row in rows], color=GREY, label="training", **style)
        else:
            axis.axhline(100 * chances[label], color=ORANGE, lw=1, label="chance")
        shown, scale = ("validation_loss", 1) if chances is None else ("validation_uar", 100)
        axis.plot(epochs, [scale * row[shown] for row in rows], color=BLUE, label="validation", **style)
        axis.set_xlim(0.5, len(rows) + 0.5)
        axis.locator_params(axis="x", integer=True, min_n_ticks=1, nbins=5)
        axis.tick_params(labelsize=6)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(shorten(label), fontsize=8)
    if chances is not None:
        best = max(row["validation_uar"] for rows in histories.values() for row in rows)
        axes[0].set_ylim(0, min(100, 110 * best))
    add_legend(figure, axes[0], 2, fontsize=8)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("loss" if chances is None else "UAR %", fontsize=8)
    save_figure(figure, path)


def plot_shares(path: Path, panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]) -> None:
    """UAR over the share of training speakers, a panel a test: a line through means, bars over all values.

    panels : what is tested on → line → percent → UAR of each seed
    """
    figure, axes = new_figure(4.6 * len(panels), 3.8, len(panels))
    axes = list(np.atleast_1d(axes).flat)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for number, (name, values) in enumerate(lines.items()):
            shift = 1.02 ** (number - len(lines) / 2)  # so that bars don't hide each other
            means = np.array([100 * np.mean(uars) for uars in values.values()])
            lowest, highest = (np.array([100 * end(uars) for uars in values.values()]) for end in (min, max))
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": "o", "ms": 4}
            axis.errorbar(
                [percent * shift for percent in values],
                means,
                np.stack([means - lowest, highest - means]),
                **style,
                lw=1.3,
                elinewidth=0.8,
                label=name,
            )
        percents = sorted({percent for values in lines.values() for percent in values})
        axis.set_xscale("log")
        axis.set_xticks(percents, [f"{percent}" for percent in percents])
        axis.minorticks_off()
        axis.grid(axis="y", alpha=0.3)
        axis.set(xlabel="% of the training speakers", ylabel="UAR %", title=title)
    add_legend(figure, axes[0], 5)
    save_figure(figure, path)


def plot_over_seconds(
    path: Path, lines: Mapping[str, Sequence[Sequence[tuple[float, float]]]], threshold: float
) -> None:
    """Line → a history for each seed, of seconds and UAR; a dashed line at the threshold."""
    figure, axis = new_figure(7, 3.8)
    for number, (name, histories) in enumerate(lines.items()):
        for history in histories:
            seconds, uars = zip(*history, strict=True)
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(seconds, [100 * uar for uar in uars], color=colour, lw=1.1, label=name)
    axis.axhline(100 * threshold, color=GREY, ls="--", lw=1, label=f"{100 * threshold:.1f} %")
    axis.set(xlabel="seconds", ylabel="validation UAR %", ylim=(0, None), xlim=(0, None))
    axis.grid(axis="y", alpha=0.3)
    add_legend(figure, axis, 5)
    save_figure(figure, path)


def plot_arms(path: Path, panels: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A panel a test, a row an arm: a dot for each seed's UAR and a line at their mean.

    panels : what is tested on → arm → UAR of each seed
    """
    arms = list(next(iter(panels.values())))
    figure, axes = new_figure(1.6 + 2.4 * len(panels), 1.2 + 0.26 * len(arms), len(panels))
    for axis, (title, values) in zip(np.atleast_1d(axes).flat, panels.items(), strict=True):
        for line, arm in enumerate(arms):
            uars = 100 * np.array(values[arm])
            axis.plot(uars, [line] * len(uars), "o", ms=4, color=BLUE, alpha=0.7)
            axis.plot([uars.mean()] * 2, [line - 0.35, line + 0.35], color=ORANGE, lw=2)
        axis.set_yticks(range(len(arms)), arms if axis.get_subplotspec().is_first_col() else [])
        axis.set_ylim(len(arms) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0, labelsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(title, fontsize=9)
    figure.supxlabel("UAR %", fontsize=9)
    save_figure(figure, path)


def new_panels(n: int, height: float, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each of n, at most N_COLUMNS side by side; height of one in inches.

    share : one scale of y for all
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    n_columns = min(n, N_COLUMNS)
    n_rows = -(-n // n_columns)
    figure, axes = new_figure(0.4 + 3.1 * n_columns, 0.7 + (0.3 + height) * n_rows, n_columns, n_rows)
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(hspace=GAP)
    axes = list(np.atleast_1d(axes).flat)
    for axis in axes[n:]:
        axis.remove()
    if share:
        for axis in axes[1:n]:
            axis.sharey(axes[0])
    return figure, axes[:n]
