"""Learning a closed form from noise, stage by stage: each imitates the next of its intermediate quantities.

A linear layer that is shown normal numbers is perfectly conditioned: it learns its exact weights, whatever
they were at the start, and so what the feature is instead of what some corpus sounds like.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

BETAS = (0.9, 0.99)  # of Adam
CHECKED = 1024  # fresh excitations on which a stage's error is measured
SHARE = 2 / 3  # of the time that is left, which one stage may use where time is short


def nothing() -> None:
    """What most stages do after a step."""


@dataclass(frozen=True)
class Stage:
    """What is learned next, from what, and for how long.

    name : of the quantity that is imitated
    parameters : that are learned; all others stand still
    excite : (n, generator) → n excitations, drawn at random
    imitate, target : excitations → the quantity, by the network and by the closed form, of the same shape and
        scaled to about one
    n_steps, batch_size, learning_rate : of Adam, its rate falling to 0 along half a cosine
    after_step : holds parameters where they belong; finish : the same once, at the end
    """

    name: str
    parameters: Sequence[nn.Parameter]
    excite: Callable[[int, Generator], Tensor]
    imitate: Callable[[Tensor], Tensor]
    target: Callable[[Tensor], Tensor]
    n_steps: int
    batch_size: int
    learning_rate: float
    after_step: Callable[[], None] = nothing
    finish: Callable[[], None] = nothing


@dataclass(frozen=True)
class Learned:
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


Progress = Callable[[Stage, int, float], None]  # the stage, its steps so far, the last loss


def learn(
    stages: Sequence[Stage], seed: int, progress: Progress, seconds: float | None = None
) -> list[Learned]:
    """Go through the stages, on the CPU; the same seed gives the same weights.

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
        results.append(_learn(stage, torch.Generator().manual_seed(noise), progress, left))
    return results


def _learn(stage: Stage, generator: Generator, progress: Progress, seconds: float | None) -> Learned:
    started = time.monotonic()
    optimizer = torch.optim.Adam(stage.parameters, lr=stage.learning_rate, betas=BETAS, fused=True)
    step, gone = 0, 0.0  # gone : the share of this stage that is over
    while gone < 1:
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * (1 + math.cos(math.pi * gone)) / 2
        excitation = stage.excite(stage.batch_size, generator)
        loss = (stage.imitate(excitation) - stage.target(excitation)).square().mean()
        gradients = torch.autograd.grad(loss, list(stage.parameters))
        for parameter, gradient in zip(stage.parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        stage.after_step()
        step += 1
        gone = step / stage.n_steps
        if seconds is not None:
            gone = max(gone, (time.monotonic() - started) / max(seconds, 1e-3))
        progress(stage, step, float(loss.detach()))
    stage.finish()
    for parameter in stage.parameters:
        parameter.grad = None
    with torch.no_grad():
        excitation = stage.excite(CHECKED, generator)
        target = stage.target(excitation)
        error = float((stage.imitate(excitation) - target).square().sum() / target.square().sum())
    if not error < float("inf"):
        raise ValueError(f"the stage {stage.name} diverged: try another --seed")
    return Learned(stage.name, step, time.monotonic() - started, error)
