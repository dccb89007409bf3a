"""Rows of any length in a stretch of a fixed one: anywhere in training, in the middle otherwise."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Placed(nn.Module):
    """(batch, time, ...) rows and (batch,) lengths → (batch, n, ...): zeros before and after a shorter row,
    of a longer one a stretch.

    Which share of what is added, or left out, lies before is drawn in training, by torch's own generator as
    in dropout, and half of it otherwise.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def extra_repr(self) -> str:
        return str(self.n)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        shares = torch.full_like(lengths, 0.5, dtype=torch.float32)
        return place(rows, lengths, self.n, torch.rand_like(shares) if self.training else shares)


def place(rows: Tensor, lengths: Tensor, n: int, shares: Tensor) -> Tensor:
    """(batch, time, ...) → (batch, n, ...); shares : (batch,), 0 to 1, of n - length that lies before."""
    before = ((n - lengths) * shares).long()
    steps = torch.arange(n, device=rows.device) - before[:, None]  # (batch, n)
    mask = (steps >= 0) & (steps < lengths[:, None])
    shape = (*steps.shape, *[1] * (rows.ndim - 2))
    index = steps.clamp(0, rows.shape[1] - 1).view(shape).expand(-1, -1, *rows.shape[2:])
    return rows.gather(1, index) * mask.view(shape)
