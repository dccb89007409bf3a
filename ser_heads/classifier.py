"""The classifier: branches turn an utterance into frames, a head turns the frames into eight logits."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from fins.audio import SAMPLE_RATE
from fins.features import pitches
from fins.store import EMOTIONS
from ser_heads.attention import AttentiveStatistics, MaskedBatchNorm, mask_until
from ser_heads.augmentation import Augmentation
from ser_heads.base import UtteranceModel, spread_over
from ser_heads.data import Batch
from ser_heads.fin_branch import FinBranch
from ser_heads.wavelet_branch import WaveletBranch

if TYPE_CHECKING:
    from ser_heads.training import Feed

Removed = Literal["level", "channel", "nothing"]
CHOICE, GATE = 200.0, 40.0  # how sharp the choice among pitches is, and that of what is voiced
VOICED = 0.5  # likeness from which on a window is rather voiced
LATE = 4e-4  # by which a period has to be more alike for each sample that it is longer
SPECTRUM = 64  # outputs from which a feature counts as a spectrum
POWERS = {"mel": 1e-10, "rms": 1e-10}  # feature → power below which nothing is heard: these go in as decibels


class Melody(nn.Module):
    """How alike windows are to themselves one period later → voicing, and the pitch of what is voiced.

    (batch, time, 96), as a pitch FIN says it, and the mask → (batch, time, 3): the largest likeness, the
    semitones above 100 Hz, and those above the utterance's mean. The last two are 0 where nothing is voiced.
    """

    semitones: Tensor
    late: Tensor

    def __init__(self) -> None:
        super().__init__()
        hertz = torch.from_numpy(pitches())
        self.register_buffer("semitones", 12 * torch.log2(hertz / 100), persistent=False)
        self.register_buffer("late", LATE * SAMPLE_RATE / hertz, persistent=False)

    def forward(self, likeness: Tensor, mask: Tensor) -> Tensor:
        # two periods are as alike as one: the earlier one is meant
        shares = (CHOICE * (likeness - self.late)).softmax(dim=2)
        semitones = shares @ self.semitones
        largest = likeness.amax(dim=2)
        voiced = torch.sigmoid(GATE * (largest - VOICED)) * mask
        mean = (voiced * semitones).sum(dim=1, keepdim=True) / voiced.sum(dim=1, keepdim=True).clamp_min(0.1)
        return torch.stack([largest, voiced * semitones, voiced * (semitones - mean)], dim=2)


class Scaling(nn.Module):
    """FIN outputs → frames of mean 0 and deviation 1 over the training utterances; powers as decibels, and of
    a pitch FIN voicing and melody, from which nothing is removed.

    removed : what of each utterance is taken away first: "level", how loud it is over all; "channel", the
        mean of each output, and with it the colour that microphone and room leave, but also that of the
        voice; or "nothing"
    features : name of the FIN → its places in a frame
    mean, deviation : (n_features,) buffers, set by `calibrate`
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, slices: dict[str, slice], removed: Removed = "channel") -> None:
        super().__init__()
        if removed not in get_args(Removed):
            raise ValueError(f"removed is one of {', '.join(get_args(Removed))}, got {removed!r}")
        self.slices, self.removed = slices, removed
        self.melody = Melody()
        self.features: dict[str, slice] = {}
        start = 0
        for name, its in slices.items():
            n_features = 3 if name == "pitch" else its.stop - its.start
            self.features[name] = slice(start, start + n_features)
            start += n_features
        self.n_features = start
        self.register_buffer("mean", torch.zeros(start))
        self.register_buffer("deviation", torch.ones(start))

    def levelled(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """(batch, time, n_outputs) and the mask (batch, time) → (batch, time, n_features)."""
        n_frames = mask.sum(dim=1)[:, None, None]
        parts = []
        for name, its in self.slices.items():
            part = outputs[..., its]
            if name == "pitch":
                parts.append(self.melody(part, mask))
                continue
            if name in POWERS:
                power = part.square() if name == "rms" else part
                part = 10 * torch.log10(power.clamp_min(POWERS[name]))
            mean = (part * mask[..., None]).sum(dim=1, keepdim=True) / n_frames
            if self.removed == "channel":
                part = part - mean
            elif self.removed == "level" and name in POWERS:
                part = part - mean.mean(dim=2, keepdim=True)
            parts.append(part)
        return torch.cat(parts, dim=-1)

    def forward(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """0 where the mask shows padding. Always in float32: half of its digits would blur the pitch."""
        with torch.autocast(outputs.device.type, enabled=False):
            return (self.levelled(outputs, mask) - self.mean) / self.deviation * mask[..., None]

    def calibrate(self, mean: Tensor, deviation: Tensor) -> None:
        """Of levelled frames, (n_features,) each; what doesn't vary is left as it is."""
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


class SpectrumStem(nn.Module):
    """Small 2-D convolutions over a spectrum and time: (batch, time, bands) → (batch, n_features, time / 2).

    They see the same pattern in whatever band it is, so that a voice a little higher is no other voice.
    """

    def __init__(self, n_bands: int, n_kernels: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(1, n_kernels[0], 5, (2, 2), 2, bias=False)])
        self.convolutions += [
            nn.Conv2d(n_inputs, n_outputs, 3, (2, 1), 1, bias=False)
            for n_inputs, n_outputs in pairwise(n_kernels)
        ]
        self.norms = nn.ModuleList(MaskedBatchNorm(n) for n in n_kernels)
        self.dropout = nn.Dropout(dropout)
        self.n_features = n_kernels[-1] * -(-n_bands // 2 ** len(n_kernels))

    def forward(self, spectrum: Tensor, mask: Tensor) -> Tensor:
        hidden = spectrum.transpose(1, 2)[:, None]  # (batch, 1, band, time)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = convolution(hidden)  # halves the bands; the first one also the time
            hidden = torch.relu(norm(hidden, mask)) * mask[:, None, None]
        return self.dropout(hidden).flatten(1, 2)


class DilatedBlock(nn.Module):
    """Dilated convolution over time, norm, ReLU, dropout, and a way around it: (batch, channel, time)."""

    def __init__(self, n_inputs: int, n_channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(n_inputs, n_channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = MaskedBatchNorm(n_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.norm(self.convolution(frames), mask))) * mask[:, None]
        return hidden + frames if hidden.shape == frames.shape else hidden


class TemporalHead(nn.Module):
    """Frames → eight logits: a 2-D stem over spectra, dilated convolutions over time, the outputs of all
    layers together, attentive statistics pooling.

    frames : (batch, time, feature), 0 where the mask (batch, time) shows padding; spectra : which features
    are the bands of a spectrum; summary : (batch, n_summary) of an utterance as a whole, beside the frames
    """

    def __init__(
        self,
        n_features: int,
        spectra: list[slice],
        n_summary: int = 0,
        n_kernels: tuple[int, ...] = (16, 32, 48, 64),
        n_channels: int = 96,
        n_pooled: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.spectra = spectra
        banded = {place for its in spectra for place in range(its.start, its.stop)}
        self.plain = [place for place in range(n_features) if place not in banded]
        self.stems = nn.ModuleList(
            SpectrumStem(its.stop - its.start, n_kernels, dropout / 2) for its in spectra
        )
        n_inputs = len(self.plain) + sum(int(stem.n_features) for stem in self.stems)  # type: ignore[misc, arg-type]
        sizes = (n_inputs, n_channels, n_channels, n_channels)
        self.blocks = nn.ModuleList(
            DilatedBlock(size, n_channels, dilation, dropout)
            for size, dilation in zip(sizes, (1, 1, 2, 4), strict=True)
        )
        self.together = nn.Conv1d(len(sizes) * n_channels, n_pooled, 1, bias=False)
        self.together_norm = MaskedBatchNorm(n_pooled)
        self.pool = AttentiveStatistics(n_pooled, n_pooled // 4)
        self.logits = nn.Sequential(
            nn.BatchNorm1d(2 * n_pooled + n_summary),
            nn.Dropout(dropout),
            nn.Linear(2 * n_pooled + n_summary, len(EMOTIONS)),
        )

    def forward(self, frames: Tensor, mask: Tensor, summary: Tensor | None = None) -> Tensor:
        halved = mask[:, ::2]  # the first layer takes every second frame
        inputs = [stem(frames[..., its], halved) for stem, its in zip(self.stems, self.spectra, strict=True)]
        hidden = torch.cat([*inputs, frames[:, ::2, self.plain].transpose(1, 2)], dim=1)
        layers = []
        for block in self.blocks:
            hidden = block(hidden, halved)
            layers.append(hidden)
        together = torch.relu(self.together_norm(self.together(torch.cat(layers, dim=1)), halved))
        pooled = self.pool(together, halved)  # (batch, 2 * n_pooled)
        if summary is not None:
            pooled = torch.cat([pooled, summary], dim=1)
        return self.logits(pooled)


class Classifier(UtteranceModel):
    """Branches and a head: a batch of utterances → (batch, 8) logits, in the order of EMOTIONS.

    One of the branches may be missing. Padding changes nothing: an utterance has the same logits in any
    batch.
    """

    whole = False

    def __init__(
        self, fins: FinBranch | None, wavelets: WaveletBranch | None, removed: Removed = "channel"
    ) -> None:
        super().__init__(fins)
        if fins is None and wavelets is None:
            raise ValueError("a classifier has a FIN branch, a wavelet branch or both")
        self.wavelets = wavelets
        self.scaling = Scaling(fins.slices, removed) if fins is not None else None
        features = self.scaling.features if self.scaling is not None else {}
        self.levels = [its for name, its in features.items() if name in POWERS]
        self.spectra = [its for its in features.values() if its.stop - its.start >= SPECTRUM]
        n_features = self.scaling.n_features if self.scaling is not None else 0
        n_summary = 0
        if wavelets is not None:
            n_features += wavelets.config.n_features
            n_summary = wavelets.config.n_summary
        self.head = TemporalHead(n_features, self.spectra, n_summary)

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits, and the targets that belong to them, (batch, 8) each."""
        n_frames, summary = batch.n_frames, None
        parts = []
        if self.scaling is not None:
            outputs = self.heard(batch)
            mask = mask_until(n_frames, outputs.shape[1])
            mel = self.scaling.slices.get("mel")
            if augmentation is not None and mel is not None:
                assert generator is not None
                louder = augmentation.with_noise(outputs[..., mel], mask, generator)
                outputs = torch.cat([outputs[..., : mel.start], louder, outputs[..., mel.stop :]], dim=2)
            parts.append(self.scaling(outputs, mask))
        if self.wavelets is not None:
            assert batch.signal is not None
            heard = self.wavelets(batch.signal, batch.n_samples)
            parts.append(heard.sequence.transpose(1, 2))
            summary = heard.summary
        frames = torch.cat(parts, dim=2)  # (batch, time, feature)
        targets = batch.targets()
        if augmentation is not None:
            assert generator is not None
            frames, n_frames = augmentation.stretched(frames, n_frames, generator)
            frames = frames * mask_until(n_frames, frames.shape[1])[..., None]
            frames = augmentation.contrasted(frames, self.levels, generator)
            for bands in self.spectra:
                frames = augmentation.masked(frames, n_frames, bands, generator)
            share, other = augmentation.shares(len(frames), generator)
            other = other.to(frames.device)
            frames = torch.lerp(frames[other], frames, share)
            targets = torch.lerp(targets[other], targets, share)
            n_frames = torch.maximum(n_frames, n_frames[other]) if share < 1 else n_frames
            summary = torch.lerp(summary[other], summary, share) if summary is not None else None
        return self.head(frames, mask_until(n_frames, frames.shape[1]), summary), targets

    def heard(self, batch: Batch) -> Tensor:
        """(batch, time, n_outputs) of the FINs, now or when they were frozen."""
        if batch.outputs is not None:
            return batch.outputs
        assert self.fins is not None and batch.signal is not None
        return self.fins(batch.signal, batch.n_samples)

    def hears_signal(self, frozen: bool) -> bool:
        return (self.fins is not None and not frozen) or self.wavelets is not None

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        """Set the scales of the frames to those of some training utterances, as they were recorded."""
        if self.scaling is None:
            return
        total, squares = torch.zeros(2, self.scaling.n_features, dtype=torch.float64)
        n_frames = 0
        for utterance in spread_over(utterances):
            with torch.no_grad():
                outputs = self.heard(feed.batch([int(utterance)], [0]))
            there = torch.ones(outputs.shape[:2], dtype=torch.bool)
            levelled = self.scaling.levelled(outputs, there)[0].double()
            total += levelled.sum(dim=0)
            squares += levelled.square().sum(dim=0)
            n_frames += len(levelled)
        mean = total / n_frames
        variance = (squares / n_frames - mean.square()).clamp_min(0)
        self.scaling.calibrate(mean.float(), variance.sqrt().float())

    def penalty(self) -> Tensor | None:
        """How far the wavelet kernels are from perfect reconstruction, where there are any."""
        return self.wavelets.penalty() if self.wavelets is not None else None
