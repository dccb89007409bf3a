"""How training steps: rates over a phase, the average of weights, budgets of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ser_heads.frontends import FrontEnd
from ser_heads.training.recipe import Recipe

WARM_UP = 0.15  # share of a phase in which the rate rises; then it falls to zero along a cosine
AVERAGING = 0.99  # of the weights that are validated, tested and kept: a moving average over steps
RECENT = 5  # epochs whose UAR together says how good the last one is: of few speakers a single one is chance


@dataclass(frozen=True)
class TimeBudget:
    """What training may take.

    seconds : of training and of all that follows it, from now on
    ending : seconds that files and pictures take afterwards; n_scored : recordings that are scored then,
        which take as long as those of a validation
    """

    seconds: float
    ending: float = 0.0
    n_scored: int = 0


def constrain(model: nn.Module) -> None:
    """After a step: whatever has bounds goes back into them."""
    for module in model.modules():
        bounds = getattr(module, "constrain", None)
        if bounds is not None:
            bounds()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the machine has instructions for products of bfloat16, which make steps faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases have none
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def recent_means(uars: Sequence[float]) -> list[float]:
    """Of each epoch: the mean of its UAR and those of the four before it, by which an epoch is chosen."""
    return [float(np.mean(uars[max(0, end - RECENT) : end])) for end in range(1, len(uars) + 1)]


def averaging(n_steps: int) -> float:
    """What the average keeps of itself at a step: less in the first ones, whose weights are still random."""
    return min(AVERAGING, n_steps / (n_steps + 9))


def optimizer_of(name: str, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """adamw, adam, or sgd with Nesterov's momentum of 0.9."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(groups, lr=rate)


def rate_factor(share: float) -> float:
    """Of the highest rate, after a share (0 to 1) of a phase: up along a cosine, then down to 0."""
    if share < WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / WARM_UP)) / 2
    return (1 + math.cos(math.pi * min(1.0, (share - WARM_UP) / (1 - WARM_UP)))) / 2


def learning_late(frontend: FrontEnd, recipe: Recipe) -> list[nn.Parameter]:
    """What of a front end's pretrained weights learns in the second phase."""
    fins = frontend.pretrained() if recipe.fin_tuning == "all" else frontend.band_weights()
    return [*frontend.kernels(), *(fins if recipe.fin_rate else ())]


class LogarithmicSteps:
    """Steps of weights at or above 0 in their logarithm: each is multiplied by a factor, and zeros stay.

    exponents : what an optimizer steps in place of the weights, 0 before each of its steps
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = list(weights)
        self.exponents = [nn.Parameter(torch.zeros_like(weight)) for weight in self.weights]

    def before(self) -> None:
        """Gradients of the exponents, from those of the weights, which get none."""
        for weight, exponent in zip(self.weights, self.exponents, strict=True):
            exponent.grad = None if weight.grad is None else weight.grad * weight.detach()
            weight.grad = None

    @torch.no_grad()
    def after(self) -> None:
        """The factors go into the weights."""
        for weight, exponent in zip(self.weights, self.exponents, strict=True):
            weight.mul_(exponent.exp())
            exponent.zero_()
