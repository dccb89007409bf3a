"""Which runs are compared: a sweep is a Python file, one of those here or a user's own.

Its docstring says what it is, `runs()` returns name → `pipelines.train.with_settings(model, **changes)`, and
`MINUTES`, if it is there, is the budget where the command line gives none, and `conclude(folder, rows)` says
more than the table. Stores, seeds and folders are for the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fins.store import EMOTIONS
from pipelines.scripts import run_script
from pipelines.train import TrainConfig

SHIPPED = Path(__file__).parent
Columns = dict[str, dict[str, str]]
"""A table: column → row → cell."""
OF_THE_COMMAND_LINE = ("store", "seed", "minutes", "out")


@dataclass(frozen=True)
class Conclusion:
    """What a sweep says beside the table of its runs.

    answers : sentences; tables : by their titles; pictures : name of a PNG in the folder → caption; facts :
    for result.json
    """

    answers: list[str]
    tables: dict[str, Columns]
    pictures: dict[str, str]
    facts: dict[str, Any]


Conclude = Callable[[Path, Sequence[Mapping[str, Any]]], Conclusion]
"""The comparison's folder and the rows of its runs → what is to be said."""


@dataclass(frozen=True)
class Sweep:
    """about : its docstring; minutes : its own budget, or None; runs : name → options, at least one;
    conclude : what it has to say in the end, or None"""

    name: str
    about: str
    minutes: float | None
    runs: dict[str, TrainConfig]
    conclude: Conclude | None


def read_sweep(named: str) -> Sweep:
    """A sweep of this package by its name, or a user's own by the path of its .py file.

    Raises ValueError in one sentence if it is missing, can't be run, or defines nothing that can be meant.
    """
    script = run_script(named, SHIPPED, "sweep", ("runs",))
    runs = script.returned.get("runs")
    if not isinstance(runs, Mapping) or not runs:
        raise ValueError(f"the sweep {named} has no runs: its runs() returns name → with_settings(model)")
    minutes = script.defined.get("MINUTES")
    if minutes is not None and not isinstance(minutes, int | float):
        raise ValueError(f"the sweep {named} has MINUTES that are no number")
    conclude = script.defined.get("conclude")
    if conclude is not None and not callable(conclude):
        raise ValueError(f"the sweep {named} has a conclude that is no function of a folder and rows")
    for name, config in runs.items():
        check_run(name, config)
    return Sweep(script.name, script.about, minutes, dict(runs), conclude)


def check_run(name: object, config: object) -> None:
    """ValueError for a name that can't be a folder's, or for options that no command line lets through."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name, re.ASCII):
        raise ValueError(
            f"{name!r} can't name a run's folder: use a to z, digits and _ . + -, first a letter or a digit"
        )
    if not isinstance(config, TrainConfig):
        raise ValueError(f"the run {name} has no options: make them by pipelines.train.with_settings")
    for option in OF_THE_COMMAND_LINE:
        if getattr(config, option) != getattr(TrainConfig, option):
            raise ValueError(f"the run {name} sets {option}, which is for the command line: leave it out")
    for option, hint in get_type_hints(TrainConfig).items():
        value, known = getattr(config, option), get_args(hint)
        if get_origin(hint) is Literal and value not in known:
            raise ValueError(
                f"the run {name} has the {option} {value!r}: the known ones are {', '.join(known)}"
            )
    unknown = [emotion for emotion in config.emotions or () if emotion not in EMOTIONS]
    if unknown:
        raise ValueError(
            f"the run {name} has the emotion {unknown[0]!r}: the known ones are {', '.join(EMOTIONS)}"
        )
