"""Which channels of a recording are taken: not silent ones, and of those that cancel each other one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # samples that are looked at together
SILENT = 1e-5  # amplitude, a third of a step of 16 bits: digital silence
FAINT = 40.0  # dB below the loudest channel from which on another one counts as silent
OPPOSITE = -0.9  # correlation from which down the mean of two channels loses what they hold: 13 dB and more
Faults = dict[str, str]
"""Name of a fault → a sentence with what was measured."""


def choose_channels(samples: NDArray[Any]) -> tuple[list[int], Faults]:
    """Which of (n_samples, n_channels) to take the mean of, and why not of all."""
    return judge(covariance(samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK)))


def judge(spread: NDArray[np.float64]) -> tuple[list[int], Faults]:
    """By the (n_channels, n_channels) covariance of channels."""
    power = np.diag(spread)
    least = max(SILENT**2, power.max() * 10 ** (-FAINT / 10))
    audible = np.flatnonzero(power > least)
    if len(audible) == 0:
        return list(range(len(power))), {}
    faults = {}
    if len(audible) < len(power):
        numbers = " and ".join(str(place + 1) for place in np.flatnonzero(power <= least))
        faults["channel"] = (
            f"channel {numbers} is silent, so only the other was used"
            if len(power) == 2
            else f"of {len(power)} channels {numbers} are silent, so only the others were used"
        )
    scale = np.sqrt(power[audible])
    correlation = spread[np.ix_(audible, audible)] / np.outer(scale, scale)
    if correlation.min() < OPPOSITE:
        loudest = int(np.flatnonzero(power >= 0.999 * power.max())[0])  # of equal ones the first
        faults["phase"] = (
            f"its channels are in opposite phase (correlation {correlation.min():.2f}) and cancel each "
            f"other, so only channel {loudest + 1} was used"
        )
        return [loudest], faults
    return audible.tolist(), faults


class ChannelMoments:
    """How many samples there were, their sums by channel, and the sums of their products."""

    def __init__(self) -> None:
        self.n, self.sums, self.products = 0, np.zeros(1), np.zeros((1, 1))

    def add(self, block: NDArray[Any]) -> None:
        """Take in (n_samples, n_channels)."""
        values = block.astype(np.float64)
        self.n += len(values)
        self.sums = self.sums + values.sum(axis=0)
        self.products = self.products + values.T @ values

    def covariance(self) -> NDArray[np.float64]:
        """(n_channels, n_channels), of all that was taken in."""
        mean = self.sums / self.n
        return self.products / self.n - np.outer(mean, mean)


def covariance(blocks: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """(n_channels, n_channels), of all blocks together."""
    moments = ChannelMoments()
    for block in blocks:
        moments.add(block)
    return moments.covariance()
