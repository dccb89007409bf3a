"""What several features share: a window's power spectrum, and the bands of its mel spectrum."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW

Floats = NDArray[np.float32]

N_BINS = WINDOW // 2 + 1  # of the spectrum
N_MELS = 128


def power_spectrum(windows: Floats) -> Floats:
    """(n, 2048) → (n, 1025), squared magnitudes under a periodic Hann window."""
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
    """(128, 1025), Slaney's scale and area normalisation."""
    import librosa.filters

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS)


@cache
def mel_centres() -> Floats:
    """(128,) Hz, where the bands of mel are centred."""
    import librosa

    edges = librosa.mel_frequencies(N_MELS + 2, fmin=0, fmax=SAMPLE_RATE / 2)
    return edges[1:-1].astype(np.float32)
