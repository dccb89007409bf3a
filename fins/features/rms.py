"""Root mean square."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import WINDOW
from fins.features.feature import Feature, PublishedFin, Windows
from fins.features.spectrum import Floats

if TYPE_CHECKING:
    from fins.networks.waveform import RmsFin


def root_mean_square(windows: Windows) -> Floats:
    """(n, 1), amplitude in [0, 1]."""
    energy = np.einsum("nt,nt->n", windows.samples, windows.samples)
    return np.sqrt(energy / np.float32(WINDOW)).astype(np.float32)[:, None]


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (1,)."""
    import librosa

    return librosa.feature.rms(y=window, frame_length=WINDOW, hop_length=WINDOW, center=False)[:, 0]


def compact() -> RmsFin:
    from fins.networks.waveform import RmsFin

    return RmsFin()


FEATURE = Feature(
    "rms",
    1,
    "amplitude, 0 to 1",
    "root mean square",
    closed_form=root_mean_square,
    oracle=by_librosa,
    scale="amplitude",
    published=PublishedFin(
        front=None,
        sizes=(32, 16, 8, 1),
        last_relu=True,
        parameters=66_241,
        r2=(0.985, 0.985),
        r2_esd=(0.968, 0.968),
    ),
    compact=compact,
    in_stores=True,
)
