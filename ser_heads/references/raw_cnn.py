"""A convolutional network on the signal itself, in the manner of Dai and others 2017 (arXiv 1610.00087).

The first 201 hops of 15 ms (3.0 s), with zeros behind where an utterance ends sooner → a convolution of 80
taps and stride 4 → convolutions of 3 taps in four groups, each with batch norm and ReLU, max pool 4 before
each group → average over time → dense, dropout → 8 logits. It is their M11 with half of the channels.

The signal is divided by the deviation of training signals, after their mean is taken away, rather than by its
own: how loud somebody speaks tells emotions apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from fins.audio import SAMPLE_RATE
from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import UtteranceModel, spread_over
from ser_heads.data import Batch

if TYPE_CHECKING:
    from ser_heads.training import Feed

HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_SAMPLES = 201 * HOP  # 66,330, 3.008 s
TAPS, STRIDE = 80, 4  # 3.6 ms and 0.18 ms
POOL = 4
CHANNELS = (32, 32, 64, 128, 256)  # of the first layer and of the groups
GROUPS = (2, 2, 3, 2)  # layers
HIDDEN = 64
DROPOUT = 0.3


class RawCnn(UtteranceModel):
    """Three seconds of signal → logits."""

    mean: Tensor  # () of training samples
    deviation: Tensor  # ()

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        layers = convolution(1, CHANNELS[0], TAPS, STRIDE)
        n_inputs = CHANNELS[0]
        for n_channels, n_layers in zip(CHANNELS[1:], GROUPS, strict=True):
            layers.append(nn.MaxPool1d(POOL))
            for _ in range(n_layers):
                layers += convolution(n_inputs, n_channels, 3)
                n_inputs = n_channels
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(n_inputs, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT)
        )
        self.logits = nn.Linear(HIDDEN, len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augmented are shares of two utterances and runs of samples at zero; a stretch would shift pitch."""
        assert batch.signal is not None
        missing = max(0, N_SAMPLES - batch.signal.shape[1])
        signal = nn.functional.pad(batch.signal[:, :N_SAMPLES], (0, missing))
        signal = (signal - self.mean) / self.deviation  # (batch, sample)
        targets = batch.targets()
        if augmentation is not None:
            assert generator is not None
            n_samples = batch.n_samples.clamp_max(N_SAMPLES)
            signal = augmentation.masked(signal[..., None], n_samples, slice(0, 0), generator)[..., 0]
            share, order = augmentation.shares(len(signal), generator)
            other = order.to(signal.device)
            signal = torch.lerp(signal[other], signal, share)
            targets = torch.lerp(targets[other], targets, share)
        return self.logits(self.dense(self.layers(signal[:, None]).mean(dim=2))), targets

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        signals = [feed.table.signal(int(its))[:N_SAMPLES] for its in spread_over(utterances)]
        together = np.concatenate(signals).astype(np.float64)
        self.mean.fill_(together.mean())
        self.deviation.fill_(max(together.std(), 1e-9))  # of silence nothing is left


def convolution(n_inputs: int, n_channels: int, taps: int, stride: int = 1) -> list[nn.Module]:
    """A layer with its batch norm and its ReLU."""
    return [
        nn.Conv1d(n_inputs, n_channels, taps, stride, padding=taps // 2, bias=False),
        nn.BatchNorm1d(n_channels),
        nn.ReLU(),
    ]
