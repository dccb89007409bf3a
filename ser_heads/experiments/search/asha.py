"""Trials on Ray Tune, the extra `cluster`: which are stopped early (ASHA), and what they report."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.exceptions import ActorDiedError, RayActorError
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from fins.disk import NO_ROOM, says_full
from fins.progress import Bar
from ser_heads.experiments.cluster import RETRIES
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.search.trials import KEYS, Journal, checkpoint_of, train_trial

STORAGE = "ray"  # folder of Ray's own notes, which nothing here reads
DEFAULT = 0  # number of the trial that is never stopped early: what the others are measured by


@dataclass(frozen=True)
class Numbered:
    """What ASHA knows of a trial."""

    trial_id: int


class Asha(ASHAScheduler):
    """Ray's ASHA, which goes on from a journal and writes into it: each epoch that is reported, once, and
    what it decides. The default configuration counts in it and is never stopped.

    The journal stands in place of Tuner.restore, which forgets ASHA's rungs and reads pickles from a folder.
    """

    def __init__(self, journal: Journal, n_epochs: int, grace: int, reduction: int) -> None:
        super().__init__("epoch", "uar", "max", n_epochs, grace, reduction)
        self.journal, self.n_epochs, self.known = journal, n_epochs, set[int]()
        for line in journal.lines:
            if "epoch" in line:
                self.judge(line["trial"], line)

    def judge(self, number: int, row: Mapping[str, Any]) -> bool:
        """Whether a trial is to be stopped early, after an epoch that wasn't reported before."""
        if number not in self.known:
            self.known.add(number)
            super().on_trial_add(None, Numbered(number))
        decision = super().on_trial_result(None, Numbered(number), dict(row))
        return decision == TrialScheduler.STOP and row["epoch"] < self.n_epochs and number != DEFAULT

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        pass

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        record = self.journal.record(number)
        if "full" in result:
            self.journal.full = self.journal.full or result["full"]
            return TrialScheduler.STOP
        if "failed" in result:
            self.journal.write(number, {"ended": "failed", "why": result["failed"]})
        elif not record.ended and result["epoch"] > len(record.rows):
            row = {key: result[key] for key in KEYS}
            last = result["last"] or row["epoch"] >= self.n_epochs
            stopped = self.judge(number, row) and not last
            ended = {"ended": "finished"} if last else {"ended": "stopped"} if stopped else {}
            self.journal.write(number, row | ended)
        return TrialScheduler.STOP if record.ended else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        pass

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        pass


class JournalCallback(tune.Callback):
    """Moves the bar, and writes into the journal which processes were lost."""

    def __init__(self, journal: Journal, bar: Bar | None) -> None:
        self.journal, self.bar, self.n_shown = journal, bar, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "bar": None}  # Ray pickles it, and needs no bar then

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        records = [record for record in self.journal.trials.values() if record.rows]
        if self.bar is not None and records:
            n_epochs, best = (
                sum(len(record.rows) for record in records),
                max(record.uar for record in records),
            )
            self.bar.describe(f"{n_epochs} epochs, best UAR {best:.3f}")
            self.bar.update(self.journal.n_ended() - self.n_shown)
            self.n_shown = self.journal.n_ended()

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.journal.write(trial.config["number"], {"lost": True})

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        text = trial.get_error() or ""
        why = next(
            (line.strip() for line in reversed(text.splitlines()) if line.strip()), "for no known reason"
        )
        if RayActorError.__name__ in text or ActorDiedError.__name__ in text:
            why = f"its process was lost {1 + RETRIES} times, as a rule for want of memory"
        if says_full(text):
            self.journal.full = self.journal.full or f"trial {trial.config['number']}: {NO_ROOM}"
            return
        self.journal.write(trial.config["number"], {"ended": "failed", "why": why})


@dataclass(frozen=True)
class TrialResources:
    """What a trial gets, and how many run at once, at most; None for as many as there are CPUs."""

    cpus: int = 1
    gpus: float = 0.0
    at_once: int | None = None


def run_trials(
    configs: Mapping[int, RunConfig],
    out: Path,
    asha: Asha,
    resources: TrialResources,
    seconds: float | None = None,
    bar: Bar | None = None,
) -> None:
    """Train trials on Ray until each has ended or the time is spent; the journal has all that came of it.

    configs : number of a trial → its options, with stores as every process finds them
    A trial whose process is lost starts again from its last epoch. Raises OSError in one sentence if a disk
    was full: no trial counts as failed then.
    """
    out = out.resolve()

    def trial(parameters: dict[str, Any]) -> None:
        device = torch.device("cuda" if resources.gpus else "cpu")

        number = parameters["number"]
        train_trial(configs[number], checkpoint_of(out, number), tune.report, device, resources.cpus)

    shutil.rmtree(out / STORAGE, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(trial, {"cpu": resources.cpus, "gpu": resources.gpus}),
            param_space={"number": tune.grid_search(sorted(configs))},
            tune_config=tune_config_of(asha, resources, seconds),
            run_config=run_config_of(out, asha.journal, bar),
        ).fit()
    except Exception:  # Ray wraps what its callbacks raise
        if not says_full(traceback.format_exc()):
            raise
        asha.journal.full = asha.journal.full or f"{out}: {NO_ROOM}"
    finally:
        shutil.rmtree(out / STORAGE, ignore_errors=True)
    if asha.journal.full:
        raise OSError(asha.journal.full)


def tune_config_of(asha: Asha, resources: TrialResources, seconds: float | None) -> Any:
    """How Ray plans trials."""
    return tune.TuneConfig(
        scheduler=asha,
        max_concurrent_trials=resources.at_once,
        time_budget_s=seconds,
        trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}",
    )


def run_config_of(out: Path, journal: Journal, bar: Bar | None) -> Any:
    """Where Ray keeps its notes, and how often it tries."""
    return tune.RunConfig(
        name=STORAGE,
        storage_path=str(out),
        failure_config=tune.FailureConfig(max_failures=RETRIES),
        callbacks=[JournalCallback(journal, bar)],
        verbose=0,
    )
