"""A search's trials: training one on the train and validation parts, and the journal of what all said."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fins.command import sentence_of
from pipelines.train import CHECKPOINT, TrainConfig, divide, part_of
from ser_heads.base import UtteranceModel
from ser_heads.data import UtteranceTable
from ser_heads.fin_branch import FrozenOutputs
from ser_heads.kept import Progress, ignore
from ser_heads.models import ModelConfig, build_model
from ser_heads.training import Feed, Options, State, Training, recent_means

JOURNAL, FOLDER = "journal.jsonl", "trials"
KEYS = ("epoch", "uar", "validation_uar", "validation_loss", "train_loss", "seconds")
Row = dict[str, Any]
Report = Callable[[Row], None]


def train_trial(
    config: TrainConfig, checkpoint: Path, report: Report, device: torch.device, n_threads: int = 1
) -> None:
    """Train to the last epoch, from the start or from the checkpoint, on the train and validation parts.

    report : called with a row after each epoch, and first with those of the epochs in the checkpoint
    What makes training impossible, as a loss that is no number, is reported: as an error it would be tried
    again, to the same end.
    """
    torch.set_num_threads(n_threads)
    try:
        training = begin_training(config, checkpoint, device)
        for epoch in range(1, len(training.state.history) + 1):
            report(row_of(training.state, epoch))
        if not training.state.done:
            training.run(lambda state, done, n: None, lambda state: report(row_of(state, len(state.history))))
    except ValueError as error:
        report({"failed": sentence_of(error)})


def begin_training(config: TrainConfig, checkpoint: Path, device: torch.device) -> Training:
    """As pipelines.train begins, with the same numbers; but the test part stays out."""
    torch.manual_seed(config.seed)
    model, _ = build_model(part_of(config, ModelConfig))
    table = UtteranceTable(config.store, trimmed=not model.whole)
    parts = divide(table, config)
    del parts["test"]
    frozen = keep_inputs(model, table, config.copies, ignore)
    if not checkpoint.exists():
        model.calibrate(Feed(model, table, frozen), parts["train"])
    return Training(model, table, parts, part_of(config, Options), frozen, checkpoint, device, config.seed)


def keep_inputs(
    model: UtteranceModel, table: UtteranceTable, n_copies: int, progress: Progress
) -> FrozenOutputs | None:
    """What is made of recordings once and kept beside the stores: what the model hears, and its FINs."""
    model.prepare(table, progress)
    return FrozenOutputs(model.fins, table, n_copies, progress) if model.fins is not None else None


def row_of(state: State, epoch: int) -> Row:
    """What is told of an epoch: KEYS, and whether it was the last.

    uar : mean validation UAR of five epochs, at the best of them so far, by which training keeps an epoch
    """
    row = state.history[epoch - 1]
    uars = [its.validation_uar for its in state.history[:epoch]]
    return {
        "epoch": epoch,
        "uar": max(recent_means(uars)),
        "validation_uar": row.validation_uar,
        "validation_loss": row.validation_loss,
        "train_loss": row.train_loss,
        "seconds": row.seconds,
        "last": state.done and epoch == len(state.history),
    }


@dataclass
class Told:
    """What a journal says of one trial.

    rows : of its epochs; ended : finished, stopped (by ASHA) or failed, and why; empty while it goes on
    retries : how often its process was lost
    """

    rows: list[Row] = field(default_factory=list)
    ended: str = ""
    why: str = ""
    retries: int = 0

    @property
    def uar(self) -> float:
        return self.rows[-1]["uar"] if self.rows else float("nan")


class Journal:
    """Every epoch of every trial in the order in which it was heard, a line of JSON each: all that an
    unfinished search needs to go on."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that a kill cut short is taken away."""
        self.path = path
        self.lines: list[Row] = []
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        try:
            self.lines = [json.loads(line) for line in whole.splitlines()]
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is damaged: delete the folder to search again") from error
        self.trials: dict[int, Told] = {}
        for line in self.lines:
            self._take(line)
        self.before, self.started = max((line["at"] for line in self.lines), default=0.0), time.monotonic()

    def write(self, number: int, row: Row) -> None:
        """Add a line on a trial, with the time, and take it in."""
        line = {"trial": number, **row, "at": round(self.seconds(), 1)}
        with self.path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.lines.append(line)
        self._take(line)

    def told(self, number: int) -> Told:
        return self.trials.setdefault(number, Told())

    def n_ended(self) -> int:
        return sum(bool(told.ended) for told in self.trials.values())

    def seconds(self) -> float:
        """That the search has taken so far, in all tries."""
        return self.before + time.monotonic() - self.started

    def _take(self, line: Mapping[str, Any]) -> None:
        told = self.told(line["trial"])
        if "epoch" in line:
            told.rows.append(dict(line))
        told.retries += line.get("lost", False)
        told.ended, told.why = line.get("ended", told.ended), line.get("why", told.why)


def checkpoint_of(out: Path, number: int) -> Path:
    """Where a trial's state is; its folder is made."""
    folder = out / FOLDER / f"{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / CHECKPOINT


def forget_ended(out: Path, journal: Journal) -> None:
    """Remove the states of trials that are over; those that ran out of time can still go on."""
    for number, told in journal.trials.items():
        if told.ended:
            shutil.rmtree(out / FOLDER / f"{number:04d}", ignore_errors=True)
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()
