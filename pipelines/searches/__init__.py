"""Where a search looks: a search space is a Python file, one of those here or a user's own.

Its docstring says what it is, `default()` returns `pipelines.train.with_settings(model, **changes)`, around
which it searches, and `space()` returns option → `LogUniform`, `Uniform` or `Choice`. An option of a part is
written as on the command line: `augmentation.mixup`. Stores, protocol, seed and epochs are for the command
line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipelines.scripts import run_script
from pipelines.sweeps import check_run
from pipelines.train import TrainConfig, part_of
from ser_heads.models import ModelConfig, build_model
from ser_heads.training import Options

SHIPPED = Path(__file__).parent
SEARCHED = {its.name for kind in (ModelConfig, Options) for its in fields(kind)}
FIXED = ("model", "svm", "frozen_epochs", "finetuned_epochs")
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
        return _short(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)

    def ends(self) -> tuple[float, float]:
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
        return _short(rng.uniform(self.low, self.high), self.low, self.high)

    def ends(self) -> tuple[float, float]:
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
        return self.values[int(rng.integers(len(self.values)))]

    def ends(self) -> tuple[Any, ...]:
        return self.values


Distribution: TypeAlias = LogUniform | Uniform | Choice
Drawn: TypeAlias = dict[str, Any]  # option → value


@dataclass(frozen=True)
class Search:
    """about : its docstring; default : what is searched around; space : option → its values"""

    name: str
    about: str
    default: TrainConfig
    space: dict[str, Distribution]


def read_search(named: str) -> Search:
    """A search space of this package by its name, or a user's own by the path of its .py file.

    Raises ValueError in one sentence if it is missing, can't be run, or defines nothing that can be meant.
    """
    script = run_script(named, SHIPPED, "search space", ("default", "space"))
    default, space = script.returned.get("default"), script.returned.get("space")
    if not isinstance(default, TrainConfig):
        raise ValueError(
            f"the search space {named} has no default: its default() returns with_settings(model)"
        )
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"the search space {named} is empty: its space() returns option → distribution")
    check_run("default", default)
    for option, distribution in space.items():
        check_option(default, option, distribution)
    if not build_model(part_of(default, ModelConfig))[0].by_gradient:
        raise ValueError(
            f"{default.model} has no epochs to stop at: pipelines.train tries all of it by itself"
        )
    return Search(script.name, script.about, default, dict(space))


def check_option(default: TrainConfig, option: object, distribution: object) -> None:
    """ValueError for what is no option of models or training, or for values that it can't have."""
    first = option.split(".")[0] if isinstance(option, str) else ""
    if first not in SEARCHED or first in FIXED:
        known = ", ".join(sorted(SEARCHED.difference(FIXED)))
        raise ValueError(f"{option!r} can't be searched: the options are {known}")
    if not isinstance(distribution, Distribution):
        raise ValueError(f"{option} has no distribution: give LogUniform, Uniform or Choice")
    assert isinstance(option, str)
    try:
        was = value_of(default, option)
    except AttributeError as error:
        raise ValueError(f"{option!r} can't be searched: there is no such option") from error
    if is_dataclass(was):
        known = ", ".join(f"{option}.{its.name}" for its in fields(was))
        raise ValueError(f"{option} has parts, which are searched one by one: {known}")
    numbers = not isinstance(distribution, Choice)
    for value in distribution.ends():
        kinds = (int, float) if type(was) is float else (type(was),)
        if was is not None and (type(value) not in kinds or (numbers and type(was) is not float)):
            whole = "whole numbers, as a Choice" if type(was) is int else f"a Choice of {type(was).__name__}"
            raise ValueError(f"{option} can't be {distribution}: its values are {whole}")
        check_run(f"with-{option}", with_options(default, {option: value}))


def value_of(config: TrainConfig, option: str) -> Any:
    """Of an option, or of an option of a part, as `augmentation.mixup`."""
    value: Any = config
    for name in option.split("."):
        value = getattr(value, name)
    return value


def with_options(config: TrainConfig, options: Drawn) -> TrainConfig:
    """A configuration with some options changed, also those of its parts."""
    for option, value in options.items():
        first, _, rest = option.partition(".")
        config = replace(
            config, **{first: replace(getattr(config, first), **{rest: value}) if rest else value}
        )
    return config


def draw_trials(search: Search, n_trials: int, seed: int) -> list[Drawn]:
    """Option → value of each trial: first the default, then what the seed draws, no configuration twice.

    More trials of a seed start with those that fewer have. Raises ValueError if the space has too few.
    """
    drawn: list[Drawn] = [{option: value_of(search.default, option) for option in search.space}]
    rng = np.random.default_rng(seed)
    for _ in range(TRIES * n_trials):
        if len(drawn) >= n_trials:
            break
        new = {option: distribution.draw(rng) for option, distribution in search.space.items()}
        if new not in drawn:
            drawn.append(new)
    if len(drawn) < n_trials:
        raise ValueError(f"{search.name} has no {n_trials} different configurations: give fewer --trials")
    return drawn


def _short(value: float, low: float, high: float) -> float:
    return float(min(max(float(f"{value:.{DIGITS}g}"), low), high))
