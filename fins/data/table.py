"""The utterances of several stores as one table; sound is read when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fins.audio import HOP, WINDOW, Signal, cut_windows
from fins.data.repeats import find_repeats, refuse_namesakes
from fins.data.store import TEXT_COLUMNS, Store, to_amplitude

OFFSET = 0.05  # of its deviation: of what a recording has a larger mean, the mean is taken away
QUIET = 45.0  # dB below an utterance's loudest window: quieter ends are cut off


class UtteranceTable:
    """The utterances of stores, in their order.

    rows : a row an utterance, whose index is its place: `id`, `path`, `corpus`, `speaker`, `emotion`,
        `sentence`, `intensity`, `part`, `augmented_from` and `sha256`, texts as in the stores; `n_samples`
        and `n_windows`; `store` and `row`, where it lies; `name` and `person`, "corpus/id" and
        "corpus/speaker", to be shown: who is who is told by the columns corpus and speaker; `counted`, false
        for what stands in an earlier store, too
    repeats : sentences on such recordings
    Raises StoreError for what is no store, ValueError for a store that is given twice.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        check_stores(paths)
        self.stores = [Store(path) for path in paths]
        refuse_namesakes(self.stores)
        self.rows = rows_of_stores(self.stores)
        repeats = find_repeats(self.stores, self.rows)
        self.rows["counted"], self.repeats = repeats.counted, repeats.sentences
        self._store_of, self._row_of = self.rows["store"].to_numpy(), self.rows["row"].to_numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def signal(self, utterance: int) -> Signal:
        """(n_samples,) float32 in [-1, 1), as stored, at least one window long."""
        store, row = self._place(utterance)
        return to_amplitude(store.signal(row))

    def stored_features(self, utterance: int, names: Sequence[str]) -> NDArray[np.float32]:
        """(n_windows, n_outputs): closed forms of the whole utterance, as the store holds them."""
        store, row = self._place(utterance)
        windows = store.window_slice(row)
        return np.concatenate([store.labels(name, windows.start, windows.stop) for name in names], axis=1)

    def facts(self) -> list[str]:
        """Of each store, what tells it from another, or from itself before it was made again."""
        return [fact_of(store) for store in self.stores]

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def _place(self, utterance: int) -> tuple[Store, int]:
        return self.stores[self._store_of[utterance]], int(self._row_of[utterance])

    def __enter__(self) -> UtteranceTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rows_of_stores(stores: Sequence[Store]) -> pd.DataFrame:
    """The `rows` of an `UtteranceTable`."""
    columns = {
        name: np.concatenate([store.utterances[name] for store in stores])
        for name in (*TEXT_COLUMNS, "n_samples", "n_windows")
    }
    counts = [store.n_utterances for store in stores]
    rows = pd.DataFrame(columns)
    rows["store"] = np.repeat(np.arange(len(counts)), counts)
    rows["row"] = np.concatenate([np.arange(n) for n in counts])
    rows["name"] = rows["corpus"] + "/" + rows["id"]
    rows["person"] = rows["corpus"] + "/" + rows["speaker"]
    return rows


def check_stores(paths: Sequence[Path]) -> None:
    """ValueError if a store is given twice, or none is."""
    whole = [Path(os.path.realpath(path)) for path in paths]  # also of a link to itself
    if not whole:
        raise ValueError("there are no utterances: give --store, made by pipelines.prepare")
    for path in whole:
        if whole.count(path) > 1:
            raise ValueError(f"the store {path} is given twice: once is enough")


def fact_of(store: Store) -> str:
    """What tells a store from another, or from itself before it was made again."""
    return f"{store.text('identity')} {store.n_utterances} {store.n_windows}"


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
    audible = np.flatnonzero(energy >= energy.max() * 10 ** (-QUIET / 10))
    return signal[audible[0] * HOP : audible[-1] * HOP + WINDOW]
