"""Which runs are compared: a sweep is a Python file, one of those here or a user's own.

Its docstring says what it is, `runs()` returns name → `configure(model, **changes)`, and `MINUTES`, if it is
there, is the budget where the command line gives none, and `conclude(folder, rows)` says more than the table.
Stores, seeds and folders are for the command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ser_heads.experiments.config import RunConfig, RunOptions, flag_of, names_of, parts_of
from ser_heads.experiments.scripts import run_script
from ser_heads.experiments.sweeps import (
    cnn_lstm,
    fin_vs_random,
    finetuning,
    four_emotions,
    imitated,
    leak_price,
    small,
)
from ser_heads.experiments.sweeps.conclusion import Columns, Conclude, Conclusion

__all__ = ["SHIPPED", "Columns", "Conclude", "Conclusion", "Sweep", "check_run", "read_sweep"]

SHIPPED = {
    "small": small,
    "imitated": imitated,
    "cnn_lstm": cnn_lstm,
    "four_emotions": four_emotions,
    "leak_price": leak_price,
    "fin_vs_random": fin_vs_random,
    "finetuning": finetuning,
}
"""Name → module of each sweep that comes with the package."""


@dataclass(frozen=True)
class Sweep:
    """about : its docstring; minutes : its own budget, or None; runs : name → options, at least one;
    conclude : what it has to say in the end, or None"""

    name: str
    about: str
    minutes: float | None
    runs: dict[str, RunConfig]
    conclude: Conclude | None


def read_sweep(named: str) -> Sweep:
    """A sweep of this package by its name, or a user's own by the path of its .py file.

    Raises ValueError in one sentence if it is missing, can't be run, or defines nothing that can be meant.
    """
    script = run_script(named, SHIPPED, "sweep", ("runs",))
    runs = script.returned.get("runs")
    if not isinstance(runs, Mapping) or not runs:
        raise ValueError(f"the sweep {named} has no runs: its runs() returns name → configure(model)")
    minutes = script.defined.get("MINUTES")
    if minutes is not None and not isinstance(minutes, int | float):
        raise ValueError(f"the sweep {named} has MINUTES that are no number")
    conclude = script.defined.get("conclude")
    if conclude is not None and not callable(conclude):
        raise ValueError(f"the sweep {named} has a conclude that is no function of a folder and rows")
    for name, config in runs.items():
        try:
            check_run(name, config)
        except ValueError as error:
            raise ValueError(f"the sweep {named}: {error}") from error
    return Sweep(script.name, script.about, minutes, dict(runs), conclude)


def check_run(name: object, config: object) -> None:
    """ValueError for a name that can't be a folder's, or for options that no command line lets through."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name, re.ASCII):
        raise ValueError(
            f"{name!r} can't name a run's folder: use a to z, digits and _ . + -, first a letter or a digit"
        )
    if not isinstance(config, RunConfig):
        raise ValueError(f"the run {name} has no options: make them by ser_heads.experiments.configure")
    for option in names_of(RunOptions):
        if getattr(config, option) != getattr(RunOptions, option):
            raise ValueError(f"the run {name} sets {option}, which is for the command line: leave it out")
    for part in parts_of(config):
        check_choices(name, part)


def check_choices(name: str, part: Any) -> None:
    """ValueError for a value of one of a run's dataclasses that isn't among those to be chosen from."""
    for option, hint in get_type_hints(type(part)).items():
        value, choices = getattr(part, option), get_args(hint)
        if get_origin(hint) is Literal and value not in choices:
            known = ", ".join(map(str, choices))
            raise ValueError(f"the run {name} has {flag_of(option)} {value!r}: the known ones are {known}")
