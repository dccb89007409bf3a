"""The FIN publication's classifier: features averaged over time, and a stack of convolutions over them.

The 162 averages → batch norm → convolutions of 8 taps: 256, 256, batch norm, dropout, max pool 8, four of
128, batch norm, dropout, max pool 8, two of 64 → 8 logits. On closed forms it is the publication's baseline;
on FINs, frozen and then tuned, its proposal. Each of the five features can be the one or the other.

It hears whole utterances, where the publication took 2.5 s from 0.6 s on (`pipelines.prepare --clip
0.6:3.1`), keeps the best epoch in place of the last one, and tunes FINs for as long and at the rate that
`fin` does, which the publication leaves open.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from fins.features import FEATURES
from fins.store import EMOTIONS
from ser_heads.attention import mask_until
from ser_heads.augmentation import Augmentation
from ser_heads.base import Inputs, UtteranceModel
from ser_heads.data import Batch, ClosedForms, UtteranceTable
from ser_heads.fin_branch import FinBranch

SETTINGS = {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "copies": 0}
SETTINGS |= {"class_weights": 0.0, "label_smoothing": 0.0}
DROPOUT = 0.25
POOL = 8


class FeatureCnn(UtteranceModel):
    """Averages of features over an utterance → logits.

    fins : FINs of the features that are imitated, or None; the others of the five are closed forms
    """

    def __init__(self, fins: FinBranch | None) -> None:
        super().__init__(fins)
        imitated = fins.slices if fins is not None else {}
        self.computed = tuple(name for name in FEATURES if name not in imitated)
        n_outputs = sum(FEATURES[name].n_outputs for name in self.computed)
        n_outputs += fins.n_outputs if fins is not None else 0
        # FINs come first in a batch; the network takes features in their own order, others behind them
        order = [*FEATURES, *(name for name in imitated if name not in FEATURES)]
        places, start = dict(imitated), fins.n_outputs if fins is not None else 0
        for name in self.computed:
            places[name] = slice(start, start + FEATURES[name].n_outputs)
            start += FEATURES[name].n_outputs
        self.order = [place for name in order for place in range(places[name].start, places[name].stop)]
        n_left = n_outputs // POOL  # after the first pool
        self.norm = nn.BatchNorm1d(n_outputs)
        self.layers = nn.Sequential(
            *convolutions(1, 256, 2),
            nn.BatchNorm1d(256),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(POOL),
            *convolutions(256, 128, 4),
            nn.BatchNorm1d(128),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(POOL),
            *convolutions(128, 64, 2),
            nn.Flatten(),
        )
        self.logits = nn.Linear(64 * (n_left // POOL), len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Averages leave nothing for an augmentation of frames to do."""
        parts = []
        if self.fins is not None:
            outputs = batch.outputs
            if outputs is None:
                assert batch.signal is not None
                outputs = self.fins(batch.signal, batch.n_samples)
            parts.append(outputs)
        if batch.inputs is not None:
            parts.append(batch.inputs)
        there = mask_until(batch.n_frames, parts[0].shape[1])[..., None]
        averages = (torch.cat(parts, dim=2) * there).sum(dim=1) / batch.n_frames[:, None]
        return self.logits(self.layers(self.norm(averages[:, self.order])[:, None])), batch.targets()

    def inputs(self, table: UtteranceTable) -> Inputs | None:
        return ClosedForms(table, self.computed) if self.computed else None

    def hears_signal(self, frozen: bool) -> bool:
        return self.fins is not None and not frozen


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
