"""FINs as a transformer of scikit-learn: recordings → a row of numbers each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from fins.audio import SAMPLE_RATE, Signal, resample
from fins.networks.frames import Frames

STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda frames: frames.mean(dim=1),
    "std": lambda frames: frames.std(dim=1, correction=0),
    "min": lambda frames: frames.amin(dim=1),
    "max": lambda frames: frames.amax(dim=1),
    "median": lambda frames: frames.quantile(0.5, dim=1),
}
"""Name → what is taken of (n_outputs, n_frames) over the frames."""


class FinFeatures(TransformerMixin, BaseEstimator):
    """Statistics over time of what FINs say of a recording; nothing is learned from the recordings.

    features : names of FINs, as `fins.load` takes them
    statistics : of mean, std, min, max, median, over the windows of a recording
    sampling_rate : Hz, of the recordings
    """

    def __init__(
        self,
        features: Sequence[str] = ("mfcc",),
        statistics: Sequence[str] = ("mean", "std"),
        sampling_rate: int = SAMPLE_RATE,
    ) -> None:
        self.features = features
        self.statistics = statistics
        self.sampling_rate = sampling_rate

    def fit(self, recordings: Sequence[NDArray], labels: object = None) -> FinFeatures:
        """Load the FINs; ValueError for one that can't be loaded, and for an unknown statistic."""
        for name, given in (("features", self.features), ("statistics", self.statistics)):
            if isinstance(given, str) or len(given) == 0:
                raise ValueError(f"{name} is a list of at least one name, got {given!r}")
        for statistic in self.statistics:
            if statistic not in STATISTICS:
                raise ValueError(f"there is no statistic {statistic!r}: give {', '.join(STATISTICS)}")
        self.frames_ = [Frames(name).requires_grad_(False) for name in self.features]
        return self

    def transform(self, recordings: Sequence[NDArray]) -> NDArray[np.float64]:
        """(n_samples,) each, amplitude in [-1, 1], of any lengths → (n_recordings, n_columns).

        Raises ValueError, naming its place, for a recording that is no such array, is empty, or holds NaN or
        infinity, and NotFittedError before `fit`.
        """
        check_is_fitted(self)
        rows = np.empty((len(recordings), len(self.get_feature_names_out())))
        for place, signal in enumerate(self._signals(recordings)):
            waveform = torch.from_numpy(np.array(signal))[None]
            rows[place] = torch.cat([self._statistics(frames, waveform) for frames in self.frames_]).numpy()
        return rows

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """(n_columns,): feature, number of its output, statistic, such as mfcc_0_mean."""
        check_is_fitted(self)
        return np.array(
            [
                f"{name}_{output}_{statistic}"
                for name, frames in zip(self.features, self.frames_, strict=True)
                for statistic in self.statistics
                for output in range(frames.n_outputs)
            ],
            dtype=object,
        )

    def _statistics(self, frames: Frames, waveform: Tensor) -> Tensor:
        values = frames(waveform)[0].double()
        return torch.cat([STATISTICS[statistic](values) for statistic in self.statistics])

    def _signals(self, recordings: Sequence[NDArray]) -> Iterator[Signal]:
        for place, recording in enumerate(recordings):
            samples = np.asarray(recording)
            if samples.ndim != 1 or len(samples) == 0 or samples.dtype.kind != "f":
                raise ValueError(
                    f"recording {place} is no array of floats with one axis (shape {samples.shape}, type "
                    f"{samples.dtype}): read files with fins.audio.read_audio, divide int16 by 32768"
                )
            if not np.isfinite(samples).all():
                raise ValueError(f"recording {place} holds samples that are NaN or infinite")
            signal = resample(samples, self.sampling_rate)
            if len(signal) == 0:
                raise ValueError(f"recording {place} is shorter than one sample at {SAMPLE_RATE} Hz")
            yield signal
