"""Whether probabilities mean what they say: how far off they are, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPERATURES = (0.05, 20.0)
N_BINS = 15  # of confidence


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
