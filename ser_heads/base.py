"""What training, evaluation and files ask of every model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from fins.networks import count_parameters
from ser_heads.augmentation import Augmentation
from ser_heads.data import Batch, UtteranceTable
from ser_heads.fin_branch import FinBranch
from ser_heads.kept import Progress

if TYPE_CHECKING:
    from ser_heads.training import Feed, Options

CALIBRATION = 200  # training utterances of which scales are taken, at least, if there are so many
Frames = NDArray[np.float32]  # (time, n)
Inputs = Callable[[int, int], Frames]  # (utterance, number of its copy) → what it is for a model


@dataclass(frozen=True)
class Fit:
    """What came of trying several machines.

    rows : what was tried, dataclasses of one kind, in their order; best : kind of machine → the best row
    tensors : kind of machine → those of the best; kept : the kind that validated best, which the model is now
    stopped : converged, or minutes if the time was spent before all were tried
    """

    rows: Sequence[Any]
    best: Mapping[str, Any]
    tensors: Mapping[str, dict[str, Tensor]]
    kept: str
    stopped: str


class UtteranceModel(nn.Module):
    """A batch of utterances → (batch, 8) logits, in the order of EMOTIONS, and the targets of these.

    fins : what a first phase keeps frozen and a second one finetunes; None where there is no such thing
    whole : hears utterances with the quiet at both ends, and is trained on all of each
    by_gradient : learns in epochs; else `fit` is all of its training
    """

    whole = True
    by_gradient = True

    def __init__(self, fins: FinBranch | None = None) -> None:
        super().__init__()
        self.fins = fins

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """augmentation : of training utterances, drawn from the generator; a model may know none"""
        raise NotImplementedError

    def has_learning_fins(self) -> bool:
        """Whether a second phase has any to finetune: closed forms in their places learn nothing."""
        return self.fins is not None and any(True for _ in self.fins.parameters())

    def inputs(self, table: UtteranceTable) -> Inputs | None:
        """What a batch brings as `inputs`, where a model doesn't make it of the waveforms by itself."""
        return None

    def prepare(self, table: UtteranceTable, progress: Progress) -> None:
        """Make what `inputs` reads from files beside the stores, where it isn't there yet."""

    def hears_signal(self, frozen: bool) -> bool:
        """Whether a batch brings waveforms; frozen : it brings the outputs of frozen FINs."""
        return True

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        """Set scales to those of training utterances, as they were recorded; before any training."""

    def fit(
        self,
        feed: Feed,
        parts: Mapping[str, NDArray[np.int64]],
        options: Options,
        seconds: float | None = None,
        progress: Callable[[int, int], object] = lambda done, n: None,
    ) -> Fit:
        """Learn from the training part, and choose by the validation part, of a model that isn't trained by
        gradient.

        seconds : budget; progress : called with how many machines were tried, and how many there are
        """
        raise NotImplementedError

    def n_learned(self) -> int:
        """How many numbers are learned."""
        return count_parameters(self)

    def penalty(self) -> Tensor | None:
        """How far something is from where it should be, which training may hold against it."""
        return None


def spread_over(utterances: NDArray[np.int64], most: int = CALIBRATION) -> NDArray[np.int64]:
    """About so many of them, evenly."""
    return utterances[:: max(1, len(utterances) // most)]
