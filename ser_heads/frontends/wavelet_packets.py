"""A learnable wavelet packet, a small network over each band, and all bands at the frames of the FINs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fins.audio import HOP, WINDOW
from ser_heads.frontends import FrameBatch, FrontEnd
from ser_heads.frontends.waveform import count_frames
from ser_heads.layers.band_network import STRIDE, BandNetwork, quarter
from ser_heads.layers.masked import mask_until
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket

FAINTEST = 1e-4  # root mean square, 3 of 32,768: what is fainter isn't amplified further
STEP = STRIDE * STRIDE  # coefficients, 512 samples at a depth of 5: one hop


@dataclass(frozen=True)
class WaveletConfig:
    """What a front end of wavelet packets is built from.

    The published system: db10, channels (128, 256), 32 to 128 hidden units in 3 to 9 layers, depth 4 to 10.
    """

    wavelet: str = "sym10"  # db10's bands, but all of them equally late: see `WaveletFrontEnd.delay`
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


class WaveletFrontEnd(FrontEnd):
    """Speech → frames and a summary that are learned from its wavelet packet.

    The level is standardised by each recording's root mean square (the published system standardises by the
    mean and deviation of the training fold). Padding never changes a result. The summary is (batch,
    n_summary), in (-1, 1).
    """

    def __init__(self, config: WaveletConfig) -> None:
        super().__init__()
        self.config, self.n_columns = config, config.n_features
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

    def extra_repr(self) -> str:
        return f"{self.config}"

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        """waveform : (batch, n), amplitude about [-1, 1]; lengths : (batch,); what is beyond is ignored"""
        coefficients = self.packet(standardise(waveform, lengths))
        n_coefficients = self.packet.count_coefficients(lengths)
        outputs, vectors = self.over_bands(coefficients, n_coefficients)
        # a band's weight is applied to the matrix that its outputs are multiplied with, which is smaller
        weights = self.mix.weight.unflatten(1, (len(self.band_weights), -1)) * self.band_weights[:, None]
        mixed = weights.flatten(1) @ outputs + self.mix.bias[:, None]
        n_frames = count_frames(lengths)
        time = max(0, waveform.shape[1] - WINDOW) // HOP + 1
        values = self.at_frames(mixed, quarter(quarter(n_coefficients)), time)
        values = values.transpose(1, 2) * mask_until(n_frames, time)[..., None]
        summary = torch.tanh(self.summarise((vectors * self.band_weights[:, None]).flatten(1)))
        return FrameBatch(values, n_frames, summary)

    def over_bands(self, coefficients: Tensor, n_coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, band, n) → (batch, band · 2 · n_hidden, step) and (batch, band, n_hidden)."""
        n_bands = coefficients.shape[1]
        if self.config.share_bands:
            folded = coefficients.flatten(0, 1)[:, None]  # (batch · band, 1, n)
            outputs, vectors = self.networks[0](folded, n_coefficients.repeat_interleave(n_bands))
            return outputs.unflatten(0, (-1, n_bands)).flatten(1, 2), vectors.unflatten(0, (-1, n_bands))
        results = [
            network(coefficients[:, [band]], n_coefficients) for band, network in enumerate(self.networks)
        ]
        outputs, vectors = zip(*results, strict=True)
        return torch.cat(outputs, dim=1), torch.stack(vectors, dim=1)

    def at_frames(self, steps: Tensor, n_steps: Tensor, n_frames: int) -> Tensor:
        """(batch, n_features, step) → (batch, n_features, n_frames), by the step nearest to a frame's centre
        among the (batch,) steps of each recording."""
        frames = torch.arange(n_frames, device=steps.device)
        centres = (frames * HOP + WINDOW // 2 - self.delay()) / (STEP * 2**self.config.depth)
        nearest = torch.minimum(centres.round().long().clamp_min(0), n_steps[:, None] - 1)  # (batch, frame)
        return steps.gather(2, nearest[:, None].expand(-1, steps.shape[1], -1))

    def delay(self) -> float:
        """The sample that coefficient 0 is centred on, before the first one.

        Coefficient k is 2 ** depth · k samples later, step j 2 ** depth · 16 · j. A frame is half a step from
        its step at worst, as all are with 20 taps at a depth of 5: 250 samples, 11 ms.

        It is right for the mean of all bands of an orthogonal wavelet. At a depth of 5 no band of sym10 is
        off by more than 24 samples, the worst of db10 by 211.
        """
        return (2**self.config.depth - 1) * (1 - (self.packet.kernels.shape[2] - 1) / 2)


def standardise(waveform: Tensor, lengths: Tensor) -> Tensor:
    """(batch, n) → each recording at a root mean square of 1, 0 beyond its end; silence stays silence."""
    waveform = waveform * mask_until(lengths, waveform.shape[1])
    power = waveform.square().sum(dim=1) / lengths
    return waveform / power.clamp_min(FAINTEST**2).sqrt()[:, None]
