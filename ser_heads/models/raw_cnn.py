"""A convolutional network on the signal itself, in the manner of Dai and others 2017 (arXiv 1610.00087).

The first 201 hops of 15 ms (3.0 s), with zeros behind where a recording ends sooner → a convolution of 80
taps and stride 4 → convolutions of 3 taps in four groups, each with batch norm and ReLU, max pool 4 before
each group → average over time → dense, dropout → logits. It is their M11 with half of the channels.

The signal is divided by the deviation of training signals, after their mean is taken away, rather than by its
own: how loud somebody speaks tells emotions apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fins.audio import SAMPLE_RATE
from fins.networks import Fin
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.samples import FirstSamples
from ser_heads.frontends.waveform import Trim
from ser_heads.layers.standardise import Standardise
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import Augmentation, Recipe

HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_SAMPLES = 201 * HOP  # 66,330, 3.008 s
TAPS, STRIDE = 80, 4  # 3.6 ms and 0.18 ms
POOL = 4
CHANNELS = (32, 32, 64, 128, 256)  # of the first layer and of the groups
GROUPS = (2, 2, 3, 2)  # layers
HIDDEN = 64
DROPOUT = 0.3


@dataclass(frozen=True)
class RawCnnOptions:
    """There is nothing to choose."""


class RawCnn(nn.Module):
    """(batch, 66330, 1) samples → (batch, n_classes) logits."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers = convolution(1, CHANNELS[0], TAPS, STRIDE)
        n_inputs = CHANNELS[0]
        for n_channels, n_layers in zip(CHANNELS[1:], GROUPS, strict=True):
            layers.append(nn.MaxPool1d(POOL))
            for _ in range(n_layers):
                layers += convolution(n_inputs, n_channels, 3)
                n_inputs = n_channels
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(n_inputs, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT)
        )
        self.logits = nn.Linear(HIDDEN, n_classes)

    def forward(self, frames: FrameBatch) -> Tensor:
        return self.logits(self.dense(self.layers(frames.values.transpose(1, 2)).mean(dim=2)))


def convolution(n_inputs: int, n_channels: int, taps: int, stride: int = 1) -> list[nn.Module]:
    """A layer with its batch norm and its ReLU."""
    return [
        nn.Conv1d(n_inputs, n_channels, taps, stride, padding=taps // 2, bias=False),
        nn.BatchNorm1d(n_channels),
        nn.ReLU(),
    ]


def build(options: RawCnnOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """With random weights."""
    frontend, norm, head = FirstSamples(N_SAMPLES), Standardise(), RawCnn(len(labels))
    layout = FrameLayout(
        spectra=(slice(0, 0),), n_frames=N_SAMPLES
    )  # of no bands: runs of samples are masked
    return SerModel("raw_cnn", options, labels, Trim(quiet=None), frontend, norm, head, layout)


RAW_CNN = ModelEntry(
    "raw_cnn",
    "published: convolutions on the first three seconds of the signal itself",
    "Dai and others 2017, arXiv 1610.00087",
    RawCnnOptions,
    build,
    # shares of two recordings and runs of samples at zero; a stretch would shift pitch
    recipe=Recipe(augmentation=Augmentation(seconds=None, stretch=1.0, noisy=0.0, contrast=1.0)),
)
