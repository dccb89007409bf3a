"""What several features share: a window's power spectrum, and the bands of its mel spectrum."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW

Floats = NDArray[np.float32]

N_BINS = WINDOW // 2 + 1  # of the spectrum
N_MELS = 128


def power_spectrum(windows: Floats) -> Floats:
    """(n, 2048) → (n, 1025), squared magnitudes under a periodic Hann window."""
    import scipy.fft

    spectrum = scipy.fft.rfft(windows * hann_window(), axis=1)
    return np.square(spectrum.real) + np.square(spectrum.imag)


def mel_spectrum(power: Floats) -> Floats:
    """(n, 1025) → (n, 128), power in each band."""
    return power @ mel_filters().T


@cache
def hann_window() -> Floats:
    """(2048,), periodic."""
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


@cache
def mel_filters() -> Floats:
    """(128, 1025), triangles between the edges of `mel_edges`, each of area 1 over Hz, as Slaney has them."""
    edges, bins = mel_edges(), np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    widths = np.diff(edges)[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


@cache
def mel_edges() -> NDArray[np.float64]:
    """(130,) Hz, evenly spaced from 0 to half the rate on Slaney's scale.

    That has 15 mel at 1 kHz, is linear below and logarithmic above, with 27 mel for a factor of 6.4.
    """
    per_e_fold = 27 / np.log(6.4)
    mels = np.linspace(0, 15 + per_e_fold * np.log(SAMPLE_RATE / 2 / 1000), N_MELS + 2)
    return np.where(mels < 15, 1000 / 15 * mels, 1000 * np.exp((mels - 15) / per_e_fold))


@cache
def mel_centres() -> Floats:
    """(128,) Hz, where the bands of mel are centred."""
    return mel_edges()[1:-1].astype(np.float32)
