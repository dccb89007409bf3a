"""A published system of learnable wavelet packets, from the waveform to emotions.

A tree of convolutions without padding that starts as db10, with a learnable asymmetric threshold after every
high-pass; over each band a network of its own: convolutions of 128 and 256 filters, spatial attention,
recurrent layers in both directions and temporal attention; the bands' vectors, each with a weight, as the
channels of a last convolution, whose normalised outputs are averaged: logits.

The publication searches depths of 4 to 10, 32 to 128 hidden units, 3 to 9 layers, what its thresholds start
from, and what is learned; here it is 5, 32 and 3 by default, the least but for the depth, because two cores
have to train it. Its text has 16 kHz, which is taken here; its code goes down to 8 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.networks import Fin
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.samples import Resampled
from ser_heads.frontends.waveform import Trim
from ser_heads.layers.masked import mask_until
from ser_heads.layers.published_bands import LEAST_COEFFICIENTS, PublishedBands
from ser_heads.layers.standardise import Standardise
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket, check_packet
from ser_heads.model import ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

RATE = 16_000  # Hz
CHANNELS, DROPOUT = (128, 256), 0.2
KERNEL_SIZE = 5  # of the last convolution


@dataclass(frozen=True)
class WaveletPacketNetOptions:
    """Raises ValueError for a wavelet, depth, sharing or size that can't be."""

    wavelet: str = "db10"
    """Where the wavelet packets start, as PyWavelets names it."""
    depth: int = 5
    """Levels of the wavelet packets, 1 to 10."""
    sharing: Sharing = "tree"
    """Kernels of the wavelet packets: one pair for the tree, for each level, or for each node; published as
    CQF, PerLayer and, with two kernels (--no-conjugate), PerFilter."""
    conjugate: bool = True
    """The high-pass is the low-pass reversed with alternating signs; else both are kernels of their own."""
    learn_kernels: bool = True
    """Else they stay those of the wavelet."""
    threshold: float = 1.0
    """Where thresholds start, above and below zero, in deviations of a sample; published are 0.5 to 1."""
    steepness: float = 10.0
    """Of a threshold, at the start; published are 10 to 15."""
    learn_thresholds: bool = True
    """Else thresholds and their steepness stay as they start."""
    share_bands: bool = False
    """One network over all bands; else, as published, each band has its own."""
    n_hidden: int = 32
    """Units of a recurrent layer, each way; published are 32, 64 and 128."""
    n_layers: int = 3
    """Recurrent layers; published are 3, 6 and 9."""

    def __post_init__(self) -> None:
        check_packet(self.wavelet, self.depth, self.sharing, conjugate=self.conjugate)
        if not (0 <= self.threshold < math.inf and 0 < self.steepness < math.inf):
            raise ValueError("--threshold is at least 0, --steepness a number above 0")
        if self.n_hidden < KERNEL_SIZE or self.n_layers < 1:
            raise ValueError(f"--n-hidden is at least {KERNEL_SIZE}, --n-layers at least 1")


class WaveletPacketNet(nn.Module):
    """(batch, time, 1) samples at 16 kHz, standardised by the training part's mean and deviation and 0 beyond
    each end → (batch, n_classes) logits.

    A recording too short for one step over each band (0.14 s at a depth of 5 with 20 taps) is followed by
    zeros. Padding never changes a result.
    By the last layers, as published, no logit is above .5: shares of labels stay near each other.
    """

    def __init__(
        self, n_classes: int, options: WaveletPacketNetOptions, channels: tuple[int, int] = CHANNELS
    ) -> None:
        super().__init__()
        n_bands = 2**options.depth
        self.packet = WaveletPacket(
            options.wavelet,
            options.depth,
            options.sharing,
            mode="valid",
            conjugate=options.conjugate,
            threshold=True,
        )
        self.packet.kernels.requires_grad_(options.learn_kernels)
        assert self.packet.threshold is not None
        for name, parameter in self.packet.threshold.named_parameters():
            nn.init.constant_(parameter, options.steepness if name == "steepness" else options.threshold)
            parameter.requires_grad_(options.learn_thresholds)
        n_networks = 1 if options.share_bands else n_bands
        self.networks = PublishedBands(n_networks, channels, options.n_hidden, options.n_layers, DROPOUT)
        self.band_weights = nn.Parameter(torch.ones(n_bands))
        # no bias: the norm would subtract it
        self.last = nn.Conv1d(n_bands, n_classes, KERNEL_SIZE, bias=False)

    def forward(self, frames: FrameBatch) -> Tensor:
        vectors = self.networks(*self.decompose(frames.values[..., 0], frames.lengths))
        with torch.autocast(vectors.device.type, enabled=False):  # logits differ by little
            scores = self.last(vectors.float() * self.band_weights[:, None])  # (batch, class, 2 n_hidden - 4)
            return functional.leaky_relu(functional.instance_norm(scores)).mean(dim=2)

    def decompose(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n) and (batch,) → (batch, band, coefficient), 0 beyond each end, and (batch,)."""
        least = self.packet.least_samples() + (LEAST_COEFFICIENTS - 1) * 2**self.packet.depth
        coefficients = self.packet(functional.pad(samples, (0, max(0, least - samples.shape[1]))))
        n_coefficients = self.packet.count_coefficients(lengths.clamp_min(least))
        return coefficients * mask_until(n_coefficients, coefficients.shape[2])[:, None], n_coefficients


def build(options: WaveletPacketNetOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """With random weights but for the packets' kernels."""
    norm = Standardise(masked=True, least=1e-6)
    head = WaveletPacketNet(len(labels), options)
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
