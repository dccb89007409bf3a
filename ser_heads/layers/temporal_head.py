"""The head of this package's own classifiers: frames → logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import AttentiveStatistics, MaskedBatchNorm, mask_until

BRANCH_KERNELS = (8, 16, 24, 32)  # half of what a head's own stem has


class SpectrumStem(nn.Module):
    """Small 2-D convolutions over a spectrum and time: (batch, time, n_planes · n_bands) →
    (batch, n_features, time / 2).

    They see the same pattern in whatever band it is, so that a voice a little higher is no other voice.
    n_planes : spectra of a frame, side by side in its columns
    """

    def __init__(self, n_bands: int, n_kernels: tuple[int, ...], dropout: float, n_planes: int = 1) -> None:
        super().__init__()
        self.n_planes = n_planes
        self.convolutions = nn.ModuleList([nn.Conv2d(n_planes, n_kernels[0], 5, (2, 2), 2, bias=False)])
        self.convolutions += [
            nn.Conv2d(n_inputs, n_outputs, 3, (2, 1), 1, bias=False)
            for n_inputs, n_outputs in pairwise(n_kernels)
        ]
        self.norms = nn.ModuleList(MaskedBatchNorm(n) for n in n_kernels)
        self.dropout = nn.Dropout(dropout)
        self.n_features = n_kernels[-1] * -(-n_bands // 2 ** len(n_kernels))

    def forward(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        hidden = spectrum.transpose(1, 2).unflatten(1, (self.n_planes, -1))  # (batch, plane, band, time)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = convolution(hidden)  # halves the bands; the first one also the time
            hidden = torch.relu(norm(hidden, mask)) * mask[:, None, None]
        return self.dropout(hidden).flatten(1, 2)


class DilatedBlock(nn.Module):
    """Dilated convolution over time, norm, ReLU, dropout, and a way around it: (batch, channel, time)."""

    def __init__(self, n_inputs: int, n_channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(n_inputs, n_channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = MaskedBatchNorm(n_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.norm(self.convolution(frames), mask))) * mask[:, None]
        return hidden + frames if hidden.shape == frames.shape else hidden


class Branch(nn.Module):
    """What a second spectrum adds to a TemporalHead after its first layer: (batch, time, column) → (batch,
    n_channels, time / 2).

    It starts at 0, so that the head starts as the one that it has been without. In training it is left out
    of a share of the recordings.
    columns : of the spectrum, n_planes of which lie side by side
    """

    def __init__(self, columns: slice, n_planes: int, n_channels: int = 96, dropout: float = 0.3) -> None:
        super().__init__()
        self.columns = columns
        n_bands = (columns.stop - columns.start) // n_planes
        self.stem = SpectrumStem(n_bands, BRANCH_KERNELS, dropout / 2, n_planes)
        self.join = nn.Conv1d(self.stem.n_features, n_channels, 1, bias=False)
        nn.init.zeros_(self.join.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        kept = self.dropout(torch.ones_like(frames[:, :1, :1]))  # (batch, 1, 1)
        return self.join(self.stem(frames[..., self.columns], mask)) * kept


class TemporalHead(nn.Module):
    """Frames → (batch, n_classes) logits: a 2-D stem over spectra, dilated convolutions over time, the
    outputs of all layers together, attentive statistics pooling.

    n_features : the columns of a frame that it takes, the first ones
    spectra : which of them are the bands of a spectrum, or of n_planes of them, side by side
    branch : what is added after the first layer, from columns behind those; by default nothing
    """

    def __init__(
        self,
        n_classes: int,
        n_features: int,
        spectra: Sequence[slice],
        n_planes: int = 1,
        n_kernels: tuple[int, ...] = (16, 32, 48, 64),
        n_channels: int = 96,
        n_pooled: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.spectra = tuple(spectra)
        banded = {column for bands in spectra for column in range(bands.start, bands.stop)}
        self.plain = [column for column in range(n_features) if column not in banded]
        self.stems = nn.ModuleList(
            SpectrumStem((bands.stop - bands.start) // n_planes, n_kernels, dropout / 2, n_planes)
            for bands in spectra
        )
        self.branch: Branch | None = None
        n_inputs = len(self.plain) + sum(int(stem.n_features) for stem in self.stems)  # type: ignore[misc, arg-type]
        sizes = (n_inputs, n_channels, n_channels, n_channels)
        self.blocks = nn.ModuleList(
            DilatedBlock(size, n_channels, dilation, dropout)
            for size, dilation in zip(sizes, (1, 1, 2, 4), strict=True)
        )
        self.together = nn.Conv1d(len(sizes) * n_channels, n_pooled, 1, bias=False)
        self.together_norm = MaskedBatchNorm(n_pooled)
        self.pool = AttentiveStatistics(n_pooled, n_pooled // 4)
        self.logits = nn.Sequential(
            nn.BatchNorm1d(2 * n_pooled), nn.Dropout(dropout), nn.Linear(2 * n_pooled, n_classes)
        )

    def forward(self, frames: FrameBatch) -> Tensor:
        return self.logits(self.embed(frames))

    def embed(self, frames: FrameBatch) -> Tensor:
        """(batch, 2 · n_pooled), from which the logits are a linear map, but for a norm.

        Frames are 0 beyond each end.
        """
        values, lengths = frames
        second = every_second(values)  # the first layer takes every second frame
        mask = mask_until((lengths + 1) // 2, second.shape[1])
        inputs = [
            stem(values[..., bands], mask) for stem, bands in zip(self.stems, self.spectra, strict=True)
        ]
        hidden = torch.cat([*inputs, second[..., self.plain].transpose(1, 2)], dim=1)
        layers: list[Tensor] = []
        for block in self.blocks:
            hidden = block(hidden, mask)
            if self.branch is not None and not layers:
                hidden = hidden + self.branch(values, mask)
            layers.append(hidden)
        together = torch.relu(self.together_norm(self.together(torch.cat(layers, dim=1)), mask))
        return self.pool(together, mask)


def every_second(frames: Tensor) -> Tensor:
    """(batch, time, column) → (batch, time / 2, column): the first one, the third, and so on."""
    return frames[:, ::2]
