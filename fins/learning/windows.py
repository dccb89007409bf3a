"""Windows from stores, a few utterances at a time: shuffled for training, in order for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import FULL_SCALE, HOP, WINDOW
from fins.data.protocols import Division, assign_parts
from fins.data.splits import places_of, refuse_empty
from fins.data.store import Store
from fins.data.table import rows_of_stores
from fins.features import Floats, compute_feature, get_feature

BLOCK = 16_384  # windows that are shuffled together; about 20 MB with their labels


class UtteranceRef(NamedTuple):
    """Where an utterance lies."""

    store: int  # which of the stores
    row: int  # which of its utterances


@dataclass(frozen=True)
class WindowBlock:
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
        """(n, 2048) float32 windows in [-1, 1) and (n, n_outputs) labels, by their places in the block."""
        cut = self.windows[self.starts[index]]  # int16: half the bytes to move
        windows = torch.from_numpy(cut).to(device).to(torch.float32).div_(FULL_SCALE)
        return windows, torch.from_numpy(self.labels[index]).to(device)


class WindowStream:
    """The windows and one feature of several stores; nothing but one block, and the next, is in memory."""

    def __init__(self, paths: Sequence[Path], feature: str) -> None:
        self.feature = get_feature(feature)
        self.stores = [Store(path) for path in paths]

    def split(self, division: Division, seed: int) -> dict[str, list[UtteranceRef]]:
        """Part → its utterances; all stores are split as one, so that nothing is shared between parts.

        seed : of the split, unless the division has one of its own
        """
        seed = seed if division.split_seed is None else division.split_seed
        rows = rows_of_stores(self.stores)
        parts = places_of(assign_parts(rows, division, seed))
        refuse_empty(parts)
        references = list(map(UtteranceRef, rows["store"].tolist(), rows["row"].tolist()))
        return {part: [references[place] for place in places] for part, places in parts.items()}

    def all_utterances(self, store: int) -> list[UtteranceRef]:
        """Every utterance of one store that is no augmented copy."""
        originals = self.stores[store].utterances["augmented_from"] == ""
        return [UtteranceRef(store, int(row)) for row in np.flatnonzero(originals)]

    def by_corpus(self, references: Sequence[UtteranceRef]) -> dict[tuple[int, str], list[UtteranceRef]]:
        """(store, corpus) → its utterances."""
        groups: dict[tuple[int, str], list[UtteranceRef]] = {}
        for reference in references:
            corpus = str(self.stores[reference.store].utterances["corpus"][reference.row])
            groups.setdefault((reference.store, corpus), []).append(reference)
        return groups

    def describe_stores(self) -> list[dict[str, str | int]]:
        """What tells each store from another: its size and the identity of what it was made of."""
        return [{"identity": store.text("identity"), "n_windows": store.n_windows} for store in self.stores]

    def count_windows(self, references: Sequence[UtteranceRef]) -> int:
        return int(sum(self.stores[store].utterances["n_windows"][row] for store, row in references))

    def load(self, references: Sequence[UtteranceRef]) -> WindowBlock:
        """The windows of these utterances, in order."""
        signals, starts, labels, length = [], [], [], 0
        for number, row in references:
            store = self.stores[number]
            windows = store.window_slice(row)
            signals.append(store.signal(row))
            starts.append(length + HOP * np.arange(windows.stop - windows.start))
            labels.append(self._labels(store, windows))
            length += len(signals[-1])
        return WindowBlock(np.concatenate(signals), np.concatenate(starts), np.concatenate(labels))

    def _labels(self, store: Store, windows: slice) -> Floats:
        """As the store has them; of a feature that it hasn't, computed."""
        if self.feature.in_stores:
            return store.labels(self.feature.name, windows.start, windows.stop)
        return compute_feature(self.feature, store.windows(windows.start, windows.stop))

    def blocks(self, groups: Sequence[Sequence[UtteranceRef]]) -> Iterator[WindowBlock]:
        """Load each group; while one is worked on, a thread loads the next."""
        with ThreadPoolExecutor(1) as loader:
            upcoming: Future[WindowBlock] | None = None
            for group in [*groups, None]:
                current = upcoming
                upcoming = loader.submit(self.load, group) if group else None
                if current:
                    yield current.result()

    def group(self, references: Sequence[UtteranceRef]) -> list[list[UtteranceRef]]:
        """Consecutive groups of about `BLOCK` windows."""
        groups: list[list[UtteranceRef]] = []
        n_windows = BLOCK
        for reference in references:
            if n_windows >= BLOCK:
                groups.append([])
                n_windows = 0
            groups[-1].append(reference)
            n_windows += self.count_windows([reference])
        return groups

    def close(self) -> None:
        for store in self.stores:
            store.close()


def epoch_order(
    references: Sequence[UtteranceRef], epoch: int, n_shares: int, seed: int
) -> list[UtteranceRef]:
    """The utterances of one epoch, shuffled: one of `n_shares` equal shares of a pass through all.

    Depends on the seed and the epoch alone, so that a resumed run sees what the first would have seen.
    """
    shuffled = np.random.default_rng([seed, epoch // n_shares]).permutation(len(references))
    return [references[i] for i in np.array_split(shuffled, n_shares)[epoch % n_shares]]


def check_apart(stream: WindowStream, tests: WindowStream) -> None:
    """ValueError if a store is given twice, or if training would see what the other stores test on."""
    paths = [store.path.resolve() for store in (*stream.stores, *tests.stores)]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"the store {path} is given twice: once is enough, and only to train or to test")
    seen = {str(sha) for store in stream.stores for sha in store.utterances["sha256"]} - {""}
    for store in tests.stores:
        shared = seen & set(store.utterances["sha256"])
        if shared:
            raise ValueError(
                f"{len(shared)} recordings of the test store {store.path} are in the training stores too: "
                "prepare it without them"
            )
