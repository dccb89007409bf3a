"""A published system of learnable wavelet packets, from the waveform to emotions.

A tree of convolutions without padding that starts as db10, with a learnable asymmetric threshold after every
high-pass; over each band convolutions of 128 and 256 filters, spatial attention, recurrent layers in both
directions and temporal attention; the bands' vectors, each with a weight, as the channels of a last
convolution, whose normalised outputs are averaged: 8 logits.

The publication searches depths of 4 to 10, 32 to 128 hidden units and 3 to 9 layers; here it is 5, 32 and 3,
the least but for the depth, because two cores have to train it. Its text has 16 kHz, which is heard here; its
code goes down to 8 kHz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from fins.audio import SAMPLE_RATE
from fins.store import EMOTIONS
from ser_heads.attention import mask_until
from ser_heads.augmentation import Augmentation
from ser_heads.base import Frames, Inputs, UtteranceModel, spread_over
from ser_heads.data import Batch, UtteranceTable
from ser_heads.wavelet_branch import BandNetwork
from ser_heads.wavelet_packet import Sharing, WaveletPacket

if TYPE_CHECKING:
    from ser_heads.training import Feed

SETTINGS = {"wavelet": "db10", "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 1e-6, "copies": 0}
SETTINGS |= {"loss": "focal", "focusing": 2.0, "class_weights": 1.0, "label_smoothing": 0.0, "batch_size": 16}
HEARD = 16_000  # Hz
CHANNELS, N_HIDDEN, N_LAYERS, DROPOUT = (128, 256), 32, 3, 0.2
KERNEL_SIZE = 5  # of the last convolution


class WaveletPacketNet(UtteranceModel):
    """Utterances → logits; samples are standardised by the training part's mean and deviation.

    An utterance too short for one coefficient of each band (37 ms at a depth of 5 with 20 taps) is followed
    by zeros. Padding never changes a result.
    By the last layers, as published, no logit is above .5: shares of emotions stay near each other.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        wavelet: str = "db10",
        depth: int = 5,
        sharing: Sharing = "tree",
        share_bands: bool = True,
        channels: tuple[int, int] = CHANNELS,
        n_hidden: int = N_HIDDEN,
        n_layers: int = N_LAYERS,
    ) -> None:
        super().__init__()
        n_bands = 2**depth
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.packet = WaveletPacket(wavelet, depth, sharing, mode="valid", threshold=True)
        self.networks = nn.ModuleList(
            BandNetwork(channels, n_hidden, n_layers, DROPOUT) for _ in range(1 if share_bands else n_bands)
        )
        self.band_weights = nn.Parameter(torch.ones(n_bands))
        # no bias: the norm would subtract it
        self.last = nn.Conv1d(n_bands, len(EMOTIONS), KERNEL_SIZE, bias=False)

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Training hears utterances as they are."""
        assert batch.inputs is not None
        vectors = self.over_bands(*self.decompose(batch.inputs[..., 0], batch.n_frames))
        with torch.autocast(vectors.device.type, enabled=False):  # logits differ by little
            scores = self.last(vectors.float() * self.band_weights[:, None])  # (batch, emotion, n_hidden - 4)
            return functional.leaky_relu(functional.instance_norm(scores)).mean(dim=2), batch.targets()

    def decompose(self, signal: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n) and (batch,) → (batch, band, coefficient), 0 beyond an utterance's end, and (batch,)."""
        least = self.packet.least_samples()
        there = mask_until(n_samples, signal.shape[1])
        standard = (signal - self.mean) / self.deviation * there
        coefficients = self.packet(functional.pad(standard, (0, max(0, least - signal.shape[1]))))
        counts = [self.packet.count_coefficients(max(least, n)) for n in n_samples.tolist()]
        n_coefficients = torch.tensor(counts, device=signal.device)
        return coefficients * mask_until(n_coefficients, coefficients.shape[2])[:, None], n_coefficients

    def over_bands(self, coefficients: Tensor, n_coefficients: Tensor) -> Tensor:
        """(batch, band, coefficient) → (batch, band, n_hidden)."""
        batch, n_bands, _ = coefficients.shape
        if len(self.networks) == 1:
            folded = coefficients.flatten(0, 1)[:, None]  # (batch · band, 1, coefficient)
            _, vectors = self.networks[0](folded, n_coefficients.repeat_interleave(n_bands))
            return vectors.unflatten(0, (batch, n_bands))
        vectors = [
            network(coefficients[:, [band]], n_coefficients)[1] for band, network in enumerate(self.networks)
        ]
        return torch.stack(vectors, dim=1)

    def inputs(self, table: UtteranceTable) -> Inputs:
        return lambda utterance, copy: resample(table.copy(utterance, copy))

    def hears_signal(self, frozen: bool) -> bool:
        return False

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        parts = []
        for utterance in spread_over(utterances):
            inputs = feed.batch([int(utterance)], [0]).inputs
            assert inputs is not None
            parts.append(inputs.flatten())
        samples = torch.cat(parts)
        self.mean.copy_(samples.mean())
        self.deviation.copy_(samples.std().clamp_min(1e-6))

    def penalty(self) -> Tensor:
        return self.packet.penalty()


def resample(signal: NDArray[np.float32]) -> Frames:
    """(n_samples,) at 22,050 Hz → (n, 1) at 16 kHz."""
    import soxr

    return soxr.resample(signal, SAMPLE_RATE, HEARD)[:, None]
