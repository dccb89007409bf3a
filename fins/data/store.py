"""The store: one HDF5 file with utterances, their windows and their features.

Written once, atomically; then read-only. Plain h5py reads it in three lines:

    with h5py.File("ravdess.h5") as file:
        window = file["signal"][file["windows/start"][7] :][:2048] / 32768
        mfcc = file["labels/mfcc"][7]
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from data_manifests.manifest import Utterance
from fins.audio import FULL_SCALE, HOP, SAMPLE_RATE, WINDOW, count_windows, cut_windows
from fins.disk import PARTIAL
from fins.features import FEATURES, STORED, Floats, compute_features
from fins.hdf5 import NewHdf5File, empty_dataset, fixed_texts, is_readable, new_dataset, set_text
from fins.leftovers import remove_abandoned
from fins.runs import library_versions

SCHEMA = 1
ADVICE = "make it again with python -m pipelines.prepare"
COPY_ROWS = 1 << 16  # rows that are held in memory at once while parts are joined


class StoreError(ValueError):
    """A file that is no whole store of this schema; the message says why and what to do."""


@dataclass(frozen=True)
class Recording:
    """An utterance with its sound, ready to be stored.

    signal : (n_samples,) int16, mono at 22,050 Hz
    sha256 : of the source file; equal files are equal recordings
    """

    utterance: Utterance
    signal: NDArray[np.int16]
    sha256: str


FOLDER_DIGEST = "folder_digest"  # attribute of a store whose corpus got its folder's name
SOUND = "utterances/sound"  # digest of each signal; stores of earlier versions have none
TEXT_COLUMNS = (*(field.name for field in fields(Utterance)), "sha256")
COUNT_COLUMNS = ("first_sample", "n_samples", "first_window", "n_windows")


def write_store(
    path: Path, recordings: Iterable[Recording], attributes: Mapping[str, str] | None = None
) -> None:
    """Write one store from recordings that fit in memory; larger ones are joined from such parts.

    Labels are computed from the stored samples. A signal shorter than a window is padded with zeros.
    """
    signals, rows, labels = [], [], []
    for recording in recordings:
        signal = recording.signal
        if signal.dtype != np.int16 or signal.ndim != 1 or len(signal) == 0:
            raise ValueError(f"{recording.utterance.id}: a recording is a non-empty int16 vector")
        signals.append(np.pad(signal, (0, max(0, WINDOW - len(signal)))))
        rows.append({**asdict(recording.utterance), "sha256": recording.sha256})
        labels.append(compute_features(cut_windows(to_amplitude(signals[-1]))))
    n_samples = np.array([len(signal) for signal in signals], np.int64)
    n_windows = np.array([count_windows(n) for n in n_samples], np.int64)
    first_sample = _starts(n_samples)
    counts = {
        "first_sample": first_sample,
        "n_samples": n_samples,
        "first_window": _starts(n_windows),
        "n_windows": n_windows,
    }
    with _new_file(path, attributes or {}) as file:
        new_dataset(file, "signal", np.concatenate([np.empty(0, np.int16), *signals]))
        for column in TEXT_COLUMNS:
            new_dataset(file, f"utterances/{column}", fixed_texts([row[column] for row in rows]))
        new_dataset(file, SOUND, fixed_texts([digest_of(signal) for signal in signals]))
        for column, values in counts.items():
            new_dataset(file, f"utterances/{column}", values)
        starts = [first + HOP * np.arange(n) for first, n in zip(first_sample, n_windows, strict=True)]
        new_dataset(file, "windows/start", np.concatenate([np.empty(0, np.int64), *starts]))
        utterance_of = np.repeat(np.arange(len(rows), dtype=np.int32), n_windows)
        new_dataset(file, "windows/utterance", utterance_of)
        for name in STORED:
            empty = np.empty((0, FEATURES[name].n_outputs), np.float32)
            new_dataset(file, f"labels/{name}", np.concatenate([empty, *(label[name] for label in labels)]))


def join_stores(path: Path, parts: Sequence[Path], attributes: Mapping[str, str] | None = None) -> None:
    """Write one store from many, end to end, holding little of them in memory; what one lacks none has."""
    with _new_file(path, attributes or {}) as file:
        layout = _layout_of(parts)
        joined = {name: empty_dataset(file, name, *layout[name]) for name in layout}
        filled = dict.fromkeys(layout, 0)
        for part in parts:
            with Store(part) as store:
                offset = {
                    "windows/start": filled["signal"],
                    "windows/utterance": filled["utterances/id"],
                    "utterances/first_sample": filled["signal"],
                    "utterances/first_window": filled["windows/start"],
                }
                for name, dataset in joined.items():
                    source = store.datasets[name]
                    for start in range(0, len(source), COPY_ROWS):
                        rows = store.read(source, slice(start, start + COPY_ROWS))
                        if name in offset:
                            rows += offset[name]
                        target = filled[name] + start
                        dataset[target : target + len(rows)] = rows
                for name in joined:
                    filled[name] += len(store.datasets[name])


def _layout_of(parts: Sequence[Path]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name → shape and type of each dataset of the stores end to end; texts are as long as the longest."""
    layout: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    n_having: dict[str, int] = {}
    for part in parts:
        with Store(part) as store:
            for name, dataset in store.datasets.items():
                (n, *others), dtype = dataset.shape, dataset.dtype
                before, widest = layout.get(name, ((0,), dtype))
                if dtype.kind == "S" and dtype.itemsize > widest.itemsize:
                    widest = dtype
                layout[name] = (before[0] + n, *others), widest
                n_having[name] = n_having.get(name, 0) + 1
    return {name: entry for name, entry in layout.items() if n_having[name] == len(parts)}


class Store:
    """A store opened for reading; every read takes a slice, so memory stays flat however large the file.

    utterances : column → (n_utterances,) array, text as str
    datasets : name → dataset, opened once: to find one by its name takes longer than to read an utterance
    Raises StoreError, in one sentence, for a file that is missing, no HDF5, truncated, unfinished or of
    another schema.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.file, self.datasets, self.utterances = _open_checked(self.path)

    @property
    def n_utterances(self) -> int:
        return len(self.utterances["id"])

    @property
    def n_windows(self) -> int:
        return len(self.datasets["windows/start"])

    def signal(self, row: int) -> NDArray[np.int16]:
        """(n_samples,) int16 of one utterance; full scale is 32,768."""
        first = self.utterances["first_sample"][row]
        return self.read(self.datasets["signal"], slice(first, first + self.utterances["n_samples"][row]))

    def sound(self, row: int) -> str:
        """What tells the signal of an utterance from others, bit by bit; empty for digital silence."""
        if "sound" in self.utterances:
            return str(self.utterances["sound"][row])
        return digest_of(self.signal(row))

    def window_slice(self, row: int) -> slice:
        """Which windows are those of one utterance."""
        first = self.utterances["first_window"][row]
        return slice(int(first), int(first + self.utterances["n_windows"][row]))

    def starts(self, windows: slice) -> NDArray[np.int64]:
        """First sample of each window, counted over the whole store."""
        return self.read(self.datasets["windows/start"], windows)

    def windows(self, start: int, stop: int) -> Floats:
        """(stop - start, 2048) float32, amplitude in [-1, 1)."""
        starts = self.starts(slice(start, stop))
        if len(starts) == 0:
            return np.empty((0, WINDOW), np.float32)
        signal = self.read(self.datasets["signal"], slice(starts[0], starts[-1] + WINDOW))
        return to_amplitude(np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[starts - starts[0]])

    def labels(self, feature: str, start: int, stop: int) -> Floats:
        """(stop - start, n_outputs) float32, in the feature's own unit."""
        return self.read(self.datasets[f"labels/{feature}"], slice(start, stop))

    def text(self, attribute: str, default: str = "") -> str:
        """An attribute of the store that is text."""
        value = self.file.attrs.get(attribute, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def read(self, dataset: h5py.Dataset, rows: slice) -> NDArray[Any]:
        """Rows of a dataset of this store; StoreError with both names if they aren't what was written."""
        try:
            return dataset[rows]
        except (OSError, RuntimeError) as error:
            name = dataset.name.lstrip("/")
            raise StoreError(
                f"the store {self.path} is damaged: {name} isn't what was written; {ADVICE}"
            ) from error

    @property
    def has_checksums(self) -> bool:
        """Whether changed bits are noticed in all that it holds; stores of earlier versions have none."""
        return all(dataset.fletcher32 for dataset in self.datasets.values() if dataset.size)

    def damaged(self) -> list[str]:
        """Names of the datasets that aren't what was written; without checksums that isn't known."""
        names = []
        for name, dataset in self.datasets.items():
            try:
                for start in range(0, len(dataset), COPY_ROWS):
                    self.read(dataset, slice(start, start + COPY_ROWS))
            except StoreError:
                names.append(name)
        return names

    def blocks(self, size: int = 4_096) -> Iterator[slice]:
        """Consecutive slices of at most `size` windows that cover the store."""
        for start in range(0, self.n_windows, size):
            yield slice(start, min(start + size, self.n_windows))

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def digest_of(signal: NDArray[np.int16]) -> str:
    """Of (n_samples,) int16: 32 hexadecimal digits; empty for digital silence, of which there is but one."""
    return hashlib.blake2b(signal.tobytes(), digest_size=16).hexdigest() if signal.any() else ""


def to_amplitude(signal: NDArray[np.int16]) -> Floats:
    """int16 of any shape → float32 in [-1, 1)."""
    return signal.astype(np.float32) / np.float32(FULL_SCALE)


@contextlib.contextmanager
def _new_file(path: Path, attributes: Mapping[str, str]) -> Iterator[h5py.File]:
    """A store under a temporary name, renamed to its own once it is whole."""
    with NewHdf5File(path) as file:
        file.attrs.update(schema=SCHEMA, sample_rate=SAMPLE_RATE, window=WINDOW, hop=HOP, complete=False)
        versions = {f"version_{name}": number for name, number in library_versions().items()}
        for name, text in {**versions, **attributes}.items():
            set_text(file, name, text)
        yield file
        file.attrs["complete"] = True


def _open_checked(path: Path) -> tuple[h5py.File, dict[str, h5py.Dataset], dict[str, NDArray]]:
    """The file, its datasets by name, and its table of utterances."""
    remove_abandoned(path.with_name(f"{name}{PARTIAL}") for name in (path.name, *_beside(path)))
    if not path.is_file():
        raise StoreError(f"the store {path} is missing: check the path, or {ADVICE}")
    if not h5py.is_hdf5(path):
        raise StoreError(f"{path} is no HDF5 file: {ADVICE}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "is truncated" if "truncated" in str(error) else f"can't be opened ({error})"
        raise StoreError(f"the store {path} {reason}: {ADVICE}") from error
    datasets: dict[str, h5py.Dataset] = {}
    utterances: dict[str, NDArray] = {}
    try:
        fault = "" if is_readable(path) else "is damaged: HDF5 can't read its names and texts"
        if not fault:
            datasets = _datasets(file)
            fault = _fault(file, datasets)
        if not fault:
            utterances = _read_utterances(datasets)
    except Exception as error:  # HDF5 answers damaged bytes with errors of nearly every kind
        fault = f"is damaged ({type(error).__name__})"
    if fault:
        file.close()
        raise StoreError(f"{path} {fault}: {ADVICE}")
    return file, datasets, utterances


def _beside(path: Path) -> list[str]:
    """Names of the files that prepare writes beside a store."""
    return [f"{path.stem}.ledger.csv", f"{path.stem}.report.json"]


def _read_utterances(datasets: Mapping[str, h5py.Dataset]) -> dict[str, NDArray]:
    columns = (*TEXT_COLUMNS, *(["sound"] if SOUND in datasets else []))
    texts = {column: datasets[f"utterances/{column}"].asstr()[:].astype(object) for column in columns}
    return texts | {column: datasets[f"utterances/{column}"][:] for column in COUNT_COLUMNS}


def _fault(file: h5py.File, datasets: Mapping[str, h5py.Dataset]) -> str:
    """Why an HDF5 file is no whole store of this schema, or an empty string."""
    if "schema" not in file.attrs:
        return "is an HDF5 file but no store"
    if file.attrs["schema"] != SCHEMA:
        return f"has the schema {file.attrs['schema']}, and this version reads {SCHEMA}"
    if not file.attrs.get("complete", False):
        return "is unfinished"
    grid = tuple(int(file.attrs[key]) for key in ("sample_rate", "window", "hop"))
    if grid != (SAMPLE_RATE, WINDOW, HOP):
        return f"has windows of another grid (rate, window and hop are {grid})"
    expected = {
        "signal",
        "windows/start",
        "windows/utterance",
        *(f"utterances/{column}" for column in (*TEXT_COLUMNS, *COUNT_COLUMNS)),
        *(f"labels/{name}" for name in STORED),
    }
    missing = sorted(expected - set(datasets))
    if missing:
        return f"lacks {', '.join(missing)}"
    n_windows = len(datasets["windows/start"])
    lengths = {len(datasets[name]) for name in expected if name.startswith(("labels/", "windows/"))}
    if lengths != {n_windows} or int(datasets["utterances/n_windows"][:].sum()) != n_windows:
        return "has tables of unequal lengths"
    return ""


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    items: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: items.append((name, item)))
    return {name: item for name, item in items if isinstance(item, h5py.Dataset)}


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(lengths) else lengths
