"""A published system of learnable wavelet packets, from the waveform to emotions.

A tree of convolutions without padding that starts as db10, with a learnable asymmetric threshold after every
high-pass; over each band convolutions of 128 and 256 filters, spatial attention, recurrent layers in both
directions and temporal attention; the bands' vectors, each with a weight, as the channels of a last
convolution, whose normalised outputs are averaged: logits.

The publication searches depths of 4 to 10, 32 to 128 hidden units and 3 to 9 layers; here it is 5, 32 and 3,
the least but for the depth, because two cores have to train it. Its text has 16 kHz, which is taken here; its
code goes down to 8 kHz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.networks import Fin
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.samples import Resampled
from ser_heads.frontends.waveform import Trim
from ser_heads.layers.band_network import BandNetwork
from ser_heads.layers.masked import mask_until
from ser_heads.layers.standardise import Standardise
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket, check_packet
from ser_heads.model import ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

RATE = 16_000  # Hz
CHANNELS, N_HIDDEN, N_LAYERS, DROPOUT = (128, 256), 32, 3, 0.2
KERNEL_SIZE = 5  # of the last convolution


@dataclass(frozen=True)
class WaveletPacketNetOptions:
    """Raises ValueError for a wavelet, depth or sharing that can't be."""

    wavelet: str = "db10"
    """Where the wavelet packets start, as PyWavelets names it."""
    depth: int = 5
    """Levels of the wavelet packets, 1 to 10."""
    sharing: Sharing = "tree"
    """Kernels of the wavelet packets: one pair for the tree, for each level, or for each node."""
    share_bands: bool = True
    """One network over all bands; else each band has its own."""

    def __post_init__(self) -> None:
        check_packet(self.wavelet, self.depth, self.sharing)


class WaveletPacketNet(nn.Module):
    """(batch, time, 1) samples at 16 kHz, standardised by the training part's mean and deviation and 0 beyond
    each end → (batch, n_classes) logits.

    A recording too short for one coefficient of each band (37 ms at a depth of 5 with 20 taps) is followed
    by zeros. Padding never changes a result.
    By the last layers, as published, no logit is above .5: shares of labels stay near each other.
    """

    def __init__(
        self,
        n_classes: int,
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
        self.packet = WaveletPacket(wavelet, depth, sharing, mode="valid", threshold=True)
        self.networks = nn.ModuleList(
            BandNetwork(channels, n_hidden, n_layers, DROPOUT) for _ in range(1 if share_bands else n_bands)
        )
        self.band_weights = nn.Parameter(torch.ones(n_bands))
        # no bias: the norm would subtract it
        self.last = nn.Conv1d(n_bands, n_classes, KERNEL_SIZE, bias=False)

    def forward(self, frames: FrameBatch) -> Tensor:
        vectors = self.over_bands(*self.decompose(frames.values[..., 0], frames.lengths))
        with torch.autocast(vectors.device.type, enabled=False):  # logits differ by little
            scores = self.last(vectors.float() * self.band_weights[:, None])  # (batch, class, n_hidden - 4)
            return functional.leaky_relu(functional.instance_norm(scores)).mean(dim=2)

    def decompose(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n) and (batch,) → (batch, band, coefficient), 0 beyond each end, and (batch,)."""
        least = self.packet.least_samples()
        coefficients = self.packet(functional.pad(samples, (0, max(0, least - samples.shape[1]))))
        n_coefficients = self.packet.count_coefficients(lengths.clamp_min(least))
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


def build(options: WaveletPacketNetOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """With random weights but for the packets' kernels."""
    norm = Standardise(masked=True, least=1e-6)
    head = WaveletPacketNet(len(labels), options.wavelet, options.depth, options.sharing, options.share_bands)
    return SerModel("wavelet_packet_net", options, labels, Trim(quiet=None), Resampled(RATE), norm, head)


WAVELET_PACKET_NET = ModelEntry(
    "wavelet_packet_net",
    "published: learnable wavelet packets and a small network over each band",
    "Learnable Deep Wavelet Packet Transform for Speech Emotion Recognition, ICMLA 2024",
    WaveletPacketNetOptions,
    build,
    recipe=Recipe(
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=1e-6,
        copies=0,
        loss="focal",
        focusing=2.0,
        class_weights=1.0,
        label_smoothing=0.0,
        batch_size=16,
        augmentation=NO_AUGMENTATION,
    ),
)
