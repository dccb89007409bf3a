"""A published pair of systems: convolutions and an LSTM over sequences in time, or over a spectrogram.

Four local blocks of convolution, batch norm, ELU and max pool, 64, 64, 128 and 128 filters, an LSTM of 256,
and logits, after Zhao, Mao and Chen 2019. In time: the zero-crossing rates of all frames and after them
their root mean squares, as one sequence of 864, pools of 4. (864 is what was published for clips of which
the longest has 432 frames.) In frequency: log-mel pictures of 128 bands and 384 frames, pools of 2 × 2, then
4 × 4. Both leave the LSTM three steps, as in the publication.

Recordings lie between zeros, at random in training and else in the middle; of one that is longer (10 s, 9 s)
a stretch is taken, drawn in training and the middle otherwise. The cells of the publication are the two names
with `--optimizer adam|sgd` and `--copies 0` or `--copies 5 --copying apart`: four in time, and two in
frequency, whose optimizer it doesn't name. Its copies are of white noise, pitch, stretch, a circular shift
and all of them; how much of each it doesn't say. What differs: an epoch takes a recording or one of its
copies, not all of them; the rate was published for SGD, where it decays by 1e-6 a step and by a schedule that
isn't given, and here it rises over the first steps and falls along a cosine; early stopping has the published
patience of 8, but watches a mean of recent validation UAR; the checkpoint that is kept is the best of a
moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.networks import Fin
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.fins import ClosedForm, FinFrontEnd
from ser_heads.frontends.waveform import Trim
from ser_heads.layers.placed import Placed
from ser_heads.layers.standardise import Standardise
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

Domain = Literal["time", "frequency"]
FILTERS = (64, 64, 128, 128)
POOLS = {"time": (4, 4, 4, 4), "frequency": (2, 4, 4, 4)}
N_FRAMES = {"time": 864, "frequency": 384}
N_HIDDEN = 256
BANDS = slice(0, 128)


@dataclass(frozen=True)
class CnnLstmOptions:
    """There is nothing to choose."""


class CnnLstm(nn.Module):
    """Frames of closed forms, FrameBatch → (batch, n_classes) logits.

    time : (batch, time, 2), rates and levels as they are
    frequency : (batch, time, 128), bands in dB, of mean 0 and deviation 1 in the training part over all
    """

    def __init__(self, domain: Domain, n_classes: int) -> None:
        super().__init__()
        self.domain = domain
        self.end_to_end = EndToEnd(N_FRAMES["time"] // 2) if domain == "time" else None
        self.placed = Placed(N_FRAMES[domain])
        sizes = zip((1, *FILTERS), FILTERS, POOLS[domain], strict=False)
        self.blocks = nn.Sequential(*(block(domain, *size) for size in sizes))
        if domain == "frequency":
            # two thirds of the time on a CPU
            self.blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recurrent = nn.LSTM(FILTERS[-1], N_HIDDEN, batch_first=True)
        self.logits = nn.Linear(N_HIDDEN, n_classes)

    def forward(self, frames: FrameBatch) -> Tensor:
        values, lengths = frames.values, frames.lengths
        if self.end_to_end is not None:
            values, lengths = self.end_to_end(values, lengths)
        picture = self.placed(values, lengths).transpose(1, 2)
        maps = self.blocks(picture if self.domain == "time" else picture[:, None])
        steps = maps.flatten(1, -2).transpose(1, 2)  # (batch, 3, filter); one band is left of a spectrogram
        return self.logits(self.recurrent(steps)[0][:, -1])


class EndToEnd(nn.Module):
    """(batch, time, 2) and (batch,) → (batch, 2 · longest, 1), the second form after the first, and (batch,)
    the lengths of both together. Of what is longer than `longest` a stretch is taken, as by `Placed`."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest
        self.placed = Placed(longest)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        longest = self.longest
        shorter = functional.pad(frames, (0, 0, 0, max(0, longest - frames.shape[1])))[:, :longest]
        stretch = self.placed(frames, lengths)
        frames = torch.where((lengths > longest)[:, None, None], stretch, shorter)
        lengths = lengths.clamp_max(longest)[:, None]
        step = torch.arange(2 * longest, device=frames.device)
        second = step >= lengths  # (batch, 2 · longest)
        row = (step - second * lengths).clamp_max(longest - 1)
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


def build_1d(options: CnnLstmOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """In time."""
    frontend = FinFrontEnd({"zcr": ClosedForm("zcr"), "rms": ClosedForm("rms")})
    head = CnnLstm("time", len(labels))
    return SerModel("cnn_lstm_1d", options, labels, Trim(quiet=None), frontend, nn.Identity(), head)


def build_2d(options: CnnLstmOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """In frequency."""
    frontend = FinFrontEnd({"mel": ClosedForm("mel")})
    norm = Standardise(decibels=True, masked=True, least=1.0)
    head = CnnLstm("frequency", len(labels))
    layout = FrameLayout(powers=(BANDS,), levels=(BANDS,), spectra=(BANDS,))
    return SerModel("cnn_lstm_2d", options, labels, Trim(quiet=None), frontend, norm, head, layout)


SOURCE = "Zhao, Mao and Chen 2019, Biomedical Signal Processing and Control 47, 312"
RECIPE = Recipe(
    optimizer="adam",
    learning_rate=1e-4,
    weight_decay=0.0,
    copies=0,
    patience=8,
    class_weights=0.0,
    label_smoothing=0.0,
    augmentation=NO_AUGMENTATION,
)
CNN_LSTM_1D = ModelEntry(
    "cnn_lstm_1d",
    "published: convolutions and an LSTM over zero-crossing rates and levels",
    SOURCE,
    CnnLstmOptions,
    build_1d,
    recipe=RECIPE,
)
CNN_LSTM_2D = ModelEntry(
    "cnn_lstm_2d",
    "published: convolutions and an LSTM over log-mel pictures",
    SOURCE,
    CnnLstmOptions,
    build_2d,
    recipe=RECIPE,
)
