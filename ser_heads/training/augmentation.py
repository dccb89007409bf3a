"""What training frames go through, anew in each epoch: frames and targets in, frames and targets out.

Everything is drawn from one generator in one order; what is at its neutral value isn't drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import mask_until
from ser_heads.model import FrameLayout
from ser_heads.training.recipe import Augmentation

COLOUR = 20.0  # dB, by which the highest band of steady noise is above or below the middle one, at most


def augment_outputs(
    frames: FrameBatch, layout: FrameLayout, options: Augmentation, generator: Generator
) -> FrameBatch:
    """Before the norm: steady noise in the columns that are powers of a spectrum."""
    if not layout.powers or options.noisy == 0:
        return frames
    mask = mask_until(frames.lengths, frames.values.shape[1])
    draws = torch.rand(3, len(mask), 1, 1, generator=generator).to(mask.device)
    values = frames.values.clone()
    for columns in layout.powers:
        values[..., columns] = add_noise(frames.values[..., columns], mask, options, draws)
    return frames._replace(values=values)


def augment_frames(
    frames: FrameBatch, targets: Tensor, layout: FrameLayout, options: Augmentation, generator: Generator
) -> tuple[FrameBatch, Tensor]:
    """After the norm: pace, contrast, masks, mixtures.

    targets : (batch, n_classes) shares of labels, mixed as the frames are
    """
    values, lengths = frames
    if options.stretch > 1:
        values, lengths = stretch(values, lengths, options.stretch, generator)
        values, lengths = fit_frames(values, lengths, layout)
    if options.contrast > 1:
        values = change_contrast(values, layout.levels, options.contrast, generator)
    if options.n_masks and layout.spectra:
        values = mask_runs(values, lengths, layout.spectra, options, generator)
    if options.mixup:
        share, order = draw_mixture(len(values), options.mixup, generator)
        other = order.to(values.device)
        values = torch.lerp(values[other], values, share)
        targets = torch.lerp(targets[other], targets, share)
        lengths = torch.maximum(lengths, lengths[other])
    return FrameBatch(values, lengths), targets


def add_noise(powers: Tensor, mask: Tensor, options: Augmentation, draws: Tensor) -> Tensor:
    """(batch, time, band) powers and the mask (batch, time) → the same and noise.

    draws : (3, batch, 1, 1) from 0 to 1, of its colour, its level, and whether there is any
    """
    slope = torch.linspace(-COLOUR, COLOUR, powers.shape[2], device=powers.device)
    colour = 10 ** ((2 * draws[0] - 1) * slope / 10)
    shown = mask[..., None]
    total = (powers * shown).mean(dim=2, keepdim=True).sum(dim=1, keepdim=True)
    mean = total / shown.sum(dim=1, keepdim=True)
    least, most = options.noise
    level = mean * 10 ** ((least + (most - least) * draws[1]) / 10) * (draws[2] < options.noisy)
    return powers + level * colour / colour.mean(dim=2, keepdim=True) * shown


def stretch(values: Tensor, lengths: Tensor, factor: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """(batch, time, column) and (batch,) → the same of other lengths, by linear interpolation."""
    draw = torch.rand(len(values), generator=generator).to(values.device) * 2 - 1
    wanted = (lengths * factor**draw).long().clamp_min(1)
    step = (lengths - 1) / (wanted - 1).clamp_min(1)
    place = torch.arange(int(wanted.max()), device=values.device) * step[:, None]
    place = torch.minimum(place, (lengths - 1)[:, None])  # (batch, time)
    before = place.long()
    after = torch.minimum(before + 1, (lengths - 1)[:, None])
    rows = torch.arange(len(values), device=values.device)[:, None]
    share = (place - before)[..., None]
    return torch.lerp(values[rows, before], values[rows, after], share), wanted


def fit_frames(values: Tensor, lengths: Tensor, layout: FrameLayout) -> tuple[Tensor, Tensor]:
    """Nothing beyond each end, and as many frames as the head takes, if it takes no others."""
    there = mask_until(lengths, values.shape[1])[..., None]
    values = values * there if layout.fill == 0 else values.masked_fill(~there, layout.fill)
    if layout.n_frames is None:
        return values, lengths
    missing = max(0, layout.n_frames - values.shape[1])
    values = functional.pad(values[:, : layout.n_frames], (0, 0, 0, missing), value=layout.fill)
    return values, lengths.clamp_max(layout.n_frames)


def change_contrast(values: Tensor, levels: Sequence[slice], factor: float, generator: Generator) -> Tensor:
    """Columns that are levels above or below their mean, nearer to it or farther from it."""
    draw = torch.rand(len(values), 1, 1, generator=generator).to(values.device) * 2 - 1
    factors = torch.ones(len(values), 1, values.shape[2], device=values.device)
    for columns in levels:
        factors[..., columns] = factor**draw
    return values * factors


def mask_runs(
    values: Tensor, lengths: Tensor, spectra: Sequence[slice], options: Augmentation, generator: Generator
) -> Tensor:
    """Runs of frames, and of the columns of spectra, at zero; in each spectrum at about the same place."""
    time = torch.arange(values.shape[1], device=values.device)
    keep_time = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    keep = torch.ones(len(values), values.shape[2], dtype=torch.bool, device=values.device)
    for _ in range(options.n_masks):
        draws = torch.rand(4, len(values), 1, generator=generator).to(values.device)
        width = draws[0] * options.masked_time * lengths[:, None]
        start = draws[1] * (lengths[:, None] - width)
        keep_time &= (time < start) | (time >= start + width)
        for bands in spectra:
            n_bands = bands.stop - bands.start
            band = torch.arange(n_bands, device=values.device)
            width = draws[2] * min(options.masked_bands, n_bands / 4)
            start = draws[3] * (n_bands - width)
            keep[:, bands] &= (band < start) | (band >= start + width)
    return values * keep_time[..., None] * keep[:, None]


def draw_mixture(n: int, mixup: float, generator: Generator) -> tuple[float, Tensor]:
    """One recording's share of a mix, and (n,) which other one each is mixed with."""
    order = torch.randperm(n, generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    return float(np.random.default_rng(seed).beta(mixup, mixup)), order
