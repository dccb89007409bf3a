"""From recordings to batches of frames: kept ones or computed, cropped, padded; and logits of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.frontends import FrameBatch
from ser_heads.model import SerModel
from ser_heads.training.cache import FrameCache, copied_signal
from ser_heads.training.datasets import DatasetFacts, SpeechDataset, look_through, pad
from ser_heads.training.objective import weighted_targets

EVALUATION_BATCH = 64  # recordings
EVALUATION_SAMPLES = 64 * 5 * SAMPLE_RATE  # in all of them, padded


def kept_parts(model: SerModel) -> list[bool]:
    """Which parts of a model's front end are worth keeping and don't learn now."""
    return [part.keep and not part.learns() for part in model.frontend.parts]


class FrameSource:
    """Frames and targets of a dataset's recordings, as a model's front end makes them now.

    cache : where parts of the front end are kept that don't learn; None computes all
    copies : of each recording that may be asked for
    kept : which parts are taken from the cache; by default those that `kept_parts` tells
    weights : (n,) what each recording counts in a loss; 1 by default
    facts : of the dataset, where they are known already
    """

    def __init__(
        self,
        model: SerModel,
        dataset: SpeechDataset,
        cache: FrameCache | None = None,
        *,
        copies: int = 0,
        kept: Sequence[bool] | None = None,
        weights: NDArray[np.float32] | None = None,
        facts: DatasetFacts | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.model, self.dataset, self.cache = model, dataset, cache
        self.facts = facts or look_through(dataset, model.labels)
        parts = model.frontend.parts
        chosen = kept_parts(model) if kept is None else list(kept)
        self.kept = chosen if cache is not None else [False] * len(parts)
        self.device = device or torch.device("cpu")
        given = np.ones(len(dataset), np.float32) if weights is None else weights
        self.weights = torch.from_numpy(given)
        self.targets = torch.from_numpy(self.facts.targets)
        if cache is not None:
            for part, is_kept in zip(parts, self.kept, strict=True):
                if is_kept:
                    cache.make(part, model.trim, dataset, copies)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(
        self,
        places: Sequence[int] | NDArray[np.int64],
        copies: Sequence[int] | NDArray[np.int64] | None = None,
        crop: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[FrameBatch, Tensor]:
        """Frames of some recordings, of each the copy of that number, and (batch, n_classes) targets.

        crop : seconds; of a longer recording a stretch of so many, from where the generator says
        """
        numbers = [0] * len(places) if copies is None else [int(copy) for copy in copies]
        rows, signals = [], []
        for place, copy in zip(map(int, places), numbers, strict=True):
            kept, signal = self._recording(place, copy)
            if crop is not None:
                kept, signal = self._cropped(kept, signal, crop, rng)
            rows.append(kept)
            signals.append(signal)
        frames = self.model.frontend.join(self._parts(rows, signals))
        index = torch.as_tensor(np.asarray(places, dtype=np.int64))
        targets = weighted_targets(self.targets[index], self.weights[index], len(self.model.labels))
        return frames, targets.to(self.device)

    def _recording(self, place: int, copy: int) -> tuple[list[NDArray[np.float32]], Signal | None]:
        """Kept frames of its parts, and its signal where a part has to be computed."""
        parts, trim = self.model.frontend.parts, self.model.trim
        assert self.cache is not None or not any(self.kept)
        kept = [
            self.cache.rows(part, trim, self.dataset, place, copy)  # type: ignore[union-attr]
            for part, is_kept in zip(parts, self.kept, strict=True)
            if is_kept
        ]
        if all(self.kept):
            return kept, None
        return kept, copied_signal(trim, self.dataset, place, self.facts.names[place], copy)

    def _cropped(
        self,
        kept: list[NDArray[np.float32]],
        signal: Signal | None,
        crop: float,
        rng: np.random.Generator | None,
    ) -> tuple[list[NDArray[np.float32]], Signal | None]:
        hop, window = self.model.frontend.hop, self.model.frontend.window
        longest = max(1, round(crop * SAMPLE_RATE / hop))
        n = len(kept[0]) if signal is None else 1 + (len(signal) - window) // hop
        if n <= longest:
            return kept, signal
        assert rng is not None
        start = int(rng.integers(n - longest + 1))
        if signal is not None:
            signal = signal[start * hop : (start + longest - 1) * hop + window]
        return [rows[start : start + longest] for rows in kept], signal

    def _parts(
        self, rows: Sequence[Sequence[NDArray[np.float32]]], signals: Sequence[Signal | None]
    ) -> list[FrameBatch]:
        """A batch of frames of each part."""
        sound = [signal for signal in signals if signal is not None]
        if sound:
            lengths = torch.tensor([len(signal) for signal in sound], device=self.device)
            waveform = pad(sound).to(self.device)
        batches, place = [], 0
        for part, is_kept in zip(self.model.frontend.parts, self.kept, strict=True):
            if is_kept:
                own = [kept[place] for kept in rows]
                n_frames = torch.tensor([len(frames) for frames in own], device=self.device)
                batches.append(FrameBatch(pad(own).to(self.device), n_frames))
                place += 1
            else:
                batches.append(part(waveform, lengths))
        return batches


def logits_of(
    model: SerModel,
    dataset: SpeechDataset,
    cache: FrameCache | None = None,
    *,
    device: torch.device | None = None,
    kept: Sequence[bool] | None = None,
) -> NDArray[np.float32]:
    """(n, n_classes) logits of a dataset's recordings, in their order; the model is in evaluation mode then.

    cache, kept : as of FrameSource
    """
    model.eval()
    if len(dataset) == 0:
        return np.empty((0, len(model.labels)), np.float32)
    source = FrameSource(model, dataset, cache, device=device, kept=kept)
    return logits_from(model, source)


def logits_from(model: SerModel, source: FrameSource) -> NDArray[np.float32]:
    """The same, of a source that is there already."""
    model.eval()
    logits = np.empty((len(source), len(model.labels)), np.float32)
    for places in length_batches(source.facts.lengths, EVALUATION_BATCH, EVALUATION_SAMPLES):
        with torch.no_grad():
            frames, _ = source.batch(places)
            logits[places] = model.head(model.norm(frames)).cpu().numpy()
    return logits


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
    can't learn. Not sorted by length: it would then see short recordings apart from long ones.
    """
    n_batches = min(-(-n // size), max(1, n // 2))
    return np.array_split(rng.permutation(n), n_batches)
