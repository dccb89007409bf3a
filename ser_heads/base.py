"""What training, evaluation and files ask of every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from ser_heads.augmentation import Augmentation
from ser_heads.data import Batch, UtteranceTable
from ser_heads.fin_branch import FinBranch

if TYPE_CHECKING:
    from ser_heads.training import Feed

Frames = NDArray[np.float32]  # (time, n)
Inputs = Callable[[int, int], Frames]  # (utterance, number of its copy) → what it is for a model


class UtteranceModel(nn.Module):
    """A batch of utterances → (batch, 8) logits, in the order of EMOTIONS, and the targets of these.

    fins : what a first phase keeps frozen and a second one finetunes; None where there is no such thing
    whole : hears utterances with the quiet at both ends, and is trained on all of each
    """

    whole = True

    def __init__(self, fins: FinBranch | None = None) -> None:
        super().__init__()
        self.fins = fins

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """augmentation : of training utterances, drawn from the generator; a model may know none"""
        raise NotImplementedError

    def inputs(self, table: UtteranceTable) -> Inputs | None:
        """What a batch brings as `inputs`, where a model doesn't make it of the waveforms by itself."""
        return None

    def hears_signal(self, frozen: bool) -> bool:
        """Whether a batch brings waveforms; frozen : it brings the outputs of frozen FINs."""
        return True

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        """Set scales to those of training utterances, as they were recorded; before any training."""

    def penalty(self) -> Tensor | None:
        """How far something is from where it should be, which training may hold against it."""
        return None


def spread_over(utterances: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """About so many of them, evenly."""
    return utterances[:: max(1, len(utterances) // most)]
