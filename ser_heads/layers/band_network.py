"""The small network over a band of the published wavelet system."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_heads.layers.masked import (
    MaskedGru,
    MaskedInstanceNorm,
    SpatialAttention,
    TemporalAttention,
    mask_until,
)

Length = TypeVar("Length", int, Tensor)
STRIDE = 4  # of either convolution
CHUNK = 1 << 21  # values of a layer at once: the system gives larger blocks page by page, at half the speed


class BandNetwork(nn.Module):
    """(batch, 1, n) coefficients, (batch,) how many → (batch, 2 · n_hidden, time), (batch, n_hidden).

    Two convolutions of stride 4, spatial attention, recurrent layers in both directions, temporal attention,
    as in the published system. Zero padding keeps step t centred on coefficient 16 · t; steps beyond an
    utterance's end are 0.
    """

    def __init__(self, channels: tuple[int, int], n_hidden: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        first, second = channels
        # no biases: the norm would subtract them
        self.first = nn.Conv1d(1, first, 7, stride=STRIDE, dilation=3, padding=9, bias=False)
        self.second = nn.Conv1d(first, second, 5, stride=STRIDE, dilation=2, padding=4, bias=False)
        self.norm = MaskedInstanceNorm()
        self.dropout = nn.Dropout(dropout)
        self.spatial = SpatialAttention(second)
        self.recurrent = MaskedGru(second, n_hidden, n_layers, dropout)
        self.temporal = TemporalAttention(2 * n_hidden, n_hidden)

    def forward(self, coefficients: Tensor, n_coefficients: Tensor) -> tuple[Tensor, Tensor]:
        n_steps = quarter(quarter(n_coefficients))
        if torch.compiler.is_compiling():
            sequence = self.convolve(coefficients, n_coefficients)
        else:
            size = max(1, CHUNK // (self.first.out_channels * quarter(coefficients.shape[2])))
            chunks = zip(coefficients.split(size), n_coefficients.split(size), strict=True)
            sequence = torch.cat([self.convolve(*chunk) for chunk in chunks])
        mask = mask_until(n_steps, sequence.shape[2])
        outputs = self.recurrent(self.spatial(sequence, mask), n_steps)
        return outputs, self.temporal(outputs, mask)

    def convolve(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """(batch, 1, n) → (batch, channel, n / 16), 0 beyond an utterance's end."""
        for convolution in (self.first, self.second):
            sequence, lengths = convolution(sequence), quarter(lengths)
            normal = self.norm(sequence, mask_until(lengths, sequence.shape[2]))
            sequence = self.dropout(functional.leaky_relu(normal))
        return sequence


def quarter(length: Length) -> Length:
    """What a convolution of stride 4 leaves that is padded to be centred; at least one step."""
    return (length + STRIDE - 1) // STRIDE
