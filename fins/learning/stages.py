"""Learning a closed form from noise, stage by stage: each imitates the next of its intermediate quantities.

A linear layer that is shown normal numbers is perfectly conditioned: it learns its exact weights, whatever
they were at the start, and so what the feature is instead of what some corpus sounds like.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from fins.networks.compact import CompactFin, Stage
from fins.networks.spectral import MelFin, prune
from fins.progress import Bar, Watch

BETAS = (0.9, 0.99)  # of Adam
CHECKED = 1024  # fresh excitations on which a stage's error is measured
SHARE = 2 / 3  # of the time that is left, which one stage may use where time is short


@dataclass(frozen=True)
class StageResult:
    """How a stage went; error : squared error on fresh excitations as a share of the squared target."""

    name: str
    n_steps: int
    seconds: float
    error: float


@dataclass(frozen=True)
class StageStep:
    """One row of the history of a FIN that learns from noise."""

    stage: str
    step: int
    loss: float


StepRecord = Callable[[Stage, int, float], object]  # the stage, its steps so far, the last loss


class StageHistory:
    """Keeps what a curve of each stage needs, and shows a bar for each."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.steps: list[StageStep] = []
        self._bars = ExitStack()
        self._bar: Bar | None = None
        self._shown = 0

    def __call__(self, stage: Stage, step: int, loss: float) -> None:
        if step == 1:
            self._bars.close()
            self._bar = self._bars.enter_context(self.watch.bar(stage.n_steps, "steps", stage.name))
            self._shown = 0
        if self._bar is not None and (step % 10 == 0 or step in (1, stage.n_steps)):
            self.steps.append(StageStep(stage.name, step, loss))
            self._bar.describe(f"{stage.name}, error {loss:.1e}")
            self._bar.update(step - self._shown)
            self._shown = step

    def __enter__(self) -> StageHistory:
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.close()


def learn(
    stages: Sequence[Stage], seed: int, record: StepRecord | None = None, seconds: float | None = None
) -> list[StageResult]:
    """Go through the stages, on the CPU; the same seed gives the same weights.

    record : called after each step
    seconds : that all may take, or None. Where that is too little, the rates fall faster and the errors stay
        larger. Raises ValueError if a stage ends in no finite number.
    """
    started = time.monotonic()
    results = []
    for place, stage in enumerate(stages):
        left = None if seconds is None else seconds - (time.monotonic() - started)
        if left is not None and place < len(stages) - 1:
            left *= SHARE
        # apart from the generator of the same seed that drew the weights
        noise = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        results.append(_learn(stage, torch.Generator().manual_seed(noise), record, left))
    return results


def learn_and_prune(
    fin: CompactFin, seed: int, record: StepRecord | None = None, seconds: float | None = None
) -> list[StageResult]:
    """Go through the stages of a FIN; one whose topology is pruned is pruned then, and fitted once more."""
    started = time.monotonic()
    fin.to("cpu")  # noise is cheap there, and the same on every machine
    if fin.config.topology != "pruned":
        return learn(fin.stages(), seed, record, seconds)
    assert isinstance(fin, MelFin)
    results = learn(fin.stages(), seed, record, None if seconds is None else SHARE * seconds)
    prune(fin)
    left = None if seconds is None else seconds - (time.monotonic() - started)
    return results + learn([fin.bands_stage()], seed + 1, record, left)


def _learn(
    stage: Stage, generator: Generator, record: StepRecord | None, seconds: float | None
) -> StageResult:
    started = time.monotonic()
    optimizer = torch.optim.Adam(stage.parameters, lr=stage.learning_rate, betas=BETAS, fused=True)
    step, gone = 0, 0.0  # gone : the share of this stage that is over
    while gone < 1:
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * (1 + math.cos(math.pi * gone)) / 2
        loss = _step(stage, optimizer, generator)
        step += 1
        gone = step / stage.n_steps
        if seconds is not None:
            gone = max(gone, (time.monotonic() - started) / max(seconds, 1e-3))
        if record is not None:
            record(stage, step, loss)
    stage.finish()
    for parameter in stage.parameters:
        parameter.grad = None
    with torch.no_grad():
        excitation = stage.excite(CHECKED, generator)
        target = stage.target(excitation)
        error = float((stage.imitate(excitation) - target).square().sum() / target.square().sum())
    if not error < float("inf"):
        raise ValueError(f"the stage {stage.name} diverged: try another --seed")
    return StageResult(stage.name, step, time.monotonic() - started, error)


def _step(stage: Stage, optimizer: torch.optim.Optimizer, generator: Generator) -> float:
    """One step of Adam on fresh excitations; returns the loss before it."""
    excitation = stage.excite(stage.batch_size, generator)
    loss = (stage.imitate(excitation) - stage.target(excitation)).square().mean()
    gradients = torch.autograd.grad(loss, list(stage.parameters))
    for parameter, gradient in zip(stage.parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    stage.after_step()
    return float(loss.detach())
