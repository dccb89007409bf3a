"""Spectral centroid, bandwidth and energy of five bands, frame by frame.

The features are those of Hosseinzadeh and Krishnan 2008 (doi:10.1155/2008/258184): of each band of a power
spectrum P the centroid Σ f P / Σ P, the bandwidth Σ (f - centroid)² P / Σ P, and the share of the energy of
all bands; a division by zero gives 0. The spectrum is a mel spectrogram of 3401 rows, 16,384 samples a frame,
15 ms a hop, of which the first 200 frames count; where a recording ends sooner, all is 0.

Bands and f are rows of that spectrogram, as in the published system, which has 3401 rows so that there is a
row 3400. As hertz the same bounds cut the telephone band, 300 to 3400 Hz, into five equal steps of mel. Up
to 1 kHz a row is 0.98 Hz wide, and the two are nearly one; from there rows grow wider, and row 3400 is at
11 kHz: the last three bands are higher than their numbers say.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.frontends.by_recording import ByRecording

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]
N_FFT = 16_384  # samples, 743 ms
HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_FRAMES = 200
N_MELS = 3_401
BANDS = ((300, 627), (628, 1_060), (1_061, 1_633), (1_634, 2_393), (2_394, 3_400))  # first and last row
FEATURES = ("sc", "sbw", "sbe")  # spectral centroid, bandwidth, band energy


class SpectralFrontEnd(ByRecording):
    """(batch, 200, 15): five centroids, five bandwidths, five energies of each frame. All frames count."""

    n_columns, hop, window, keep = len(FEATURES) * len(BANDS), HOP, N_FFT, True
    why_not_exported = "Its features are computed by SciPy, by a sparse product that no graph holds."

    def extra_repr(self) -> str:
        return f"{N_FFT} {HOP} {N_FRAMES} {N_MELS} {BANDS}, librosa {version('librosa')}"

    def frames_of(self, signal: Signal) -> Floats:
        return spectral_features(signal)


def spectral_features(signal: Signal) -> Floats:
    """Centroid and bandwidth, in rows and their squares, and share of energy of each band.

    signal : (n_samples,) at 22,050 Hz
    returns : (200, 15) float32: five centroids, five bandwidths, five energies of each frame
    """
    mel = mel_rows(power_spectra(signal)).astype(np.float64)  # (row, frame), from row 300
    features = np.zeros((len(FEATURES), len(BANDS), N_FRAMES))
    for band, (first, last) in enumerate(BANDS):
        rows = np.arange(first, last + 1.0)
        power = mel[first - BANDS[0][0] : last + 1 - BANDS[0][0]]
        energy = power.sum(axis=0)
        centroid = divide(rows @ power, energy)
        bandwidth = divide((np.square(rows[:, None] - centroid) * power).sum(axis=0), energy)
        for place, values in enumerate((centroid, bandwidth, divide(energy, mel.sum(axis=0)))):
            features[place, band, : mel.shape[1]] = values
    return features.reshape(-1, N_FRAMES).T.astype(np.float32)


def power_spectra(signal: Signal) -> Floats:
    """(8193, n_frames): those of librosa, centred and padded with zeros, at most the first 200."""
    from scipy.fft import rfft
    from scipy.signal import get_window

    n_frames = min(N_FRAMES, 1 + len(signal) // HOP)
    reached = (n_frames - 1) * HOP + N_FFT
    padded = np.pad(signal, (N_FFT // 2, N_FFT))[:reached].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    spectra = rfft(frames * get_window("hann", N_FFT).astype(np.float32), axis=1)
    return (np.square(spectra.real) + np.square(spectra.imag)).T


def mel_rows(power: Floats) -> Floats:
    """(8193, n_frames) → (3101, n_frames): the rows of the mel spectrogram from 300 on."""
    return mel_filters() @ power


@cache
def mel_filters() -> csr_matrix:
    """(3101, 8193) of librosa; two of a thousand weights of a row aren't 0."""
    import librosa
    from scipy.sparse import csr_matrix

    filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
    return csr_matrix(filters[BANDS[0][0] : BANDS[-1][1] + 1])


def divide(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where the other is 0."""
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0)
