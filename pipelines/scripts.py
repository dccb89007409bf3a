"""Small Python files that say what is to be run: those of a folder by their name, a user's own by path."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Script:
    """about : its docstring; defined : name → what it is after the file has been run
    returned : function → what it returned, of those that were asked for and that the file has
    """

    name: str
    about: str
    defined: dict[str, Any]
    returned: dict[str, Any]


def run_script(named: str, shipped: Path, kind: str, functions: Sequence[str]) -> Script:
    """Run a file and call some of its functions, without arguments.

    named : of a file in the folder `shipped`, or the path of a .py file; kind : what errors call it
    Raises ValueError in one sentence if it is missing or can't be run.
    """
    path = Path(named) if named.endswith(".py") else shipped / f"{named}.py"
    if not path.is_file() or path.name == "__init__.py":
        known = ", ".join(sorted(its.stem for its in shipped.glob("[!_]*.py")))
        raise ValueError(f"there is no {kind} {named}: give one of {known}, or the path of a .py file")
    defined: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), defined)
        returned = {name: defined[name]() for name in functions if name in defined}
    except Exception as error:
        lines = [its.lineno for its in traceback.extract_tb(error.__traceback__) if its.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        said = " ".join(str(error).split())
        raise ValueError(f"the {kind} {named} is broken{where} ({type(error).__name__}: {said})") from error
    return Script(path.stem, inspect.cleandoc(defined.get("__doc__") or ""), defined, returned)
