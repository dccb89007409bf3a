"""Long convolutions with max pooling, fast on a CPU: by FFT, a few windows at a time, which stay in cache.

The published chroma, mfcc and mel stacks convolve a window with 256 to 512 kernels of 512 taps and keep only
the maxima over pools. Directly this is 201 million multiply-adds a window; by FFT a tenth. Backwards only the
maxima carry gradients. `benchmarks/convolution.py` measures both ways.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

WINDOWS, KERNELS = 4, 32  # taken at once: their spectra fit into a core's cache


def pooled_convolution(signal: Tensor, kernels: Tensor, pool: int, stride: int) -> Tensor:
    """`max_pool1d(conv1d(signal, kernels), pool, stride)` for one input channel and no padding.

    signal : (batch, n_samples); kernels : (n_kernels, n_taps)
    returns : (batch, n_kernels, n_pools)
    """
    if signal.device.type != "cpu" or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return functional.max_pool1d(functional.conv1d(signal[:, None], kernels[:, None]), pool, stride)
    return _PooledConvolution.apply(signal, kernels, pool, stride)


class _PooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, kernels: Tensor, pool: int, stride: int) -> Tensor:
        n_samples = signal.shape[1]
        n_positions = n_samples - kernels.shape[1] + 1
        n_pools = (n_positions - pool) // stride + 1
        spectrum = torch.fft.rfft(signal)[:, None]
        response = torch.fft.rfft(kernels, n_samples).conj().resolve_conj()
        maxima = signal.new_empty(len(signal), len(kernels), n_pools)
        positions = torch.empty(maxima.shape, dtype=torch.int64)
        for rows in _groups(len(signal), WINDOWS):
            for columns in _groups(len(kernels), KERNELS):
                # circular correlation; the first n_positions don't wrap around
                convolved = torch.fft.irfft(spectrum[rows] * response[columns], n_samples)[..., :n_positions]
                maxima[rows, columns], positions[rows, columns] = functional.max_pool1d(
                    convolved, pool, stride, return_indices=True
                )
        ctx.save_for_backward(signal, kernels, positions)
        return maxima

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        signal, kernels, positions = ctx.saved_tensors
        (gradient,) = gradients
        n_samples = signal.shape[1]
        spectrum = torch.fft.rfft(signal)[:, None]
        response = torch.fft.rfft(kernels, n_samples)
        to_kernels = torch.zeros_like(response)
        to_signal = torch.zeros_like(signal) if ctx.needs_input_grad[0] else None
        for rows in _groups(len(signal), WINDOWS):
            for columns in _groups(len(kernels), KERNELS):
                at = positions[rows, columns]
                scattered = signal.new_zeros(*at.shape[:2], n_samples)
                transformed = torch.fft.rfft(scattered.scatter_add_(2, at, gradient[rows, columns]))
                to_kernels[columns] += (transformed.conj() * spectrum[rows]).sum(0)
                if to_signal is not None:
                    to_signal[rows] += torch.fft.irfft((transformed * response[columns]).sum(1), n_samples)
        return to_signal, torch.fft.irfft(to_kernels, n_samples)[:, : kernels.shape[1]], None, None


def _groups(n: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]
