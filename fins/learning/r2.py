"""R², streamed: per output, uniform, variance-weighted; equal to scikit-learn's on the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class R2:
    """R² of one feature on some windows.

    uniform : mean over the outputs that vary
    variance_weighted : mean over the outputs that vary, weighted by their variance
    constant_outputs : outputs without variance, for which R² says nothing; they are left out of both means
    per_output : (n_outputs,), None for those
    """

    n_windows: int
    uniform: float | None
    variance_weighted: float | None
    constant_outputs: tuple[int, ...]
    per_output: tuple[float | None, ...]


def r2_text(value: float | None) -> str:
    """Four decimals; what is closer to 1 than these can tell is given as its distance."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 0.99995 else f"1 - {1 - value:.0e}"


class R2Accumulator:
    """Sums over batches in float64: count, mean and spread of the truth, squared error.

    Mean and spread are updated as Chan, Golub and LeVeque (1983) do, which stays exact for large means.
    """

    def __init__(self, n_outputs: int) -> None:
        self.n = 0
        self.mean = np.zeros(n_outputs)
        self.spread = np.zeros(n_outputs)  # sum of squared deviations from the mean
        self.error = np.zeros(n_outputs)  # sum of squared errors

    def update(self, truth: NDArray, imitation: NDArray) -> None:
        """Both (n, n_outputs); ValueError if they differ in shape or hold NaN."""
        if truth.shape != imitation.shape or truth.shape[1:] != self.mean.shape:
            raise ValueError(f"truth and imitation differ in shape: {truth.shape} and {imitation.shape}")
        if not (np.isfinite(truth).all() and np.isfinite(imitation).all()):
            raise ValueError("truth or imitation holds NaN or infinity, so R² has no value")
        if len(truth) == 0:
            return
        truth = truth.astype(np.float64)
        batch = R2Accumulator(truth.shape[1])
        batch.n, batch.mean = len(truth), truth.mean(axis=0)
        # a mean of equal numbers may be off by a rounding, which must not pass for variance
        same = (truth == truth[0]).all(axis=0)
        batch.mean = np.where(same, truth[0], batch.mean)
        batch.spread = np.square(truth - batch.mean).sum(axis=0)
        batch.error = np.square(truth - imitation).sum(axis=0)
        self.merge(batch)

    def merge(self, other: R2Accumulator) -> None:
        """Take in what another has seen."""
        n = self.n + other.n
        if n == 0:
            return
        shift = other.mean - self.mean
        self.spread = self.spread + other.spread + np.square(shift) * (self.n * other.n / n)
        self.mean = np.where(shift == 0, self.mean, self.mean + shift * (other.n / n))
        self.error = self.error + other.error
        self.n = n

    def result(self) -> R2:
        """Of what was seen so far; the means are None where no output varies."""
        varies = self.spread > 0
        scores = 1 - self.error / np.where(varies, self.spread, 1)
        return R2(
            n_windows=self.n,
            uniform=float(scores[varies].mean()) if varies.any() else None,
            variance_weighted=(
                float(1 - self.error[varies].sum() / self.spread[varies].sum()) if varies.any() else None
            ),
            constant_outputs=tuple(int(i) for i in np.flatnonzero(~varies)),
            per_output=tuple(
                float(score) if known else None for score, known in zip(scores, varies, strict=True)
            ),
        )


def name_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """R² rows by a name for people: corpus and part, and the store where these don't tell two rows apart."""
    named = {}
    for row in rows:
        corpus, part = row["corpus"], row["part"]
        name = "all corpora" if corpus == "all" else corpus
        stem = Path(row["store"]).stem
        stems = [
            Path(other["store"]).stem for other in rows if (other["corpus"], other["part"]) == (corpus, part)
        ]
        if len(stems) > 1:
            name += f" ({stem})" if stems.count(stem) == 1 else f" ({row['store']})"
        named[f"{name}, {part}"] = row
    return named


def held_out_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of these, by the same names, the rows of windows that training never saw."""
    return {name: row for name, row in name_rows(rows).items() if row["part"] in ("test", "all")}
