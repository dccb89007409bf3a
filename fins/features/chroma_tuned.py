"""Chroma as it was published: of magnitudes, in the tuning that each window seems to have."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.chroma import FEATURE as CHROMA
from fins.features.chroma import N_CHROMA, beside_strongest, chroma_filters
from fins.features.feature import Feature, Windows
from fins.features.spectrum import Floats

LOWEST, HIGHEST = 150.0, 4_000.0  # Hz, between which peaks say how a window is tuned
LEAST = 0.1  # of the largest magnitude, for a peak
N_TUNINGS = 100  # a hundredth of a semitone apart
TUNINGS = np.linspace(-0.5, 0.5, N_TUNINGS + 1)  # semitones, edges of the bins that peaks are counted in


def chroma_tuned(windows: Windows) -> Floats:
    """(n, 12), magnitude of each pitch class as a share of the strongest; silence gives 0."""
    magnitude = np.sqrt(windows.power)
    places = find_tunings(magnitude)
    strength = np.empty((len(windows), N_CHROMA), np.float32)
    for place in np.unique(places):
        chosen = places == place
        strength[chosen] = magnitude[chosen] @ chroma_filters(float(TUNINGS[place])).T
    return beside_strongest(strength)


def find_tunings(magnitude: Floats) -> NDArray[np.intp]:
    """(n, 1025) → (n,) places in TUNINGS: where most of the stronger half of a spectrum's peaks lie beside
    the semitones of A at 440 Hz; that of 0 without any peak.

    A peak's place is that of the parabola through it and its neighbours.
    """
    before, middle, after = magnitude[:, :-2], magnitude[:, 1:-1], magnitude[:, 2:]
    loud = np.where(middle > LEAST * magnitude.max(axis=1, keepdims=True), middle, 0)
    frequency = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)[1:-1]
    peaks = (loud > before) & (middle >= after) & (frequency >= LOWEST) & (frequency < HIGHEST)
    row, place = np.nonzero(peaks)
    before, middle, after = before[row, place], middle[row, place], after[row, place]
    slope, bend = (after - before) / 2, after + before - 2 * middle
    shift = np.where(np.abs(slope) < np.abs(bend), -slope / np.where(bend == 0, 1, bend), 0)
    height = middle + slope * shift / 2
    hertz = ((place + 1 + shift) * (SAMPLE_RATE / WINDOW)).astype(np.float32)

    strong = height >= medians(height, row, len(magnitude))[row]
    semitones = N_CHROMA * np.log2(hertz[strong] / np.float32(440 / 16))
    beside = np.mod(semitones, np.float32(1))
    beside[beside >= 0.5] -= 1
    near = np.clip(np.searchsorted(TUNINGS, beside, side="right") - 1, 0, N_TUNINGS - 1)
    votes = np.zeros((len(magnitude), N_TUNINGS), np.int64)
    np.add.at(votes, (row[strong], near), 1)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), N_TUNINGS // 2)


def medians(values: NDArray, row: NDArray[np.intp], n_rows: int) -> NDArray:
    """Of the values of each row; 0 where it has none. row : of each value, ascending"""
    in_order = values[np.lexsort((values, row))]
    counts = np.bincount(row, minlength=n_rows)
    some = counts > 0
    first = (np.cumsum(counts) - counts)[some]
    below, above = first + (counts[some] - 1) // 2, first + counts[some] // 2
    result = np.zeros(n_rows, values.dtype)
    result[some] = (in_order[below] + in_order[above]) / 2
    return result


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (12,)."""
    import librosa

    magnitude = np.abs(librosa.stft(window, n_fft=WINDOW, hop_length=WINDOW, center=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set")
        return librosa.feature.chroma_stft(S=magnitude, sr=SAMPLE_RATE)[:, 0]


FEATURE = Feature(
    "chroma_tuned",
    N_CHROMA,
    "share of the largest, 0 to 1",
    "pitch class, C first",
    closed_form=chroma_tuned,
    oracle=by_librosa,
    scale="likeness",
    published=CHROMA.published,
)
