"""Search for better options of a model, by validation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import RESULT, find_run, finish_run, locked, read_json, start_run
from ser_heads.evaluation.predictions import describe_parts
from ser_heads.experiments.assembly import assemble, what_is_there
from ser_heads.experiments.cluster import check_ray, ray_session, resources
from ser_heads.experiments.config import RunConfig, command_of, plain, refuse_without_effect
from ser_heads.experiments.run import RunResult
from ser_heads.experiments.search import fin, wavelet_packet_net
from ser_heads.experiments.search.page import describe_search, write_search
from ser_heads.experiments.search.space import (
    Choice,
    LogUniform,
    OptionValues,
    SearchSpace,
    Uniform,
    draw_trials,
    read_space,
    with_options,
)
from ser_heads.experiments.search.trials import JOURNAL, Journal, TrialRecord, forget_ended
from ser_heads.training.sources import FrameSource

__all__ = ["SHIPPED", "Choice", "LogUniform", "SearchOptions", "Uniform", "search"]

SHIPPED = {"fin": fin, "wavelet_packet_net": wavelet_packet_net}
"""Name → module of each search space that comes with the package."""
ENDING = 10.0  # seconds that ending the trials, the picture and files take
ENDS = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class SearchOptions:
    """Search for better options of a model: many trials, of which the worse ones are stopped early (ASHA).

    The first trial is the model's default, and is trained in full; the others are drawn from the search
    space, the same ones for the same seed. Each learns from the train part and is judged on the validation
    part; the test part is left alone. A trial whose process is lost goes on from its last epoch, and so does
    a search that was killed, by the same command. Needs the extra cluster.
    """

    search: Annotated[str, tyro.conf.Positional]
    """Where to look: fin or wavelet_packet_net, or the path of a .py file like those."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare; on a cluster all machines find them, and --out, by the same path."""
    emotions: tuple[str, ...] | None = None
    """Of the utterances that are used; by default all."""
    protocol: str = "speaker"
    """How utterances are divided, as in pipelines.train."""
    test_corpus: tuple[str, ...] = ()
    """Corpora that are left out, under the protocol corpus."""
    fold: str | None = None
    """A published fold, as corpus:number, whose test speakers are left out."""
    trials: int = 16
    """With the default. More of them than a finished search had go on with it."""
    epochs: int = 20
    """Of a trial that isn't stopped early; all with the FINs as they are."""
    grace: int = 3
    """Epochs before a trial can be stopped."""
    reduction: int = 2
    """At the grace period, and at each of its products with powers of this number, a trial goes on if it is
    among the best 1 / reduction of those that have come so far."""
    cpus: int = 1
    """Of each trial, which has as many threads."""
    gpus: float = 0.0
    """Of each trial; a share if several are to learn on one."""
    at_once: int | None = None
    """Trials side by side, at most; by default as many as there are CPUs for."""
    address: str | None = None
    """Head of a cluster as host:port, or auto for that of this machine; by default this machine alone."""
    minutes: float | None = None
    """Budget of the whole search: when it is spent, the result is that of the trials so far."""
    seed: int = 0
    """Of the configurations, of every trial, and of the split unless --split-seed is given."""
    split_seed: int | None = None
    """Of the split."""
    out: Path | None = None
    """Folder of the search; by default runs/tune-<search>-<protocol or fold>-seed<seed>."""

    def __post_init__(self) -> None:
        if min(self.trials, self.epochs, self.grace, self.cpus, self.at_once or 1) < 1:
            raise ValueError("--trials, --epochs, --grace, --cpus and --at-once are at least 1")
        if self.reduction < 2 or self.grace > self.epochs:
            raise ValueError("--reduction is at least 2, and --grace at most --epochs")
        if self.gpus < 0 or (self.minutes is not None and self.minutes * 60 <= ENDING):
            raise ValueError(f"--gpus is at least 0, --minutes a number above {ENDING / 60:.2g}")


def search(options: SearchOptions, watch: Watch = SILENT) -> RunResult:
    """Draw, train, write; the text ends with the best configuration as a command.

    Raises ValueError, in one sentence, for what can't be meant, without Ray, and if no trial has a score.
    """
    space = read_space(options.search, SHIPPED)
    drawn, planned = plan_trials(space, options)
    kind = (options.fold or options.protocol).replace(":", "")
    out = options.out or Path("runs") / f"tune-{space.name}-{kind}-seed{options.seed}"
    with UtteranceTable(options.store) as table:
        assembly = assemble(planned[0], table)
        for config in planned:
            refuse_without_effect(config, assembly.model)
        identity = identity_of(options, space) | what_is_there(planned[0], assembly.model, table)
        if find_run(out, identity, free=("trials", "minutes")) == "finished":
            text = f"{out} holds the result of this very search already"
            return RunResult(out, read_json(out / RESULT), text)
        with locked(out):
            journal = Journal(out / JOURNAL)
            pending = {
                number: config for number, config in enumerate(planned) if not journal.record(number).ended
            }
            if pending:
                check_ray()
                start_run(out, identity)
                make_frames(list(pending.values()), table, watch)
                run_pending(options, pending, out, journal, watch)
            records = [journal.record(number) for number in range(len(planned))]
            learned = {part: places for part, places in assembly.parts.items() if part != "test"}
            result = {
                **describe_settings(options, space),
                "parts": describe_parts(table.rows, learned),
                "seconds": round(journal.seconds(), 1),
                **summarise(drawn, planned, records),
            }
            write_search(out, result, records)
            forget_ended(out, journal)
            finish_run(out, result)  # last: its presence says that the search is whole
    return RunResult(out, result, "\n".join(describe_search(result)))


def identity_of(options: SearchOptions, space: SearchSpace) -> dict[str, Any]:
    """What tells this search from others."""
    return {
        **plain(replace(options, search=space.name, out=None, address=None, at_once=None)),
        "default": space.default.as_json(),
        "space": {option: repr(distribution) for option, distribution in space.options.items()},
    }


def describe_settings(options: SearchOptions, space: SearchSpace) -> dict[str, Any]:
    """What the result says of how it was searched."""
    names = ("protocol", "fold", "seed", "epochs", "grace", "reduction")
    return {
        "search": space.name,
        "about": space.about,
        "model": space.default.model,
        "stores": [str(path) for path in options.store],
        **{name: getattr(options, name) for name in names},
    }


def plan_trials(space: SearchSpace, options: SearchOptions) -> tuple[list[OptionValues], list[RunConfig]]:
    """What each trial's drawn options are, and all of its options; ValueError if they can't be meant."""
    names = ("store", "emotions", "protocol", "test_corpus", "fold", "seed", "split_seed")
    shared = {name: getattr(options, name) for name in names}
    fixed = shared | {"frozen_epochs": options.epochs, "finetuned_epochs": 0}
    base = with_options(space.default, fixed)
    drawn = draw_trials(space, options.trials, options.seed)
    return drawn, [with_options(base, values) for values in drawn]


def make_frames(configs: Sequence[RunConfig], table: UtteranceTable, watch: Watch) -> None:
    """Make what trials read from beside the stores, before several of them would."""
    made = set()
    for config in configs:
        assert config.recipe is not None
        key = (config.options, config.recipe.copies)
        if key in made:
            continue
        made.add(key)
        assembly = assemble(config, table, watch)
        for parameter in assembly.model.frontend.pretrained():
            parameter.requires_grad_(False)  # else they would learn, and nothing of them be kept
        for part, copies in (("train", config.recipe.copies), ("validation", 0)):
            dataset = assembly.dataset(assembly.parts[part])
            FrameSource(assembly.model, dataset, assembly.cache, copies=copies)
        assembly.cache.close()


def run_pending(
    options: SearchOptions, pending: Mapping[int, RunConfig], out: Path, journal: Journal, watch: Watch
) -> None:
    """Train what isn't over yet, until it is or the time is spent."""
    here = None if options.at_once is None else options.at_once * options.cpus
    with ray_session(options.address, here):
        from ser_heads.experiments.search.asha import Asha, TrialResources, run_trials

        for name, wanted in (("CPU", options.cpus), ("GPU", options.gpus)):
            most = max(resources(name))
            if wanted > most:
                raise ValueError(f"no trial can have {wanted:g} {name}s: no machine has above {most:g}")
        left = None if options.minutes is None else options.minutes * 60 - ENDING - journal.seconds()
        if left is not None and left <= 0:
            return
        asha = Asha(journal, options.epochs, options.grace, options.reduction)
        means = TrialResources(options.cpus, options.gpus, options.at_once)
        stores = tuple(path.resolve() for path in options.store)
        configs = {number: replace(config, store=stores) for number, config in pending.items()}
        with watch.bar(options.trials, "trials") as bar:
            run_trials(configs, out, asha, means, left, bar)


def summarise(
    drawn: Sequence[OptionValues], planned: Sequence[RunConfig], records: Sequence[TrialRecord]
) -> dict[str, Any]:
    """Every trial, the default and the best one of them, and the command that trains as it was trained.

    Raises ValueError if no trial has a score.
    """
    if not any(record.rows for record in records):
        why = next(
            (record.why for record in records if record.why), "the time was spent before the first epoch"
        )
        raise ValueError(f"none of {len(planned)} trials has a score: {why}")
    trials = [
        row_of_trial(number, values, record)
        for number, (values, record) in enumerate(zip(drawn, records, strict=True))
    ]
    best = max((trial for trial in trials if trial["epochs"]), key=lambda trial: trial["uar"])
    default = trials[0]
    states = [trial["state"] for trial in trials]
    return {
        "n_trials": len(trials),
        **{f"n_{state}": states.count(state) for state in ENDS},
        "n_lost": sum(trial["lost"] for trial in trials),
        "default": default,
        "best": best,
        "gain": best["uar"] - default["uar"] if default["epochs"] else None,
        "command": command_of(planned[best["trial"]]),
        "trials": trials,
    }


def row_of_trial(number: int, values: OptionValues, record: TrialRecord) -> dict[str, Any]:
    """A trial. state : finished, stopped (by ASHA), failed, or unfinished when the time was spent
    uar : mean of five epochs' validation UAR, at the best of them; lost : how often its process was"""
    return {
        "trial": number,
        "state": record.ended or "unfinished",
        "why": record.why,
        "epochs": len(record.rows),
        "uar": record.uar if record.rows else None,
        "seconds": record.rows[-1]["seconds"] if record.rows else 0.0,
        "lost": record.retries,
        "options": {option: plain(value) for option, value in values.items()},
    }
