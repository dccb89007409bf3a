"""What every FIN is: a window → a feature in its own unit, and what it is built again from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fins.audio import WINDOW

Topology = Literal["compact", "pruned", "paper"]


@dataclass(frozen=True)
class FinConfig:
    """What a FIN is built from; saved beside its weights, and with them enough to build it again.

    feature : a name of FEATURES, or package.module:function
    topology : compact; compact less the weights that ended at zero (pruned); or as published (paper)
    n_outputs : of the feature; None asks the feature, which imports one's own closed form
    """

    feature: str
    topology: Topology = "compact"
    n_outputs: int | None = None


class Fin(nn.Module):
    """(batch, 2048) float32 at 22,050 Hz, amplitude in [-1, 1] → (batch, n_outputs) in the feature's unit.

    Raises ValueError for windows of another length.
    """

    config: FinConfig

    def forward(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Multiplications that one window takes, each with its addition."""
        raise NotImplementedError


def check_windows(windows: Tensor) -> None:
    """ValueError for anything but (batch, 2048)."""
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(
            f"windows have the shape (batch, {WINDOW}), got {tuple(windows.shape)}: "
            "cut the signal with audio.cut_windows"
        )


def refuse_other_types(module: nn.Module) -> None:
    """ValueError for weights of another type than float32: half of its digits would drown quiet bands."""
    for parameter in module.parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"these networks compute in float32, and here is {parameter.dtype}: load it again"
            )


def count_parameters(module: nn.Module) -> int:
    """How many numbers are learned; buffers don't count."""
    return sum(parameter.numel() for parameter in module.parameters())
