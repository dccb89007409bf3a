"""What a feature's file has to say of it, and the batch of windows that closed forms are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fins.audio import WINDOW
from fins.features.spectrum import Floats, mel_spectrum, power_spectrum

if TYPE_CHECKING:
    from fins.networks.compact import CompactFin

Scale = Literal["power", "amplitude", "likeness", "own"]


class Windows:
    """A batch of windows, and what closed forms share of it: each made once, when it is asked for.

    samples : (n, 2048) float32, amplitude in [-1, 1]; any real dtype is taken
    Raises ValueError for another shape, and for samples that are NaN or infinite.
    """

    def __init__(self, samples: NDArray) -> None:
        check_shape(samples)
        self.samples: Floats = np.ascontiguousarray(samples, dtype=np.float32)
        if not np.isfinite(self.samples).all():
            raise ValueError("windows hold samples that are NaN or infinite: read them with audio.read_audio")

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def power(self) -> Floats:
        """(n, 1025), the power spectrum under a periodic Hann window."""
        return power_spectrum(self.samples)

    @cached_property
    def mel(self) -> Floats:
        """(n, 128), power in the bands of mel."""
        return mel_spectrum(self.power)


def check_shape(samples: NDArray) -> None:
    """ValueError for anything but (n, 2048)."""
    if samples.ndim != 2 or samples.shape[1] != WINDOW:
        raise ValueError(
            f"windows have the shape (n, {WINDOW}), got {samples.shape}: cut them with audio.cut_windows"
        )


@dataclass(frozen=True)
class Convolution:
    """The first layer of a published FIN, with its ReLU.

    pool : None for a convolution of that stride; else it has a stride of 1, and max pools of so many
        positions follow, `stride` apart
    """

    n_kernels: int
    n_taps: int
    stride: int
    pool: int | None = None


@dataclass(frozen=True)
class PublishedFin:
    """The FIN that was published of a feature: its stack, how it was trained, and what it reached.

    front : its convolution, or None; sizes : of the dense layers behind it; last_relu : whether one ends it
    level : root mean square of the samples that the layers see
    r2, r2_esd : R², uniform and variance-weighted, on the four corpora and on ESD; None where not given
    """

    front: Convolution | None
    sizes: tuple[int, ...]
    last_relu: bool
    parameters: int
    r2: tuple[float | None, float | None]
    r2_esd: tuple[float | None, float | None]
    loss: Literal["mse", "mae"] = "mse"
    level: float = 1.0


@dataclass(frozen=True)
class Feature:
    """All that is known of a feature.

    unit : of its numbers; outputs : what they are counted by
    closed_form : windows → (n, n_outputs) float32 in `unit`, each row from its window alone
    oracle : (2048,) → (n_outputs,), another library's call, which is the definition; None for one's own
    scale : how its outputs are levelled to be learned from or shown: "power" and "amplitude" as decibels,
        "likeness" as they are, in about [-1, 1], "own" by mean and deviation
    published : the FIN that was published of it, if one was
    compact : makes the network that can hold the closed form and learns it from noise; without one, a small
        stack is learned from windows
    in_stores : whether stores hold it; others are computed when they are read
    """

    name: str
    n_outputs: int
    unit: str
    outputs: str
    closed_form: Callable[[Windows], NDArray]
    oracle: Callable[[NDArray], NDArray] | None = None
    scale: Scale = "own"
    published: PublishedFin | None = None
    compact: Callable[[], CompactFin] | None = None
    in_stores: bool = False

    def compute(self, windows: Windows) -> Floats:
        """(n, n_outputs); ValueError if the closed form gives another shape."""
        values = self.closed_form(windows)
        if values.shape != (len(windows), self.n_outputs):
            raise ValueError(
                f"the feature {self.name} gave the shape {values.shape} for {len(windows)} windows: "
                f"{(len(windows), self.n_outputs)} is needed"
            )
        return values
