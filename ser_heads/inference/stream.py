"""Answers over time: of sound as it comes, and of files of any length, in flat memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fins.audio import HOP, SAMPLE_RATE, WINDOW, Signal, read_blocks
from ser_heads.inference.predict import Prediction, answer, as_table, places_of, with_notes
from ser_heads.inference.sound import (
    MOST_CHANNELS,
    amplitudes_of,
    as_array,
    channels_of_file,
    check_rate,
    mean_of,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from ser_heads.model import SerModel

PIECE = 10.0  # seconds that are taken at once of a longer chunk


class Stream:
    """Sound in chunks of any size → an answer about each stretch of it, as soon as that is whole.

    sampling_rate : Hz, of the chunks
    window : seconds that an answer is about; hop : from one answer to the next. Both are taken to the nearest
        whole frame of 512 samples at 22,050 Hz (23.2 ms), a window has four of them at least.
    labels : of the model's, those that may be answered
    trim : whether the model cuts quiet ends off each stretch, as it does of whole recordings: stretches are
        then answered as `predict` answers a file that holds them alone, and a pause within one is heard
        only between words. False has it hear quiet ends too, which it hasn't met in training.
    file : what the predictions name

    Answers don't depend on how the sound is divided into chunks. Raises ValueError in one sentence.
    """

    def __init__(
        self,
        model: SerModel,
        sampling_rate: float,
        window: float = 3.0,
        hop: float = 1.0,
        *,
        labels: Sequence[str] | None = None,
        trim: bool = True,
        file: str = "",
    ) -> None:
        import soxr

        self.rate = check_rate(sampling_rate)
        self.window, self.hop = whole_frames(window, hop)
        places_of(model, labels)
        self.model, self.labels, self.trim, self.file = model, labels, trim, file
        self.resampler: Any = None
        if self.rate != SAMPLE_RATE:
            self.resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        # in samples at 22,050 Hz
        self.waiting: Signal = np.empty(0, np.float32)
        self.reached = 0  # the end of what waits
        self.start = 0  # of the next window
        self.answered = 0  # the end of the last one
        self.closed = False

    def push(self, chunk: Any) -> list[Prediction]:
        """Take up (n,) or (n, n_channels) more samples; returns answers about what became whole by them."""
        if self.closed:
            raise ValueError("this stream is closed: begin another one")
        samples = as_array(chunk, "a chunk is an array")
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < samples.shape[1] <= MOST_CHANNELS):
            raise ValueError(
                f"a chunk has the shape (n_samples,) or (n_samples, n_channels), got {samples.shape}"
            )
        signal = mean_of(amplitudes_of(samples))
        size = round(PIECE * self.rate)
        predictions = []
        for first in range(0, len(signal), size):
            piece = signal[first : first + size]
            self._take(piece if self.resampler is None else self.resampler.resample_chunk(piece))
            predictions += self._answer()
        return predictions

    def close(self) -> list[Prediction]:
        """Answers about what is left: a last stretch, shorter than the others, if anything wasn't in one."""
        if self.closed:
            return []
        self.closed = True
        if self.resampler is not None:
            self._take(self.resampler.resample_chunk(np.empty(0, np.float32), last=True))
        return self._answer(last=True)

    def _take(self, signal: Signal) -> None:
        self.waiting = np.concatenate([self.waiting, signal])
        self.reached += len(signal)

    def _answer(self, last: bool = False) -> list[Prediction]:
        """About the windows that are whole; at the last also about the rest."""
        first = self.reached - len(self.waiting)  # the sample that waits longest
        starts = []
        while self.start + self.window <= self.reached:
            starts.append(self.start)
            self.answered = self.start + self.window
            self.start += self.hop
        if last and self.reached > max(self.start, self.answered):
            starts.append(self.start)
        stretches = [self.waiting[start - first :][: self.window] for start in starts]
        self.waiting = self.waiting[max(0, self.start - first) :]
        seconds = [start / SAMPLE_RATE for start in starts]
        files = [self.file] * len(starts)
        return answer(self.model, stretches, files, seconds, labels=self.labels, trim=self.trim)


def whole_frames(window: float, hop: float) -> tuple[int, int]:
    """Seconds of either → samples at 22,050 Hz, in whole frames; ValueError for none or too many."""
    for name, seconds in (("window", window), ("hop", hop)):
        if not 0 < seconds <= 300:
            raise ValueError(f"{name} is a time above 0 and up to 300 s, got {seconds}")
    frames = round((window * SAMPLE_RATE - WINDOW) / HOP)
    return max(0, frames) * HOP + WINDOW, max(1, round(hop * SAMPLE_RATE / HOP)) * HOP


def timeline(
    model: SerModel,
    path: str | os.PathLike[str],
    window: float = 3.0,
    hop: float = 1.0,
    *,
    labels: Sequence[str] | None = None,
    trim: bool = True,
) -> DataFrame:
    """Answers over a file of any length: a `Stream` over its blocks, so that memory stays flat.

    returns : a row each stretch, index file, start, end (timedelta), see `predict.as_table`
    Raises AudioError and ValueError in one sentence, for what is wrong far into a file once that is reached.
    """
    return as_table(predict_along(model, path, window, hop, labels=labels, trim=trim), model, labels)


def predict_along(
    model: SerModel,
    path: str | os.PathLike[str],
    window: float = 3.0,
    hop: float = 1.0,
    *,
    labels: Sequence[str] | None = None,
    trim: bool = True,
    file: str | None = None,
) -> list[Prediction]:
    """The rows of `timeline` as predictions, which name `file`, by default the path."""
    name = os.fspath(path) if file is None else file
    places, faults = channels_of_file(path)
    stream: Stream | None = None
    predictions: list[Prediction] = []
    for block, rate in read_blocks(path, PIECE):
        if stream is None:
            stream = Stream(model, rate, window, hop, labels=labels, trim=trim, file=name)
        predictions += stream.push(block if places is None else block[:, places])
    if stream is not None:
        predictions += stream.close()
    notes = list(faults.values())
    return [with_notes(prediction, notes) for prediction in predictions] if notes else predictions
