"""The closed forms that FINs imitate: each a function of one window alone, computed in batches.

librosa, called window by window as `librosa_feature` does, is the definition; the batches agree with it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, WINDOW

N_MELS = 128
N_MFCC = 20
N_CHROMA = 12
N_PITCHES = 96
PITCHES = (65.0, 500.0)  # Hz, the lowest and the highest; neighbours are 0.37 semitones apart
FAINT = 1e-5  # amplitude of noise that hides a pitch
N_BINS = WINDOW // 2 + 1  # of the spectrum
AMIN = 1e-10  # power under which a decibel is not taken lower
TOP_DB = 80.0  # dB under a window's own peak at which its log-mel is clipped
ZERO = 1e-10  # amplitude within which a sample counts as zero, hence as positive
BATCH = 256  # windows at once: their spectra stay in the cache

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """What a user has to know of a feature to read its numbers.

    function : (n, 2048) float32 → (n,) or (n, n_outputs), of a feature that stores don't hold
    """

    name: str
    n_outputs: int
    unit: str
    outputs: str
    function: Callable[[NDArray], NDArray] | None = None


FEATURES = {
    feature.name: feature
    for feature in (
        Feature("zcr", 1, "sign changes per sample, 0 to 1", "rate"),
        Feature("rms", 1, "amplitude, 0 to 1", "root mean square"),
        Feature("chroma", N_CHROMA, "share of the largest, 0 to 1", "pitch class, C first"),
        Feature("mfcc", N_MFCC, "dB, orthonormal DCT-II of a 128-band log-mel", "coefficient"),
        Feature("mel", N_MELS, "power", "band, lowest first"),
    )
}


@cache
def get_feature(name: str) -> Feature:
    """The feature of that name: of the five, pitch, or a user's own closed form as `package.module:function`.

    Such a function takes (n, 2048) float32 and gives (n,) or (n, n_outputs), each row from its window alone.
    Raises ValueError for an unknown name, and for a function that can't be imported or gives something else.
    """
    if name in FEATURES:
        return FEATURES[name]
    if name == "pitch":
        return Feature("pitch", N_PITCHES, "share of the power, about -1 to 1", "pitch, lowest first", pitch)
    if ":" not in name:
        raise ValueError(
            f"there is no feature {name!r}: the known ones are {', '.join(FEATURES)}, pitch; "
            "your own is given as package.module:function"
        )
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` does, for installed commands too
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a user's module raises
        raise ValueError(f"the feature {name} can't be imported: {type(error).__name__}: {error}") from error
    own = Feature(name, 0, f"unit of {attribute}", "output", function)
    probe = np.random.default_rng(0).normal(0, 0.1, (3, WINDOW)).astype(np.float32)
    probe[2] = 0  # silence occurs in real corpora
    together, alone = _own_feature(own, probe), _own_feature(own, probe[1:2])
    if not np.allclose(together[1], alone[0], rtol=1e-3, atol=1e-6):
        raise ValueError(f"the feature {name} gives a window another value when others are beside it")
    return Feature(name, together.shape[1], own.unit, own.outputs, function)


def fingerprint(feature: Feature) -> str:
    """Changes when a user's own closed form does; empty for the five, which change with the version."""
    if feature.function is None:
        return ""
    probe = np.random.default_rng(1).normal(0, 0.1, (4, WINDOW)).astype(np.float32)
    return ", ".join(f"{value:.4g}" for value in _own_feature(feature, probe).flat)[:200]


def compute_feature(feature: Feature, windows: NDArray) -> Floats:
    """(n, 2048) → (n, n_outputs) of one feature; errors as of `compute_features`."""
    return compute_features(windows, [feature.name])[feature.name]


def _own_feature(feature: Feature, windows: NDArray) -> Floats:
    assert feature.function is not None
    try:
        values = np.asarray(feature.function(windows), dtype=np.float32)
    except Exception as error:
        raise ValueError(f"the feature {feature.name} failed: {type(error).__name__}: {error}") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != len(windows) or values.shape[1] == 0:
        raise ValueError(
            f"the feature {feature.name} gave the shape {values.shape} for {len(windows)} windows: "
            "one row a window is needed"
        )
    if feature.n_outputs and values.shape[1] != feature.n_outputs:
        raise ValueError(
            f"the feature {feature.name} gave {values.shape[1]} outputs, not {feature.n_outputs}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"the feature {feature.name} gave NaN or infinity; give silence a number too")
    return values


def compute_features(windows: NDArray, names: Iterable[str] = tuple(FEATURES)) -> dict[str, Floats]:
    """Several features of the same windows; what they share is computed once.

    windows : (n, 2048), amplitude in [-1, 1]; any real dtype, taken as float32
    returns : name → (n, n_outputs) float32, in the feature's own unit

    Raises ValueError for another shape, an unknown name, windows that hold NaN or infinity, and if a user's
    own closed form fails.
    """
    features = [get_feature(name) for name in names]
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(
            f"windows have the shape (n, {WINDOW}), got {windows.shape}: cut them with audio.cut_windows"
        )
    results = {feature.name: np.empty((len(windows), feature.n_outputs), np.float32) for feature in features}
    for start in range(0, len(windows), BATCH):
        batch = np.ascontiguousarray(windows[start : start + BATCH], dtype=np.float32)
        if not np.isfinite(batch).all():
            raise ValueError("windows hold samples that are NaN or infinite: read them with audio.read_audio")
        for name, values in _batch_features(batch, features).items():
            results[name][start : start + BATCH] = values
    return results


def _batch_features(batch: Floats, features: list[Feature]) -> dict[str, Floats]:
    names = {feature.name for feature in features}
    results = {feature.name: _own_feature(feature, batch) for feature in features if feature.function}
    if "zcr" in names:
        results["zcr"] = zero_crossing_rate(batch)
    if "rms" in names:
        results["rms"] = root_mean_square(batch)
    if {"chroma", "mfcc", "mel"} & names:
        power = power_spectrum(batch)
        if "chroma" in names:
            results["chroma"] = chroma(power)
        if {"mfcc", "mel"} & names:
            mel = power @ mel_filters().T
            if "mel" in names:
                results["mel"] = mel
            if "mfcc" in names:
                results["mfcc"] = mfcc(mel)
    return results


def zero_crossing_rate(windows: Floats) -> Floats:
    """Share of neighbouring samples that differ in sign; zero counts as positive.

    windows : (n, 2048) → (n, 1), crossings per sample in [0, 1]
    """
    negative = windows < -ZERO
    changes = np.count_nonzero(negative[:, 1:] != negative[:, :-1], axis=1)
    return (changes / WINDOW).astype(np.float32)[:, None]


def root_mean_square(windows: Floats) -> Floats:
    """(n, 2048) → (n, 1), amplitude in [0, 1]."""
    energy = np.einsum("nt,nt->n", windows, windows)
    return np.sqrt(energy / np.float32(WINDOW)).astype(np.float32)[:, None]


def power_spectrum(windows: Floats) -> Floats:
    """(n, 2048) → (n, 1025), squared magnitudes under a periodic Hann window."""
    spectrum = scipy.fft.rfft(windows * hann_window(), axis=1)
    return np.square(spectrum.real) + np.square(spectrum.imag)


def chroma(power: Floats) -> Floats:
    """(n, 1025) → (n, 12), energy of each pitch class as a share of the strongest; silence gives 0."""
    energy = power @ chroma_filters().T
    strongest = energy.max(axis=1, keepdims=True)
    strongest[strongest < np.finfo(np.float32).tiny] = 1
    return energy / strongest


def mfcc(mel: Floats) -> Floats:
    """(n, 128) mel power → (n, 20), dB; each window is clipped 80 dB under its own peak."""
    decibel = 10 * np.log10(np.maximum(mel, AMIN))
    decibel = np.maximum(decibel, decibel.max(axis=1, keepdims=True) - TOP_DB)
    return decibel @ dct_matrix().T


def pitch(windows: Floats) -> Floats:
    """(n, 2048) → (n, 96): how alike a window is to itself one period later, for each of 96 pitches.

    The autocorrelation at the lag of the pitch, by the power spectrum under the Hann window and without its
    two lowest bins, over that at lag 0 and that of the window itself; silence gives 0, a periodic signal 1 at
    its pitch. After Boersma 1993, but circular.
    """
    power = power_spectrum(windows) @ lag_filters().T
    return power[:, 1:] / (power[:, :1] + FAINT**2 * 3 / 8 * WINDOW**2)


def pitches() -> Floats:
    """(96,) Hz."""
    return np.geomspace(*PITCHES, N_PITCHES).astype(np.float32)


@cache
def lag_filters() -> Floats:
    """(97, 1025), from a power spectrum to its autocorrelation at lag 0 and at the lag of each pitch."""
    lags = np.concatenate([[0], SAMPLE_RATE / np.geomspace(*PITCHES, N_PITCHES)])
    angle = 2 * np.pi * lags[:, None] / WINDOW
    both_sides = np.full(N_BINS, 2.0)
    both_sides[:2], both_sides[-1] = 0, 1
    of_hann = (2 + np.cos(angle)) / 3
    return (both_sides * np.cos(angle * np.arange(N_BINS)) / of_hann).astype(np.float32)


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


@cache
def chroma_filters() -> Floats:
    """(12, 1025), for a tuning of 0."""
    import librosa.filters

    return librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=WINDOW, tuning=0.0)


@cache
def dct_matrix() -> Floats:
    """(20, 128), the first rows of the orthonormal DCT-II."""
    return scipy.fft.dct(np.eye(N_MELS), norm="ortho", axis=0)[:N_MFCC].astype(np.float32)


def librosa_feature(window: NDArray, name: str) -> NDArray:
    """The definition: one feature of one window by librosa itself.

    window : (2048,) → (n_outputs,); about 66 windows a second for all five, so for tests and benchmarks
    """
    import librosa

    frame = {"hop_length": WINDOW, "center": False}
    calls = {
        "zcr": lambda: librosa.feature.zero_crossing_rate(y=window, frame_length=WINDOW, **frame),
        "rms": lambda: librosa.feature.rms(y=window, frame_length=WINDOW, **frame),
        "chroma": lambda: librosa.feature.chroma_stft(
            y=window, sr=SAMPLE_RATE, n_fft=WINDOW, tuning=0.0, **frame
        ),
        "mfcc": lambda: librosa.feature.mfcc(y=window, sr=SAMPLE_RATE, n_mfcc=N_MFCC, n_fft=WINDOW, **frame),
        "mel": lambda: librosa.feature.melspectrogram(
            y=window, sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS, **frame
        ),
    }
    return calls[get_feature(name).name]()[:, 0]
