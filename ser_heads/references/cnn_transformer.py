"""A published pair of CNNs beside a Transformer, over one log-mel spectrogram.

Of 3.7 s: pre-emphasis, Hamming windows, power, 128 mel bands, dB under the loudest. Twice over it:
convolutions of 3 × 3 with batch norm, ReLU, max pool and dropout, 16, 32 and 64 filters. Beside them, four
frames pooled to one step: four Transformer layers of 4 heads and width 512. All of it together → 8 logits.

What the publication leaves open is taken from the network that it links to: pictures of one size, pools of 2,
4 and 4, no code of positions, the mean of the Transformer's steps, and one dense layer in the end. Shorter
utterances lie between zeros, of longer ones a stretch is heard; where, is drawn in training, and the middle
otherwise. Weights decay as AdamW has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from fins.audio import HOP, SAMPLE_RATE, WINDOW
from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import UtteranceModel, spread_over
from ser_heads.data import Batch, fit_length

if TYPE_CHECKING:
    import numpy as np

    from ser_heads.training import Feed

Size = Literal["8M", "16M", "32M"]
FEED_FORWARD: dict[Size, int] = {"8M": 896, "16M": 2_848, "32M": 6_752}
"""Parameters of the model → width of the layers between attentions; the publication names the sizes alone."""
# of 8M; published are for 16M 150 epochs and a decay of 0.1, for 32M 100 epochs at a rate of 3e-6
SETTINGS = {"frozen_epochs": 200, "learning_rate": 3e-4, "weight_decay": 0.01, "copies": 2}
SETTINGS |= {"class_weights": 0.0, "label_smoothing": 0.0}
PRE_EMPHASIS = 0.97
N_MELS = 128
N_FRAMES = 160
N_SAMPLES = (N_FRAMES - 1) * HOP  # 3.7 s: frames are centred on every 512th sample
FAINTEST = 1e-10  # power; what is fainter isn't told apart
RANGE = 80.0  # dB under an utterance's loudest band and frame
FILTERS, POOLS, DROPOUT = (16, 32, 64), (2, 4, 4), 0.3
WIDTH, N_HEADS, N_LAYERS, ATTENTION_DROPOUT = 512, 4, 4, 0.4
STEP = 4  # frames, 93 ms


class CnnTransformer(UtteranceModel):
    """Utterances → logits; bands are standardised by the training part's means and deviations."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: Size = "8M") -> None:
        super().__init__()
        if size not in FEED_FORWARD:
            raise ValueError(f"the size of a cnn_transformer is {', '.join(FEED_FORWARD)}, got {size!r}")
        self.spectrogram = LogMel()
        self.register_buffer("mean", torch.zeros(N_MELS))
        self.register_buffer("deviation", torch.ones(N_MELS))
        self.cnns = nn.ModuleList([cnn(), cnn()])
        self.project = nn.Linear(N_MELS, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, N_HEADS, FEED_FORWARD[size], ATTENTION_DROPOUT, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, N_LAYERS, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # the layers are copies of one
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        n_seen = FILTERS[-1] * (N_MELS // 32) * (N_FRAMES // 32)
        self.logits = nn.Linear(2 * n_seen + WIDTH, len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Training draws where an utterance lies; frames are left as they are."""
        assert batch.signal is not None
        signal = fit_length(batch.signal, batch.n_samples, N_SAMPLES, generator)
        frames = (self.spectrogram(signal) - self.mean[:, None]) / self.deviation[:, None]
        steps = functional.max_pool1d(frames, STEP).transpose(1, 2)  # (batch, step, band)
        attended = self.encoder(self.project(steps)).mean(dim=1)
        seen = [network(frames[:, None]) for network in self.cnns]
        return self.logits(torch.cat([*seen, attended], dim=1)), batch.targets()

    def calibrate(self, feed: Feed, utterances: NDArray[np.int64]) -> None:
        parts = []
        for utterance in spread_over(utterances):
            batch = feed.batch([int(utterance)], [0])
            assert batch.signal is not None
            parts.append(self.spectrogram(fit_length(batch.signal, batch.n_samples, N_SAMPLES)))
        pictures = torch.cat(parts)
        self.mean.copy_(pictures.mean(dim=(0, 2)))
        self.deviation.copy_(pictures.std(dim=(0, 2)).clamp_min(1.0))  # dB


class LogMel(nn.Module):
    """(batch, n_samples) → (batch, 128, 1 + n_samples // 512) dB, from -80 to 0; silence is 0 dB.

    Equal to librosa's `power_to_db(melspectrogram(y=y, sr=22050, window="hamming"), ref=np.max)` of each
    signal after pre-emphasis, whose first sample is kept.
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa

        filters = torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS))
        self.register_buffer("window", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, signal: Tensor) -> Tensor:
        with torch.autocast(signal.device.type, enabled=False):  # half of the digits would drown quiet bands
            sharp = signal - PRE_EMPHASIS * functional.pad(signal, (1, -1))
            spectrum = torch.stft(
                sharp, WINDOW, HOP, window=self.window, pad_mode="constant", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            decibels = 10 * torch.log10((self.filters @ power).clamp_min(FAINTEST))
            loudest = decibels.amax(dim=(1, 2), keepdim=True)
            return (decibels - loudest).clamp_min(-RANGE)


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
