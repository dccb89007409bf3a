"""The folder of a run: what was asked, what came out, and enough to read it without this package."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from fins.store import library_versions

CONFIG, RESULT, HISTORY = "config.json", "result.json", "history.csv"


def open_run(folder: Path, config: Mapping[str, Any], free: Sequence[str]) -> bool:
    """Make a run's folder or come back to one; True if its result is there, for this very configuration.

    free : keys in which the run of before may differ (how long, where to)
    Raises ValueError if the folder holds a run of another configuration, or other files.
    """
    known = folder / CONFIG
    config = json.loads(json.dumps(config))
    if known.exists():
        before = read_json(known)["config"]
        other = [key for key in config if key not in free and config[key] != before.get(key)]
        if other:
            differences = ", ".join(f"{key} {before.get(key)} there, {config[key]} here" for key in other)
            raise ValueError(f"{folder} holds another run ({differences}): choose another --out")
        if (folder / RESULT).exists() and config == before:
            return True
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds other files: choose an empty or a new folder as --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.system()}
    write_json(known, {"config": config, "versions": library_versions(), **machine})
    return False


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
