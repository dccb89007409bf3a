"""What killed commands leave, told from what others are writing: these hold a lock, which ends with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks: what is left there stays
    fcntl = None  # type: ignore[assignment]

MARKER = ".fin-ser-temporary"  # lies in temporary folders: others of the same name are somebody's own


def hold(path: Path) -> int | None:
    """Make a file that is being written, and lock it until the descriptor is closed; None without locks.

    Waits for another process that writes a file of this name.
    """
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same(descriptor, path):
                return descriptor
        except OSError:  # a disk without locks
            return descriptor
        os.close(descriptor)  # it was finished or removed in between


def share(descriptor: int | None) -> None:
    """Let others read a held file, before it gets its name; it isn't abandoned yet."""
    if fcntl is not None and descriptor is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)


def let_go(descriptor: int | None) -> None:
    """Close what `hold` gave."""
    if descriptor is not None:
        os.close(descriptor)


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove those unfinished files that nobody is writing any more; what can't be removed stays."""
    for path in paths:
        if fcntl is None or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(descriptor, path):
                    path.unlink()
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(
    prefix: str, parent: Path | None = None, end: Callable[[Path], None] = lambda folder: None
) -> Iterator[Path]:
    """A folder that is removed here or, if this process is killed, by the next that asks for such a one.

    prefix : of its name; parent : where it lies, by default where the system has temporary files; end : what
        a killed process left at work in a folder, before that is removed
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_folders(parent, prefix, end)
    descriptor = None
    while True:  # until no other process has taken it for an abandoned one
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            descriptor = hold(folder / MARKER)
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        let_go(descriptor)


def _remove_folders(parent: Path, prefix: str, end: Callable[[Path], None]) -> None:
    """Those of the prefix that have the marker, and whose process is gone."""
    with contextlib.suppress(OSError):
        for folder in [path for path in parent.iterdir() if path.name.startswith(prefix)]:
            marker = folder / MARKER
            if not folder.is_symlink() and marker.is_file():
                remove_abandoned([marker])
                if not marker.exists():
                    end(folder)
                    shutil.rmtree(folder, ignore_errors=True)


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a name is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
