"""Where a training in phases is: its history, and what is saved of it beside the tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["frozen", "finetuned"]
Stop = Literal["", "converged", "epochs", "minutes"]


@dataclass(frozen=True)
class SerEpoch:
    """One row of a history."""

    epoch: int
    phase: Phase
    seconds: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_uar: float


@dataclass
class TrainingState:
    """Where training is, beside the tensors; saved and loaded as JSON."""

    phase: Phase = "frozen"
    epoch: int = 0  # of this phase, under way
    n_steps: int = 0  # of both phases
    seconds: float = 0.0  # spent in all tries
    phase_seconds: float = 0.0  # of them in this phase
    best_uar: float = -1.0  # mean of recent epochs, at the best of them
    best_loss: float = math.inf
    best_epoch: int = 0  # over both phases, as in the history
    since_best: int = 0
    stopped: Stop = ""  # why this phase ended
    done: bool = False
    history: list[SerEpoch] = field(default_factory=list)
