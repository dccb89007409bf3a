"""A search's trials: training one on the train and validation parts, and the journal of what all reported."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fins.command import sentence_of
from fins.data.table import UtteranceTable
from fins.disk import append_line, is_full, says_full
from fins.progress import SILENT
from fins.runs import CHECKPOINT
from ser_heads.experiments.assembly import assemble
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.learning import trainer_of
from ser_heads.training.schedule import recent_means
from ser_heads.training.state import TrainingState
from ser_heads.training.trainer import Trainer

JOURNAL, FOLDER = "journal.jsonl", "trials"
KEYS = ("epoch", "uar", "validation_uar", "validation_loss", "train_loss", "seconds")
Row = dict[str, Any]
Report = Callable[[Row], None]


def train_trial(
    config: RunConfig, checkpoint: Path, report: Report, device: torch.device, n_threads: int = 1
) -> None:
    """Train to the last epoch, from the start or from the checkpoint, on the train and validation parts.

    report : called with a row after each epoch, and first with those of the epochs in the checkpoint
    What makes training impossible, as a loss that is no number or a full disk, is reported: as an error it
    would be tried again, to the same end.
    """
    torch.set_num_threads(n_threads)
    try:
        with UtteranceTable(config.store) as table:
            trainer = start_trainer(config, table, checkpoint, device)
            for epoch in range(1, len(trainer.state.history) + 1):
                report(row_of_epoch(trainer.state, epoch))
            if not trainer.state.done:
                trainer.run(lambda state: report(row_of_epoch(state, len(state.history))))
    except ValueError as error:
        report({"failed": sentence_of(error)})
    except OSError as error:
        if not is_full(error):
            raise
        report({"full": sentence_of(error)})


def start_trainer(
    config: RunConfig, table: UtteranceTable, checkpoint: Path, device: torch.device
) -> Trainer:
    """As pipelines.train starts, with the same numbers; but the test part stays out."""
    assembly = replace(assemble(config, table), device=device)
    return trainer_of(assembly, checkpoint, SILENT, time.monotonic())


def row_of_epoch(state: TrainingState, epoch: int) -> Row:
    """What is reported of an epoch: KEYS, and whether it was the last.

    uar : mean validation UAR of five epochs, at the best of them so far, by which training keeps an epoch
    """
    last = state.history[epoch - 1]
    uars = [earlier.validation_uar for earlier in state.history[:epoch]]
    return {
        "epoch": epoch,
        "uar": max(recent_means(uars)),
        "validation_uar": last.validation_uar,
        "validation_loss": last.validation_loss,
        "train_loss": last.train_loss,
        "seconds": last.seconds,
        "last": state.done and epoch == len(state.history),
    }


@dataclass
class TrialRecord:
    """What a journal holds of one trial.

    rows : of its epochs; ended : finished, stopped (by ASHA) or failed, and why; empty while it goes on
    retries : how often its process was lost
    """

    rows: list[Row] = field(default_factory=list)
    ended: str = ""
    why: str = ""
    retries: int = 0

    @property
    def uar(self) -> float:
        """Of its last epoch, or NaN."""
        return self.rows[-1]["uar"] if self.rows else float("nan")


class Journal:
    """Every epoch of every trial in the order in which it was reported, a line of JSON each: all that an
    unfinished search needs to go on."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that a kill cut short is taken away."""
        self.path = path
        self.lines: list[Row] = []
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
        self.full = ""  # what the first trial says that had no room on the disk, in this try
        self.trials: dict[int, TrialRecord] = {}
        try:
            self.lines = [json.loads(line) for line in whole.decode("utf-8").splitlines()]
            for line in self.lines:
                _check_line(line)
                self._take(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: delete the folder to search again") from error
        self.before, self.started = max((line["at"] for line in self.lines), default=0.0), time.monotonic()

    def write(self, number: int, row: Row) -> None:
        """Add a line on a trial, with the time, and take it in."""
        line = {"trial": number, **row, "at": round(self.seconds(), 1)}
        append_line(self.path, json.dumps(line, allow_nan=False))
        self.lines.append(line)
        self._take(line)

    def record(self, number: int) -> TrialRecord:
        """Of a trial, which may not have begun."""
        return self.trials.setdefault(number, TrialRecord())

    def n_ended(self) -> int:
        """How many trials are over."""
        return sum(bool(record.ended) for record in self.trials.values())

    def seconds(self) -> float:
        """That the search has taken so far, in all tries."""
        return self.before + time.monotonic() - self.started

    def _take(self, line: Mapping[str, Any]) -> None:
        record = self.record(line["trial"])
        if "epoch" in line:
            record.rows.append(dict(line))
        record.retries += line.get("lost", False)
        if "ended" in line and not says_full(line.get("why", "")):  # such a trial goes on once there is room
            record.ended, record.why = line["ended"], line.get("why", "")


def _check_line(line: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError for what is no line of a journal."""
    numbers = [line["at"], *(line[name] for name in ("epoch", "uar", "loss") if name in line)]
    if not isinstance(line["trial"], int) or not all(isinstance(value, int | float) for value in numbers):
        raise TypeError("no numbers")
    if "epoch" in line and "uar" not in line:
        raise KeyError("uar")
    if not all(isinstance(line.get(name, ""), str) for name in ("ended", "why")):
        raise TypeError("no words")
    if not isinstance(line.get("lost", False), bool | int):
        raise TypeError("no count")


def checkpoint_of(out: Path, number: int) -> Path:
    """Where a trial's state is; its folder is made."""
    folder = out / FOLDER / f"{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / CHECKPOINT


def forget_ended(out: Path, journal: Journal) -> None:
    """Remove the states of trials that are over; those that ran out of time can still go on."""
    for number, record in journal.trials.items():
        if record.ended:
            shutil.rmtree(out / FOLDER / f"{number:04d}", ignore_errors=True)
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()
