"""Arrays made of utterances once and kept beside their stores, each file under a key of how it was made."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from fins.audio import Signal
from fins.features import Floats
from ser_heads.augmentation import PERTURBATION
from ser_heads.data import OFFSET, QUIET, UtteranceTable

CHECKED = 3  # utterances that are computed again before kept arrays are trusted
TOLERANCE = 1e-3  # of the largest value of a column in an utterance
ROUNDING = 1e-6  # of the largest value of all columns: a faint band is what roundings of loud ones leave
KEPT_FILES = 4  # beside a store, of a kind, made in other ways
ABANDONED = 3600.0  # seconds after which an unfinished file isn't being written any more

Progress = Callable[[int], object]


def ignore(n: int) -> None:
    """Progress that nobody looks at."""


class KeptArrays:
    """What is made of each utterance of a table and of its perturbed copies, from files beside the stores:
    computed once, and again whenever the way it is made, the store or the way of the copies are others.

    kind : a word in the files' names; made_by : whatever tells one way of making them from another
    make : (n_samples,) → (n, n_outputs) float32
    progress : called with the number of utterances done since the last call
    """

    def __init__(
        self,
        table: UtteranceTable,
        kind: str,
        made_by: str,
        make: Callable[[Signal], Floats],
        n_outputs: int,
        n_copies: int = 0,
        progress: Progress = ignore,
    ) -> None:
        self.table, self.make, self.n_outputs, self.n_copies = table, make, n_outputs, n_copies
        self.files = []
        for number, store in enumerate(table.stores):
            path = kept_path(table, number, kind, made_by, n_copies, ".h5")
            if not self._holds(path, number):
                self._write(path, number, progress)
                evict(store.path, kind, path)
            self.files.append(h5py.File(path, "r"))
        self._first = [file["first"][:] for file in self.files]

    def __call__(self, utterance: int, copy: int) -> Floats:
        """(n, n_outputs) float32."""
        number = self.table.store[utterance]
        place = self.table.row[utterance] * (self.n_copies + 1) + copy
        first = self._first[number]
        return self.files[number]["outputs"][first[place] : first[place + 1]]

    def close(self) -> None:
        for file in self.files:
            file.close()

    def _rows(self, number: int) -> Iterator[int]:
        return map(int, np.flatnonzero(self.table.store == number))

    def _holds(self, path: Path, number: int) -> bool:
        """Whether a file is whole and a few of its utterances come out the same now."""
        if not path.is_file():
            return False
        rows = list(self._rows(number))
        n_made = self.n_copies + 1
        try:
            with h5py.File(path, "r") as file:
                first, outputs = file["first"][:], file["outputs"]
                if len(first) != len(rows) * n_made + 1 or first[-1] != len(outputs):
                    return False
                for place in range(0, len(rows), max(1, len(rows) // CHECKED)):
                    for copy in range(n_made):
                        kept = outputs[slice(*first[place * n_made + copy :][:2])]
                        again = self.make(self.table.copy(rows[place], copy))
                        if not (kept.shape == again.shape and _close(kept, again)):
                            return False
        except (OSError, KeyError, RuntimeError):
            return False
        mark_used(path)
        return True

    def _write(self, path: Path, number: int, progress: Progress) -> None:
        check_writable(self.table.stores[number].path)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        first = [0]
        try:
            with h5py.File(partial, "w") as file:
                outputs = file.create_dataset(
                    "outputs",
                    (0, self.n_outputs),
                    "f4",
                    maxshape=(None, self.n_outputs),
                    chunks=(128, self.n_outputs),
                )
                for utterance in self._rows(number):
                    made = [self.make(self.table.copy(utterance, copy)) for copy in range(self.n_copies + 1)]
                    outputs.resize(first[-1] + sum(map(len, made)), 0)
                    outputs[first[-1] :] = np.concatenate(made)
                    for block in made:
                        first.append(first[-1] + len(block))
                    progress(1)
                file["first"] = np.array(first, np.int64)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def kept_path(
    table: UtteranceTable, number: int, kind: str, made_by: str, n_copies: int, ending: str
) -> Path:
    """Where the arrays of one of the stores are, beside it."""
    store = table.stores[number]
    versions = {name: its for name, its in store.file.attrs.items() if name.startswith("version_")}
    copies = (n_copies, PERTURBATION, version("soxr"), table.trimmed, OFFSET, QUIET)
    known = f"{made_by} {table.fact(number)} {versions} {copies}"
    key = hashlib.sha256(known.encode()).hexdigest()[:12]
    return store.path.with_name(f"{store.path.stem}.{kind}-{key}{ending}")


def check_writable(store: Path) -> None:
    """ValueError if nothing can be kept beside a store."""
    if not os.access(store.parent, os.W_OK):
        raise ValueError(
            f"what a model makes of {store} is kept beside it, where nothing can be written: link the store "
            "into a folder of yours"
        )


def mark_used(path: Path) -> None:
    """Used now: others are evicted before it."""
    with contextlib.suppress(OSError):  # of another user
        os.utime(path)


def evict(store: Path, kind: str, newest: Path) -> None:
    """Of what is kept of a kind beside a store, remove what is unused for longest, and what killed runs
    left."""
    ages = {}
    for path in store.parent.glob(f"{glob.escape(store.stem)}.{kind}-*"):
        with contextlib.suppress(FileNotFoundError):  # another run may evict too
            ages[path] = path.stat().st_mtime
    left = [path for path, age in ages.items() if path.suffix == ".partial" and age < time.time() - ABANDONED]
    others = sorted(
        (path for path in ages if path.suffix != ".partial" and path != newest), key=ages.__getitem__
    )
    for path in [*left, *others[: max(0, len(others) + 1 - KEPT_FILES)]]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _close(kept: Floats, again: Floats) -> bool:
    largest = np.abs(again).max(axis=0)
    return bool((np.abs(kept - again).max(axis=0) <= TOLERANCE * largest + ROUNDING * largest.max()).all())
