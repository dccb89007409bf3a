"""A recording, or several of them → the label of each, how sure the model is, and what else was likely."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.audio import SAMPLE_RATE, WINDOW, Signal
from fins.networks.fin import refuse_other_types
from ser_heads.frontends.waveform import Trim
from ser_heads.inference.shares import match_predictions, shares_of
from ser_heads.inference.sound import read_channels, read_sound

if TYPE_CHECKING:
    from pandas import DataFrame

    from ser_heads.model import SerModel

BATCH = 32  # recordings
BATCH_SAMPLES = 32 * 5 * SAMPLE_RATE  # in all of them, padded


@dataclass(frozen=True)
class Prediction:
    """The answer about a recording, or about a stretch of it.

    label : the likeliest; confidence : its share; probabilities : label → share, together 1
    file : path, empty for an array; start, seconds : where in it the answer begins, and for how long it is
    note : what a reader has to know of the answer, or empty
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    file: str
    seconds: float
    start: float = 0.0
    note: str = ""


def predict(
    model: SerModel,
    source: Any,
    sampling_rate: float | None = None,
    labels: Sequence[str] | None = None,
    shares: str | Mapping[str, float] | None = None,
) -> Prediction | list[Prediction]:
    """The answer about a recording; of a list the answers in its order.

    source : a path, an array with its sampling_rate in Hz (see `sound.read_sound`), or a list of either
    labels : of the model's, those that may be answered, by default all
    shares : of a list of one speaker's recordings, the shares that labels are known to have among them:
        "even", or label → share; answers are matched to them (see `shares.match_shares`)
    Raises ValueError in one sentence; of a list, the first thing that is wrong with any of it.
    """
    several = isinstance(source, list | tuple)
    if shares is not None:
        if not several:
            raise ValueError("shares are of the labels of several recordings: give a list of them")
        shares_of(
            shares, [model.labels[place] for place in places_of(model, labels)]
        )  # before anything is read
    predictions = predict_each(model, source if several else [source], sampling_rate, labels)
    if shares is not None:
        predictions = match_predictions(predictions, shares)
    return predictions if several else predictions[0]


def predict_each(
    model: SerModel,
    sources: Sequence[Any],
    sampling_rate: float | None = None,
    labels: Sequence[str] | None = None,
) -> list[Prediction]:
    """The same of several; no more than some batches of them are in memory at a time."""
    predictions: list[Prediction] = []
    places_of(model, labels)  # before anything is read
    for block in (sources[start : start + 4 * BATCH] for start in range(0, len(sources), 4 * BATCH)):
        signals, faults = zip(*(read_channels(source, sampling_rate) for source in block), strict=True)
        files = [os.fspath(source) if isinstance(source, str | os.PathLike) else "" for source in block]
        answers = answer(model, signals, files, labels=labels)
        predictions += [with_notes(one, faulty.values()) for one, faulty in zip(answers, faults, strict=True)]
    return predictions


def answer(
    model: SerModel,
    signals: Sequence[Signal],
    files: Sequence[str],
    starts: Sequence[float] | None = None,
    *,
    labels: Sequence[str] | None = None,
    trim: bool = True,
) -> list[Prediction]:
    """Predictions for (n_samples,) signals at 22,050 Hz, in their order.

    starts : seconds at which each begins in its file; trim : whether the model cuts quiet ends off
    """
    places = places_of(model, labels)
    words = [model.labels[place] for place in places]
    restricted = "" if labels is None else f"answers were restricted to {', '.join(words)}"
    rows = probabilities_of(model, signals, places, trim)
    begins = [0.0] * len(signals) if starts is None else starts
    predictions = []
    for row, signal, file, start in zip(rows, signals, files, begins, strict=True):
        best = int(row.argmax())
        notes = "; ".join(filter(None, (restricted, *notes_on(signal))))
        shares = dict(zip(words, row.tolist(), strict=True))
        seconds = len(signal) / SAMPLE_RATE
        predictions.append(Prediction(words[best], float(row[best]), shares, file, seconds, start, notes))
    return predictions


def with_notes(prediction: Prediction, sentences: Iterable[str]) -> Prediction:
    """The same prediction with more in its note, each sentence once."""
    notes = dict.fromkeys([*prediction.note.split("; "), *sentences])
    return replace(prediction, note="; ".join(filter(None, notes)))


def probabilities_of(
    model: SerModel, signals: Sequence[Signal], places: Sequence[int] | None = None, trim: bool = True
) -> NDArray[np.float64]:
    """(n, n_labels), softmax(logits / temperature) of signals at 22,050 Hz, in their order.

    places : of the labels that may be answered, by default all
    """
    chosen = list(range(len(model.labels)) if places is None else places)
    probabilities = np.empty((len(signals), len(chosen)))
    with evaluating(model):
        for batch in batches_by_length([len(signal) for signal in signals]):
            waveform, lengths = batch_of([signals[place] for place in batch], model.temperature.device)
            logits = model(waveform, lengths) if trim else untrimmed(model, waveform, lengths)
            scaled = logits.double() / model.temperature.double()
            probabilities[batch] = scaled[:, chosen].softmax(dim=1).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"the weights of {model.name} are damaged, its answers are no numbers: train it again"
        )
    return probabilities


def embed(model: SerModel, source: Any, sampling_rate: float | None = None) -> NDArray[np.float32]:
    """(n_features,) of a recording: what its logits are made of; of a list (n, n_features).

    Raises ValueError in one sentence for a model that has none, and as `predict` does.
    """
    pooled = getattr(model.head, "embed", None)
    if pooled is None:
        raise ValueError(f"{model.name} has no vector before its logits that stands for a recording")
    several = isinstance(source, list | tuple)
    if several and not source:
        raise ValueError("there is nothing to embed: give a recording, or a list of them")
    signals = [read_sound(item, sampling_rate) for item in (source if several else [source])]
    vectors: dict[int, NDArray[np.float32]] = {}
    with evaluating(model):
        for batch in batches_by_length([len(signal) for signal in signals]):
            sound = batch_of([signals[place] for place in batch], model.temperature.device)
            rows = pooled(model.norm(model.frontend(*model.trim(*sound)))).float().cpu().numpy()
            vectors.update(zip(batch, rows, strict=True))
    return np.stack([vectors[place] for place in range(len(signals))]) if several else vectors[0]


def predict_signal(
    model: SerModel,
    signal: Any,
    sampling_rate: float,
    labels: Sequence[str] | None = None,
    *,
    file: str = "",
) -> DataFrame:
    """The answer about one array, as a table of one row: see `as_table`."""
    prediction = predict_each(model, [signal], sampling_rate, labels)[0]
    return as_table([prediction], model, labels, file)


def as_table(
    predictions: Sequence[Prediction],
    model: SerModel,
    labels: Sequence[str] | None = None,
    file: str | None = None,
) -> DataFrame:
    """Index file, start, end (timedelta64[ns]), as audformat has segments; columns label, confidence, and the
    share of each label, in the model's order."""
    import pandas as pd

    words = [model.labels[place] for place in places_of(model, labels)]
    starts = [round(prediction.start * 1e9) for prediction in predictions]
    ends = [round((prediction.start + prediction.seconds) * 1e9) for prediction in predictions]
    files = pd.array([row.file if file is None else file for row in predictions], dtype="string")
    index = pd.MultiIndex.from_arrays(
        [files, *(pd.to_timedelta(np.array(times, np.int64), unit="ns") for times in (starts, ends))],
        names=["file", "start", "end"],
    )
    columns = [[row.label for row in predictions], [row.confidence for row in predictions]]
    columns += [[row.probabilities[word] for row in predictions] for word in words]
    names = ["label", "confidence", *words]
    table = pd.DataFrame(dict(enumerate(columns)), index=index)
    table.columns = pd.Index(names)
    return table


def places_of(model: SerModel, labels: Sequence[str] | None) -> list[int]:
    """Of some labels among the model's, in its order; ValueError for others, and for fewer than two."""
    if labels is None:
        return list(range(len(model.labels)))
    known = ", ".join(model.labels)
    if isinstance(labels, str):
        raise ValueError(f"labels are a list of words, got the word {labels!r} alone")
    unknown = [label for label in labels if label not in model.labels]
    if unknown:
        raise ValueError(f"this model can't answer {unknown[0]!r}: its labels are {known}")
    if len(set(labels)) < 2:
        raise ValueError(f"answers are restricted to two labels or more, of {known}")
    return [place for place, label in enumerate(model.labels) if label in labels]


def notes_on(signal: Signal) -> Iterator[str]:
    """Why an answer about a recording means little."""
    if not signal.any():
        yield "there is nothing but digital silence"
    if len(signal) < WINDOW:
        milliseconds = round(1000 * WINDOW / SAMPLE_RATE)
        yield f"it is shorter than a window of {milliseconds} ms, the rest of which was taken as silence"


def batches_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of recordings of about equal lengths: short ones aren't padded to the longest of all."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batch and (len(batch) == BATCH or (len(batch) + 1) * lengths[place] > BATCH_SAMPLES):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def batch_of(signals: Sequence[Signal], device: torch.device) -> tuple[Tensor, Tensor]:
    """Signals side by side, zeros behind each end, and their lengths."""
    rows = [torch.from_numpy(np.ascontiguousarray(signal)) for signal in signals]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lengths


def untrimmed(model: SerModel, waveform: Tensor, lengths: Tensor) -> Tensor:
    """Logits of recordings as they are, with their quiet ends."""
    return model.head(model.norm(model.frontend(*Trim(quiet=None)(waveform, lengths))))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every part is in the mode in which it was.

    Raises ValueError for weights of another type than float32.
    """
    refuse_other_types(model)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
