"""Chroma: how strong each pitch class is beside the strongest."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.feature import Convolution, Feature, PublishedFin, Windows
from fins.features.spectrum import N_BINS, Floats

if TYPE_CHECKING:
    from fins.networks.spectral import ChromaFin

N_CHROMA = 12


def chroma(windows: Windows) -> Floats:
    """(n, 12), energy of each pitch class as a share of the strongest; silence gives 0."""
    return beside_strongest(windows.power @ chroma_filters().T)


def beside_strongest(energy: Floats) -> Floats:
    """(n, 12) → the same as shares of each row's largest; 0 where all are."""
    strongest = energy.max(axis=1, keepdims=True)
    strongest[strongest < np.finfo(np.float32).tiny] = 1
    return energy / strongest


@cache
def chroma_filters(tuning: float = 0.0) -> Floats:
    """(12, 1025): how much of each bin counts for each pitch class.

    tuning : semitones that A is above 440 Hz

    A bin counts by a bell over pitch that is as wide as the bin itself, a semitone at least; the twelve
    shares of a bin have length 1. A bell of two octaves around the fifth weighs the bins (Ellis's chroma).
    """
    pitch = N_CHROMA * np.log2(np.arange(1, WINDOW) * SAMPLE_RATE / WINDOW / (440 / 16))  # semitones
    pitch = np.concatenate([[pitch[0] - 1.5 * N_CHROMA], pitch])  # 0 Hz has none: low enough to weigh nothing
    width = np.maximum(np.diff(pitch, append=pitch[-1] + 1), 1)
    pitch -= tuning
    half = N_CHROMA // 2
    distance = (pitch - np.arange(N_CHROMA)[:, None] + half) % N_CHROMA - half
    shares = np.exp(-2 * np.square(distance / width))
    shares /= np.linalg.norm(shares, axis=0)
    shares *= np.exp(-np.square((pitch / N_CHROMA - 5) / 2) / 2)
    return np.roll(shares, -3, axis=0)[:, :N_BINS].astype(np.float32)  # A is first; C shall be


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (12,)."""
    import librosa

    return librosa.feature.chroma_stft(
        y=window, sr=SAMPLE_RATE, n_fft=WINDOW, hop_length=WINDOW, center=False, tuning=0.0
    )[:, 0]


def compact() -> ChromaFin:
    from fins.networks.spectral import ChromaFin

    return ChromaFin()


FEATURE = Feature(
    "chroma",
    N_CHROMA,
    "share of the largest, 0 to 1",
    "pitch class, C first",
    closed_form=chroma,
    oracle=by_librosa,
    scale="likeness",
    published=PublishedFin(
        front=Convolution(n_kernels=256, n_taps=512, stride=128, pool=256),
        sizes=(256, 128, 64, 12),
        last_relu=True,
        loss="mae",
        parameters=894_412,
        r2=(0.932, None),
        r2_esd=(0.917, None),
    ),
    compact=compact,
    in_stores=True,
)
