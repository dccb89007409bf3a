"""Pictures of mel spectrograms, as a network takes them.

The mel spectrogram of the magnitude → ln(x + 1e-9) → 0 to 255 from its smallest to its largest value → an
image of 8-bit grey → 150 rows of frequency, the lowest on top, and 50 columns of time, however long the
recording → divided by 255, less 0.5, divided by 0.5. Windows of 2048 samples and 150 bands are ours: the
published description names the size of the image alone.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.frontends.by_recording import ByRecording

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
N_FFT = 2_048  # samples, 92.9 ms
HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_MELS = 150
FAINTEST = 1e-9
ROWS, COLUMNS = 150, 50


class ImageFrontEnd(ByRecording):
    """(batch, 50, 150) in [-1, 1]: an image of each recording, column by column. All 50 columns count."""

    n_columns, hop, window, keep = ROWS, HOP, N_FFT, True
    why_not_exported = "Its pictures are drawn and made smaller by Pillow, which no graph holds."

    def extra_repr(self) -> str:
        libraries = f"librosa {version('librosa')}, pillow {version('pillow')}"
        return f"{N_FFT} {HOP} {N_MELS} {FAINTEST} {ROWS} {COLUMNS}, {libraries}"

    def frames_of(self, signal: Signal) -> Floats:
        return normalise(resize(draw(signal)))


def draw(signal: Signal) -> Pixels:
    """(n_samples,) → (150, n_frames) uint8: the logarithm of its mel spectrogram from 0, the least in it, to
    255; all is 0 if all is one."""
    import librosa

    magnitude = np.abs(librosa.stft(signal, n_fft=N_FFT, hop_length=HOP))
    logarithm = np.log(mel_filters() @ magnitude + FAINTEST)
    least, most = logarithm.min(), logarithm.max()
    if most == least:
        return np.zeros(logarithm.shape, np.uint8)
    return ((logarithm - least) / (most - least) * 255).astype(np.uint8)


def resize(image: Pixels) -> Pixels:
    """(n_mels, n_frames) → (150, 50), smoothed."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((COLUMNS, ROWS), Image.Resampling.BILINEAR))


def normalise(image: Pixels) -> Floats:
    """(150, 50) → (50, 150), column by column, in [-1, 1]."""
    return (image.T.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


@cache
def mel_filters() -> Floats:
    """(150, 1025) of librosa."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
