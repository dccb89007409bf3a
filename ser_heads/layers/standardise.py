"""Frames to mean 0 and deviation 1 over the training recordings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import mask_until

FAINTEST = 1e-10  # power; what is fainter isn't told apart


class Standardise(nn.Module):
    """FrameBatch → FrameBatch, (values - mean) / deviation.

    n_columns : of frames, each with a mean and a deviation of its own; None for one of either over all
    decibels : values are powers, and become decibels first, those below 1e-10 as if they were that
    masked : 0 beyond each end afterwards too, where else a mean has been taken away
    least : deviation below which none is taken, so that of silence nothing is left
    mean, deviation : () or (n_columns,) buffers, 0 and 1 until `calibrate`
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        n_columns: int | None = None,
        *,
        decibels: bool = False,
        masked: bool = False,
        least: float = 1e-9,
    ) -> None:
        super().__init__()
        shape = () if n_columns is None else (n_columns,)
        self.decibels, self.masked, self.least = decibels, masked, least
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def forward(self, frames: FrameBatch) -> FrameBatch:
        values = (self.levels(frames.values) - self.mean) / self.deviation
        if self.masked:
            values = values * mask_until(frames.lengths, values.shape[1])[..., None]
        return frames._replace(values=values)

    def levels(self, values: Tensor) -> Tensor:
        """Powers as decibels, if that is what they are."""
        return 10 * torch.log10(values.clamp_min(FAINTEST)) if self.decibels else values

    @torch.no_grad()
    def calibrate(self, frames: Iterable[FrameBatch]) -> None:
        """Set both to those of all frames together, which are read once. ValueError for none."""
        n, mean, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for batch in frames:
            rows = self.levels(batch.values)[mask_until(batch.lengths, batch.values.shape[1])].double()
            rows = (rows if self.mean.ndim else rows.view(-1, 1)).cpu()  # (n, column)
            n_rows, distance = rows.shape[0], rows.mean(dim=0) - mean
            share = n_rows / (n + n_rows)
            squares = squares + rows.var(dim=0, correction=0) * n_rows + distance.square() * n * share
            n, mean = n + n_rows, mean + distance * share
        if n == 0:
            raise ValueError("scales are taken from at least one recording, got none")
        self.mean.copy_(mean.view_as(self.mean))
        self.deviation.copy_((squares / n).sqrt().clamp_min(self.least).view_as(self.deviation))
