"""Compression of levels that learns: a power law for each band, which starts exactly at decibels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LARGEST = 0.3  # exponent: about a cube root, as hearing is said to have it
SMALL = 1e-2  # below this a series is more exact than a difference of nearly equal numbers


class PowerLaw(nn.Module):
    """(batch, time, band) decibels and the mask (batch, time) → the same, compressed: about the recording's
    mean level m a level L becomes m + (exp(a · (L - m)) - 1) / a, L in nepers of power there.

    exponents : (n_bands,) a, learned, from -0.3 to 0.3. At 0, where they start, nothing changes; above it
        loud frames count more, below it faint ones do. How loud a recording is over all makes no difference
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.exponents = nn.Parameter(torch.zeros(n_bands))

    def forward(self, decibels: Tensor, mask: Tensor) -> Tensor:
        shown = mask[..., None]
        n_levels = shown.sum(dim=1, keepdim=True) * decibels.shape[2]
        mean = (decibels * shown).sum(dim=(1, 2), keepdim=True) / n_levels
        above = decibels - mean
        steps = self.exponents * above * (math.log(10) / 10)
        small = steps.abs() < SMALL
        whole = torch.where(small, torch.ones_like(steps), steps)  # whose gradient is finite
        series = steps / 2 + steps.square() / 6 + steps.pow(3) / 24
        return decibels + above * torch.where(small, series, (whole.exp() - 1) / whole - 1)

    def constrain(self) -> None:
        """After a step of training."""
        with torch.no_grad():
            self.exponents.clamp_(-LARGEST, LARGEST)
