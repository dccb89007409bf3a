"""The wavelet branch: a learnable packet, a small network over each band, all bands at the FINs' frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.audio import HOP, WINDOW
from ser_heads.attention import MaskedGru, MaskedInstanceNorm, SpatialAttention, TemporalAttention, mask_until
from ser_heads.data import count_frames
from ser_heads.wavelet_packet import Sharing, WaveletPacket

Length = TypeVar("Length", int, Tensor)
FAINTEST = 1e-4  # root mean square, 3 of 32,768: what is fainter isn't amplified further
STRIDE = 4  # of either convolution
CHUNK = 1 << 21  # values of a layer at once: the system gives larger blocks page by page, at half the speed
STEP = STRIDE * STRIDE  # coefficients, 512 samples at a depth of 5: one hop


@dataclass(frozen=True)
class WaveletConfig:
    """What a wavelet branch is built from. The published system: db10, channels (128, 256), 32 to 128 hidden
    units in 3 to 9 layers, depth 4 to 10."""

    wavelet: str = "sym10"  # db10's bands, but all of them equally late: see `WaveletBranch.delay`
    depth: int = 5
    sharing: Sharing = "tree"
    threshold: bool = True
    channels: tuple[int, int] = (16, 32)
    n_hidden: int = 16  # of the recurrent network, each way
    n_layers: int = 1
    dropout: float = 0.2
    share_bands: bool = True  # one network for all bands, else one for each
    n_features: int = 32
    n_summary: int = 32


@dataclass(frozen=True)
class BranchOutput:
    """What the branch says of each utterance.

    sequence : (batch, n_features, time), at the frames of the FINs, 0 beyond an utterance's end
    n_frames : (batch,) int64, frames of each utterance
    summary : (batch, n_summary), in (-1, 1)
    """

    sequence: Tensor
    n_frames: Tensor
    summary: Tensor


class WaveletBranch(nn.Module):
    """Speech → a sequence and a summary that are learned from its wavelet packet.

    The level is standardised by each utterance's root mean square (the published system standardises by the
    mean and deviation of the training fold). Padding never changes a result.
    """

    def __init__(self, config: WaveletConfig) -> None:
        super().__init__()
        self.config = config
        n_bands = 2**config.depth
        self.packet = WaveletPacket(
            config.wavelet, config.depth, config.sharing, mode="zero", threshold=config.threshold
        )
        self.networks = nn.ModuleList(
            BandNetwork(config.channels, config.n_hidden, config.n_layers, config.dropout)
            for _ in range(1 if config.share_bands else n_bands)
        )
        self.band_weights = nn.Parameter(torch.ones(n_bands))
        self.mix = nn.Linear(n_bands * 2 * config.n_hidden, config.n_features)
        self.summarise = nn.Linear(n_bands * config.n_hidden, config.n_summary)

    def forward(self, signal: Tensor, n_samples: Tensor) -> BranchOutput:
        """signal : (batch, n) float32, amplitude about [-1, 1], each utterance at its start
        n_samples : (batch,) int64, samples of each, on the same device; what is beyond is ignored

        Raises ValueError for other shapes and for an utterance of no or of more than n samples.
        """
        if signal.ndim != 2 or n_samples.shape != signal.shape[:1]:
            raise ValueError(
                "signals have the shape (batch, n) and their lengths (batch,), "
                f"got {tuple(signal.shape)} and {tuple(n_samples.shape)}"
            )
        lengths = n_samples.tolist()
        if min(lengths) < 1 or max(lengths) > signal.shape[1]:
            raise ValueError(
                f"utterances have 1 to {signal.shape[1]} samples here, got {min(lengths)} to {max(lengths)}"
            )
        coefficients = self.packet(standardise(signal[:, : max(lengths)], n_samples))
        n_coefficients = torch.tensor(
            [self.packet.count_coefficients(n) for n in lengths], device=signal.device
        )
        outputs, vectors = self.over_bands(coefficients, n_coefficients)
        # a band's weight is applied to the matrix that its outputs are multiplied with, which is smaller
        weights = self.mix.weight.unflatten(1, (len(self.band_weights), -1)) * self.band_weights[:, None]
        mixed = weights.flatten(1) @ outputs + self.mix.bias[:, None]
        sequence, n_frames = self.at_frames(mixed, n_samples, quarter(quarter(n_coefficients)))
        summary = torch.tanh(self.summarise((vectors * self.band_weights[:, None]).flatten(1)))
        return BranchOutput(sequence, n_frames, summary)

    def over_bands(self, coefficients: Tensor, n_coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, band, n) → (batch, band · 2 · n_hidden, step) and (batch, band, n_hidden)."""
        batch, n_bands, _ = coefficients.shape
        if self.config.share_bands:
            folded = coefficients.flatten(0, 1)[:, None]  # (batch · band, 1, n)
            outputs, vectors = self.networks[0](folded, n_coefficients.repeat_interleave(n_bands))
            return outputs.reshape(batch, -1, outputs.shape[2]), vectors.unflatten(0, (batch, n_bands))
        results = [
            network(coefficients[:, [band]], n_coefficients) for band, network in enumerate(self.networks)
        ]
        outputs, vectors = zip(*results, strict=True)
        return torch.cat(outputs, dim=1), torch.stack(vectors, dim=1)

    def at_frames(self, steps: Tensor, n_samples: Tensor, n_steps: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n_features, step) → (batch, n_features, frame), by the step nearest to a frame's centre.

        Also returns how many frames each utterance has, (batch,), as `fins.audio.count_windows` counts them.
        """
        n_frames = count_frames(n_samples)
        frames = torch.arange(int(n_frames.max()), device=steps.device)
        centres = (frames * HOP + WINDOW // 2 - self.delay()) / (STEP * 2**self.config.depth)
        nearest = torch.minimum(centres.round().long().clamp_min(0), n_steps[:, None] - 1)  # (batch, frame)
        chosen = steps.gather(2, nearest[:, None].expand(-1, steps.shape[1], -1))
        return chosen * mask_until(n_frames, len(frames))[:, None], n_frames

    def delay(self) -> float:
        """The sample that coefficient 0 is centred on, before the first one.

        Coefficient k is 2 ** depth · k samples later, step j 2 ** depth · 16 · j. A frame is half a step from
        its step at worst, as all are with 20 taps at a depth of 5: 250 samples, 11 ms.

        It is right for the mean of all bands of an orthogonal wavelet. At a depth of 5 no band of sym10 is
        off by more than 24 samples, the worst of db10 by 211.
        """
        return (2**self.config.depth - 1) * (1 - (self.packet.kernels.shape[2] - 1) / 2)

    def penalty(self) -> Tensor:
        """How far the wavelet is from an orthogonal one: see `WaveletPacket.penalty`."""
        return self.packet.penalty()


class BandNetwork(nn.Module):
    """(batch, 1, n) coefficients, (batch,) how many → (batch, 2 · n_hidden, time), (batch, n_hidden).

    Two convolutions of stride 4, spatial attention, recurrent layers in both directions, temporal attention,
    as in the published system. Zero padding keeps step t centred on coefficient 16 · t; steps beyond an
    utterance's end are 0.
    """

    def __init__(self, channels: tuple[int, int], n_hidden: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        first, second = channels
        # no biases: the norm would subtract them
        self.first = nn.Conv1d(1, first, 7, stride=STRIDE, dilation=3, padding=9, bias=False)
        self.second = nn.Conv1d(first, second, 5, stride=STRIDE, dilation=2, padding=4, bias=False)
        self.norm = MaskedInstanceNorm()
        self.dropout = nn.Dropout(dropout)
        self.spatial = SpatialAttention(second)
        self.recurrent = MaskedGru(second, n_hidden, n_layers, dropout)
        self.temporal = TemporalAttention(2 * n_hidden, n_hidden)

    def forward(self, coefficients: Tensor, n_coefficients: Tensor) -> tuple[Tensor, Tensor]:
        n_steps = quarter(quarter(n_coefficients))
        size = max(1, CHUNK // (self.first.out_channels * quarter(coefficients.shape[2])))
        chunks = zip(coefficients.split(size), n_coefficients.split(size), strict=True)
        sequence = torch.cat([self.convolve(*chunk) for chunk in chunks])
        mask = mask_until(n_steps, sequence.shape[2])
        outputs = self.recurrent(self.spatial(sequence, mask), n_steps)
        return outputs, self.temporal(outputs, mask)

    def convolve(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """(batch, 1, n) → (batch, channel, n / 16), 0 beyond an utterance's end."""
        for convolution in (self.first, self.second):
            sequence, lengths = convolution(sequence), quarter(lengths)
            normal = self.norm(sequence, mask_until(lengths, sequence.shape[2]))
            sequence = self.dropout(functional.leaky_relu(normal))
        return sequence


def standardise(signal: Tensor, n_samples: Tensor) -> Tensor:
    """(batch, n) → each utterance at a root mean square of 1, 0 beyond its end; silence stays silence."""
    signal = signal * mask_until(n_samples, signal.shape[1])
    power = signal.square().sum(dim=1) / n_samples
    return signal / power.clamp_min(FAINTEST**2).sqrt()[:, None]


def quarter(length: Length) -> Length:
    """What a convolution of stride 4 leaves that is padded to be centred; at least one step."""
    return (length + STRIDE - 1) // STRIDE
