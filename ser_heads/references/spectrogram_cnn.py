"""A convolutional network on pictures of mel spectrograms.

The mel spectrogram of the magnitude → ln(x + 1e-9) → 0 to 255 from its smallest to its largest value → an
image of 8-bit grey, in a folder for each emotion beside the store, where any other tool finds it too → 150
rows of frequency, the lowest on top, and 50 columns of time, however long the utterance → divided by 255,
less 0.5, divided by 0.5 → four convolutions 3 × 3, each with batch norm, ReLU and max pool 2 × 2 → average
over time → dense, dropout → 8 logits. Windows of 2048 samples and 150 bands are ours: the description names
the size of the image alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from fins.audio import SAMPLE_RATE, Signal
from fins.features import Floats
from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import Inputs, UtteranceModel
from ser_heads.data import Batch, UtteranceTable
from ser_heads.kept import CHECKED, Progress, check_writable, evict, ignore, kept_path, mark_used

Pixels = NDArray[np.uint8]
N_FFT = 2_048  # samples, 92.9 ms
HOP = int(SAMPLE_RATE * 0.015)  # 330 samples
N_MELS = 150
FAINTEST = 1e-9
ROWS, COLUMNS = 150, 50
CHANNELS = (16, 32, 64, 128)
HIDDEN = 128
DROPOUT = 0.3
REMEMBERED = 20_000  # resized images, 7.5 kB each
BLACK = -1.0


class SpectrogramCnn(UtteranceModel):
    """An image → logits."""

    def __init__(self) -> None:
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
        self.logits = nn.Linear(HIDDEN, len(EMOTIONS))

    def forward(
        self, batch: Batch, augmentation: Augmentation | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augmented are pace, within the 50 columns, rows and columns at grey, and shares of two images."""
        assert batch.inputs is not None
        image, targets = batch.inputs, batch.targets()  # (batch, column, row)
        if augmentation is not None:
            assert generator is not None
            n_columns = torch.full((len(image),), COLUMNS, device=image.device)
            image, n_columns = augmentation.stretched(image, n_columns, generator)
            there = torch.arange(image.shape[1], device=image.device) < n_columns[:, None]
            image = image.masked_fill(~there[..., None], BLACK)[:, :COLUMNS]
            image = nn.functional.pad(image, (0, 0, 0, COLUMNS - image.shape[1]), value=BLACK)
            image = augmentation.masked(image, n_columns.clamp_max(COLUMNS), slice(0, ROWS), generator)
            share, order = augmentation.shares(len(image), generator)
            other = order.to(image.device)
            image = torch.lerp(image[other], image, share)
            targets = torch.lerp(targets[other], targets, share)
        maps = self.layers(image.transpose(1, 2)[:, None])  # (batch, channel, row, column)
        return self.logits(self.dense(maps.mean(dim=3).flatten(1))), targets

    def prepare(self, table: UtteranceTable, progress: Progress) -> None:
        SpectrogramImages(table, progress)

    def inputs(self, table: UtteranceTable) -> Inputs:
        """(50, 150) in [-1, 1]: columns of the image."""
        return SpectrogramImages(table)

    def hears_signal(self, frozen: bool) -> bool:
        return False


class SpectrogramImages:
    """(utterance, copy) → (50, 150) float32 in [-1, 1], column by column: an utterance's image as a network
    takes it.

    Those of recordings are files, `<store>.images-<key>/<emotion>/<utterance>.png`, made once and again
    whenever the store or the way they are made are others; those of perturbed copies are made when they are
    asked for.
    """

    def __init__(self, table: UtteranceTable, progress: Progress = ignore) -> None:
        self.table = table
        made_by = f"{N_FFT} {HOP} {N_MELS} {FAINTEST} {version('librosa')} {version('pillow')}"
        self.files: list[Path] = [Path()] * len(table)
        for number, store in enumerate(table.stores):
            folder = kept_path(table, number, "images", made_by, 0, "")
            names = image_names(table, number)
            if not self._holds(folder, names):
                check_writable(store.path)
                self._write(folder, names, progress)
                evict(store.path, "images", folder)
            for utterance, name in names.items():
                self.files[utterance] = folder / name
        self._pixels = lru_cache(REMEMBERED)(self._resized)

    def __call__(self, utterance: int, copy: int) -> Floats:
        return normalise(self._pixels(utterance, copy))

    def make(self, signal: Signal) -> Floats:
        """The same of a signal, past all files."""
        return normalise(resize(draw(signal)))

    def _resized(self, utterance: int, copy: int) -> Pixels:
        if copy:
            return resize(draw(self.table.copy(utterance, copy)))
        try:
            return resize(read_image(self.files[utterance]))
        except OSError as error:
            folder = self.files[utterance].parents[1]
            raise ValueError(f"an image in {folder} is missing or damaged: delete that folder") from error

    def _holds(self, folder: Path, names: dict[int, str]) -> bool:
        """Whether all images are there, and a few of them are as they would be made now."""
        if {str(path.relative_to(folder)) for path in folder.glob("*/*.png")} != set(names.values()):
            return False
        rows = list(names)
        for utterance in rows[:: max(1, len(rows) // CHECKED)]:
            try:
                kept = read_image(folder / names[utterance])
            except OSError:
                return False
            again = draw(self.table.signal(utterance))
            if kept.shape != again.shape or np.abs(kept.astype(int) - again).max() > 1:  # of 255
                return False
        mark_used(folder)
        return True

    def _write(self, folder: Path, names: dict[int, str], progress: Progress) -> None:
        from PIL import Image

        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        aside = folder.with_name(f"{folder.name}.{os.getpid()}.old.partial")
        try:
            for utterance, name in names.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw(self.table.signal(utterance))).save(partial / name)
                progress(1)
            with contextlib.suppress(OSError):  # of a folder that isn't empty
                os.replace(partial, folder)
            if partial.exists() and not self._holds(folder, names):  # else another run was first
                os.replace(folder, aside)
                os.replace(partial, folder)
        finally:
            for left in (partial, aside):
                shutil.rmtree(left, ignore_errors=True)


def image_names(table: UtteranceTable, number: int) -> dict[int, str]:
    """Utterances of one of the stores → <emotion>/<utterance>.png; a store of several corpora has those in
    the names too."""
    rows = np.flatnonzero(table.store == number)
    alone = len(set(table.columns["corpus"][rows])) == 1
    names = {}
    for row in map(int, rows):
        name = table.columns["id"][row] if alone else table.names[row]
        # what a file's name can't have, and the sign that stands for it
        name = re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda sign: f"%{ord(sign[0]):02X}", name)
        names[row] = os.path.join(table.columns["emotion"][row], f"{name}.png")
    return names


def draw(signal: Signal) -> Pixels:
    """(n_samples,) → (150, n_frames) uint8: the logarithm of its mel spectrogram from 0, the least in it, to
    255; all is 0 if all is one."""
    import librosa

    magnitude = np.abs(librosa.stft(signal, n_fft=N_FFT, hop_length=HOP))
    logarithm = np.log(mel_filters() @ magnitude + FAINTEST)
    least, most = logarithm.min(), logarithm.max()
    if most == least:
        return np.zeros(logarithm.shape, np.uint8)
    return ((logarithm - least) / (most - least) * 255).astype(np.uint8)


def resize(image: Pixels) -> Pixels:
    """(n_mels, n_frames) → (150, 50), smoothed."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((COLUMNS, ROWS), Image.Resampling.BILINEAR))


def normalise(image: Pixels) -> Floats:
    """(150, 50) → (50, 150), column by column, in [-1, 1]."""
    return (image.T.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def read_image(path: Path) -> Pixels:
    """(n_mels, n_frames) of a grey image; OSError if it is none or not whole."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


@cache
def mel_filters() -> Floats:
    """(150, 1025) of librosa."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
