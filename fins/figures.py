"""What pictures share: a figure without a screen, colours, and an axis on which an R² near 1 can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fins.disk import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, BLUE, ORANGE = "0.45", "#2166ac", "#d6604d"
COLOURS = (BLUE, ORANGE, "#5aae61", "#9970ab", GREY, "#8c510a", "#c51b7d", "#bfa100")
DPI = 120
R2Values = ArrayLike | Sequence[float | None]
CLOSEST, FARTHEST = 14, -2  # nines that a picture shows: R² in float64 says no more than the first


def new_figure(width: float, height: float, n_columns: int = 1, n_rows: int = 1) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes, that needs no screen and touches no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns)
    for axis in np.atleast_1d(axes).flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path, title: str = "") -> None:
    """Write a figure as PNG, under a title of plain text for the whole of it."""
    if title:
        figure.suptitle(title)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png")


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Path → as many of its last parts as tell it from the others: a whole one is too long for a picture."""
    parts = {path: PurePath(path).parts for path in paths}
    most = max(map(len, parts.values()), default=0)
    for n in range(1, most):
        short = {path: "/".join(of_path[-n:]) for path, of_path in parts.items()}
        if len(set(short.values())) == len(parts):
            return short
    return {path: path for path in parts}


def nines(r2: R2Values) -> NDArray[np.float64]:
    """-log10(1 - R²): 0 for 0, 1 for 0.9, 3 for 0.999, below 0 for what is worse than the mean, NaN for None.

    From -2 (an R² of -99, and all below) to 14, for what float64 can't tell from 1.
    """
    values = np.asarray(r2, np.float64)
    return -np.log10(np.clip(1 - values, 10.0**-CLOSEST, 10.0**-FARTHEST))


def nines_text(number: int) -> str:
    """What R² so many nines stand for: 0.99 for 2, 1 - 1e-6 for 6, -9 for -1."""
    if number > 4:
        return f"1 - 1e-{number}"
    return f"{1 - 10.0**-number:.{max(number, 0)}f}"


def label_r2(axis: Axes, values: R2Values, along: Literal["x", "y"] = "y") -> None:
    """Make an axis on which `nines` are drawn one of R², wide enough for 0 and for these values of R²."""
    shown = nines(values)
    shown = shown[np.isfinite(shown)]
    low, high = float(min(shown.min(initial=0.0), 0.0)), float(max(shown.max(initial=1.0), 1.0))
    margin = 0.06 * (high - low)
    most = 7 if along == "y" else 5  # of the ticks, which stand beside each other along x
    step = max(1, -(-round(high - low) // most))
    ticks = [number for number in range(int(np.floor(low)), int(np.ceil(high)) + 1) if number % step == 0]
    ends = (low - margin if low < 0 else 0.0, high + margin)
    places = {float(number): nines_text(number) for number in ticks if ends[0] <= number <= ends[1]}
    if high - low < 2.5:
        places[float(nines(0.5))] = "0.5"
    labels = list(places.values())
    axis.set(**{f"{along}ticks": list(places), f"{along}ticklabels": labels, f"{along}lim": ends})
    axis.grid(axis=along, alpha=0.3)
    axis.set_axisbelow(True)
