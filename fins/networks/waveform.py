"""Compact FINs of features of the samples themselves: root mean square and zero crossing rate."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from fins.audio import WINDOW
from fins.features.zcr import ZERO
from fins.networks.compact import FAINTEST, CompactFin, Stage, mean_stage


class RmsFin(CompactFin):
    """The root of a weighted mean of squares: 2,048 parameters."""

    feature = "rms"

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(WINDOW))

    def imitate(self, windows: Tensor) -> Tensor:
        energy = nn.functional.linear(windows.square(), self.weights[None] / WINDOW)
        return energy.clamp_min(FAINTEST).sqrt()

    def stages(self) -> list[Stage]:
        return [mean_stage("mean of squares", self.weights, WINDOW)]

    def multiply_adds(self) -> int:
        return 2 * WINDOW


class ZcrFin(CompactFin):
    """Soft signs of samples, magnitudes of weighted sums of pairs, a weighted mean: 2,051 parameters."""

    feature = "zcr"

    def __init__(self) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.randn(()))
        self.offset = nn.Parameter(torch.randn(()))
        self.pair = nn.Parameter(torch.randn(2))
        self.weights = nn.Parameter(torch.rand(WINDOW - 1))

    def signs(self, samples: Tensor) -> Tensor:
        """-1 to 1; unlike a hyperbolic tangent it keeps a gradient where it is almost there."""
        return nn.functional.softsign(samples * self.log_gain.exp() + self.offset)

    def changes(self, signs: Tensor) -> Tensor:
        """0 to 1, of neighbouring signs."""
        return (self.pair[0] * signs[:, :-1] + self.pair[1] * signs[:, 1:]).abs()

    def imitate(self, windows: Tensor) -> Tensor:
        return nn.functional.linear(self.changes(self.signs(windows)), self.weights[None] / WINDOW)

    def stages(self) -> list[Stage]:
        return [
            Stage(
                "signs",
                [self.log_gain, self.offset],
                excite=_faint_and_loud,
                imitate=self.signs,
                target=lambda samples: torch.where(samples < -ZERO, -1.0, 1.0),
                n_steps=1500,
                batch_size=4096,
                learning_rate=0.1,
            ),
            Stage(
                "changes of sign",
                [self.pair],
                excite=lambda n, generator: torch.randint(2, (n, 2), generator=generator) * 2.0 - 1,
                imitate=self.changes,
                target=lambda signs: (signs[:, :1] != signs[:, 1:]).float(),
                n_steps=1000,
                batch_size=256,
                learning_rate=0.02,
            ),
            mean_stage("mean of changes", self.weights, WINDOW - 1),
        ]

    def multiply_adds(self) -> int:
        return 5 * WINDOW


def _faint_and_loud(n: int, generator: Generator) -> Tensor:
    """(n,) samples of both signs from 1e-9 to 1, every magnitude as likely as another, and some zeros."""
    magnitude = 10 ** (-9 * torch.rand(n, generator=generator))
    sign = torch.randint(-1, 2, (n,), generator=generator)
    return magnitude * sign
