"""The published FINs, layer for layer: fully connected and convolutional stacks for one window.

Shapes and activations are those of the publication; parameter counts are equal to its. What it was scaled
with in training lives in buffers, so that audio goes in and the feature's own unit comes out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from fins.audio import WINDOW
from fins.convolution import pooled_convolution
from fins.features import FEATURES, get_feature

Topology = Literal["paper"]


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


class PaperFin(nn.Module):
    """One published FIN: (batch, 2048) float32 → (batch, n_outputs) in the feature's own unit.

    Raises ValueError for windows of another length.
    """

    input_scale: Tensor
    output_scale: Tensor
    output_shift: Tensor

    def __init__(
        self, front: nn.Module | None, sizes: tuple[int, ...], last_relu: bool, level: float = 1.0
    ) -> None:
        """level : root mean square of the samples that the layers see"""
        super().__init__()
        self.level = level
        n_inputs = WINDOW if front is None else int(front.n_outputs)  # type: ignore[arg-type]
        dense: list[nn.Module] = []
        for n_in, n_out in pairwise((n_inputs, *sizes)):
            dense += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.front = front
        self.dense = nn.Sequential(*(dense if last_relu else dense[:-1]))
        self.last_relu = last_relu
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("output_scale", torch.ones(sizes[-1]))
        self.register_buffer("output_shift", torch.zeros(sizes[-1]))

    def forward(self, windows: Tensor) -> Tensor:
        if windows.ndim != 2 or windows.shape[1] != WINDOW:
            raise ValueError(
                f"windows have the shape (batch, {WINDOW}), got {tuple(windows.shape)}: "
                "cut the signal with audio.cut_windows"
            )
        hidden = windows * self.input_scale
        if self.front is not None:
            hidden = self.front(hidden)
        return self.dense(hidden) * self.output_scale + self.output_shift

    def calibrate(self, input_rms: float, mean: Tensor, deviation: Tensor) -> None:
        """Fit the scales to training windows: the layers see their level and give numbers of about one.

        input_rms : of the samples; mean, deviation : (n_outputs,) of the feature. A last ReLU gives no
        negative numbers, so its outputs are scaled and not shifted, and its biases start at the mean: from
        below zero it would never learn.
        """
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        self.input_scale.fill_(self.level / max(input_rms, 1e-8))
        self.output_scale.copy_(deviation)
        if self.last_relu:
            last = self.dense[-2]
            assert isinstance(last, nn.Linear)
            with torch.no_grad():
                last.bias.copy_(mean / deviation)
        else:
            self.output_shift.copy_(mean)

    def multiply_adds(self) -> int:
        """Multiplications that one window takes, each with its addition."""
        dense = sum(layer.weight.numel() for layer in self.dense if isinstance(layer, nn.Linear))
        return dense + (self.front.multiply_adds() if self.front is not None else 0)  # type: ignore[operator]


def build_fin(feature: str, topology: Topology = "paper") -> PaperFin:
    """A FIN with random weights, drawn from PyTorch's global generator."""
    get_feature(feature)
    if topology != "paper":
        raise ValueError(f"there is no topology {topology!r}: the known one is paper")
    if feature == "rms":
        return PaperFin(None, (32, 16, 8, 1), last_relu=True)
    if feature == "zcr":
        return PaperFin(StridedConvolution(16, 16, 4), (32, 32, 32, 1), last_relu=True)
    if feature == "chroma":
        return PaperFin(PooledConvolution(256, 512, 256, 128), (256, 128, 64, 12), last_relu=True)
    if feature == "mfcc":
        return PaperFin(PooledConvolution(256, 512, 512, 110), (256, 128, 20), last_relu=False)
    # 5,632 numbers go straight into the last ReLU: at level 1 a step of Adam moves it by several deviations,
    # and within an epoch all outputs are dead for good; recorded speech is at about this level
    return PaperFin(PooledConvolution(512, 512, 256, 128), (128,), last_relu=True, level=0.03)


def count_parameters(module: nn.Module) -> int:
    """How many numbers are learned; buffers don't count."""
    return sum(parameter.numel() for parameter in module.parameters())


PAPER_LOSS = {name: "mae" if name == "chroma" else "mse" for name in FEATURES}
