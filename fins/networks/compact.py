"""What compact FINs share: networks that can hold a closed form and learn it from random weights, from noise.

Every weight is learned and stays trainable; gradients are finite on any window, silence included. What each
choice is worth is measured by benchmarks/choices.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from fins.features import FEATURES
from fins.networks.fin import Fin, FinConfig, check_windows
from fins.networks.fourier import CHUNK

FAINTEST = 1e-30  # a divisor and an energy never get smaller, so that gradients stay finite


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


class CompactFin(Fin):
    """A network made for one of the FEATURES, which learns it from noise.

    feature : its name
    """

    feature: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        _widen_heap()
        self.config = FinConfig(self.feature, "compact", FEATURES[self.feature].n_outputs)

    def forward(self, windows: Tensor) -> Tensor:
        check_windows(windows)
        # an exported network takes any batch, so none of its branches may depend on the batch
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or windows.shape[0] <= CHUNK:
            return self.imitate(windows)
        return torch.cat([self.imitate(chunk) for chunk in windows.split(CHUNK)])

    def imitate(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def stages(self) -> list[Stage]:
        """How it is learned."""
        raise NotImplementedError


@cache
def _widen_heap() -> None:
    """Take a block of 31 MiB, don't touch it and give it back, once: from then on glibc keeps as much for the
    layers, instead of returning it to the system after each and getting it again page by page, at half of the
    speed."""
    torch.empty(31 << 20, dtype=torch.uint8)


def normal_vectors(length: int) -> Callable[[int, Generator], Tensor]:
    """Excitations of (n, length) normal numbers."""
    return lambda n, generator: torch.randn(n, length, generator=generator)


def mean_stage(name: str, weights: nn.Parameter, n: int) -> Stage:
    """Weights of a sum of n numbers over a window; normal numbers stand for them."""
    return Stage(
        name,
        [weights],
        excite=normal_vectors(n),
        imitate=lambda vectors: vectors @ weights / n**0.5,
        target=lambda vectors: vectors.sum(dim=1) / n**0.5,
        n_steps=1000,
        batch_size=256,
        learning_rate=1e-2,
    )
