"""Utterances of several stores as one table, and batches of them in which nothing but padding is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fins.audio import HOP, WINDOW, Signal, cut_windows
from fins.features import FEATURES, compute_features
from fins.store import EMOTIONS, Store, to_amplitude
from ser_heads.augmentation import perturb

OFFSET = 0.05  # of its deviation: of what a recording has a larger mean, the mean is taken away
QUIET = 45.0  # dB below an utterance's loudest window: quieter ends are cut off


class UtteranceTable:
    """The utterances of stores in their order; sound is read when it is asked for.

    columns : as in `Store.utterances`; store, row : (n,) where each utterance lies; names : "corpus/id";
    speakers : "corpus/speaker"; emotion : (n,) places in EMOTIONS
    trimmed : leave out offsets, and what is quiet at both ends
    """

    def __init__(self, paths: Sequence[Path], trimmed: bool = True) -> None:
        self.stores = [Store(path) for path in paths]
        self.trimmed = trimmed
        names = self.stores[0].utterances
        self.columns = {
            name: np.concatenate([store.utterances[name] for store in self.stores]) for name in names
        }
        counts = [store.n_utterances for store in self.stores]
        self.store = np.repeat(np.arange(len(counts)), counts)
        self.row = np.concatenate([np.arange(n) for n in counts])
        corpora = self.columns["corpus"]
        self.names = [f"{corpus}/{name}" for corpus, name in zip(corpora, self.columns["id"], strict=True)]
        self.speakers = np.array(
            [f"{c}/{s}" for c, s in zip(corpora, self.columns["speaker"], strict=True)], dtype=object
        )
        self._lengths = np.zeros(len(self.names), np.int64)  # 0 until it is asked for
        self.emotion = np.array([EMOTIONS.index(emotion) for emotion in self.columns["emotion"]])

    def __len__(self) -> int:
        return len(self.names)

    def signal(self, utterance: int) -> Signal:
        """(n_samples,) float32 in [-1, 1), at least one window long."""
        signal = to_amplitude(self.stores[self.store[utterance]].signal(int(self.row[utterance])))
        return trim(centre(signal)) if self.trimmed else signal

    def copy(self, utterance: int, number: int) -> Signal:
        """A perturbed copy of the signal, the signal itself for number 0; at least one window long."""
        signal = perturb(self.signal(utterance), self.names[utterance], number)
        return np.pad(signal, (0, max(0, WINDOW - len(signal))))

    def lengths(self, utterances: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) samples of the signals of some utterances, to put those of a length side by side."""
        for utterance in utterances[self._lengths[utterances] == 0]:
            self._lengths[utterance] = len(self.signal(utterance))
        return self._lengths[utterances]

    def stored_features(self, utterance: int, names: Sequence[str]) -> NDArray[np.float32]:
        """(n_windows, n_outputs): closed forms of the whole utterance, as the store holds them."""
        store = self.stores[self.store[utterance]]
        windows = store.window_slice(int(self.row[utterance]))
        return np.concatenate([store.labels(name, windows.start, windows.stop) for name in names], axis=1)

    def fact(self, number: int) -> str:
        """What tells one of the stores from another, or from itself before it was made again."""
        store = self.stores[number]
        return f"{store.file.attrs.get('identity', '')} {store.n_utterances} {store.n_windows}"

    def facts(self) -> list[str]:
        """That of each store."""
        return [self.fact(number) for number in range(len(self.stores))]

    def close(self) -> None:
        for store in self.stores:
            store.close()


class ClosedForms:
    """(utterance, copy) → (n_windows, n_outputs) float32: closed forms of each window of an utterance.

    Those of a recording are read from its store, if it has them and nothing is cut off; others are computed.
    """

    def __init__(self, table: UtteranceTable, names: Sequence[str]) -> None:
        self.table, self.names = table, names

    def __call__(self, utterance: int, copy: int) -> NDArray[np.float32]:
        if copy == 0 and not self.table.trimmed and FEATURES.keys() >= set(self.names):
            return self.table.stored_features(utterance, self.names)
        windows = cut_windows(self.table.copy(utterance, copy))
        return np.concatenate(list(compute_features(windows, self.names).values()), axis=1)


def centre(signal: Signal) -> Signal:
    """Without its mean, if that is worth it: an offset hides zero crossings and quiet ends alike."""
    mean = signal.mean()
    return signal - mean if abs(mean) > OFFSET * signal.std() else signal


def trim(signal: Signal) -> Signal:
    """Without the windows at both ends that are 45 dB below the loudest; the others stay where they are on
    the grid of windows. Of silence everything is left."""
    if len(signal) < WINDOW:
        return np.pad(signal, (0, WINDOW - len(signal)))
    energy = np.square(cut_windows(signal)).sum(axis=1)
    heard = np.flatnonzero(energy >= energy.max() * 10 ** (-QUIET / 10))
    return signal[heard[0] * HOP : heard[-1] * HOP + WINDOW]


@dataclass(frozen=True)
class Batch:
    """Utterances side by side, padded with zeros at their ends.

    signal : (batch, n_samples) float32, or None where FIN outputs are all that the model needs
    n_samples, n_frames : (batch,) int64, of each utterance
    outputs : (batch, time, n_outputs) of frozen FINs, or None where the model computes them
    inputs : (batch, time, n) of what a model hears in place of waveforms or beside them, or None
    emotion : (batch,) int64, places in EMOTIONS; weight : (batch,) what each utterance counts in a loss, 1
        if None
    """

    n_samples: Tensor
    n_frames: Tensor
    emotion: Tensor
    signal: Tensor | None = None
    outputs: Tensor | None = None
    inputs: Tensor | None = None
    weight: Tensor | None = None

    def targets(self) -> Tensor:
        """(batch, 8): an utterance's weight at its emotion, else 0."""
        targets = torch.nn.functional.one_hot(self.emotion, len(EMOTIONS)).float()
        return targets if self.weight is None else targets * self.weight[:, None]

    def to(self, device: torch.device) -> Batch:
        moved: dict[str, Any] = {
            name: None if tensor is None else tensor.to(device) for name, tensor in vars(self).items()
        }
        return Batch(**moved)


def count_frames(n_samples: Tensor) -> Tensor:
    """(batch,) windows of utterances of so many samples; one that is shorter than a window has one."""
    return (n_samples - WINDOW).clamp_min(0) // HOP + 1


def pad(rows: Sequence[NDArray[np.float32]]) -> Tensor:
    """(n, ...) each → (batch, most n, ...), zeros where a row has ended."""
    padded = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), np.float32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)


def fit_length(rows: Tensor, lengths: Tensor, n: int, generator: Generator | None = None) -> Tensor:
    """(batch, time, ...) rows of so many steps → (batch, n, ...): zeros before and after a shorter one, of a
    longer one a stretch.

    generator : draws which share of what is added, or left out, lies before; None for half of it
    """
    shares = (
        torch.full((len(rows),), 0.5) if generator is None else torch.rand(len(rows), generator=generator)
    )
    before = ((n - lengths) * shares.to(rows.device)).long()
    places = torch.arange(n, device=rows.device) - before[:, None]  # (batch, n)
    there = (places >= 0) & (places < lengths[:, None])
    shape = (*places.shape, *[1] * (rows.ndim - 2))
    index = places.clamp(0, rows.shape[1] - 1).view(shape).expand(-1, -1, *rows.shape[2:])
    return rows.gather(1, index) * there.view(shape)


def length_batches(lengths: NDArray[np.int64], size: int, most: int) -> list[NDArray[np.int64]]:
    """Places of rows of about equal lengths, at most `size` and, padded, `most` samples together."""
    batches: list[list[int]] = [[]]
    for place in map(int, np.argsort(lengths, kind="stable")):  # the longest of a batch comes last
        batch = batches[-1]
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[place] > most):
            batches.append([])
        batches[-1].append(place)
    return [np.array(batch) for batch in batches]


def random_batches(n: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Places of n rows in random order, at most `size` together, but never one alone, of which batch norm
    can't learn. Not sorted by length: it would then see short utterances apart from long ones.
    """
    n_batches = min(-(-n // size), max(1, n // 2))
    return np.array_split(rng.permutation(n), n_batches)
