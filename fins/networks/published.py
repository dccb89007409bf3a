"""The published FINs, layer for layer, and a small stack for any feature: both are learned from windows.

Shapes and activations of the published ones are those of the publication; parameter counts are equal to its.
What they were scaled with in training lives in buffers, so that audio goes in and the feature's own unit
comes out.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from fins.audio import WINDOW
from fins.features import PublishedFin
from fins.features.feature import Convolution
from fins.networks.fin import Fin, FinConfig, check_windows
from fins.networks.pooled_convolution import pooled_convolution


class PooledConvolution(nn.Module):
    """Convolution of stride 1, ReLU, max pool: (batch, 2048) → (batch, n_kernels · n_pools)."""

    def __init__(self, n_kernels: int, n_taps: int, pool: int, stride: int) -> None:
        super().__init__()
        layer = nn.Conv1d(1, n_kernels, n_taps)  # for PyTorch's own initial weights
        assert layer.bias is not None
        self.kernels = nn.Parameter(layer.weight[:, 0].detach())
        self.bias = layer.bias
        self.pool, self.stride = pool, stride
        self.n_positions = WINDOW - n_taps + 1
        self.n_pools = (self.n_positions - pool) // stride + 1
        self.n_outputs = n_kernels * self.n_pools

    def forward(self, windows: Tensor) -> Tensor:
        maxima = pooled_convolution(windows, self.kernels, self.pool, self.stride)  # (batch, kernel, pool)
        # a constant and a monotone function may follow the maximum as well as precede it
        return torch.relu(maxima + self.bias[:, None]).flatten(1)

    def multiply_adds(self) -> int:
        """Of the convolution as it is defined; by FFT it takes about a tenth."""
        return self.n_positions * self.kernels.numel()


class StridedConvolution(nn.Module):
    """Convolution with a stride, ReLU: (batch, 2048) → (batch, n_kernels · n_positions)."""

    def __init__(self, n_kernels: int, n_taps: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, n_kernels, n_taps, stride)
        self.n_positions = (WINDOW - n_taps) // stride + 1
        self.n_outputs = n_kernels * self.n_positions

    def forward(self, windows: Tensor) -> Tensor:
        return torch.relu(self.convolution(windows[:, None])).flatten(1)

    def multiply_adds(self) -> int:
        return self.n_positions * self.convolution.weight.numel()


def build_front(front: Convolution) -> PooledConvolution | StridedConvolution:
    """The first layer of a published FIN."""
    if front.pool is None:
        return StridedConvolution(front.n_kernels, front.n_taps, front.stride)
    return PooledConvolution(front.n_kernels, front.n_taps, front.pool, front.stride)


class ScaledFin(Fin):
    """A FIN of layers that see and give numbers of about one.

    level : root mean square of the samples that the layers see. The scales are buffers, set by `calibrate`.
    """

    input_scale: Tensor
    output_scale: Tensor
    output_shift: Tensor

    def __init__(self, config: FinConfig, level: float = 1.0) -> None:
        super().__init__()
        assert config.n_outputs is not None
        self.config, self.level = config, level
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("output_scale", torch.ones(config.n_outputs))
        self.register_buffer("output_shift", torch.zeros(config.n_outputs))

    def forward(self, windows: Tensor) -> Tensor:
        check_windows(windows)
        return self.layers(windows * self.input_scale) * self.output_scale + self.output_shift

    def layers(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def calibrate(self, input_rms: float, mean: Tensor, deviation: Tensor) -> None:
        """Fit the scales to training windows.

        input_rms : of the samples; mean, deviation : (n_outputs,) of the feature, deviation above 0
        """
        self.input_scale.fill_(self.level / max(input_rms, 1e-8))
        self.output_scale.copy_(deviation)
        self.output_shift.copy_(mean)


class PaperFin(ScaledFin):
    """One published FIN."""

    def __init__(self, config: FinConfig, published: PublishedFin) -> None:
        super().__init__(config, published.level)
        front = None if published.front is None else build_front(published.front)
        dense: list[nn.Module] = []
        for n_in, n_out in pairwise((WINDOW if front is None else front.n_outputs, *published.sizes)):
            dense += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.front = front
        self.dense = nn.Sequential(*(dense if published.last_relu else dense[:-1]))
        self.last_relu = published.last_relu

    def layers(self, windows: Tensor) -> Tensor:
        return self.dense(windows if self.front is None else self.front(windows))

    def calibrate(self, input_rms: float, mean: Tensor, deviation: Tensor) -> None:
        """As above; a last ReLU gives no negative numbers, so its outputs are scaled and not shifted, and its
        biases start at the mean: from below zero it would never learn."""
        super().calibrate(input_rms, mean, deviation)
        if self.last_relu:
            self.output_shift.zero_()
            last = self.dense[-2]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.bias.copy_(mean / deviation)

    def multiply_adds(self) -> int:
        return _dense_adds(self.dense) + (0 if self.front is None else self.front.multiply_adds())


class StridedFin(ScaledFin):
    """A small stack for any closed form, learned from windows: two strided convolutions of the window at a
    level of one, averaged over time, beside the logarithm of the level, and two dense layers."""

    N_KERNELS, TAPS, STRIDE = 64, 128, 32

    def __init__(self, config: FinConfig) -> None:
        super().__init__(config)
        assert config.n_outputs is not None
        self.first = nn.Conv1d(1, self.N_KERNELS, self.TAPS, self.STRIDE)
        self.second = nn.Conv1d(self.N_KERNELS, self.N_KERNELS, 4, 2)
        self.dense = nn.Sequential(
            nn.Linear(self.N_KERNELS + 1, self.N_KERNELS),
            nn.ReLU(),
            nn.Linear(self.N_KERNELS, config.n_outputs),
        )

    def layers(self, windows: Tensor) -> Tensor:
        level = windows.square().mean(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
        hidden = torch.relu(self.first((windows / level)[:, None]))
        hidden = torch.relu(self.second(hidden)).mean(dim=2)
        return self.dense(torch.cat([hidden, level.log() / 4], dim=1))

    def multiply_adds(self) -> int:
        n_first = (WINDOW - self.TAPS) // self.STRIDE + 1
        n_second = (n_first - 4) // 2 + 1
        convolutions = n_first * self.first.weight.numel() + n_second * self.second.weight.numel()
        return convolutions + _dense_adds(self.dense)


def _dense_adds(layers: nn.Sequential) -> int:
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
