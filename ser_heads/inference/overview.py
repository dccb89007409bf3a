"""A recording → all that a page shows of it: its shape, answers over time and as a whole, its condition."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, AudioError, Signal, open_audio, read_audio
from ser_heads.inference.condition import examine
from ser_heads.inference.predict import Prediction, answer, notes_on
from ser_heads.inference.stream import Stream

if TYPE_CHECKING:
    from ser_heads.model import SerModel

STRETCH, EVERY = 3.0, 1.0  # seconds that an answer over time is about, and from one to the next
WHOLE = 30.0  # seconds up to which a recording is answered as a whole; above, its stretches' mean is
MOST_SECONDS, MOST_BYTES = 600.0, 128_000_000  # of a recording: ten minutes, 44.1 kHz in stereo, in 16 bits
N_COLUMNS = 600  # of the waveform's picture


@dataclass(frozen=True)
class Overview:
    """What a page shows of a recording.

    seconds : how long it is
    columns : (n, 2) lowest and highest amplitude in each of n equal parts of it
    along : answers about stretches of it, in their order
    shares : label → probability, of the whole of it or, where `is_mean`, the mean of those along it
    notes : what is wrong with it, a sentence each
    """

    seconds: float
    columns: NDArray[np.float32]
    along: Sequence[Prediction]
    shares: Mapping[str, float]
    is_mean: bool
    notes: Sequence[str]


def overview_of(model: SerModel, path: str | os.PathLike[str]) -> Overview:
    """Of a file of at most ten minutes and 128 MB; AudioError in one sentence for any other."""
    check_limits(Path(path))
    return overview_of_signal(model, read_audio(path))


def overview_of_signal(model: SerModel, signal: Signal) -> Overview:
    """Of (n_samples,) at 22,050 Hz."""
    stream = Stream(model, SAMPLE_RATE, STRETCH, EVERY)
    along = [*stream.push(signal), *stream.close()]
    is_mean = len(signal) > WHOLE * SAMPLE_RATE
    shares = mean_shares(along) if is_mean else answer(model, [signal], [""])[0].probabilities
    notes = dict.fromkeys([*notes_on(signal), *examine(signal).faults().values()])
    return Overview(len(signal) / SAMPLE_RATE, columns_of(signal), along, shares, is_mean, list(notes))


def check_limits(path: Path) -> None:
    """AudioError for a file that is too large or too long, by its header."""
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        megabytes = path.stat().st_size / 1e6
        raise AudioError(f"{path} has {megabytes:.0f} MB: at most {MOST_BYTES / 1e6:.0f} MB are taken")
    with open_audio(path) as file:
        seconds = file.frames / file.samplerate
    if seconds > MOST_SECONDS:
        raise AudioError(
            f"{path} is {seconds / 60:.1f} minutes long: at most {MOST_SECONDS / 60:.0f} minutes are taken"
        )


def mean_shares(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Label → the mean of its probability in each prediction."""
    return {
        label: float(np.mean([prediction.probabilities[label] for prediction in predictions]))
        for label in predictions[0].probabilities
    }


def columns_of(signal: Signal) -> NDArray[np.float32]:
    """(n, 2): the lowest and the highest sample in each of at most 600 equal parts of a signal."""
    parts = np.array_split(signal, min(N_COLUMNS, len(signal)))
    return np.array([(part.min(), part.max()) for part in parts], np.float32)
