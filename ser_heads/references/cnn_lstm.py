"""A published pair of systems: convolutions and an LSTM over sequences in time, or over a spectrogram.

Four local blocks of convolution, batch norm, ELU and max pool, 64, 64, 128 and 128 filters, an LSTM of 256,
and 8 logits, after Zhao, Mao and Chen 2019. In time: the zero-crossing rates of all frames and after them
their root mean squares, as one sequence of 864, pools of 4. (864 is what was published for clips of which
the longest has 432 frames.) In frequency: log-mel pictures of 128 bands and 384 frames, pools of 2 × 2, then
4 × 4. Both leave the LSTM three steps, as in the publication.

Utterances lie between zeros, at random in training and else in the middle; of one that is longer (10 s, 9 s)
a stretch is heard, drawn in training and the middle otherwise. The cells of the publication are the two names
with `--optimizer adam|sgd` and `--copies 0|4`: four in time, and two in frequency, whose optimizer it doesn't
name. Copies are those of this package, one of which an epoch hears of each utterance, in place of white
noise, pitch, stretch and shift; the rate was published for SGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import Inputs, UtteranceModel, spread_over
from ser_heads.data import Batch, ClosedForms, UtteranceTable, fit_length

if TYPE_CHECKING:
    import numpy as np

    from ser_heads.training import Feed

Domain = Literal["time", "frequency"]
SETTINGS = {"optimizer": "adam", "learning_rate": 1e-4, "weight_decay": 0.0, "copies": 0, "patience": 8}
SETTINGS |= {"class_weights": 0.0, "label_smoothing": 0.0}
FILTERS = (64, 64, 128, 128)
POOLS = {"time": (4, 4, 4, 4), "frequency": (2, 4, 4, 4)}
FORMS = {"time": ("zcr", "rms"), "frequency": ("mel",)}
N_FRAMES = {"time": 864, "frequency": 384}
N_HIDDEN = 256
FAINTEST = 1e-10  # power of a mel band; what is fainter isn't told apart


class CnnLstm(UtteranceModel):
    """Closed forms of an utterance → logits. Bands are in dB, of mean 0 and deviation 1 in the training part
    over all; rates and levels are left as they are."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        sizes = zip((1, *FILTERS), FILTERS, POOLS[domain], strict=False)
        self.blocks = nn.Sequential(*(block(domain, *its) for its in sizes))
        if domain == "frequency":
            # two thirds of the time on a CPU
            self.blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recurrent = nn.LSTM(FILTERS[-1], N_HIDDEN, batch_first=True)
        self.logits = nn.Linear(N_HIDDEN, len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Training draws where an utterance lies; frames are left as they are."""
        assert batch.inputs is not None
        frames, lengths = (self.levelled(batch.inputs) - self.mean) / self.deviation, batch.n_frames
        if self.domain == "time":
            frames, lengths = end_to_end(frames, lengths, N_FRAMES["time"] // 2, generator)
        placed = fit_length(frames, lengths, N_FRAMES[self.domain], generator).transpose(1, 2)
        seen = self.blocks(placed if self.domain == "time" else placed[:, None])
        steps = seen.flatten(1, -2).transpose(1, 2)  # (batch, 3, filter); one band is left of a spectrogram
        return self.logits(self.recurrent(steps)[0][:, -1]), batch.targets()

    def levelled(self, inputs: Tensor) -> Tensor:
        return inputs if self.domain == "time" else 10 * torch.log10(inputs.clamp_min(FAINTEST))

    def inputs(self, table: UtteranceTable) -> Inputs:
        return ClosedForms(table, FORMS[self.domain])

    def hears_signal(self, frozen: bool) -> bool:
        return False

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        if self.domain == "time":
            return
        parts = []
        for utterance in spread_over(utterances):
            inputs = feed.batch([int(utterance)], [0]).inputs
            assert inputs is not None
            parts.append(self.levelled(inputs).flatten())
        values = torch.cat(parts)
        self.mean.copy_(values.mean())
        self.deviation.copy_(values.std().clamp_min(1.0))  # dB


def end_to_end(
    frames: Tensor, lengths: Tensor, longest: int, generator: Generator | None
) -> tuple[Tensor, Tensor]:
    """(batch, time, 2) and (batch,) → (batch, 2 · longest, 1), the second form after the first, and (batch,)
    the lengths of both together. Of what is longer than `longest` a stretch is heard, as of `fit_length`."""
    shorter = functional.pad(frames, (0, 0, 0, max(0, longest - frames.shape[1])))[:, :longest]
    stretch = fit_length(frames, lengths, longest, generator)
    frames = torch.where((lengths > longest)[:, None, None], stretch, shorter)
    lengths = lengths.clamp_max(longest)[:, None]
    place = torch.arange(2 * longest, device=frames.device)
    second = place >= lengths  # (batch, 2 · longest)
    row = (place - second * lengths).clamp_max(longest - 1)
    rows = frames.gather(1, row[..., None].expand(-1, -1, 2))
    return rows.gather(2, second.long()[..., None]), 2 * lengths[:, 0]


def block(domain: Domain, n_inputs: int, n_filters: int, pool: int) -> nn.Sequential:
    """A local feature learning block. ELU rises all along: after the pool it is the same, at less work."""
    # no bias: the norm would subtract it
    if domain == "time":
        return nn.Sequential(
            nn.Conv1d(n_inputs, n_filters, 3, padding=1, bias=False),
            nn.BatchNorm1d(n_filters),
            nn.MaxPool1d(pool),
            nn.ELU(),
        )
    return nn.Sequential(
        nn.Conv2d(n_inputs, n_filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(n_filters),
        nn.MaxPool2d(pool),
        nn.ELU(),
    )
