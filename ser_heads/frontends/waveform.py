"""What of a recording a model sees: without offset and quiet ends, and at least one window long."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from fins.audio import HOP, WINDOW
from ser_heads.layers.masked import mask_until

OFFSET = 0.05  # of its deviation: of what a recording has a larger mean, the mean is taken away
QUIET = 45.0  # dB below a recording's loudest window: quieter ends are cut off


def count_frames(lengths: Tensor) -> Tensor:
    """(batch,) samples → (batch,) windows that start every 512 samples; a shorter recording has one."""
    return (lengths - WINDOW).clamp_min(0) // HOP + 1


class Trim(nn.Module):
    """Waveforms without offset and quiet ends, on the grid of windows; or nothing but zeros up to a window.

    (batch, n) float32 at 22,050 Hz and (batch,) int64 lengths, zeros behind each end → the same, as long as
    the longest that is left

    quiet : dB below a recording's loudest window at which its ends are cut off; None leaves recordings as
        they are. Where the mean is larger than a twentieth of the deviation it is taken away: an offset hides
        zero crossings and quiet ends alike. Of silence everything is left.
    """

    def __init__(self, quiet: float | None = QUIET) -> None:
        super().__init__()
        self.quiet = quiet

    def extra_repr(self) -> str:
        return f"quiet={self.quiet}, offset={OFFSET}"

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if lengths is None:
            lengths = torch.full_like(waveform[:, 0], waveform.shape[1], dtype=torch.int64)
        if self.quiet is not None:
            waveform = self.centre(waveform, lengths)
        if torch.compiler.is_compiling():  # a graph is traced for lengths that give every layer two steps
            waveform = functional.pad(waveform, (0, 2 * HOP))
        elif waveform.shape[1] < WINDOW:
            waveform = functional.pad(waveform, (0, WINDOW - waveform.shape[1]))
        lengths = lengths.clamp_min(WINDOW)
        return (waveform, lengths) if self.quiet is None else self.cut(waveform, lengths)

    def centre(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Without its mean, if that is worth it."""
        mask = mask_until(lengths, waveform.shape[1])
        mean = (waveform * mask).sum(dim=1) / lengths
        variance = ((waveform - mean[:, None]).square() * mask).sum(dim=1) / lengths
        offset = torch.where(mean.abs() > OFFSET * variance.sqrt(), mean, torch.zeros_like(mean))
        return (waveform - offset[:, None]) * mask

    def cut(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Without the windows at both ends that are quiet; the others stay where they are on the grid."""
        assert self.quiet is not None
        hops = functional.avg_pool1d(waveform.square(), HOP, HOP)
        energy = hops.unfold(1, WINDOW // HOP, 1).sum(dim=2)  # (batch, window)
        there = mask_until(count_frames(lengths), energy.shape[1])
        loudest = (energy * there).amax(dim=1, keepdim=True)
        loud = (there & (energy >= loudest * 10 ** (-self.quiet / 10))).int()
        first = loud.argmax(dim=1)
        last = energy.shape[1] - 1 - loud.flip(1).argmax(dim=1)
        start, lengths = first * HOP, (last - first) * HOP + WINDOW
        if torch.compiler.is_compiling():  # a graph has no place for slices of other lengths
            place = start[:, None] + torch.arange(waveform.shape[1], device=waveform.device)
            trimmed = waveform.gather(1, place.clamp_max(waveform.shape[1] - 1))
            return trimmed * mask_until(lengths, waveform.shape[1]), lengths
        ends = (start + lengths).tolist()
        rows = [row[a:b] for row, a, b in zip(waveform, start.tolist(), ends, strict=True)]
        return pad_sequence(rows, batch_first=True), lengths
