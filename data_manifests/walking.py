"""Every file under a root. What leads out of it is named, and followed only if that is asked for."""

from __future__ import annotations

import os
from pathlib import Path

LEAVES = "a link out of the corpus's folder, which --follow-links reads"


def files_under(root: Path, follow: bool = False) -> list[str]:
    """Every file under a folder, hidden ones too, sorted; through links each folder is read once.

    follow : also through links that lead out of the folder; otherwise such a link stands for what it leads to
    """
    whole = os.path.realpath(root)
    paths: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=raise_error):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        left = [] if follow else [name for name in folders if leaves(os.path.join(folder, name), whole)]
        folders[:] = sorted(set(folders) - set(left))
        paths += [(Path(folder) / file).relative_to(root).as_posix() for file in (*files, *left)]
    return sorted(paths)


def leaves(path: str | Path, whole: str) -> bool:
    """Whether a path is a link that leads out of a folder, whose own path is `whole`, without links."""
    return os.path.islink(path) and not _is_inside(os.path.realpath(path), whole)


def leads_out(root: Path, path: str) -> bool:
    """Whether a path, relative to a root, leads out of it through any link in it."""
    return not _is_inside(os.path.realpath(root / path), os.path.realpath(root))


def raise_error(error: OSError) -> None:
    """For `os.walk`, which otherwise passes over a folder that it can't read."""
    raise error


def _is_inside(path: str, whole: str) -> bool:
    return path == whole or path.startswith(whole.rstrip(os.sep) + os.sep)
