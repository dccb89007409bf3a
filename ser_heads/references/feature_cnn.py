"""The FIN publication's classifier: outputs averaged over time, and a stack of convolutions over them.

The 162 averages → batch norm → convolutions of 8 taps: 256, 256, batch norm, dropout, max pool 8, four of
128, batch norm, dropout, max pool 8, two of 64 → 8 logits. On closed forms it is the publication's baseline;
on FINs, frozen and then tuned, its proposal.
"""

from __future__ import annotations

from torch import Generator, Tensor, nn

from fins.store import EMOTIONS
from ser_heads.attention import mask_until
from ser_heads.augmentation import Augmentation
from ser_heads.data import Batch
from ser_heads.fin_branch import FinBranch

DROPOUT = 0.25
POOL = 8


class FeatureCnn(nn.Module):
    """A batch of utterances → (batch, 8) logits, in the order of EMOTIONS.

    fins : a branch of FINs; None for closed forms, which then are the outputs of each batch
    n_outputs : of the closed forms
    """

    def __init__(self, fins: FinBranch | None, n_outputs: int) -> None:
        super().__init__()
        self.fins, self.wavelets = fins, None
        n_outputs = fins.n_outputs if fins is not None else n_outputs
        n_left = max(1, n_outputs // POOL)  # after the first pool
        self.norm = nn.BatchNorm1d(n_outputs)
        self.layers = nn.Sequential(
            *convolutions(1, 256, 2),
            nn.BatchNorm1d(256),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(min(POOL, n_outputs)),
            *convolutions(256, 128, 4),
            nn.BatchNorm1d(128),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(min(POOL, n_left)),
            *convolutions(128, 64, 2),
            nn.Flatten(),
        )
        self.logits = nn.Linear(64 * max(1, n_left // POOL), len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits and targets, (batch, 8) each; averages leave nothing for an augmentation of frames to do."""
        outputs = batch.outputs
        if outputs is None:
            assert self.fins is not None and batch.signal is not None
            outputs = self.fins(batch.signal, batch.n_samples)
        there = mask_until(batch.n_frames, outputs.shape[1])[..., None]
        averages = (outputs * there).sum(dim=1) / batch.n_frames[:, None]
        targets = nn.functional.one_hot(batch.emotion, len(EMOTIONS)).float()
        return self.logits(self.layers(self.norm(averages)[:, None])), targets

    @property
    def hears_closed_forms(self) -> bool:
        """Whether each batch brings the closed forms; else it computes FINs from the signal."""
        return self.fins is None

    def penalty(self) -> Tensor | None:
        return None


def convolutions(n_inputs: int, n_channels: int, n_layers: int) -> list[nn.Module]:
    """Layers of 8 taps that keep the length, each with its ReLU."""
    layers: list[nn.Module] = []
    for number in range(n_layers):
        layers += [
            nn.ConstantPad1d((3, 4), 0.0),
            nn.Conv1d(n_inputs if number == 0 else n_channels, n_channels, 8),
            nn.ReLU(),
        ]
    return layers
