"""The SHA-256 of each file of a run, written at its end, so that changed bits are noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from data_manifests.reading import sha256
from fins.disk import PARTIAL

DIGESTS = "digests.json"
PASSING = (PARTIAL, "checkpoint.safetensors", DIGESTS)  # ends of the names of files that don't stay


def digests_of(folder: Path) -> dict[str, str]:
    """Name → SHA-256 of each file that lies in a folder itself, but for those that don't stay."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: sha256(path) for path in paths if not path.name.endswith(PASSING)}


def read_digests(folder: Path) -> Mapping[str, str]:
    """What a run wrote of its files; empty where it wrote none. ValueError if that itself is damaged."""
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    try:
        digests = json.loads(path.read_bytes().decode())["sha256"]
        if not all(isinstance(text, str) for text in (*digests, *digests.values())):
            raise TypeError("no texts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: delete it, or make the run again") from error
    return digests


def check_digest(path: Path) -> None:
    """ValueError if a file isn't what its run wrote; of a file without a digest nothing is known."""
    digest = read_digests(path.parent).get(path.name)
    if digest is not None and sha256(path) != digest:
        raise ValueError(f"{path} isn't what its run wrote: bring back a copy, or make the run again")


def changed_files(folder: Path) -> list[str]:
    """Of a run's files, "name is missing" or "name has changed" for each that isn't as it was written."""
    faults = []
    for name, digest in read_digests(folder).items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif sha256(path) != digest:
            faults.append(f"{name} has changed")
    return faults
