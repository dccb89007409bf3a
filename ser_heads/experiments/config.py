"""What a run of a classifier is: one frozen configuration, made in code or composed from a command line."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from fins.command import program, run_checked
from fins.data.protocols import Division
from ser_heads.model import ModelEntry, SerModel
from ser_heads.models import MODELS, get_entry
from ser_heads.training.recipe import Recipe

DEFAULT_MODEL = "fin"
FORMAT = 2  # of config.json
OF_FINETUNING = ("finetuned_epochs", "finetuning_rate", "fin_rate", "fin_tuning")
OF_FITTING = ("copies", "class_weights")  # all of a recipe that a model without gradient takes
Own = TypeVar("Own")


@dataclass(frozen=True)
class RunOptions:
    """What a run needs beside its model, its recipe and its division."""

    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    seed: int = 0
    """Of the weights and all that is drawn in training, and of the split unless --split-seed is given."""
    minutes: float | None = None
    """Budget: training ends in time for the result to be there when it is spent."""
    inner_folds: int = 0
    """Folds of the training and validation speakers by which the length is chosen; then all of these train
    for it. Without, the validation part chooses the epoch."""
    out: Path | None = None
    """Folder for the result; by default a new one in runs, named by what is asked."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError("--seed is at least 0 and below 2 ** 32")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError("--minutes is a number above 0")
        if self.inner_folds < 0 or self.inner_folds == 1:
            raise ValueError("--inner-folds is at least 2, or 0 for none")
        if self.inner_folds and self.minutes is not None:
            raise ValueError("inner folds choose how long to train: they go without --minutes")


@dataclass(frozen=True)
class RunConfig(RunOptions):
    """One run: a model with its own options, how it is trained, how utterances are divided.

    options : the model's own frozen dataclass; by default its own values
    Raises ValueError for what can't be meant.
    """

    model: str = DEFAULT_MODEL
    options: Any = None
    recipe: Recipe | None = None
    division: Division = field(default_factory=Division)

    def __post_init__(self) -> None:
        super().__post_init__()
        entry = get_entry(self.model)
        if self.options is None:
            object.__setattr__(self, "options", entry.options())
        if self.recipe is None:
            object.__setattr__(self, "recipe", entry.recipe)
        if not isinstance(self.options, entry.options):
            raise ValueError(f"the options of {self.model} are {entry.options.__name__}")

    @property
    def split_seed(self) -> int:
        """Of the split."""
        own = self.division.split_seed
        return self.seed if own is None else own

    def as_json(self) -> dict[str, Any]:
        """Flat, as it is saved: what the command line calls each option."""
        flat: dict[str, Any] = {"format": FORMAT, "model": self.model}
        parts: tuple[Any, ...] = (self.options, self.recipe, self.division, self)
        for part in parts:
            own = {item.name: getattr(part, item.name) for item in fields(part)}
            flat |= {
                name: value for name, value in own.items() if name not in ("options", "recipe", "division")
            }
        return {name: plain(value) for name, value in flat.items()}


def plain(value: Any) -> Any:
    """An option as JSON holds it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(part) for name, part in asdict(value).items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def configure(model: str, **changes: Any) -> RunConfig:
    """A model's own configuration, but for what is changed: options of the model, of its recipe, of the
    division and of the run, by the names that they have on the command line (`augmentation` as a whole).

    Raises ValueError for an option that it doesn't have, and for a value that can't be meant.
    """
    entry = get_entry(model)
    parts: dict[str, Any] = {"options": entry.options(), "recipe": entry.recipe, "division": Division()}
    own: dict[str, Any] = {}
    changed: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for name, value in changes.items():
        places = [part for part, config in parts.items() if name in names_of(config)]
        if not places and name not in names_of(RunOptions):
            raise ValueError(no_such_option(entry, name))
        (changed[places[0]] if places else own)[name] = value
    # each part at once: options are checked together, and halfway they might not agree
    whole = {part: replace(config, **changed[part]) for part, config in parts.items()}
    return RunConfig(model=model, **whole, **own)


def names_of(config: Any) -> list[str]:
    return [item.name for item in fields(config)]


def no_such_option(entry: ModelEntry, name: str) -> str:
    """A sentence on an option that a model doesn't have."""
    flags = ", ".join(flag_of(option) for option in names_of(entry.options))
    own = f"its own are {flags}" if flags else "it has none of its own"
    return f"{entry.name} has no option {flag_of(name)}: {own}"


def flag_of(name: str) -> str:
    """The flag of an option, by its name in code."""
    return f"--{name.replace('_', '-')}"


def refuse_without_effect(config: RunConfig, model: SerModel) -> None:
    """ValueError for an option of the recipe that was changed and that changes nothing in this model."""
    entry, recipe = get_entry(config.model), config.recipe
    assert recipe is not None
    changed = [name for name in names_of(recipe) if getattr(recipe, name) != getattr(entry.recipe, name)]
    new = [
        name
        for name in names_of(recipe.augmentation)
        if getattr(recipe.augmentation, name) != getattr(entry.recipe.augmentation, name)
    ]
    without: dict[str, str] = {}
    if entry.fit is not None:
        without = dict.fromkeys(set(names_of(recipe)) - set(OF_FITTING), "it isn't trained by gradient")
    elif not any(True for _ in model.frontend.pretrained()):
        without = dict.fromkeys(OF_FINETUNING, "it has no FINs to finetune")
    elif set(model.frontend.pretrained()) <= set(model.frontend.kernels()):
        without = dict.fromkeys(("fin_rate", "fin_tuning"), "it has no FINs")
    elif recipe.fin_tuning == "bands" and not any(True for _ in model.frontend.band_weights()):
        without = {"fin_tuning": "none of its FINs weights powers by bands"}
    if not any(hasattr(module, "penalty") for module in model.modules()):
        without.setdefault("penalty", "it has no wavelet kernels")
    if entry.fit is not None and config.inner_folds:
        raise ValueError(f"--inner-folds has no effect on {config.model}: it isn't trained by gradient")
    for name in changed:
        if name == "finetuned_epochs" and recipe.finetuned_epochs == 0:
            continue  # none is what it gets without asking
        if name in without:
            raise ValueError(f"{flag_of(name)} has no effect on {config.model}: {without[name]}")
    layout = model.layout
    lacking = {
        "noisy": "" if layout.powers else "powers",
        "noise": "" if layout.powers else "powers",
        "contrast": "" if layout.levels else "levels",
        "masked_bands": "" if layout.spectra else "spectrum",
        "seconds": "" if layout.n_frames is None else "length but one",
    }
    for name in new:
        if lacking.get(name):
            flag = f"--augmentation.{name.replace('_', '-')}"
            raise ValueError(f"{flag} has no effect on {config.model}: its frames have no {lacking[name]}")


def read_command_line(
    about: str, own: type[Own] | None = None, arguments: Sequence[str] | None = None
) -> tuple[RunConfig, Own | None]:
    """A run, and the command's own options, from a command line whose options are those of the model that it
    names.

    Raises ValueError, in one sentence, for an option that nobody there has; tyro ends the process for a value
    that is none.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    entry = get_entry(model_named(given))
    flat: Any = tyro.conf.arg(name="")
    parts: list[Any] = [
        ("model", Annotated[str, tyro.conf.arg(help=model_help())], field(default=entry.name)),
        ("options", Annotated[entry.options, flat], field(default_factory=entry.options)),
        ("run", Annotated[RunOptions, flat], field(default_factory=RunOptions)),
        ("division", Annotated[Division, flat], field(default_factory=Division)),
        ("recipe", Annotated[Recipe, flat], field(default=entry.recipe)),
    ]
    if own is not None:
        parts.insert(2, ("own", Annotated[own, flat], field(default_factory=own)))
    composed = make_dataclass("Options", parts, frozen=True)
    answer: tuple[Any, list[str]] = tyro.cli(
        composed, prog=program(), args=given, description=about, return_unknown_args=True
    )
    parsed, unknown = answer
    if unknown:
        first = unknown[0]
        if first.startswith("--"):
            raise ValueError(no_such_option(entry, first.removeprefix("--").split("=")[0]))
        raise ValueError(f"{first!r} belongs to no option")
    config = RunConfig(
        **{name: getattr(parsed.run, name) for name in names_of(RunOptions)},
        model=parsed.model,
        options=parsed.options,
        recipe=parsed.recipe,
        division=parsed.division,
    )
    return config, getattr(parsed, "own", None)


def run_composed(
    main: Callable[[RunConfig], None] | Callable[[RunConfig, Own], None],
    about: str,
    own: type[Own] | None = None,
) -> None:
    """Call a command with the run, and its own options if it has any, that the command line asks for; errors
    end as those of `fins.command.run_command` do."""

    def call() -> None:
        config, options = read_command_line(about, own)
        main(*((config,) if own is None else (config, options)))

    run_checked(call)


def model_named(arguments: Sequence[str]) -> str:
    """The model that a command line asks for, or the one that is meant without."""
    pairs = zip(["", *arguments], [*arguments, ""], strict=True)
    named = [word for before, word in pairs if before == "--model"]
    named += [word.removeprefix("--model=") for word in arguments if word.startswith("--model=")]
    return named[-1] if named else DEFAULT_MODEL


def model_help() -> str:
    """What there is, for --help."""
    return "; ".join(f"{name}: {entry.about}" for name, entry in MODELS.items())


def changes_of(config: RunConfig) -> Mapping[str, Any]:
    """The options in which a configuration isn't its model's own, by their names on the command line."""
    own = configure(config.model)
    changed = {}
    for mine, theirs in zip(parts_of(config), parts_of(own), strict=True):
        for name in names_of(theirs):
            if getattr(mine, name) != getattr(theirs, name):
                changed[name] = getattr(mine, name)
    return {name: value for name, value in changed.items() if name not in ("options", "recipe", "division")}


def parts_of(config: RunConfig) -> tuple[Any, ...]:
    return config.options, config.recipe, config.division, config


def command_of(config: RunConfig) -> str:
    """The command line of pipelines.train that has these options: those that differ from the model's own."""
    words = ["python", "-m", "pipelines.train", "--model", config.model]
    own = configure(config.model)
    for mine, theirs in zip(parts_of(config), parts_of(own), strict=True):
        for name in names_of(theirs):
            if name not in ("model", "options", "recipe", "division"):
                words += words_of(name, getattr(mine, name), getattr(theirs, name))
    return shlex.join(words)


def words_of(name: str, value: Any, own: Any) -> list[str]:
    """An option and its value, or nothing where that is the model's own; an option of a part has a dot."""
    if value == own:
        return []
    if is_dataclass(value):
        return [
            word
            for part in names_of(value)
            for word in words_of(f"{name}.{part}", getattr(value, part), getattr(own, part))
        ]
    if isinstance(value, bool):
        first, dot, last = name.rpartition(".")
        return [flag_of(f"{first}{dot}{'' if value else 'no_'}{last}")]
    return [flag_of(name), *(map(str, value) if isinstance(value, tuple) else [str(value)])]
