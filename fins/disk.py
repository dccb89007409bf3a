"""Writing files so that each is whole or not there; what the disk refuses is told with the file's name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fins.leftovers import hold, let_go, share

PARTIAL = ".partial"  # the end of the names of files that are being written
NO_ROOM = "no room is left on the disk: make room, and the same command goes on"
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""What a system says when a disk, a quota or the size of a file is spent."""
NUMBER = re.compile(r"(?:errno = |\(os error |\[Errno )(\d+)")  # as HDF5, safetensors and Python write it


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """What is written in this context is `path`: an error of the disk is an OSError with its name.

    HDF5 and safetensors tell the system's number inside a text, some libraries not at all. Errors that have
    nothing to do with the disk stay what they are.
    """
    try:
        yield
    except Exception as error:
        number = _number_of(error)
        if number is None:
            raise
        own = error.filename if isinstance(error, OSError) else None
        words = NO_ROOM if number in FULL else os.strerror(number)
        raise OSError(number, words, own or str(path)) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; it becomes `path` once all is written, and is removed otherwise.

    Two processes that write one file do so one after the other. Errors of the disk as of `naming`.
    """
    partial = path.with_name(f"{path.name}{PARTIAL}")
    descriptor = None
    try:
        with naming(path):
            descriptor = hold(partial)
            yield partial
            share(descriptor)
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    finally:
        let_go(descriptor)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file: all of it or, where the disk refuses, nothing. Errors as of `naming`."""
    with naming(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        content = f"{line}\n".encode()
        try:
            while content:
                content = content[file.write(content) :]
        except BaseException:
            file.truncate(size)
            raise


def says_full(text: str) -> bool:
    """Whether an error, as text, is that a disk is full."""
    number = NUMBER.search(text)
    return NO_ROOM in text or (number is not None and int(number[1]) in FULL)


def is_full(error: BaseException) -> bool:
    """Whether an error is that a disk is full."""
    return _number_of(error) in FULL


def _number_of(error: BaseException) -> int | None:
    """The system's number of an error, or None if it has none; a ValueError is about what is read."""
    if isinstance(error, ValueError):
        return None
    if isinstance(error, OSError) and error.errno:
        return error.errno
    number = NUMBER.search(str(error))
    return int(number[1]) if number else None
