"""Frames of FINs as a head wants them: decibels, without each recording's own mean, at a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fins.audio import SAMPLE_RATE
from fins.features import FEATURES
from fins.features.feature import Scale
from fins.features.pitch import pitches
from ser_heads.frontends import FrameBatch
from ser_heads.layers.compression import PowerLaw
from ser_heads.layers.masked import mask_until

Removed = Literal["level", "channel", "nothing"]
Compression = Literal["decibels", "learned"]
CHOICE, GATE = 200.0, 40.0  # how sharp the choice among pitches is, and that of what is voiced
VOICED = 0.5  # likeness from which on a window is rather voiced
LATE = 4e-4  # by which a period has to be more alike for each sample that it is longer
N_MELODY = 3
FAINTEST = 1e-10  # power below which a level isn't taken lower
PACKET = "wavelet packet"  # energies of its bands, which are powers as those of a mel FIN are


class VoicingAndPitch(nn.Module):
    """How alike windows are to themselves one period later → voicing, and the pitch of what is voiced.

    (batch, time, 96), as a pitch FIN gives it, and the mask → (batch, time, 3): the largest likeness, the
    semitones above 100 Hz, and those above the recording's mean. The last two are 0 where nothing is voiced.
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


class FrameNorm(nn.Module):
    """FIN outputs → frames of mean 0 and deviation 1 over the training recordings; powers as decibels, and of
    a pitch FIN voicing and melody, from which nothing is removed.

    slices : name of a feature, or PACKET → its columns before the norm; features : the same after it
    normalise : what of each recording is taken away first: "level", how loud it is over all; "channel", the
        mean of each output, and with it the colour that microphone and room leave, but also that of the
        voice; or "nothing"
    compression : of powers and amplitudes: decibels, or a power law that is learned from there
    mean, deviation : (n_features,) buffers, set by `calibrate`
    Raises ValueError for anything else to be taken away.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        slices: Mapping[str, slice],
        normalise: Removed = "channel",
        compression: Compression = "decibels",
    ) -> None:
        super().__init__()
        if normalise not in get_args(Removed):
            raise ValueError(f"--removed is one of {', '.join(get_args(Removed))}, got {normalise!r}")
        self.slices, self.normalise = dict(slices), normalise
        self.melody = VoicingAndPitch()
        self.features: dict[str, slice] = {}
        start = 0
        for name, columns in slices.items():
            n_features = N_MELODY if name == "pitch" else columns.stop - columns.start
            self.features[name] = slice(start, start + n_features)
            start += n_features
        self.n_features = start
        bands = {name: columns.stop - columns.start for name, columns in slices.items() if is_level(name)}
        learned = bands if compression == "learned" else {}
        self.compressions = nn.ModuleDict({name: PowerLaw(n) for name, n in learned.items()})
        self.register_buffer("mean", torch.zeros(start))
        self.register_buffer("deviation", torch.ones(start))

    def extra_repr(self) -> str:
        return f"normalise={self.normalise}"

    def level(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """(batch, time, column) and (batch,) lengths → (batch, time, n_features), before the common scale.

        What is beyond a recording's end is finite and means nothing.
        """
        mask = mask_until(lengths, outputs.shape[1])
        parts = []
        for name, columns in self.slices.items():
            part = outputs[..., columns]
            if name == "pitch":
                parts.append(self.melody(part, mask))
                continue
            if is_level(name):
                power = part.square() if scale_of(name) == "amplitude" else part
                part = 10 * torch.log10(power.clamp_min(FAINTEST))
            if name in self.compressions:
                part = self.compressions[name](part, mask)
            mean = (part * mask[..., None]).sum(dim=1, keepdim=True) / lengths[:, None, None]
            if self.normalise == "channel":
                part = part - mean
            elif self.normalise == "level" and is_level(name):
                part = part - mean.mean(dim=2, keepdim=True)
            parts.append(part)
        return torch.cat(parts, dim=2)

    def forward(self, frames: FrameBatch) -> FrameBatch:
        """0 beyond each end. Always in float32: half of its digits would blur the pitch."""
        values, lengths = frames
        with torch.autocast(values.device.type, enabled=False):
            levelled = (self.level(values, lengths) - self.mean) / self.deviation
            return FrameBatch(levelled * mask_until(lengths, values.shape[1])[..., None], lengths)

    @torch.no_grad()
    def calibrate(self, frames: Iterable[FrameBatch]) -> None:
        """Set the scales to those of some training recordings, in batches as they come.

        What doesn't vary is left as it is. Raises ValueError for none.
        """
        total, squares = torch.zeros(2, self.n_features, dtype=torch.float64)
        n_frames = 0
        for values, lengths in frames:
            for row, n in zip(values.split(1), lengths.split(1), strict=True):
                levelled = self.level(row[:, : int(n)].float(), n)[0].double().cpu()
                total += levelled.sum(dim=0)
                squares += levelled.square().sum(dim=0)
                n_frames += len(levelled)
        if n_frames == 0:
            raise ValueError("scales are taken from at least one recording, got none")
        mean = total / n_frames
        deviation = (squares / n_frames - mean.square()).clamp_min(0).sqrt().float()
        self.mean.copy_(mean.float())
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


def scale_of(name: str) -> Scale:
    """Of a feature's outputs; one's own closed form, which needn't be there any more, has its own."""
    if name == PACKET:
        return "power"
    return FEATURES[name].scale if name in FEATURES else "own"


def is_level(name: str) -> bool:
    """Whether a feature goes in as decibels."""
    return scale_of(name) in ("power", "amplitude")
