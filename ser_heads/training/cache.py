"""Frames that are made once: kept beside the store that they are of, or in memory.

A store's cache is a folder, `<store>.frames-<key>`, of segments that are each written once: what several
processes make at the same time may be there twice, and is never half written.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from fins.audio import WINDOW, Signal
from fins.data.store import Store
from fins.disk import PARTIAL
from fins.hdf5 import NewHdf5File, new_dataset
from fins.leftovers import remove_abandoned
from fins.progress import SILENT, Watch
from ser_heads.frontends import FrontEnd
from ser_heads.frontends.waveform import Trim
from ser_heads.training.copies import APART
from ser_heads.training.datasets import (
    PERTURBATION,
    SpeechDataset,
    StoreDataset,
    copy_of,
    copying_of,
    read_item,
)

CHECKED = 3  # recordings that are computed again before kept frames are trusted
TOLERANCE = 1e-3  # of the largest value of a column in a recording
ROUNDING = 1e-6  # of the largest value of all columns: a faint band is what roundings of loud ones leave
KEPT_FOLDERS = 4  # beside a store, made in other ways
BLOCK = 64  # recordings of a segment's writing at once
IN_MEMORY = 2 << 30  # bytes that a MemoryCache holds, at most

Frames = NDArray[np.float32]  # (time, column)


class FrameCache(Protocol):
    """Where frames of front ends come from that don't learn."""

    def make(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, copies: int) -> None:
        """Make what isn't there yet: of each recording itself and so many perturbed copies."""

    def rows(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, place: int, copy: int) -> Frames:
        """(time, column) of one recording, or of its copy of that number."""


def copied_signal(trim: Trim, dataset: SpeechDataset, place: int, name: str, copy: int) -> Signal:
    """What a front end gets of a recording: trimmed, perturbed, at least one window long."""
    signal = torch.from_numpy(np.array(read_item(dataset, place)[0], dtype=np.float32))
    trimmed, lengths = trim(signal[None], torch.tensor([len(signal)]))
    perturbed = copy_of(dataset, trimmed[0, : int(lengths[0])].numpy(), name, copy)
    return np.pad(perturbed, (0, max(0, WINDOW - len(perturbed))))


def frames_of(part: FrontEnd, signal: Signal) -> Frames:
    """(n,) → (time, column) of one recording, without gradients."""
    device = next(chain(part.parameters(), part.buffers()), torch.empty(0)).device
    with torch.no_grad():
        waveform = torch.from_numpy(signal)[None].to(device)
        values, lengths = part(waveform, torch.tensor([len(signal)], device=device))
    return values[0, : int(lengths[0])].cpu().numpy()


class MemoryCache:
    """Frames of any dataset, kept as they are made, until so many bytes are; the others are made anew.

    limit : bytes
    """

    def __init__(self, limit: int = IN_MEMORY) -> None:
        self.limit, self.n_bytes = limit, 0
        self.digests: dict[int, str] = {}
        self.datasets: dict[int, SpeechDataset] = {}  # held, so that their identities stay theirs
        self.kept: dict[tuple[str, int, int, int], Frames] = {}

    def make(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, copies: int) -> None:
        """Frames are made when they are asked for; here their front end is told from others."""
        self.digests[id(part)] = f"{part.digest()} {trim.extra_repr()}"
        self.datasets[id(dataset)] = dataset

    def rows(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, place: int, copy: int) -> Frames:
        key = (self.digests[id(part)], id(dataset), place, copy)
        frames = self.kept.get(key)
        if frames is None:
            name = str(place) if not hasattr(dataset, "names") else dataset.names[place]
            frames = frames_of(part, copied_signal(trim, dataset, place, name, copy))
            if self.n_bytes + frames.nbytes <= self.limit:
                self.kept[key] = frames
                self.n_bytes += frames.nbytes
        return frames


class StoreCache:
    """Frames of utterances of stores, in folders beside these.

    They are made again whenever the way that they are made, the store or the way of the copies are others.

    Raises ValueError where nothing can be written beside a store.
    """

    def __init__(self, watch: Watch = SILENT) -> None:
        self.watch = watch
        self.folders: dict[tuple[int, str], SegmentFolder] = {}
        self.keys: dict[int, str] = {}
        # asked for once: a library's version takes a millisecond, and each recording of each epoch has a key
        self.ways = {"voices": f"{PERTURBATION} {version('soxr')}", "apart": f"{APART} {version('librosa')}"}

    def make(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, copies: int) -> None:
        assert isinstance(dataset, StoreDataset)
        table = dataset.table
        self.keys[id(part)] = f"{part.digest()} {trim.extra_repr()}"
        key = self._key(part, dataset)
        for number in np.unique(dataset.store_numbers):
            folder = self.folders.get((id(table.stores[number]), key))
            if folder is None:
                folder = SegmentFolder(folder_of(table.stores[number], key))
                self.folders[id(table.stores[number]), key] = folder
            places = np.flatnonzero(dataset.store_numbers == number)
            self._check(folder, part, trim, dataset, places)
            self._fill(folder, part, trim, dataset, places, copies)
            evict(table.stores[number].path, folder.path)

    def rows(self, part: FrontEnd, trim: Trim, dataset: SpeechDataset, place: int, copy: int) -> Frames:
        assert isinstance(dataset, StoreDataset)
        store = dataset.table.stores[dataset.store_numbers[place]]
        folder = self.folders[id(store), self._key(part, dataset)]
        return folder.read(int(dataset.store_rows[place]), copy)

    def _key(self, part: FrontEnd, dataset: StoreDataset) -> str:
        """What tells frames that are made in this way from others."""
        return f"{self.keys[id(part)]} {self.ways[copying_of(dataset)]}"

    def close(self) -> None:
        for folder in self.folders.values():
            folder.close()

    def _check(
        self, folder: SegmentFolder, part: FrontEnd, trim: Trim, dataset: StoreDataset, places: NDArray
    ) -> None:
        """Forget what is there if a few of its recordings come out differently now."""
        if folder.checked:
            return
        there = [place for place in places if folder.copies_of(int(dataset.store_rows[place]))]
        for place in there[:: max(1, len(there) // CHECKED)]:
            own = int(dataset.store_rows[place])
            for copy in folder.copies_of(own):
                signal = copied_signal(trim, dataset, int(place), dataset.names[place], copy)
                if not is_close(folder.read(own, copy), frames_of(part, signal)):
                    folder.forget()
                    return
        folder.checked = True

    def _fill(
        self,
        folder: SegmentFolder,
        part: FrontEnd,
        trim: Trim,
        dataset: StoreDataset,
        places: NDArray,
        copies: int,
    ) -> None:
        """Write a segment of what is missing."""
        row = dataset.store_rows
        wanted = [(int(place), copy) for place in places for copy in range(copies + 1)]
        missing = [pair for pair in wanted if (int(row[pair[0]]), pair[1]) not in folder.where]
        if not missing:
            folder.mark_used()
            return
        folder.check_writable()
        part.eval()
        with (
            self.watch.bar(len(missing), "recordings", "frames") as bar,
            folder.segment(part.n_columns) as add,
        ):
            for place, copy in missing:
                signal = copied_signal(trim, dataset, place, dataset.names[place], copy)
                add(int(row[place]), copy, frames_of(part, signal))
                bar.update()


class SegmentFolder:
    """Frames of one store, made in one way: files of which each holds some recordings and copies.

    where : (row of the store, number of the copy) → segment, first frame, end; copies : row → numbers
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checked = path, False
        self.where: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.copies: dict[int, list[int]] = {}
        self.files: list[h5py.File] = []
        self.frames: list[h5py.Dataset] = []  # opened once: finding one takes longer than reading of it
        for segment in sorted(path.glob("*.h5")):
            self._open(segment)

    def copies_of(self, row: int) -> list[int]:
        """Numbers of the copies of a recording that are there: the first and the last of them."""
        numbers = self.copies.get(row, [])
        return sorted({min(numbers), max(numbers)}) if numbers else []

    def read(self, row: int, copy: int) -> Frames:
        """ValueError if they aren't what was written; the folder is removed then."""
        segment, first, end = self.where[row, copy]
        try:
            return self.frames[segment][first:end]
        except (OSError, RuntimeError) as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise ValueError(
                f"{self.path} was damaged and is removed: the same command makes it again"
            ) from error

    def segment(self, n_columns: int) -> SegmentWriter:
        return SegmentWriter(self, n_columns)

    def forget(self) -> None:
        """Remove all that is there."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self.where, self.copies, self.files, self.frames, self.checked = {}, {}, [], [], True

    def close(self) -> None:
        for file in self.files:
            file.close()

    def check_writable(self) -> None:
        """ValueError if nothing can be kept there."""
        if not os.access(self.path.parent, os.W_OK):
            raise ValueError(
                f"what a model makes of recordings is kept in {self.path}, where nothing can be written: "
                "link the store into a folder of yours"
            )

    def mark_used(self) -> None:
        """Used now: others are evicted before it."""
        with contextlib.suppress(OSError):  # of another user
            os.utime(self.path)

    def _open(self, segment: Path) -> None:
        """Take in a segment; one that isn't whole is passed over and made again."""
        try:
            file = h5py.File(segment, "r")
            index = file["index"][:]
            if file["frames"].ndim != 2 or (len(index) and index[:, 3].max() > len(file["frames"])):
                raise OSError("its index leads beyond its frames")
        except (OSError, KeyError, RuntimeError, IndexError):
            return
        self.files.append(file)
        self.frames.append(file["frames"])
        for row, copy, first, end in index.tolist():
            if (row, copy) not in self.where:
                self.where[row, copy] = (len(self.files) - 1, first, end)
                self.copies.setdefault(row, []).append(copy)


class SegmentWriter:
    """A segment being written; it is there once its context ends well, and not at all otherwise."""

    def __init__(self, folder: SegmentFolder, n_columns: int) -> None:
        self.folder, self.n_columns = folder, n_columns
        self.index: list[tuple[int, int, int, int]] = []
        self.block: list[Frames] = []
        self.n_frames = 0

    def __enter__(self) -> SegmentWriter:
        self.folder.path.mkdir(exist_ok=True)
        self.path = self.folder.path / f"{os.getpid()}-{time.time_ns()}.h5"
        self.new = NewHdf5File(self.path)
        self.file = self.new.__enter__()
        self.frames = self.file.create_dataset(
            "frames",
            (0, self.n_columns),
            "f4",
            maxshape=(None, self.n_columns),
            chunks=(128, self.n_columns),
            fletcher32=True,
        )
        return self

    def __call__(self, row: int, copy: int, frames: Frames) -> None:
        self.index.append((row, copy, self.n_frames, self.n_frames + len(frames)))
        self.n_frames += len(frames)
        self.block.append(frames)
        if len(self.block) == BLOCK:
            self._flush()
            self.new.check()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._flush()
            new_dataset(self.file, "index", np.array(self.index, np.int64).reshape(-1, 4))
        self.new.__exit__(kind, error, trace)
        if kind is None:
            self.folder._open(self.path)

    def _flush(self) -> None:
        if self.block:
            block = np.concatenate(self.block)
            start = len(self.frames)
            self.frames.resize(start + len(block), 0)
            self.frames[start:] = block
            self.block = []


def folder_of(store: Store, made_by: str) -> Path:
    """Where frames of a store are that are made in one way."""
    versions = {name: store.text(name) for name in store.file.attrs if name.startswith("version_")}
    identity = store.text("identity")
    known = f"{made_by} {identity} {store.n_utterances} {store.n_windows} {versions}"
    key = hashlib.sha256(known.encode()).hexdigest()[:12]
    return store.path.with_name(f"{store.path.stem}.frames-{key}")


def evict(store: Path, newest: Path) -> None:
    """Of what is kept beside a store, remove what is unused for longest, and what killed runs left."""
    ages = {}
    for path in store.parent.glob(f"{glob.escape(store.stem)}.frames-*"):
        with contextlib.suppress(FileNotFoundError):  # another run may evict too
            ages[path] = path.stat().st_mtime
    remove_abandoned(newest.glob(f"*{PARTIAL}"))
    others = sorted((path for path in ages if path != newest), key=ages.__getitem__)
    for path in others[: max(0, len(others) + 1 - KEPT_FOLDERS)]:
        shutil.rmtree(path, ignore_errors=True)


def is_close(kept: Frames, again: Frames) -> bool:
    """Whether frames are the same but for roundings, column by column."""
    if kept.shape != again.shape:
        return False
    largest = np.abs(again).max(axis=0)
    allowed: Sequence[float] = TOLERANCE * largest + ROUNDING * largest.max()
    return bool((np.abs(kept - again).max(axis=0) <= allowed).all())
