"""Linear layers that can hold a factored Fourier transform, and weights from its bins to bands.

2048 = 64 · 32, so a spectrum is a convolution of 64 taps and dilation 32, a factor for each of its outputs
and a 32-point map (Cooley and Tukey 1965). Nothing here is a Fourier transform before it has learned to be.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from fins.audio import WINDOW

TAPS, DILATION = 64, 32
CHANNELS = TAPS // 2 + 1  # of a real signal; the others are their conjugates
N_POWERS = CHANNELS * DILATION  # 1056: each of the 1025 bins once, and 31 of them twice
HANN_ENERGY = 3 * WINDOW / 8  # sum of the squared periodic Hann window
CHUNK = 128  # windows that are worked on at once: what lies between the layers stays in the processor's cache


def bin_of_power() -> Tensor:
    """(1056,) int64, the bin of the spectrum, 0 to 1024, that each output of `LearnedSpectrum` stands for."""
    bins = (torch.arange(CHANNELS)[:, None] + TAPS * torch.arange(DILATION)).flatten()
    return torch.minimum(bins, WINDOW - bins)


class LearnedSpectrum(nn.Module):
    """Window, convolution, factors and map: (batch, 2048) → (batch, 1056) powers, 1 on average for noise.

    All four are learned, from normal numbers: 10,432 parameters. Complex numbers are pairs, real part first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Parameter(torch.randn(WINDOW) / 2)
        self.kernels = nn.Parameter(torch.randn(CHANNELS, 2, TAPS) / math.sqrt(TAPS))
        self.factors = nn.Parameter(torch.randn(CHANNELS, 2, DILATION) / math.sqrt(2))
        self.map = nn.Parameter(torch.randn(2, DILATION, DILATION) / math.sqrt(2 * DILATION))

    def components(self, windows: Tensor) -> Tensor:
        """(batch, 2048) → (channel 33, batch, 2, 32), complex, of a deviation of 1 for white noise."""
        folded = (windows * self.window).view(-1, TAPS, DILATION)
        channels = torch.matmul(self.kernels.view(2 * CHANNELS, TAPS), folded).view(
            -1, CHANNELS, 2 * DILATION
        )
        real, imaginary = (self.factors[:, part, :, None] for part in (0, 1))
        # the factors multiply the map's rows: cheaper than to multiply what goes into it
        to_real = real * self.map[0] - imaginary * self.map[1]
        to_imaginary = real * self.map[1] + imaginary * self.map[0]
        maps = torch.cat(
            [torch.cat([to_real, to_imaginary], 2), torch.cat([-to_imaginary, to_real], 2)], 1
        )  # (33, 64, 64)
        return torch.bmm(channels.transpose(0, 1), maps).view(CHANNELS, -1, 2, DILATION)

    def forward(self, windows: Tensor) -> Tensor:
        real, imaginary = self.components(windows).unbind(2)
        powers = torch.addcmul(real * real, imaginary, imaginary)  # (33, batch, 32)
        return powers.transpose(0, 1).reshape(-1, N_POWERS)

    def equals(self, other: LearnedSpectrum) -> bool:
        """Whether both have the very same weights."""
        pairs = zip(self.parameters(), other.parameters(), strict=True)
        return self is other or all(torch.equal(one, another) for one, another in pairs)

    def multiply_adds(self) -> int:
        """Of one window; the product of factors and map is made once for a batch."""
        return WINDOW + self.kernels.numel() * DILATION + CHANNELS * (2 * DILATION) ** 2 + 2 * N_POWERS


def fourier_components(windows: Tensor) -> Tensor:
    """What `LearnedSpectrum.components` imitates, by `torch.fft`, under a periodic Hann window."""
    hann = torch.hann_window(WINDOW, periodic=True, device=windows.device)
    spectrum = torch.fft.fft(windows * hann / math.sqrt(HANN_ENERGY))
    bins = (torch.arange(CHANNELS)[:, None] + TAPS * torch.arange(DILATION)).to(windows.device)
    return torch.view_as_real(spectrum[:, bins]).permute(1, 0, 3, 2)


class SpectrumWeights(nn.Module):
    """Weighted sums of powers: (batch, 1056) → (batch, n_rows).

    scale : (n_rows,), a buffer: the length of each row, so that what is learned has a length of 1.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(len(scale), N_POWERS) / math.sqrt(N_POWERS))
        self.register_buffer("scale", scale)

    def forward(self, powers: Tensor) -> Tensor:
        return nn.functional.linear(powers, self.weights) * self.scale

    def multiply_adds(self) -> int:
        return self.weights.numel()


class LagWeights(SpectrumWeights):
    """Autocorrelation at lags; the two lowest bins aren't connected, so that an offset can't leak.

    kept : (1054,) int64, a buffer: which powers are.
    """

    kept: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__(scale)
        kept = (bin_of_power() >= 2).nonzero()[:, 0]
        self.weights = nn.Parameter(torch.randn(len(scale), len(kept)) / math.sqrt(N_POWERS))
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, powers: Tensor) -> Tensor:
        return nn.functional.linear(powers[:, self.kept], self.weights) * self.scale


class BandWeights(SpectrumWeights):
    """Energies of bands, whose weights stay at or above 0."""

    def constrain(self) -> None:
        """After a step of training: an energy stays a sum of powers."""
        with torch.no_grad():
            self.weights.clamp_min_(0)


class PrunedBandWeights(nn.Module):
    """`BandWeights` of which only those above 0 are left.

    place : (n_left,) int64, a buffer: where each one stands in the full table, row by row.
    """

    scale: Tensor
    place: Tensor

    def __init__(self, scale: Tensor, n_left: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_left))
        self.register_buffer("place", torch.zeros(n_left, dtype=torch.int64))
        self.register_buffer("scale", scale)

    @classmethod
    def of(cls, bands: BandWeights) -> PrunedBandWeights:
        """What is left of some weights that have been learned."""
        place = bands.weights.detach().flatten().nonzero()[:, 0]
        pruned = cls(bands.scale.clone(), len(place))
        with torch.no_grad():
            pruned.place.copy_(place)
            pruned.weights.copy_(bands.weights.flatten()[place])
        return pruned

    def forward(self, powers: Tensor) -> Tensor:
        # a dense table, mostly zeros: PyTorch's sparse products take a third to two thirds of the time,
        # but are marked as beta
        table = self.weights.new_zeros(len(self.scale) * N_POWERS).scatter(0, self.place, self.weights)
        return nn.functional.linear(powers, table.view(-1, N_POWERS)) * self.scale

    def constrain(self) -> None:
        """As of `BandWeights`."""
        with torch.no_grad():
            self.weights.clamp_min_(0)

    def multiply_adds(self) -> int:
        """As it is defined, without the zeros."""
        return self.weights.numel()


def white_noise(n: int, generator: Generator) -> Tensor:
    """(n, 2048) normal numbers."""
    return torch.randn(n, WINDOW, generator=generator)
