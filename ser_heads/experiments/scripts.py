"""Small Python files that say what is to be run: shipped modules by their names, a user's own by path."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fins.command import sentence_of


@dataclass(frozen=True)
class Script:
    """about : its docstring; defined : name → what it is after the file has been run
    returned : function → what it returned, of those that were asked for and that the file has
    """

    name: str
    about: str
    defined: dict[str, Any]
    returned: dict[str, Any]


def run_script(named: str, shipped: Mapping[str, ModuleType], kind: str, functions: Sequence[str]) -> Script:
    """Run a file and call some of its functions, without arguments.

    named : one of `shipped`, or the path of a .py file; kind : what errors call it
    Raises ValueError in one sentence if it is missing or can't be run.
    """
    path = Path(named)
    if named in shipped:
        path = Path(str(shipped[named].__file__))
        defined = dict(vars(shipped[named]))
    elif path.suffix != ".py" or not path.is_file():
        known = ", ".join(sorted(shipped))
        raise ValueError(f"there is no {kind} {named}: give one of {known}, or the path of a .py file")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"the {kind} {named} is no text in UTF-8: save it as such") from error
    try:
        if named not in shipped:
            defined = {"__name__": path.stem, "__file__": str(path)}
            exec(compile(text, str(path), "exec"), defined)
        returned = {name: defined[name]() for name in functions if name in defined}
    except Exception as error:  # a user's own code
        raise ValueError(_why_broken(error, f"{kind} {named}", path)) from error
    return Script(path.stem, inspect.cleandoc(defined.get("__doc__") or ""), defined, returned)


def _why_broken(error: Exception, what: str, path: Path) -> str:
    """In one sentence: where a file stopped, and why."""
    if isinstance(error, ImportError) and (error.name or "").startswith("pipelines"):
        return (
            f"the {what} imports {error.name}, as files for version 0.1 did: write `from "
            "ser_heads.experiments import configure`, and configure in place of with_settings"
        )
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    where = f", line {lines[-1]}" if lines else ""
    return f"the {what} is broken{where} ({type(error).__name__}: {sentence_of(error)})"
