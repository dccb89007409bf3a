"""Pitch: how alike a window is to itself one period later, for each of 96 pitches."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.feature import Feature, Windows
from fins.features.spectrum import N_BINS, Floats

if TYPE_CHECKING:
    from fins.networks.spectral import PitchFin

N_PITCHES = 96
PITCHES = (65.0, 500.0)  # Hz, the lowest and the highest; neighbours are 0.37 semitones apart
FAINT = 1e-5  # amplitude of noise that hides a pitch


def pitch(windows: Windows) -> Floats:
    """(n, 96), about -1 to 1: the autocorrelation at the lag of each pitch, as a share of the power.

    By the power spectrum under the Hann window and without its two lowest bins, over that at lag 0 and that
    of the window itself; silence gives 0, a periodic signal 1 at its pitch. After Boersma 1993, but circular.
    """
    power = windows.power @ lag_filters().T
    return power[:, 1:] / (power[:, :1] + FAINT**2 * 3 / 8 * WINDOW**2)


def pitches() -> Floats:
    """(96,) Hz."""
    return np.geomspace(*PITCHES, N_PITCHES).astype(np.float32)


@cache
def lag_filters() -> Floats:
    """(97, 1025), from a power spectrum to its autocorrelation at lag 0 and at the lag of each pitch."""
    lags = np.concatenate([[0], SAMPLE_RATE / np.geomspace(*PITCHES, N_PITCHES)])
    angle = 2 * np.pi * lags[:, None] / WINDOW
    both_sides = np.full(N_BINS, 2.0)
    both_sides[:2], both_sides[-1] = 0, 1
    of_hann = (2 + np.cos(angle)) / 3
    return (both_sides * np.cos(angle * np.arange(N_BINS)) / of_hann).astype(np.float32)


def by_delays(window: NDArray) -> NDArray:
    """(2048,) → (96,): the definition, products of the window with itself delayed, in float64."""
    hann = np.hanning(WINDOW + 1)[:-1]
    spectrum = np.fft.fft(np.asarray(window, np.float64) * hann)
    spectrum[[0, 1, -1]] = 0
    hertz = np.fft.fftfreq(WINDOW, 1 / SAMPLE_RATE)
    shares = []
    for each in [np.inf, *np.geomspace(*PITCHES, N_PITCHES)]:
        delay = np.exp(-2j * np.pi * hertz / each)
        product = np.fft.ifft(spectrum).real @ np.fft.ifft(spectrum * delay).real
        shares.append(product / (hann @ np.fft.ifft(np.fft.fft(hann) * delay).real))
    return np.array(shares[1:]) / (shares[0] + FAINT**2)


def compact() -> PitchFin:
    from fins.networks.spectral import PitchFin

    return PitchFin()


FEATURE = Feature(
    "pitch",
    N_PITCHES,
    "share of the power, about -1 to 1",
    "pitch, lowest first",
    closed_form=pitch,
    oracle=by_delays,
    scale="likeness",
    compact=compact,
)
