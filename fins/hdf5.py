"""New HDF5 files: each is whole or not there, with checksums, and a full disk is an error like any other."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fins.disk import PARTIAL, naming
from fins.leftovers import hold, let_go, share

CHUNK_BYTES = 1 << 16  # of which each has a checksum: read as a whole, so not many
VERSION = "v110"  # of the format: the first whose headers and indexes have checksums
SIGNATURE = b"\x89HDF\r\n\x1a\n"
WITH_CHECKSUMS = 3  # of that version: the number after the signature
PATIENCE = 60.0  # seconds in which the texts of any store are read
READ_TEXTS = """
import sys, h5py
def read(name, item):
    for attribute in item.attrs: item.attrs[attribute]
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "O": item[:]
with h5py.File(sys.argv[1], "r") as file:
    read("", file)
    file.visititems(read)
"""


class _Written(io.RawIOBase):
    """Where HDF5 writes. It can crash the process where a write fails, so it isn't told: the first failure is
    kept, and what is written after it is passed over."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b", buffering=0)
        self.failure: OSError | None = None

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self.file.readinto(buffer) or 0

    def write(self, content: memoryview) -> int:  # type: ignore[override]
        rest = memoryview(content)
        try:
            while len(rest) and self.failure is None:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.failure = error
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.failure is None:
                self.file.truncate(size)
        except OSError as error:
            self.failure = error
        return size or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def sync(self) -> None:
        """Raises what failed, if anything did; else all is on the disk."""
        if self.failure is not None:
            raise self.failure
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()
        super().close()


class NewHdf5File:
    """A context in which an HDF5 file is written; it gets its name once it is whole, else it isn't there.

    Errors of the disk are OSErrors with the file's name: at the context's end, or when `check` is called.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.partial = path, path.with_name(f"{path.name}{PARTIAL}")

    def __enter__(self) -> h5py.File:
        with naming(self.path):
            self.descriptor = hold(self.partial)
            self.written = _Written(self.partial)
        self.file = h5py.File(self.written, "w", libver=(VERSION, VERSION))
        return self.file

    def check(self) -> None:
        """Raises OSError if something couldn't be written, so that work for nothing ends."""
        if self.written.failure is not None:
            with naming(self.path):
                raise self.written.failure

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            with contextlib.suppress(*([Exception] if self.written.failure else [])):  # what follows from it
                self.file.close()
            if kind is None or self.written.failure:
                with naming(self.path):
                    self.written.sync()
                    share(self.descriptor)
                    os.replace(self.partial, self.path)
        finally:
            self.written.close()
            with contextlib.suppress(OSError):
                self.partial.unlink(missing_ok=True)
            let_go(self.descriptor)


def new_dataset(file: h5py.File, name: str, values: NDArray[Any]) -> None:
    """Write an array as a dataset with checksums."""
    dataset = empty_dataset(file, name, values.shape, values.dtype)
    if len(values):
        dataset[...] = values


def empty_dataset(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
    """Make a dataset with a checksum for each chunk, of which none is kept where there are no rows."""
    if 0 in shape:
        return file.create_dataset(name, shape=shape, dtype=dtype)
    row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    chunk = (min(shape[0], max(1, CHUNK_BYTES // row)), *shape[1:])
    return file.create_dataset(name, shape=shape, dtype=dtype, chunks=chunk, fletcher32=True)


def fixed_texts(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Texts in UTF-8, all of one length: HDF5's heap of others has no checksum, and damaged it can hang."""
    encoded = [text.encode() for text in texts]
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def set_text(file: h5py.File, name: str, text: str) -> None:
    """Write an attribute that isn't in HDF5's heap either."""
    content = text.encode()
    file.attrs.create(name, content, dtype=h5py.string_dtype("utf-8", max(1, len(content))))


def is_readable(path: Path) -> bool:
    """Whether HDF5 comes to an end with a file's names and texts.

    Without checksums they can hold it beyond an interruption, or crash it, once damaged: another process
    tries them.
    """
    with path.open("rb") as file:
        version = file.read(len(SIGNATURE) + 1)[-1]
    status = path.stat()
    return version >= WITH_CHECKSUMS or _comes_to_an_end(path, status.st_mtime_ns, status.st_size)


@lru_cache
def _comes_to_an_end(path: Path, mtime: int, size: int) -> bool:
    """Once for each state of a file."""
    command = [sys.executable, "-c", READ_TEXTS, str(path)]
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
