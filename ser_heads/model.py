"""What every classifier is: trim → front end → norm → head, four modules over waveforms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.networks import Fin, count_parameters
from ser_heads.frontends import FrontEnd
from ser_heads.frontends.waveform import Trim
from ser_heads.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

    from ser_heads.inference.predict import Prediction
    from ser_heads.inference.stream import Stream


@dataclass(frozen=True)
class FrameLayout:
    """What the columns of a model's frames are: facts by which a trainer augments.

    powers : before the norm, columns that are powers of a spectrum, to which noise can be added
    levels : after the norm, columns in decibels, whose contrast can be changed
    spectra : after the norm, columns that are bands of a spectrum, runs of which can be masked; all of a
        frame's spectra get the same noise and masks, by their shares of a spectrum
    fill : value of frames where there is nothing
    n_frames : how many frames the head takes, where it takes so many and no others
    """

    powers: tuple[slice, ...] = ()
    levels: tuple[slice, ...] = ()
    spectra: tuple[slice, ...] = ()
    fill: float = 0.0
    n_frames: int | None = None


class SerModel(nn.Module):
    """A waveform → logits over its own labels, each recording by itself.

    name : of the model, as in `list_models`; options : its own frozen dataclass
    labels : the words that it can answer, in the order of its logits
    temperature : () buffer by which logits are divided before they become probabilities; 1 until fitted
    abstention : () buffer, confidence below which it is better not to answer, chosen on validation
        recordings; 0 until fitted
    trim, frontend, norm, head : waveforms → waveforms → FrameBatch → FrameBatch → (batch, n_classes) logits
    """

    temperature: Tensor
    abstention: Tensor

    def __init__(
        self,
        name: str,
        options: Any,
        labels: Sequence[str],
        trim: Trim,
        frontend: FrontEnd,
        norm: nn.Module,
        head: nn.Module,
        layout: FrameLayout = FrameLayout(),
    ) -> None:
        super().__init__()
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError(
                f"a classifier has two labels or more, each once, got {', '.join(map(str, labels)) or 'none'}"
            )
        if wrong := [label for label in labels if not (isinstance(label, str) and label.strip())]:
            raise ValueError(f"labels are words, got {wrong[0]!r}")
        self.name, self.options, self.labels, self.layout = name, options, tuple(labels), layout
        self.trim, self.frontend, self.norm, self.head = trim, frontend, norm, head
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("abstention", torch.zeros(()))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        state_dict.setdefault(f"{prefix}abstention", torch.zeros(()))  # weights that are older than it
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits, the same in any batch.

        waveform : (batch, n) float32 at 22,050 Hz, amplitude about [-1, 1], zeros behind each end
        lengths : (batch,) int64 samples of each recording; by default all of n
        returns : (batch, n_classes), in the order of `labels`
        Raises ValueError for another shape, and for a length of 0 or above n.
        """
        if not torch.compiler.is_compiling():
            check_waveforms(waveform, lengths)
        return self.head(self.norm(self.frontend(*self.trim(waveform, lengths))))

    def predict(
        self,
        source: Any,
        sampling_rate: float | None = None,
        labels: Sequence[str] | None = None,
        **options: Any,
    ) -> Prediction | list[Prediction]:
        """The answer about a file or an array; see `ser_heads.inference.predict.predict`."""
        module = import_module("ser_heads.inference.predict")
        return module.predict(self, source, sampling_rate, labels, **options)

    def predict_signal(self, signal: Any, sampling_rate: float, **options: Any) -> DataFrame:
        """The same as a table of one row; see `ser_heads.inference.predict.predict_signal`."""
        return import_module("ser_heads.inference.predict").predict_signal(
            self, signal, sampling_rate, **options
        )

    def embed(self, source: Any, sampling_rate: float | None = None) -> NDArray[np.float32]:
        """The pooled vector before the logits; see `ser_heads.inference.predict.embed`."""
        return import_module("ser_heads.inference.predict").embed(self, source, sampling_rate)

    def stream(self, sampling_rate: float, window: float = 3.0, hop: float = 1.0, **options: Any) -> Stream:
        """Answers about sound as it comes; see `ser_heads.inference.stream.Stream`."""
        return import_module("ser_heads.inference.stream").Stream(self, sampling_rate, window, hop, **options)

    def timeline(
        self, path: str | PathLike[str], window: float = 3.0, hop: float = 1.0, **options: Any
    ) -> DataFrame:
        """Answers over a file of any length; see `ser_heads.inference.stream.timeline`."""
        return import_module("ser_heads.inference.stream").timeline(self, path, window, hop, **options)

    def n_parameters(self) -> int:
        """How many numbers are learned, be it by gradient or as a head is fitted."""
        fitted = getattr(self.head, "n_fitted", None)
        return count_parameters(self) if fitted is None else fitted()


def check_waveforms(waveform: Tensor, lengths: Tensor | None) -> None:
    """ValueError for anything but (batch, n) samples and (batch,) lengths from 1 to n."""
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"waveforms have the shape (batch, n_samples), got {tuple(waveform.shape)}")
    if lengths is None:
        return
    if lengths.shape != waveform.shape[:1]:
        raise ValueError(f"lengths have the shape ({len(waveform)},), got {tuple(lengths.shape)}")
    if lengths.min() < 1 or lengths.max() > waveform.shape[1]:
        raise ValueError(
            f"recordings have 1 to {waveform.shape[1]} samples here, got {int(lengths.min())} to "
            f"{int(lengths.max())}"
        )


@dataclass(frozen=True)
class ModelEntry:
    """All that is known of a model; one in each file of `ser_heads/models`, listed in MODELS.

    name : by which it is asked for; about : one line; source : the publication
    options : its own frozen dataclass, whose fields are its command line's options and which checks itself
    fins : options → feature → FIN, with the weights that it starts from; by default none
    build : (options, labels, FINs) → a model with random weights but for its FINs
    recipe : how it is trained, as published; fit : trains one that isn't trained by gradient, else None
    settle : (options, training signals) → options without what those recordings choose; by default none do
    """

    name: str
    about: str
    source: str
    options: type
    build: Callable[[Any, Sequence[str], Mapping[str, Fin]], SerModel]
    fins: Callable[[Any], dict[str, Fin]] = lambda options: {}
    recipe: Recipe = field(default_factory=Recipe)
    fit: Callable[..., Any] | None = None
    settle: Callable[[Any, Iterable[NDArray[np.float32]]], Any] = lambda options, signals: options
