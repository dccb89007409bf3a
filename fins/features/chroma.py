"""Chroma: how strong each pitch class is beside the strongest."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.feature import Convolution, Feature, PublishedFin, Windows
from fins.features.spectrum import Floats

if TYPE_CHECKING:
    from fins.networks.spectral import ChromaFin

N_CHROMA = 12


def chroma(windows: Windows) -> Floats:
    """(n, 12), energy of each pitch class as a share of the strongest; silence gives 0."""
    energy = windows.power @ chroma_filters().T
    strongest = energy.max(axis=1, keepdims=True)
    strongest[strongest < np.finfo(np.float32).tiny] = 1
    return energy / strongest


@cache
def chroma_filters() -> Floats:
    """(12, 1025), for a tuning of 0."""
    import librosa.filters

    return librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=WINDOW, tuning=0.0)


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
