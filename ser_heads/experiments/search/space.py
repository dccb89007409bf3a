"""Where a search looks: a search space is a Python file, a shipped one or a user's own.

Its docstring says what it is, `default()` returns `configure(model, **changes)`, around which it searches,
and `space()` returns option → `LogUniform`, `Uniform` or `Choice`. An option of a part is written as on the
command line: `augmentation.mixup`. Stores, protocol, seed and epochs are for the command line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from fins.command import sentence_of
from ser_heads.experiments.config import RunConfig, changes_of, configure, names_of, parts_of
from ser_heads.experiments.scripts import run_script
from ser_heads.experiments.sweeps import check_run
from ser_heads.models import get_entry

FIXED = ("frozen_epochs", "finetuned_epochs")  # by the search
DIGITS = 3  # of a drawn number, so that a command with it is short and exact
TRIES = 1000  # of drawing a configuration that is not there yet


@dataclass(frozen=True)
class LogUniform:
    """Numbers from low to high, above 0, whose logarithms are equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"{self} needs 0 < low < high")

    def draw(self, rng: np.random.Generator) -> float:
        """One of them, of a few digits."""
        return _rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)

    def ends(self) -> tuple[float, float]:
        """The least and the most."""
        return self.low, self.high


@dataclass(frozen=True)
class Uniform:
    """Numbers from low to high, equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"{self} needs low < high")

    def draw(self, rng: np.random.Generator) -> float:
        """One of them, of a few digits."""
        return _rounded(rng.uniform(self.low, self.high), self.low, self.high)

    def ends(self) -> tuple[float, float]:
        """The least and the most."""
        return self.low, self.high


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values, equally likely."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        if len(values) < 2:
            raise ValueError("a Choice is of two values or more")
        object.__setattr__(self, "values", values)

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them."""
        return self.values[int(rng.integers(len(self.values)))]

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values


Distribution: TypeAlias = LogUniform | Uniform | Choice
OptionValues: TypeAlias = dict[str, Any]  # option → value


@dataclass(frozen=True)
class SearchSpace:
    """about : its docstring; default : what is searched around; options : option → its values"""

    name: str
    about: str
    default: RunConfig
    options: dict[str, Distribution]


def read_space(named: str, shipped: Mapping[str, ModuleType]) -> SearchSpace:
    """A search space of `shipped` by its name, or a user's own by the path of its .py file.

    Raises ValueError in one sentence if it is missing, can't be run, or defines nothing that can be meant.
    """
    script = run_script(named, shipped, "search space", ("default", "space"))
    default, options = script.returned.get("default"), script.returned.get("space")
    if not isinstance(default, RunConfig):
        raise ValueError(f"the search space {named} has no default: its default() returns configure(model)")
    if not isinstance(options, Mapping) or not options:
        raise ValueError(f"the search space {named} is empty: its space() returns option → distribution")
    check_run("default", default)
    if get_entry(default.model).fit is not None:
        raise ValueError(
            f"{default.model} has no epochs to stop at: pipelines.train tries all of it by itself"
        )
    for option, distribution in options.items():
        try:
            check_option(default, option, distribution)
        except ValueError as error:
            raise ValueError(f"the search space {named}: {error}") from error
    return SearchSpace(script.name, script.about, default, dict(options))


def check_option(default: RunConfig, option: object, distribution: object) -> None:
    """ValueError for what is no option of the model or its recipe, or for values that it can't have."""
    searched = sorted({*names_of(default.options), *names_of(default.recipe)}.difference(FIXED))
    if not isinstance(option, str) or option.split(".")[0] not in searched:
        raise ValueError(f"{option!r} can't be searched: the options are {', '.join(searched)}")
    if not isinstance(distribution, Distribution):
        raise ValueError(f"{option} has no distribution: give LogUniform, Uniform or Choice")
    try:
        own = value_of(default, option)
    except AttributeError as error:
        raise ValueError(f"{option!r} can't be searched: there is no such option") from error
    if is_dataclass(own):
        known = ", ".join(f"{option}.{field.name}" for field in fields(own))
        raise ValueError(f"{option} has parts, which are searched one by one: {known}")
    is_range = not isinstance(distribution, Choice)
    for value in distribution.ends():
        kinds = (int, float) if type(own) is float else (type(own),)
        if own is not None and (type(value) not in kinds or (is_range and type(own) is not float)):
            whole = "whole numbers, as a Choice" if type(own) is int else f"a Choice of {type(own).__name__}"
            raise ValueError(f"{option} can't be {distribution}: its values are {whole}")
        try:
            changed = with_options(default, {option: value})
        except (TypeError, ValueError) as error:
            raise ValueError(f"the space lets {option} be {value!r}: {sentence_of(error)}") from error
        check_run(f"with-{option}", changed)


def value_of(config: RunConfig, option: str) -> Any:
    """Of an option, or of an option of a part, as `augmentation.mixup`; AttributeError if there is none."""
    first, *rest = option.split(".")
    value: Any = next((part for part in parts_of(config) if first in names_of(part)), config)
    for name in (first, *rest):
        value = getattr(value, name)
    return value


def with_options(config: RunConfig, values: OptionValues) -> RunConfig:
    """A configuration with some options changed, also those of its parts; errors as of `configure`."""
    changes = dict(changes_of(config))
    for option, value in values.items():
        first, _, rest = option.partition(".")
        own = changes.get(first, value_of(config, first))
        changes[first] = replace(own, **{rest: value}) if rest else value
    return configure(config.model, **changes)


def draw_trials(space: SearchSpace, n_trials: int, seed: int) -> list[OptionValues]:
    """Option → value of each trial: first the default, then what the seed draws, no configuration twice.

    More trials of a seed start with those that fewer have. Raises ValueError if the space has too few.
    """
    trials: list[OptionValues] = [{option: value_of(space.default, option) for option in space.options}]
    rng = np.random.default_rng(seed)
    for _ in range(TRIES * n_trials):
        if len(trials) >= n_trials:
            break
        values = {option: distribution.draw(rng) for option, distribution in space.options.items()}
        if values not in trials:
            trials.append(values)
    if len(trials) < n_trials:
        raise ValueError(f"{space.name} has no {n_trials} different configurations: give fewer --trials")
    return trials


def _rounded(value: float, low: float, high: float) -> float:
    return float(min(max(float(f"{value:.{DIGITS}g}"), low), high))
