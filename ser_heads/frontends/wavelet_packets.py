"""A learnable wavelet packet: energies of its bands every 128 samples, at the frames of the FINs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.audio import HOP, WINDOW
from ser_heads.frontends import FrameBatch, FrontEnd
from ser_heads.frontends.waveform import count_frames
from ser_heads.layers.masked import mask_until
from ser_heads.layers.packet_tree import in_order
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket

SLOT = 128  # samples from one energy to the next
N_SLOTS = HOP // SLOT  # of a frame
DEEPEST = 7  # level whose coefficients are a slot apart
LEAST = 8  # coefficients that an energy is the mean of: fewer say little of a level
FIRST = (WINDOW - HOP + SLOT) / 2  # sample that the first slot is centred on: frames' slots are their middles
STEEPNESS = 10.0  # of thresholds, in a band's levels
FAINTEST = 1e-6  # level below which a band's thresholds don't fall


class WaveletFrontEnd(FrontEnd):
    """Speech → energies of each band of a wavelet packet, in the four slots of 128 samples of each frame.

    wavelet, sharing : as of WaveletPacket; leaves : of a tree whose deepest level is 7 at most
    A column is a band in a slot, the bands of the first slot first, each time in the order of frequency. An
    energy is the mean square of the coefficients around the slot's centre: those of 128 samples, or eight, if
    these are fewer. Padding never changes it. Raises ValueError for a tree that is deeper.
    """

    keep = True

    def __init__(self, wavelet: str, leaves: Sequence[str], sharing: Sharing = "tree") -> None:
        super().__init__()
        if max(map(len, leaves)) > DEEPEST:
            raise ValueError(f"the depth of this model's wavelet packet is 1 to {DEEPEST}")
        self.packet = WaveletPacket(wavelet, sharing=sharing, leaves=leaves)
        self.leaves, self.wavelet = in_order(leaves), wavelet
        self.thresholds = RelativeThreshold(len(self.leaves))
        self.n_bands, self.n_columns = len(self.leaves), N_SLOTS * len(self.leaves)
        levels = sorted({len(leaf) for leaf in self.leaves})
        self.bands = {
            level: [place for place, leaf in enumerate(self.leaves) if len(leaf) == level] for level in levels
        }
        by_level = [band for bands in self.bands.values() for band in bands]
        self.order = [by_level.index(band) for band in range(self.n_bands)]

    def extra_repr(self) -> str:
        return f"{self.wavelet}, {' '.join(self.leaves)}, {SLOT}, {LEAST}, {STEEPNESS}"

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        """waveform : (batch, n) with n at least a window; lengths : (batch,); what is beyond is ignored"""
        n_frames = count_frames(lengths)
        time = (waveform.shape[1] - WINDOW) // HOP + 1
        with torch.autocast(waveform.device.type, enabled=False):
            levels = self.packet.decompose(waveform * mask_until(lengths, waveform.shape[1]))
            energies = [self.in_slots(levels[level], level, lengths, N_SLOTS * time) for level in self.bands]
        bands = torch.cat(energies, dim=1)[:, self.order]  # (batch, band, slot)
        values = bands.unflatten(2, (-1, N_SLOTS)).permute(0, 2, 3, 1).flatten(2)
        return FrameBatch(values * mask_until(n_frames, values.shape[1])[..., None], n_frames)

    def in_slots(self, coefficients: Tensor, level: int, lengths: Tensor, n_slots: int) -> Tensor:
        """(batch, bands of a level, n) → (batch, bands of that level, n_slots)."""
        n = self.packet.count_coefficients(lengths, level)
        power = self.thresholds(coefficients, n, self.bands[level]).square()
        stride = 2 ** (DEEPEST - level)
        size = max(LEAST, stride)
        first = round((FIRST - self.delay(level)) / 2**level - (size - 1) / 2)
        return functional.avg_pool1d(power[..., first : first + stride * (n_slots - 1) + size], size, stride)

    def delay(self, level: int) -> float:
        """The sample that coefficient 0 of a level is centred on, before the first one; coefficient k is
        2 ** level · k samples later.

        It is right for the mean of all bands of an orthogonal wavelet. At a depth of 5 no band of sym10 is
        off by more than 24 samples, the worst of db10 by 211.
        """
        return (2**level - 1) * (1 - (self.packet.kernels.shape[2] - 1) / 2)

    def pretrained(self) -> Iterator[nn.Parameter]:
        return self.parameters()

    def kernels(self) -> Iterator[nn.Parameter]:
        return self.parameters()


class RelativeThreshold(nn.Module):
    """Lets of each band pass what is beyond one of two thresholds, softly, by the band's own level.

    x · (σ(α · (x / r - t₊)) + σ(-α · (x / r + t₋))), r the band's root mean square over a recording, α = 10.
    Both thresholds start at 0, where everything passes as it is, and stay at or above it.
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.above = nn.Parameter(torch.zeros(n_bands))
        self.below = nn.Parameter(torch.zeros(n_bands))

    def forward(self, values: Tensor, lengths: Tensor, bands: Sequence[int]) -> Tensor:
        """(batch, some bands, n), 0 beyond (batch,) lengths, and which bands they are → the same shape."""
        level = (values.square().sum(dim=2, keepdim=True) / lengths[:, None, None]).clamp_min(FAINTEST**2)
        relative = values * level.rsqrt()
        above, below = self.above[bands, None], self.below[bands, None]
        passed = torch.sigmoid(STEEPNESS * (relative - above)) + torch.sigmoid(
            -STEEPNESS * (relative + below)
        )
        return values * passed

    def constrain(self) -> None:
        with torch.no_grad():
            for threshold in self.parameters():
                threshold.clamp_(min=0)
