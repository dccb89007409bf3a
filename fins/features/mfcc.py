"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.feature import Convolution, Feature, PublishedFin, Windows
from fins.features.spectrum import N_MELS, Floats

if TYPE_CHECKING:
    from fins.networks.spectral import MfccFin

N_MFCC = 20
AMIN = 1e-10  # power under which a decibel is not taken lower
TOP_DB = 80.0  # dB under a window's own peak at which its log-mel is clipped


def mfcc(windows: Windows) -> Floats:
    """(n, 20), dB; the log-mel of each window is clipped 80 dB under its own peak."""
    decibel = 10 * np.log10(np.maximum(windows.mel, AMIN))
    decibel = np.maximum(decibel, decibel.max(axis=1, keepdims=True) - TOP_DB)
    return decibel @ dct_matrix().T


@cache
def dct_matrix() -> Floats:
    """(20, 128), the first rows of the orthonormal DCT-II."""
    import scipy.fft

    return scipy.fft.dct(np.eye(N_MELS), norm="ortho", axis=0)[:N_MFCC].astype(np.float32)


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (20,)."""
    import librosa

    return librosa.feature.mfcc(
        y=window, sr=SAMPLE_RATE, n_mfcc=N_MFCC, n_fft=WINDOW, hop_length=WINDOW, center=False
    )[:, 0]


def compact() -> MfccFin:
    from fins.networks.spectral import MfccFin

    return MfccFin()


FEATURE = Feature(
    "mfcc",
    N_MFCC,
    "dB, orthonormal DCT-II of a 128-band log-mel",
    "coefficient",
    closed_form=mfcc,
    oracle=by_librosa,
    published=PublishedFin(
        front=Convolution(n_kernels=256, n_taps=512, stride=110, pool=512),
        sizes=(256, 128, 20),
        last_relu=False,
        parameters=822_420,
        r2=(0.917, None),
        r2_esd=(0.543, 0.881),
    ),
    compact=compact,
    in_stores=True,
)
