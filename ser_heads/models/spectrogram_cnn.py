"""A convolutional network on pictures of mel spectrograms.

An image of 150 rows of frequency and 50 columns of time, as `ser_heads.frontends.image` draws it → four
convolutions 3 × 3, each with batch norm, ReLU and max pool 2 × 2 → average over time → dense, dropout →
logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fins.networks import Fin
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.image import COLUMNS, ROWS, ImageFrontEnd
from ser_heads.frontends.waveform import Trim
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import Augmentation, Recipe

CHANNELS = (16, 32, 64, 128)
HIDDEN = 128
DROPOUT = 0.3
BLACK = -1.0


@dataclass(frozen=True)
class SpectrogramCnnOptions:
    """There is nothing to choose."""


class SpectrogramCnn(nn.Module):
    """(batch, 50, 150) images in [-1, 1], column by column → (batch, n_classes) logits."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        rows, n_inputs = ROWS, 1
        for n_channels in CHANNELS:
            layers += [
                nn.Conv2d(n_inputs, n_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            rows, n_inputs = rows // 2, n_channels
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(n_inputs * rows, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT)
        )
        self.logits = nn.Linear(HIDDEN, n_classes)

    def forward(self, frames: FrameBatch) -> Tensor:
        maps = self.layers(frames.values.transpose(1, 2)[:, None])  # (batch, channel, row, column)
        return self.logits(self.dense(maps.mean(dim=3).flatten(1)))


def build(options: SpectrogramCnnOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """With random weights."""
    head = SpectrogramCnn(len(labels))
    layout = FrameLayout(spectra=(slice(0, ROWS),), fill=BLACK, n_frames=COLUMNS)
    trim, frontend, norm = Trim(quiet=None), ImageFrontEnd(), nn.Identity()
    return SerModel("spectrogram_cnn", options, labels, trim, frontend, norm, head, layout)


SPECTROGRAM_CNN = ModelEntry(
    "spectrogram_cnn",
    "published: convolutions on a picture of the mel spectrogram",
    "SIT789 Robotics, Computer Vision and Speech Processing, task 8.2",
    SpectrogramCnnOptions,
    build,
    # pace, within the 50 columns, rows and columns at grey, and shares of two images
    recipe=Recipe(augmentation=Augmentation(seconds=None, noisy=0.0, contrast=1.0)),
)
