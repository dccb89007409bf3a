"""Windows from stores, a few utterances at a time: shuffled for training, in order for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import FULL_SCALE, HOP, WINDOW
from fins.features import Floats, compute_feature, get_feature
from fins.splits import PARTS, Protocol, split_utterances
from fins.store import Store

BUFFER = 16_384  # windows that are shuffled together; about 20 MB with their labels

Reference = tuple[int, int]  # which store, which of its utterances


@dataclass(frozen=True)
class Buffer:
    """Some utterances in memory; windows overlap, so they are cut only when a batch is taken.

    signal : (n_samples,) int16; starts : (n_windows,) first samples; labels : (n_windows, n_outputs) float32
    """

    signal: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def windows(self) -> NDArray[np.int16]:
        """(n_samples - 2047, 2048), a view: the window at every sample."""
        return sliding_window_view(self.signal, WINDOW)

    def batch(self, index: NDArray[np.int64] | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """(n, 2048) float32 windows in [-1, 1) and (n, n_outputs) labels, by their places in the buffer."""
        cut = self.windows[self.starts[index]]  # int16: half the bytes to move
        windows = torch.from_numpy(cut).to(device).to(torch.float32).div_(FULL_SCALE)
        return windows, torch.from_numpy(self.labels[index]).to(device)


class WindowStream:
    """The windows and one feature of several stores; nothing but one buffer, and the next, is in memory."""

    def __init__(self, paths: Sequence[Path], feature: str) -> None:
        self.feature = get_feature(feature)
        self.stores = [Store(path) for path in paths]

    def split(self, protocol: Protocol, seed: int) -> dict[str, list[Reference]]:
        """Part → its utterances; all stores are split as one, so that nothing is shared between parts."""
        columns = self.stores[0].utterances
        together = {
            name: np.concatenate([store.utterances[name] for store in self.stores]) for name in columns
        }
        references = [
            (number, row) for number, store in enumerate(self.stores) for row in range(store.n_utterances)
        ]
        parts: dict[str, list[Reference]] = {part: [] for part in PARTS}
        for reference, part in zip(references, split_utterances(together, protocol, seed), strict=True):
            if part in parts:
                parts[part].append(reference)
        empty = [part for part, references in parts.items() if not references]
        if empty:
            raise ValueError(f"too few utterances in the stores: none is left for {' and '.join(empty)}")
        return parts

    def all_utterances(self, store: int) -> list[Reference]:
        """Every utterance of one store that is no augmented copy."""
        originals = self.stores[store].utterances["augmented_from"] == ""
        return [(store, int(row)) for row in np.flatnonzero(originals)]

    def by_corpus(self, references: Sequence[Reference]) -> dict[tuple[int, str], list[Reference]]:
        """(store, corpus) → its utterances."""
        groups: dict[tuple[int, str], list[Reference]] = {}
        for store, row in references:
            corpus = str(self.stores[store].utterances["corpus"][row])
            groups.setdefault((store, corpus), []).append((store, row))
        return groups

    def facts(self) -> list[dict[str, str | int]]:
        """What tells each store from another: its size and the identity of what it was made of."""
        return [
            {"identity": str(store.file.attrs.get("identity", "")), "n_windows": store.n_windows}
            for store in self.stores
        ]

    def count_windows(self, references: Sequence[Reference]) -> int:
        return int(sum(self.stores[store].utterances["n_windows"][row] for store, row in references))

    def load(self, references: Sequence[Reference]) -> Buffer:
        """The windows of these utterances, in order."""
        signals, starts, labels, length = [], [], [], 0
        for number, row in references:
            store = self.stores[number]
            windows = store.window_slice(row)
            signals.append(store.signal(row))
            starts.append(length + HOP * np.arange(windows.stop - windows.start))
            labels.append(self._labels(store, windows))
            length += len(signals[-1])
        return Buffer(np.concatenate(signals), np.concatenate(starts), np.concatenate(labels))

    def _labels(self, store: Store, windows: slice) -> Floats:
        """As the store has them; of a feature that it hasn't, computed."""
        if self.feature.function is None:
            return store.labels(self.feature.name, windows.start, windows.stop)
        return compute_feature(self.feature, store.windows(windows.start, windows.stop))

    def buffers(self, groups: Sequence[Sequence[Reference]]) -> Iterator[Buffer]:
        """Load each group; while one is worked on, a thread loads the next."""
        with ThreadPoolExecutor(1) as loader:
            upcoming: Future[Buffer] | None = None
            for group in [*groups, None]:
                current = upcoming
                upcoming = loader.submit(self.load, group) if group else None
                if current:
                    yield current.result()

    def group(self, references: Sequence[Reference]) -> list[list[Reference]]:
        """Consecutive groups of about `BUFFER` windows."""
        groups: list[list[Reference]] = []
        held = BUFFER
        for reference in references:
            if held >= BUFFER:
                groups.append([])
                held = 0
            groups[-1].append(reference)
            held += self.count_windows([reference])
        return groups

    def close(self) -> None:
        for store in self.stores:
            store.close()


def epoch_order(references: Sequence[Reference], epoch: int, n_shares: int, seed: int) -> list[Reference]:
    """The utterances of one epoch, shuffled: one of `n_shares` equal shares of a pass through all.

    Depends on the seed and the epoch alone, so that a resumed run sees what the first would have seen.
    """
    shuffled = np.random.default_rng([seed, epoch // n_shares]).permutation(len(references))
    return [references[i] for i in np.array_split(shuffled, n_shares)[epoch % n_shares]]
