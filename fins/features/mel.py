"""The mel spectrum: power in 128 bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW
from fins.features.feature import Convolution, Feature, PublishedFin, Windows
from fins.features.spectrum import N_MELS, Floats

if TYPE_CHECKING:
    from fins.networks.spectral import MelFin


def mel(windows: Windows) -> Floats:
    """(n, 128), power."""
    return windows.mel


def by_librosa(window: NDArray) -> NDArray:
    """(2048,) → (128,)."""
    import librosa

    return librosa.feature.melspectrogram(
        y=window, sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS, hop_length=WINDOW, center=False
    )[:, 0]


def compact() -> MelFin:
    from fins.networks.spectral import MelFin

    return MelFin()


FEATURE = Feature(
    "mel",
    N_MELS,
    "power",
    "band, lowest first",
    closed_form=mel,
    oracle=by_librosa,
    scale="power",
    published=PublishedFin(
        front=Convolution(n_kernels=512, n_taps=512, stride=128, pool=256),
        sizes=(128,),
        last_relu=True,
        parameters=983_680,
        r2=(0.333, 0.969),
        r2_esd=(None, 0.892),
        # 5,632 numbers go straight into the last ReLU: at level 1 a step of Adam moves it by several
        # deviations, and within an epoch all outputs are dead for good; speech is at about this level
        level=0.03,
    ),
    compact=compact,
    in_stores=True,
)
