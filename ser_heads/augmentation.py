"""What training utterances go through: the whole signal once a copy, and its frames anew in each epoch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from fins.audio import SAMPLE_RATE, Signal

SPEED = 1.2  # a copy is at most so much faster or slower, pitch and formants with it
NOISY = 0.3  # share of the copies that get noise
SNR = (20.0, 50.0)  # dB
GAIN = 3.0  # dB, up or down
COLOUR = 20.0  # dB, by which the highest band of steady noise is above or below the middle one, at most
PERTURBATION = (SPEED, NOISY, SNR, GAIN)  # what tells these copies from other ones


def perturb(signal: Signal, utterance: str, copy: int) -> Signal:
    """A copy of (n_samples,) in another voice, pace, level and noise; copy 0 is the signal itself.

    Which one depends on the utterance's name and the copy's number alone, so that every branch, epoch and run
    hears the same copies.
    """
    if copy == 0:
        return signal
    import soxr

    rng = np.random.default_rng([zlib.crc32(utterance.encode()), copy])
    rate = SPEED ** rng.uniform(-1, 1)
    perturbed = soxr.resample(signal, SAMPLE_RATE * rate, SAMPLE_RATE, quality="MQ")
    if rng.random() < NOISY:
        level = np.sqrt(np.mean(np.square(perturbed))) * 10 ** (-rng.uniform(*SNR) / 20)
        perturbed = perturbed + level * rng.standard_normal(len(perturbed))
    gain = min(10 ** (rng.uniform(-GAIN, GAIN) / 20), 1 / max(np.abs(perturbed).max(), 1e-9))
    return (gain * perturbed).astype(np.float32)


@dataclass(frozen=True)
class Augmentation:
    """Of frames, (batch, time, feature), drawn from a generator; sizes are the most that can be drawn."""

    seconds: float = 3.0
    """A longer utterance is cut to a stretch of this length, anywhere in it."""
    stretch: float = 1.16
    """Longer or shorter by this factor: another pace, the same pitch."""
    noisy: float = 0.5
    """Share of the utterances to whose mel bands steady noise of some colour is added."""
    noise: tuple[float, float] = (-50.0, -10.0)
    """Its power by that of the utterance, in dB, from the least to the most."""
    contrast: float = 1.4
    """Levels rise and fall by this factor more or less, in decibels: a livelier or a calmer voice."""
    n_masks: int = 2
    """Runs of bands, and runs of frames, that are set to zero, the mean."""
    masked_bands: int = 20
    """Of a spectrum, in each run; never more than a quarter of it."""
    masked_time: float = 0.15
    """Share of an utterance, in each run."""
    mixup: float = 0.3
    """Both parameters of the beta distribution from which shares of two utterances are drawn; 0 for none."""

    def stretched(self, frames: Tensor, n_frames: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """(batch, time, feature) and (batch,) → the same of other lengths, by linear interpolation."""
        draw = torch.rand(len(frames), generator=generator).to(frames.device) * 2 - 1
        wanted = (n_frames * self.stretch**draw).long().clamp_min(1)
        step = (n_frames - 1) / (wanted - 1).clamp_min(1)
        place = torch.arange(int(wanted.max()), device=frames.device) * step[:, None]
        place = torch.minimum(place, (n_frames - 1)[:, None])  # (batch, time)
        before = place.long()
        after = torch.minimum(before + 1, (n_frames - 1)[:, None])
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        share = (place - before)[..., None]
        return torch.lerp(frames[rows, before], frames[rows, after], share), wanted

    def with_noise(self, powers: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """(batch, time, band) powers and the mask (batch, time) → the same and noise."""
        draws = torch.rand(3, len(powers), 1, 1, generator=generator).to(powers.device)
        slope = torch.linspace(-COLOUR, COLOUR, powers.shape[2], device=powers.device)
        colour = 10 ** ((2 * draws[0] - 1) * slope / 10)
        shown = mask[..., None]
        mean = (powers * shown).mean(dim=2, keepdim=True).sum(dim=1, keepdim=True) / shown.sum(
            dim=1, keepdim=True
        )
        least, most = self.noise
        level = mean * 10 ** ((least + (most - least) * draws[1]) / 10) * (draws[2] < self.noisy)
        return powers + level * colour / colour.mean(dim=2, keepdim=True) * shown

    def contrasted(self, frames: Tensor, levels: Sequence[slice], generator: Generator) -> Tensor:
        """Features that are levels above or below their mean, nearer to it or farther from it."""
        draw = torch.rand(len(frames), 1, 1, generator=generator).to(frames.device) * 2 - 1
        factors = torch.ones(len(frames), 1, frames.shape[2], device=frames.device)
        for its in levels:
            factors[..., its] = self.contrast**draw
        return frames * factors

    def masked(self, frames: Tensor, n_frames: Tensor, bands: slice, generator: Generator) -> Tensor:
        """Runs of frames, and of the features of a spectrum, at zero."""
        n_bands = bands.stop - bands.start
        time = torch.arange(frames.shape[1], device=frames.device)
        band = torch.arange(n_bands, device=frames.device)
        keep_time = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        keep_band = torch.ones(len(frames), n_bands, dtype=torch.bool, device=frames.device)
        for _ in range(self.n_masks):
            draws = torch.rand(4, len(frames), 1, generator=generator).to(frames.device)
            width = draws[0] * self.masked_time * n_frames[:, None]
            start = draws[1] * (n_frames[:, None] - width)
            keep_time &= (time < start) | (time >= start + width)
            width = draws[2] * min(self.masked_bands, n_bands / 4)
            start = draws[3] * (n_bands - width)
            keep_band &= (band < start) | (band >= start + width)
        masked = frames * keep_time[..., None]
        masked[..., bands] = masked[..., bands] * keep_band[:, None]
        return masked

    def shares(self, n: int, generator: Generator) -> tuple[float, Tensor]:
        """One utterance's share of a mix, and (n,) which other one each is mixed with."""
        order = torch.randperm(n, generator=generator)
        if self.mixup == 0:
            return 1.0, order
        seed = int(torch.randint(2**31, (), generator=generator))
        return float(np.random.default_rng(seed).beta(self.mixup, self.mixup)), order
