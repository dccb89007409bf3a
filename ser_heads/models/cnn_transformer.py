"""A published pair of CNNs beside a Transformer, over one log-mel spectrogram.

Of 3.7 s: pre-emphasis, Hamming windows, power, 128 mel bands, dB under the loudest. Twice over it:
convolutions of 3 × 3 with batch norm, ReLU, max pool and dropout, 16, 32 and 64 filters. Beside them, four
frames pooled to one step: four Transformer layers of 4 heads and width 512. All of it together → logits.

What the publication leaves open is taken from the network that it links to: pictures of one size, pools of 2,
4 and 4, no code of positions, the mean of the Transformer's steps, and one dense layer in the end. Shorter
recordings lie between zeros, of longer ones a stretch is taken; where, is drawn in training, and the middle
otherwise. Weights decay as AdamW has it.
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
from ser_heads.frontends.log_mel import N_FRAMES, N_MELS, LogMel
from ser_heads.frontends.waveform import Trim
from ser_heads.layers.standardise import Standardise
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

Size = Literal["8M", "16M", "32M"]
FEED_FORWARD: dict[Size, int] = {"8M": 896, "16M": 2_848, "32M": 6_752}
"""Parameters of the model → width of the layers between attentions; the publication names the sizes alone."""
FILTERS, POOLS, DROPOUT = (16, 32, 64), (2, 4, 4), 0.3
WIDTH, N_HEADS, N_LAYERS, ATTENTION_DROPOUT = 512, 4, 4, 0.4
STEP = 4  # frames, 93 ms
BANDS = slice(0, N_MELS)


@dataclass(frozen=True)
class CnnTransformerOptions:
    """Raises ValueError for another size."""

    size: Size = "8M"
    """Parameters. The recipe is that of 8M; published are a --weight-decay of 0.1 for 16M, and a
    --learning-rate of 3e-6 for 32M."""

    def __post_init__(self) -> None:
        if self.size not in FEED_FORWARD:
            raise ValueError(f"--size of cnn_transformer is {', '.join(FEED_FORWARD)}, got {self.size!r}")


class CnnTransformer(nn.Module):
    """(batch, 160, 128) bands, standardised by the training part's means and deviations → (batch, n_classes)
    logits."""

    def __init__(self, n_classes: int, size: Size = "8M") -> None:
        super().__init__()
        self.cnns = nn.ModuleList([cnn(), cnn()])
        self.project = nn.Linear(N_MELS, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, N_HEADS, FEED_FORWARD[size], ATTENTION_DROPOUT, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, N_LAYERS, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # the layers are copies of one
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        n_maps = FILTERS[-1] * (N_MELS // 32) * (N_FRAMES // 32)
        self.logits = nn.Linear(2 * n_maps + WIDTH, n_classes)

    def forward(self, frames: FrameBatch) -> Tensor:
        picture = frames.values.transpose(1, 2).contiguous()  # (batch, band, frame)
        steps = functional.max_pool1d(picture, STEP).transpose(1, 2)  # (batch, step, band)
        attended = self.encoder(self.project(steps)).mean(dim=1)
        maps = [network(picture[:, None]) for network in self.cnns]
        return self.logits(torch.cat([*maps, attended], dim=1))


def cnn() -> nn.Sequential:
    """(batch, 1, 128, 160) → (batch, 64 · 4 · 5)."""
    layers: list[nn.Module] = []
    for n_inputs, n_filters, pool in zip((1, *FILTERS), FILTERS, POOLS, strict=False):
        # a ReLU of the largest is the largest of ReLUs, and has less to do; a norm would subtract a bias
        layers += [
            nn.Conv2d(n_inputs, n_filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_filters),
            nn.MaxPool2d(pool),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
        ]
    network = nn.Sequential(*layers, nn.Flatten())
    # half of the time on a CPU
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build(options: CnnTransformerOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """With random weights."""
    norm = Standardise(N_MELS, least=1.0)  # dB
    head = CnnTransformer(len(labels), options.size)
    layout = FrameLayout(levels=(BANDS,), spectra=(BANDS,), n_frames=N_FRAMES)
    return SerModel("cnn_transformer", options, labels, Trim(quiet=None), LogMel(), norm, head, layout)


CNN_TRANSFORMER = ModelEntry(
    "cnn_transformer",
    "published: two CNNs beside a Transformer over a log-mel spectrogram of 3.7 s",
    "Speech to Emotion Recognition, after github.com/IliaZenkov/transformer-cnn-emotion-recognition",
    CnnTransformerOptions,
    build,
    # of 8M; published are for 16M 150 epochs and a decay of 0.1, for 32M 100 epochs at a rate of 3e-6
    recipe=Recipe(
        frozen_epochs=200,
        learning_rate=3e-4,
        weight_decay=0.01,
        copies=2,
        class_weights=0.0,
        label_smoothing=0.0,
        augmentation=NO_AUGMENTATION,
    ),
)
