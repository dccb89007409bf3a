"""Spectral features and a support vector machine: centroid, bandwidth or energy of five bands.

The features are those of Hosseinzadeh and Krishnan 2008 (doi:10.1155/2008/258184): of each band of a power
spectrum P the centroid Σ f P / Σ P, the bandwidth Σ (f - centroid)² P / Σ P, and the share of the energy of
all bands; a division by zero gives 0. The spectrum is a mel spectrogram of 3401 rows, 16,384 samples a frame,
15 ms a hop, of which the first 200 frames count; where an utterance ends sooner, all is 0. Each of the three
features is a matrix of 5 bands × 200 frames, and its columns, one behind another, are what the machine hears.

Bands and f are rows of that spectrogram, as in the published system, which has 3401 rows so that there is a
row 3400. As hertz the same bounds cut the telephone band, 300 to 3400 Hz, into five equal steps of mel. Up
to 1 kHz a row is 0.98 Hz wide, and the two are nearly one; from there rows grow wider, and row 3400 is at
11 kHz: the last three bands are higher than their numbers say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fins.audio import SAMPLE_RATE, Signal
from fins.features import Floats
from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import Fit, Inputs, UtteranceModel
from ser_heads.data import Batch, UtteranceTable
from ser_heads.kept import KeptArrays, Progress, ignore
from ser_heads.scores import count_confusions, metrics

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from ser_heads.training import Feed, Options

SETTINGS: dict[str, Any] = {"copies": 0, "class_weights": 0.0}
N_FFT = 16_384  # samples, 743 ms
HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_FRAMES = 200
N_MELS = 3_401
BANDS = ((300, 627), (628, 1_060), (1_061, 1_633), (1_634, 2_393), (2_394, 3_400))  # first and last row
FEATURES = ("sc", "sbw", "sbe")  # spectral centroid, bandwidth, band energy
KERNELS = ("rbf", "linear", "poly")  # poly is of degree 3
DEGREE = 3
NEVER = -1e4  # logit of an emotion that training utterances don't have


@dataclass(frozen=True)
class SvmGrid:
    """What is tried, with each of the three features; validation chooses."""

    c: tuple[float, ...] = (10.0,)
    """Cost of an utterance on the wrong side, one or several."""
    kernel: tuple[Literal["rbf", "linear", "poly"], ...] = ("rbf",)
    """One or several."""


@dataclass(frozen=True)
class Candidate:
    """One row of a history: a machine that was tried."""

    feature: str
    kernel: str
    c: float
    n_support_vectors: int
    seconds: float
    train_uar: float
    validation_uar: float
    validation_wa: float

    def goodness(self) -> tuple[float, float]:
        return self.validation_uar, self.validation_wa


class SpectralSvm(UtteranceModel):
    """One of the spectral features → decision values, which stand for logits.

    The machine is scikit-learn's SVC, fitted to standardised features and kept as plain tensors. A decision
    value is the number of other emotions that an emotion wins against, and less than a third up or down by
    how clearly: SVC's own `decision_function`, whose largest is its answer with `break_ties`. Shares that are
    made of them are no probabilities.
    """

    by_gradient = False
    columns: Tensor  # (5,) of the 15 inputs
    kernel: Tensor  # () place in KERNELS
    gamma: Tensor  # ()
    mean: Tensor  # (1000,)
    scale: Tensor  # (1000,)
    support_vectors: Tensor  # (n, 1000)
    dual_coefficients: Tensor  # (n_pairs, n), 0 for vectors of neither emotion of a pair
    intercepts: Tensor  # (n_pairs,)
    emotions: Tensor  # (n_emotions,) places in EMOTIONS

    def __init__(self) -> None:
        super().__init__()
        n_inputs = len(BANDS) * N_FRAMES
        empty = {
            "columns": torch.arange(len(BANDS)),
            "kernel": torch.tensor(0),
            "gamma": torch.ones((), dtype=torch.float64),
            "mean": torch.zeros(n_inputs, dtype=torch.float64),
            "scale": torch.ones(n_inputs, dtype=torch.float64),
            "support_vectors": torch.zeros(0, n_inputs, dtype=torch.float64),
            "dual_coefficients": torch.zeros(0, 0, dtype=torch.float64),
            "intercepts": torch.zeros(0, dtype=torch.float64),
            "emotions": torch.zeros(0, dtype=torch.int64),
        }
        for name, tensor in empty.items():
            self.register_buffer(name, tensor)

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Nothing is augmented."""
        assert batch.inputs is not None
        return self.decide(batch.inputs), batch.targets()

    def decide(self, features: Tensor) -> Tensor:
        """(batch, 200, 15) → (batch, 8)."""
        stacked = features[..., self.columns].flatten(1).double()  # frame by frame, its five bands
        kernels = self._kernels((stacked - self.mean) / self.scale)  # (batch, n)
        pairs = (
            kernels @ self.dual_coefficients.T + self.intercepts
        )  # (batch, n_pairs), above 0 for the first
        n = len(self.emotions)
        first, second = torch.triu_indices(n, n, 1, device=pairs.device)
        none = pairs.new_zeros(len(pairs), n)
        wins = (pairs >= 0).to(pairs)
        votes = none.index_add(1, first, wins).index_add(1, second, 1 - wins)
        clear = none.index_add(1, first, pairs).index_add(1, second, -pairs)
        logits = pairs.new_full((len(pairs), len(EMOTIONS)), NEVER)
        logits[:, self.emotions] = votes + clear / (3 * (clear.abs() + 1))
        return logits.float()

    def _kernels(self, features: Tensor) -> Tensor:
        """(batch, 1000) → (batch, n), with each support vector."""
        kind = KERNELS[int(self.kernel)]
        products = features @ self.support_vectors.T
        if kind == "linear":
            return products
        if kind == "poly":
            return (self.gamma * products) ** DEGREE
        squares = features.square().sum(dim=1)[:, None] + self.support_vectors.square().sum(dim=1)
        return torch.exp(-self.gamma * (squares - 2 * products).clamp_min(0))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """How many support vectors there are is known from the tensors alone."""
        for name, own in list(self.named_buffers()):
            tensor = state_dict.get(prefix + name)
            if tensor is not None:
                setattr(self, name, own.new_empty(tensor.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        n, n_emotions = len(self.support_vectors), len(self.emotions)
        n_pairs = n_emotions * (n_emotions - 1) // 2
        whole = self.dual_coefficients.shape == (n_pairs, n) and self.intercepts.shape == (n_pairs,)
        if not (whole and self.mean.shape == self.scale.shape == self.support_vectors.shape[1:]):
            raise ValueError("the tensors of a support vector machine don't fit together")

    def prepare(self, table: UtteranceTable, progress: Progress) -> None:
        SpectralFeatures(table, progress).close()

    def inputs(self, table: UtteranceTable) -> Inputs:
        """(200, 15): centroids, bandwidths and energies of the five bands."""
        return SpectralFeatures(table)

    def hears_signal(self, frozen: bool) -> bool:
        return False

    def n_learned(self) -> int:
        learned = (self.mean, self.scale, self.support_vectors, self.dual_coefficients, self.intercepts)
        return sum(tensor.numel() for tensor in learned)

    def fit(
        self,
        feed: Feed,
        parts: Mapping[str, NDArray[np.int64]],
        options: Options,
        seconds: float | None = None,
        progress: Callable[[int, int], object] = lambda done, n: None,
    ) -> Fit:
        """Try the grid of the options with each feature; of each feature, and of all, the machine of the best
        validation UAR is kept, of equals that of the best WA, of these the first.

        Copies of the training utterances count as utterances.
        """
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        started = time.monotonic()
        copies = range(options.copies + 1)
        train = np.concatenate([hear(feed, parts["train"], copy) for copy in copies])
        truth = np.tile(feed.table.emotion[parts["train"]], len(copies))
        weights = None if feed.weights is None else np.tile(feed.weights[parts["train"]], len(copies))
        validation = hear(feed, parts["validation"], 0)
        grid = [(kind, c, name) for kind in options.svm.kernel for c in options.svm.c for name in FEATURES]
        rows: list[Candidate] = []
        variants: dict[str, dict[str, Tensor]] = {}
        best: dict[str, Candidate] = {}
        stopped = "converged"
        for kernel, c, name in grid:
            if seconds is not None and len(best) == len(FEATURES) and time.monotonic() - started >= seconds:
                stopped = "minutes"
                break
            columns = columns_of(name)
            stacked = train[..., columns].reshape(len(train), -1).astype(np.float64)
            scaler = StandardScaler().fit(stacked)
            svm = SVC(C=c, kernel=kernel, degree=DEGREE)
            svm.fit(scaler.transform(stacked), truth, weights)
            tensors = tensors_of(columns, kernel, scaler, svm)
            self.load_state_dict(tensors)
            learned = self._score(train, truth)
            judged = self._score(validation, feed.table.emotion[parts["validation"]])
            spent = round(time.monotonic() - started, 2)
            n = len(svm.support_)
            row = Candidate(name, kernel, c, n, spent, learned["uar"], judged["uar"], judged["wa"])
            rows.append(row)
            if name not in best or row.goodness() > best[name].goodness():
                best[name], variants[name] = row, tensors
            progress(len(rows), len(grid))
        kept = max(best, key=lambda name: best[name].goodness())
        self.load_state_dict(variants[kept])
        return Fit(rows, best, variants, kept, stopped)

    def _score(self, features: Floats, truth: NDArray[np.int64]) -> dict[str, float]:
        answers = self.decide(torch.from_numpy(features)).argmax(dim=1).numpy()
        _, confusions = count_confusions(truth, answers, ["all"] * len(truth), len(EMOTIONS))
        return {name: float(its[0]) for name, its in metrics(confusions).items()}


def hear(feed: Feed, utterances: NDArray[np.int64], copy: int) -> Floats:
    """(n, 200, 15) of some utterances."""
    assert feed.inputs is not None
    return np.stack([feed.inputs(int(utterance), copy) for utterance in utterances])


def columns_of(feature: str) -> NDArray[np.int64]:
    """Which of the 15 inputs are those of a feature."""
    return FEATURES.index(feature) * len(BANDS) + np.arange(len(BANDS))


def tensors_of(
    columns: NDArray[np.int64], kernel: str, scaler: StandardScaler, svm: SVC
) -> dict[str, Tensor]:
    """A fitted machine as what a SpectralSvm holds."""
    n_of = np.concatenate([[0], np.cumsum(svm.n_support_)])  # support vectors lie emotion by emotion
    pairs = []
    for first in range(len(svm.classes_)):
        for second in range(first + 1, len(svm.classes_)):
            row = np.zeros(len(svm.support_))
            of_first, of_second = (slice(n_of[its], n_of[its + 1]) for its in (first, second))
            # of each vector, one row for each other emotion
            row[of_first] = svm.dual_coef_[second - 1, of_first]
            row[of_second] = svm.dual_coef_[first, of_second]
            pairs.append(row)
    sign = -1 if len(svm.classes_) == 2 else 1  # of two emotions, SVC has the second one above 0
    return {
        "columns": torch.from_numpy(columns),
        "kernel": torch.tensor(KERNELS.index(kernel)),
        "gamma": torch.tensor(float(svm._gamma), dtype=torch.float64),
        "mean": torch.from_numpy(scaler.mean_),
        "scale": torch.from_numpy(scaler.scale_),
        "support_vectors": torch.from_numpy(np.ascontiguousarray(svm.support_vectors_)),
        "dual_coefficients": torch.from_numpy(sign * np.stack(pairs)),
        "intercepts": torch.from_numpy(sign * svm.intercept_),
        "emotions": torch.from_numpy(svm.classes_.astype(np.int64)),
    }


class SpectralFeatures(KeptArrays):
    """(utterance, copy) → (200, 15) float32: of recordings kept beside the stores, of copies made when they
    are asked for."""

    def __init__(self, table: UtteranceTable, progress: Progress = ignore) -> None:
        made_by = f"{N_FFT} {HOP} {N_FRAMES} {N_MELS} {BANDS} {version('librosa')}"
        n_outputs = len(FEATURES) * len(BANDS)
        super().__init__(table, "spectral", made_by, spectral_features, n_outputs, progress=progress)

    def __call__(self, utterance: int, copy: int) -> Floats:
        return self.make(self.table.copy(utterance, copy)) if copy else super().__call__(utterance, 0)


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
