"""A step through the published mfcc stack's convolution and pool: ours against PyTorch's layers."""

from __future__ import annotations

import torch
from common import compare, machine
from torch.nn import functional

from fins.audio import WINDOW
from fins.networks.pooled_convolution import pooled_convolution


def main() -> None:
    """Print the ratios, forward and forward plus backward, after checking that both agree."""
    torch.manual_seed(0)
    signal = torch.randn(64, WINDOW)
    kernels = (0.02 * torch.randn(256, 512)).requires_grad_()

    def direct() -> torch.Tensor:
        return functional.max_pool1d(functional.conv1d(signal[:, None], kernels[:, None]), 512, 110)

    def by_fft() -> torch.Tensor:
        return pooled_convolution(signal, kernels, 512, 110)

    torch.testing.assert_close(by_fft(), direct(), rtol=1e-4, atol=1e-4)

    def forward(function: object) -> int:
        with torch.no_grad():
            function()  # type: ignore[operator]
        return len(signal)

    def step(function: object) -> int:
        function().sum().backward()  # type: ignore[operator]
        return len(signal)

    print(machine(), f"; {torch.get_num_threads()} threads", sep="")
    peer = "conv1d and max_pool1d"
    compare("forward", "windows", lambda: forward(by_fft), lambda: forward(direct), peer, rounds=5)
    compare("forward and backward", "windows", lambda: step(by_fft), lambda: step(direct), peer, rounds=5)


if __name__ == "__main__":
    main()
