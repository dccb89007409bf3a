"""Recordings to learn from: any torch Dataset of (waveform, label), those of stores, and perturbed copies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import SAMPLE_RATE, Signal
from fins.learning.degradations import degrade
from ser_heads.training.copies import Copying, change_apart

if TYPE_CHECKING:
    from fins.data.table import UtteranceTable

SPEED = 1.2  # a copy is at most so much faster or slower, pitch and formants with it
NOISY = 0.3  # share of the copies that get noise
SNR = (20.0, 50.0)  # dB
GAIN = 3.0  # dB, up or down
PERTURBATION = (SPEED, NOISY, SNR, GAIN)  # what tells these copies from other ones


class SpeechDataset(Protocol):
    """Torch's map-style Dataset of one's own.

    Item i is (waveform, label): (n,) float32 at 22,050 Hz, and a word of the model's labels or its place
    among them. It may have `groups`, the corpus of each recording, by which classes are weighted, `names`, by
    which perturbed copies are drawn, and `copying`, how they are, as Recipe has it; by default all are of one
    corpus, named by their places.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> tuple[Tensor | NDArray[np.float32], str | int]: ...


class StoreDataset:
    """Some utterances of stores, as a SpeechDataset.

    rows : (n,) places in the table; labels : words of which every emotion here is one
    targets : (n,) places among the labels; lengths : (n,) samples; groups, names : as in SpeechDataset
    copying : how copies are made, as in Recipe
    store_numbers, store_rows : (n,) which store, and which row of it
    Raises ValueError for an emotion that is none of the labels.
    """

    def __init__(
        self,
        table: UtteranceTable,
        rows: NDArray[np.int64],
        labels: Sequence[str],
        copying: Copying = "voices",
    ) -> None:
        self.copying: Copying = copying
        self.table, self.rows, self.labels = table, np.asarray(rows, dtype=np.int64), tuple(labels)
        chosen = table.rows.iloc[self.rows]
        self.names = chosen["name"].tolist()
        self.groups = chosen["corpus"].tolist()
        self.lengths = chosen["n_samples"].to_numpy(np.int64)
        self.store_numbers = chosen["store"].to_numpy(np.int64)
        self.store_rows = chosen["row"].to_numpy(np.int64)
        places = {label: place for place, label in enumerate(self.labels)}
        unknown = sorted(set(chosen["emotion"]) - set(places))
        if unknown:
            raise ValueError(f"{unknown[0]} is none of the labels {', '.join(self.labels)}")
        self.targets = np.array([places[emotion] for emotion in chosen["emotion"]], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Signal, int]:
        return self.table.signal(int(self.rows[place])), int(self.targets[place])


class DegradedDataset(StoreDataset):
    """The same of utterances that are degraded first, and kept in 16 bits; each alike whenever it is read.

    condition : one of `fins.learning.degradations.CONDITIONS`
    """

    def __init__(
        self, table: UtteranceTable, rows: NDArray[np.int64], labels: Sequence[str], condition: str
    ) -> None:
        super().__init__(table, rows, labels)
        self.condition = condition

    def __getitem__(self, place: int) -> tuple[Signal, int]:
        signal, target = super().__getitem__(place)
        rng = np.random.default_rng(zlib.crc32(self.names[place].encode()))
        return degrade(signal, self.condition, rng), target


@dataclass(frozen=True)
class DatasetFacts:
    """What has to be known of a dataset beside its sound.

    targets : (n,) int64 places among the labels; lengths : (n,) int64 samples; groups, names : n words each
    """

    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    groups: Sequence[str]
    names: Sequence[str]


def look_through(dataset: SpeechDataset, labels: Sequence[str]) -> DatasetFacts:
    """The facts of a dataset; one that doesn't know its own `targets` and `lengths` is read through once.

    Raises ValueError, naming the item, for a label that is none of the model's, and a waveform that is none.
    """
    groups = list(getattr(dataset, "groups", [""] * len(dataset)))
    names = list(getattr(dataset, "names", map(str, range(len(dataset)))))
    if isinstance(dataset, StoreDataset):
        return DatasetFacts(dataset.targets, dataset.lengths, groups, names)
    targets, lengths = np.empty((2, len(dataset)), np.int64)
    for place in range(len(dataset)):
        waveform, label = read_item(dataset, place)
        targets[place], lengths[place] = place_of(label, labels, place), len(waveform)
    return DatasetFacts(targets, lengths, groups, names)


def read_item(dataset: SpeechDataset, place: int) -> tuple[Signal, str | int]:
    """(n,) float32 and the label of one item; ValueError, naming the item, if it is no waveform."""
    waveform, label = dataset[place]
    signal = waveform.detach().cpu().numpy() if isinstance(waveform, Tensor) else np.asarray(waveform)
    if signal.ndim != 1 or len(signal) == 0 or signal.dtype.kind != "f":
        raise ValueError(
            f"item {place} of the dataset has a waveform of {signal.dtype} {signal.shape}: needed are (n,) "
            "floating numbers, mono at 22,050 Hz"
        )
    if not np.isfinite(signal).all():
        raise ValueError(f"item {place} of the dataset holds samples that are NaN or infinite")
    return signal.astype(np.float32, copy=False), label


def place_of(label: str | int, labels: Sequence[str], item: int) -> int:
    """The place of a label, given as a word or as its place; ValueError, naming the item, for another one."""
    if isinstance(label, str) and label in labels:
        return list(labels).index(label)
    if not isinstance(label, str) and 0 <= int(label) < len(labels):
        return int(label)
    raise ValueError(
        f"item {item} of the dataset has the label {label!r}: the labels are {', '.join(labels)}"
    )


def perturb(signal: Signal, name: str, copy: int) -> Signal:
    """A copy of (n_samples,) in another voice, pace, level and noise; copy 0 is the signal itself.

    Which one depends on the recording's name and the copy's number alone, so that every front end, epoch and
    run gets the same copies.
    """
    if copy == 0:
        return signal
    import soxr

    rng = np.random.default_rng([zlib.crc32(name.encode()), copy])
    rate = SPEED ** rng.uniform(-1, 1)
    perturbed = soxr.resample(signal, SAMPLE_RATE * rate, SAMPLE_RATE, quality="MQ")
    if rng.random() < NOISY:
        level = np.sqrt(np.mean(np.square(perturbed))) * 10 ** (-rng.uniform(*SNR) / 20)
        perturbed = perturbed + level * rng.standard_normal(len(perturbed))
    gain = min(10 ** (rng.uniform(-GAIN, GAIN) / 20), 1 / max(np.abs(perturbed).max(), 1e-9))
    return (gain * perturbed).astype(np.float32)


def copying_of(dataset: SpeechDataset) -> Copying:
    """How its copies are made: what it says itself, else "voices"."""
    return getattr(dataset, "copying", "voices")


def copy_of(dataset: SpeechDataset, signal: Signal, name: str, copy: int) -> Signal:
    """(n,) → the copy of that number in the dataset's way; copy 0 is the signal itself."""
    return {"voices": perturb, "apart": change_apart}[copying_of(dataset)](signal, name, copy)


def pad(rows: Sequence[NDArray[np.float32]]) -> Tensor:
    """(n, ...) each → (batch, most n, ...), zeros where a row has ended."""
    padded = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), np.float32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)
