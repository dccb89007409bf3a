"""The folder of a run: what was asked, what came out, and enough to read it without this package."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from fins.digests import DIGESTS, digests_of
from fins.disk import PARTIAL, replacing
from fins.leftovers import remove_abandoned

CONFIG, RESULT, HISTORY = "config.json", "result.json", "history.csv"
CHECKPOINT = "checkpoint.safetensors"  # of a training that goes on
INNER = "inner-{}.safetensors"  # of an inner fold
FORMAT = 2  # of config.json; version 0.1 wrote none

RunStatus = Literal["new", "unfinished", "finished"]


def library_versions() -> dict[str, str]:
    """Versions of what a result depends on, as they are saved with it."""
    from importlib.metadata import version

    names = ("numpy", "scipy", "librosa", "soundfile", "soxr", "h5py", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def find_run(folder: Path, config: Mapping[str, Any], free: Sequence[str]) -> RunStatus:
    """What a folder holds of a run: nothing, the run half done or of another length, or its result.

    free : keys in which the run of before may differ (how long); a key that one of both lacks counts as None
    Raises ValueError if the folder holds a run of another configuration, one that this version can't read,
    or other files. Nothing is written.
    """
    if (folder / CONFIG).exists():
        before = read_config(folder)
        here = json.loads(json.dumps(config))
        differing = [key for key in {**here, **before} if here.get(key) != before.get(key)]
        other = [key for key in differing if key not in free]
        if other:
            differences = ", ".join(f"{key} {before.get(key)} there, {here.get(key)} here" for key in other)
            raise ValueError(f"{folder} holds another run ({differences}): choose another --out")
        if differing:
            return "unfinished"
        return "finished" if (folder / RESULT).exists() else "unfinished"
    if folder.is_dir() and any(path.suffix != ".partial" for path in folder.iterdir()):
        raise ValueError(f"{folder} holds other files: choose an empty or a new folder as --out")
    return "new"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run; ValueError if there is none, or none that this version can read.

    What a killed command left in the folder is removed.
    """
    tidy_run(folder)
    content = read_json(folder / CONFIG)
    config = content.get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} is no configuration of a run: choose another --out")
    written = content.get("format", 1)
    is_fin = "closed_form" in config  # FINs are stored as they were
    if written == 1 and not is_fin:
        raise ValueError(
            f"{folder} was written by version 0.1, whose classifiers this version can't read: make it again "
            "by the command in its README.md; its stores stay as they are"
        )
    if written not in (1, FORMAT):
        raise ValueError(f"{folder} was written by a later version: install that one to read it")
    return config


def tidy_run(folder: Path) -> None:
    """Remove what killed commands left in a run's folder: unfinished files that nobody is writing, and the
    states of a classifier's training that ended; FINs keep theirs, from which longer training goes on."""
    with contextlib.suppress(OSError, ValueError):
        remove_abandoned(path for path in folder.iterdir() if path.suffix == PARTIAL)
        config = read_json(folder / CONFIG).get("config")
        states = states_of(folder)
        if states and (folder / RESULT).exists() and isinstance(config, dict) and "closed_form" not in config:
            with locked(folder):
                for state in states if (folder / RESULT).exists() else ():
                    state.unlink(missing_ok=True)


def states_of(folder: Path) -> list[Path]:
    """From which a training goes on: its own, and those of its inner folds."""
    return [path for path in (folder / CHECKPOINT, *folder.glob(INNER.format("*"))) if path.exists()]


def start_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a run's configuration into its folder; an earlier result no longer counts."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.system()}
    forget_result(folder)  # first: killed in between, it would be another run's
    content = {"format": FORMAT, "config": config, "versions": library_versions(), **machine}
    write_json(folder / CONFIG, content)


def forget_result(folder: Path) -> None:
    """What a folder holds is being made again."""
    (folder / RESULT).unlink(missing_ok=True)
    (folder / DIGESTS).unlink(missing_ok=True)


def finish_run(folder: Path, result: object) -> None:
    """Write the digests of a run's files and its result; the result last: it says that the run is whole."""
    text = as_json(result)
    digests = digests_of(folder) | {RESULT: hashlib.sha256(text.encode()).hexdigest()}
    write_json(folder / DIGESTS, {"sha256": digests})
    write_atomically(folder / RESULT, text)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for this process; what it made and left empty is removed again.

    The lock is the system's: it ends with the process, however that ends, and leaves no file.
    Raises ValueError if another process works there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    descriptor = _lock(folder)
    try:
        yield
    finally:
        for path in made:  # the innermost first
            with contextlib.suppress(OSError):  # it holds something
                path.rmdir()
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """An open descriptor of a folder that exists and is locked; None on a system without such locks."""
    try:
        import fcntl
    except ImportError:
        folder.mkdir(parents=True, exist_ok=True)
        return None
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # who had made it has just removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            busy = f"another process is at work in {folder}: wait for it, or choose another --out"
            raise ValueError(busy) from error
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        os.close(descriptor)  # removed in between


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is either the old one or the new one, never half of it."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Indented, atomic; a number that is NaN or infinite is an error, since JSON knows none."""
    write_atomically(path, as_json(content))


def as_json(content: object) -> str:
    """Indented; a number that is NaN or infinite is an error."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """ValueError in one sentence for a file that is missing, no plain file or no JSON object."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no plain file: the run has to be made again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: is the run finished?") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: the run has to be made again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: the run has to be made again")
    return content


def _refuse_constant(name: str) -> None:
    """Raises ValueError: NaN and Infinity are no JSON."""
    raise ValueError(name)


def write_history(path: Path, rows: Sequence[Any], kind: type) -> None:
    """One line a dataclass instance, the fields of `kind` as the header."""
    assert is_dataclass(kind)
    names = [field.name for field in fields(kind)]
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def as_command(module: str, config: Any) -> str:
    """The command line that gives these options: those that aren't the defaults, as a shell takes them."""
    words = ["python", "-m", module]
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            several = value if isinstance(value, tuple | list) else (value,)
            words += [flag, *(str(word) for word in several)]
    return shlex.join(words)
