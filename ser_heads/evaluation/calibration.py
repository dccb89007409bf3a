"""Whether probabilities mean what they say, the temperature that mends them, and when not to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPERATURES = (0.05, 20.0)
N_BINS = 15  # of confidence
FEW = 300  # answers below which an error over so many bins is mostly chance
N_POINTS = 100  # of a curve that is written
FEWEST = 20  # answers that have to be left for a threshold to be chosen by them


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """By which logits are divided so that recordings' own labels are likeliest (Guo and others 2017).

    logits : (n, n_classes); targets : (n,) places; returns : 0.05 to 20, and 1 without any recordings
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if len(targets) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        shares = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return float(-shares[np.arange(len(targets)), targets].mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Expected calibration error, 0 to 1 (Naeini and others 2015): see `confidence_error`.

    probabilities : (n, n_classes); truth : (n,) places
    """
    return confidence_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)


def confidence_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """How far confidence is from the share that is right, in 15 equal bins, weighted by how many are in each.

    confidence : (n,) in [0, 1]; right : (n,); returns : 0 to 1, 0 of none
    """
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    gaps = np.bincount(bins, right, N_BINS) - np.bincount(bins, confidence, N_BINS)
    return float(np.abs(gaps).sum() / max(1, counts.sum()))


@dataclass(frozen=True)
class RiskCoverage:
    """What it costs to answer more: recordings are answered in the order of confidence, surest first.

    threshold : (k,) every confidence that there is, falling
    coverage : (k,) share of recordings with at least that; risk : (k,) share of those answers that is wrong
    area : mean risk over all coverages (Geifman and others 2019), 0 to 1: less is better, and without any
        order it is the risk of all
    """

    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    area: float

    def as_json(self) -> dict[str, Any]:
        """`area`, and the curve at most at each percent of coverage."""
        wanted = np.arange(1, N_POINTS + 1) / N_POINTS
        points = np.unique(np.minimum(np.searchsorted(self.coverage, wanted - 1e-9), len(self.coverage) - 1))
        curves = {"coverage": self.coverage, "risk": self.risk, "threshold": self.threshold}
        return {"area": self.area} | {
            name: np.round(values[points], 6).tolist() for name, values in curves.items()
        }


def risk_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> RiskCoverage:
    """Of (n,) recordings; those of one confidence come together, in no order. ValueError for none."""
    if len(confidence) == 0:
        raise ValueError("there are no answers to draw a curve of")
    values, kind = np.unique(-confidence, return_inverse=True)
    counts = np.bincount(kind)
    n_answered, n_wrong = np.cumsum(counts), np.cumsum(np.bincount(kind, ~right))
    # after each single recording, of which those of one confidence share what is wrong among them
    steps = np.interp(np.arange(1, len(right) + 1), [0, *n_answered], [0, *n_wrong])
    area = float((steps / np.arange(1, len(right) + 1)).mean())
    return RiskCoverage(-values, n_answered / len(right), n_wrong / n_answered, area)


def fit_abstention(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The lowest threshold above which answers are wrong at most half as often as all are together.

    confidence, right : (n,) of validation recordings; returns : 0 to 1, halfway between two confidences; 0,
        which leaves nothing out, if none is wrong, or if fewer than 20 answers would be left
    """
    if len(confidence) == 0 or right.all():
        return 0.0
    curve = risk_coverage(confidence, right)
    n_answered = np.rint(curve.coverage * len(right))
    good = np.flatnonzero((curve.risk <= curve.risk[-1] / 2) & (n_answered >= FEWEST))
    return float(curve.threshold[good[-1] : good[-1] + 2].mean()) if len(good) else 0.0


def abstain(confidence: NDArray[np.float64], right: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """coverage : share of (n,) recordings that have the threshold's confidence or more
    risk : share of their answers that is wrong, None of none
    """
    answered = confidence >= threshold
    risk = float((~right[answered]).mean()) if answered.any() else None
    return {"coverage": float(answered.mean()), "risk": risk}
