"""The published FINs, layer for layer, and a small stack for any feature: both are learned from windows.

Shapes and activations of the published ones are those of the publication; parameter counts are equal to its.
What they were scaled with in training lives in buffers, so that audio goes in and the feature's own unit
comes out. `build_fin` makes these and the compact ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fins.audio import WINDOW
from fins.compact import COMPACT, PRUNABLE, CompactFin, check_windows
from fins.convolution import pooled_convolution
from fins.features import FEATURES, get_feature

Topology = Literal["compact", "pruned", "paper"]


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


class ScaledFin(nn.Module):
    """A FIN of layers that see and give numbers of about one: (batch, 2048) float32 → (batch, n_outputs).

    level : root mean square of the samples that the layers see. The scales are buffers, set by `calibrate`.
    """

    input_scale: Tensor
    output_scale: Tensor
    output_shift: Tensor

    def __init__(self, n_outputs: int, level: float = 1.0) -> None:
        super().__init__()
        self.level = level
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("output_scale", torch.ones(n_outputs))
        self.register_buffer("output_shift", torch.zeros(n_outputs))

    def forward(self, windows: Tensor) -> Tensor:
        """ValueError for windows of another length."""
        check_windows(windows)
        return self.layers(windows * self.input_scale) * self.output_scale + self.output_shift

    def layers(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Multiplications that one window takes, each with its addition."""
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

    def __init__(
        self, front: nn.Module | None, sizes: tuple[int, ...], last_relu: bool, level: float = 1.0
    ) -> None:
        super().__init__(sizes[-1], level)
        n_inputs = WINDOW if front is None else int(front.n_outputs)  # type: ignore[arg-type]
        dense: list[nn.Module] = []
        for n_in, n_out in pairwise((n_inputs, *sizes)):
            dense += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.front = front
        self.dense = nn.Sequential(*(dense if last_relu else dense[:-1]))
        self.last_relu = last_relu

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
        dense = sum(layer.weight.numel() for layer in self.dense if isinstance(layer, nn.Linear))
        return dense + (self.front.multiply_adds() if self.front is not None else 0)  # type: ignore[operator]


class StridedFin(ScaledFin):
    """A small stack for any closed form, learned from windows: two strided convolutions of the window at a
    level of one, averaged over time, beside the logarithm of the level, and two dense layers."""

    N_KERNELS, TAPS, STRIDE = 64, 128, 32

    def __init__(self, n_outputs: int) -> None:
        super().__init__(n_outputs)
        self.first = nn.Conv1d(1, self.N_KERNELS, self.TAPS, self.STRIDE)
        self.second = nn.Conv1d(self.N_KERNELS, self.N_KERNELS, 4, 2)
        self.dense = nn.Sequential(
            nn.Linear(self.N_KERNELS + 1, self.N_KERNELS), nn.ReLU(), nn.Linear(self.N_KERNELS, n_outputs)
        )

    def layers(self, windows: Tensor) -> Tensor:
        level = windows.square().mean(dim=1, keepdim=True).clamp_min(1e-12).sqrt()
        hidden = torch.relu(self.first((windows / level)[:, None]))
        hidden = torch.relu(self.second(hidden)).mean(dim=2)
        return self.dense(torch.cat([hidden, level.log() / 4], dim=1))

    def multiply_adds(self) -> int:
        n_first = (WINDOW - self.TAPS) // self.STRIDE + 1
        n_second = (n_first - 4) // 2 + 1
        dense = sum(layer.weight.numel() for layer in self.dense if isinstance(layer, nn.Linear))
        return n_first * self.first.weight.numel() + n_second * self.second.weight.numel() + dense


Fin = CompactFin | ScaledFin


def build_fin(feature: str, topology: Topology = "compact", n_outputs: int | None = None) -> Fin:
    """A FIN with random weights, drawn from PyTorch's global generator.

    n_outputs : of a user's own closed form, if it shall not be imported to find out
    """
    if topology not in get_args(Topology):
        raise ValueError(
            f"there is no topology {topology!r}: the known ones are {', '.join(get_args(Topology))}"
        )
    if ":" in feature:
        if topology != "compact":
            raise ValueError(f"{feature} has the compact topology only: the others are those of the five")
        return StridedFin(n_outputs or get_feature(feature).n_outputs)
    get_feature(feature)
    if topology == "paper":
        if feature not in FEATURES:
            raise ValueError(f"nobody published a FIN of {feature}: it has the compact topology only")
        return build_paper_fin(feature)
    if topology == "pruned" and feature not in PRUNABLE:
        raise ValueError(
            f"only {' and '.join(PRUNABLE)} can be pruned: the weights of {feature} are all needed"
        )
    return COMPACT[feature]()


def build_paper_fin(feature: str) -> PaperFin:
    """The published stack of one of the five features."""
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
