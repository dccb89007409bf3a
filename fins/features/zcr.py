"""Zero crossing rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import WINDOW
from fins.features.feature import Convolution, Feature, PublishedFin, Windows
from fins.features.spectrum import Floats

if TYPE_CHECKING:
    from fins.networks.waveform import ZcrFin

ZERO = 1e-10  # amplitude within which a sample counts as zero, hence as positive


def zero_crossing_rate(windows: Windows) -> Floats:
    """(n, 1), crossings per sample in [0, 1]: share of neighbouring samples that differ in sign; zero counts
    as positive."""
    negative = windows.samples < -ZERO
    changes = np.count_nonzero(negative[:, 1:] != negative[:, :-1], axis=1)
    return (changes / WINDOW).astype(np.float32)[:, None]


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (1,)."""
    import librosa

    rate = librosa.feature.zero_crossing_rate(y=window, frame_length=WINDOW, hop_length=WINDOW, center=False)
    return rate[:, 0]


def compact() -> ZcrFin:
    from fins.networks.waveform import ZcrFin

    return ZcrFin()


FEATURE = Feature(
    "zcr",
    1,
    "sign changes per sample, 0 to 1",
    "rate",
    closed_form=zero_crossing_rate,
    oracle=by_librosa,
    published=PublishedFin(
        front=Convolution(n_kernels=16, n_taps=16, stride=4),
        sizes=(32, 32, 32, 1),
        last_relu=True,
        parameters=263_057,
        r2=(0.935, 0.935),
        r2_esd=(0.942, 0.942),
    ),
    compact=compact,
    in_stores=True,
)
