"""The folder of a run: what was asked, what came out, and enough to read it without this package."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from fins.store import library_versions

CONFIG, RESULT, HISTORY = "config.json", "result.json", "history.csv"


Known = Literal["new", "unfinished", "finished"]


def look_up_run(folder: Path, config: Mapping[str, Any], free: Sequence[str]) -> Known:
    """What a folder knows of a run: nothing, the run half done or of another length, or its result.

    free : keys in which the run of before may differ (how long)
    Raises ValueError if the folder holds a run of another configuration, or other files. Nothing is written.
    """
    known = folder / CONFIG
    config = json.loads(json.dumps(config))
    if known.exists():
        before = read_json(known).get("config")
        if not isinstance(before, dict):
            raise ValueError(f"{known} is no configuration of a run: choose another --out")
        other = [key for key in config if key not in free and config[key] != before.get(key)]
        if other:
            differences = ", ".join(f"{key} {before.get(key)} there, {config[key]} here" for key in other)
            raise ValueError(f"{folder} holds another run ({differences}): choose another --out")
        if config != before:
            return "unfinished"
        return "finished" if (folder / RESULT).exists() else "unfinished"
    if folder.is_dir() and any(path.suffix != ".partial" for path in folder.iterdir()):
        raise ValueError(f"{folder} holds other files: choose an empty or a new folder as --out")
    return "new"


def begin_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a run's configuration into its folder; an earlier result no longer counts."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.system()}
    (folder / RESULT).unlink(missing_ok=True)  # first: killed in between, it would be another run's
    write_json(folder / CONFIG, {"config": config, "versions": library_versions(), **machine})


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder and hold it for this process; ValueError if another one works there.

    The lock is the system's: it ends with the process, however that ends, and leaves no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy = f"another process is at work in {folder}: wait for it, or choose another --out"
            raise ValueError(busy) from error
        yield
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is either the old one or the new one, never half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, content: object) -> None:
    """Indented, atomic; a number that is NaN or infinite is an error, since JSON knows none."""
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """ValueError in one sentence for a file that is missing or no JSON object."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is the run finished?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: the run has to be made again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: the run has to be made again")
    return content


def write_history(path: Path, rows: Sequence[Any], kind: type) -> None:
    """One line a dataclass instance, the fields of `kind` as the header."""
    assert is_dataclass(kind)
    names = [field.name for field in fields(kind)]
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    os.replace(partial, path)


def name_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """R² rows by a name for people: corpus and part, and the store where these don't tell two rows apart."""
    named = {}
    for row in rows:
        corpus, part = row["corpus"], row["part"]
        name = "all corpora" if corpus == "all" else corpus
        stem = Path(row["store"]).stem
        stems = [
            Path(other["store"]).stem for other in rows if (other["corpus"], other["part"]) == (corpus, part)
        ]
        if len(stems) > 1:
            name += f" ({stem})" if stems.count(stem) == 1 else f" ({row['store']})"
        named[f"{name}, {part}"] = row
    return named


def held_out(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of these, the rows of windows that training never saw."""
    return {name: row for name, row in name_rows(rows).items() if row["part"] in ("test", "all")}
