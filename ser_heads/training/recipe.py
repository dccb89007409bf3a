"""How a classifier is trained: options of its phases, its optimizer, its loss, and what is drawn anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from ser_heads.training.copies import Copying

FinTuning = Literal["all", "bands"]


@dataclass(frozen=True)
class Augmentation:
    """Of training recordings and their frames, anew in each epoch; sizes are the most that can be drawn.

    Raises ValueError for sizes that can't be meant.
    """

    seconds: float | None = 3.0
    """A longer recording is cut to a stretch of this length, anywhere in it; None leaves it whole."""
    stretch: float = 1.16
    """Longer or shorter by this factor: another pace, the same pitch; 1 for none."""
    noisy: float = 0.5
    """Share of the recordings to whose mel bands steady noise of some colour is added; 0 for none."""
    noise: tuple[float, float] = (-50.0, -10.0)
    """Its power by that of the recording, in dB, from the least to the most."""
    contrast: float = 1.4
    """Levels rise and fall by this factor more or less, in decibels: a livelier or a calmer voice; 1 for
    none."""
    n_masks: int = 2
    """Runs of bands, and runs of frames, that are set to zero, the mean; 0 for none."""
    masked_bands: int = 20
    """Of a spectrum, in each run; never more than a quarter of it."""
    masked_time: float = 0.15
    """Share of a recording, in each run."""
    mixup: float = 0.3
    """Both parameters of the beta distribution from which shares of two recordings are drawn; 0 for none."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError("--augmentation.seconds is a number above 0, or None")
        if not (1 <= self.stretch < math.inf and 1 <= self.contrast < math.inf):
            raise ValueError("--augmentation: stretch and contrast are at least 1")
        if self.n_masks < 0 or self.masked_bands < 0:
            raise ValueError("--augmentation: masks and masked bands at least 0")
        if not (0 <= self.noisy <= 1 and -math.inf < self.noise[0] <= self.noise[1] < math.inf):
            raise ValueError(
                "--augmentation.noisy is 0 to 1, its noise two levels in dB, the lower one first"
            )
        if not (0 <= self.masked_time <= 1 and 0 <= self.mixup < math.inf):
            raise ValueError("--augmentation.masked-time is 0 to 1, its mixup at least 0")


NO_AUGMENTATION = Augmentation(seconds=None, stretch=1.0, noisy=0.0, contrast=1.0, n_masks=0, mixup=0.0)
"""What most published systems are trained with."""


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained; every model has its own, and every default is that of the command line.

    Raises ValueError for numbers that can't be meant.
    """

    frozen_epochs: int = 60
    """With the FINs as they are; for the other front ends just the first phase. With 0 FINs learn at once."""
    finetuned_epochs: int = 3
    """With the FINs learning too; 0 leaves them as they are."""
    batch_size: int = 32
    """Recordings."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """sgd has Nesterov's momentum of 0.9."""
    learning_rate: float = 2e-3
    """The highest of the first phase."""
    finetuning_rate: float = 1e-4
    """The highest of the second phase, for all but the FINs; of wavelet packets it is never above 1e-4."""
    fin_rate: float = 1e-6
    """The highest of the second phase, for the FINs; 0 leaves them as they are."""
    fin_tuning: FinTuning = "all"
    """What of FINs learns then: all, or bands alone, the weights of powers that aren't zero. These move in
    their logarithm, so that no strong bin leaks into a faint band."""
    weight_decay: float = 0.05
    """Not for FINs and wavelets. Of adamw a share of each weight, of the others a penalty in the loss."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Of shares of labels; focal makes less of what is told apart already."""
    focusing: float = 2.0
    """Exponent of the focal loss."""
    class_weights: float = 0.5
    """Exponent of the inverse frequency of a label in a corpus: 0 for equal weights, 1 for the inverse."""
    label_smoothing: float = 0.1
    """Share of a target that is spread over all labels."""
    copies: int = 6
    """Perturbed copies of each training recording: other voice and pace, level, noise; 0 for none."""
    copying: Copying = "voices"
    """apart: copies of one change each, in turn white noise, pitch, pace, a circular shift, and of all."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Of frames, anew in each epoch."""
    penalty: float = 0.0
    """Weight of the wavelet kernels' distance from perfect reconstruction."""
    patience: int = 30
    """Epochs without a better validation after which a phase ends."""

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.patience < 1:
            raise ValueError("--patience is at least 1, --batch-size at least 2")
        if min(self.frozen_epochs, self.finetuned_epochs, self.copies) < 0:
            raise ValueError("--frozen-epochs, --finetuned-epochs and --copies are at least 0")
        if self.frozen_epochs == 0 and self.finetuned_epochs == 0:
            raise ValueError("with --frozen-epochs 0 there have to be --finetuned-epochs")
        if self.copying not in get_args(Copying):
            raise ValueError(f"--copying is one of {', '.join(get_args(Copying))}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("--label-smoothing is at least 0 and below 1")
        if not all(
            0 <= number < math.inf for number in (self.class_weights, self.penalty, self.weight_decay)
        ):
            raise ValueError("--class-weights, --penalty and --weight-decay are at least 0, and finite")
        if not 0 <= self.focusing < math.inf:
            raise ValueError("--focusing is at least 0")
        if self.fin_tuning not in get_args(FinTuning):
            raise ValueError(f"--fin-tuning is one of {', '.join(get_args(FinTuning))}")
        if not 0 <= self.fin_rate < math.inf:
            raise ValueError("--fin-rate is a number, at least 0")
        for option in ("learning_rate", "finetuning_rate"):
            if not 0 < getattr(self, option) < math.inf:
                raise ValueError(f"--{option.replace('_', '-')} is a number above 0")
