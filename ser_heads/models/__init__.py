"""Every model by its name: created, saved, and loaded from its file."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from torch import Tensor

from fins.networks import Fin, FinConfig, refuse_non_finite
from fins.runs import tidy_run
from fins.tensors import WEIGHTS, load_tensors, save_tensors
from ser_heads.frontends.fins import FinFrontEnd, built_fins
from ser_heads.model import ModelEntry, SerModel
from ser_heads.models import (
    cnn_lstm,
    cnn_transformer,
    feature_cnn,
    fin_wavelet,
    raw_cnn,
    spectral_svm,
    spectrogram_cnn,
    wavelet_packet_net,
)

MODELS: dict[str, ModelEntry] = {
    "fin": fin_wavelet.FIN,
    "wavelet": fin_wavelet.WAVELET,
    "fin_wavelet": fin_wavelet.FIN_WAVELET,
    "feature_cnn": feature_cnn.FEATURE_CNN,
    "wavelet_packet_net": wavelet_packet_net.WAVELET_PACKET_NET,
    "cnn_lstm_1d": cnn_lstm.CNN_LSTM_1D,
    "cnn_lstm_2d": cnn_lstm.CNN_LSTM_2D,
    "cnn_transformer": cnn_transformer.CNN_TRANSFORMER,
    "spectral_svm": spectral_svm.SPECTRAL_SVM,
    "raw_cnn": raw_cnn.RAW_CNN,
    "spectrogram_cnn": spectrogram_cnn.SPECTROGRAM_CNN,
}
"""Name → all that is known of a model. One that is added here is created, trained, compared and tested."""

FORMAT = 2  # of weights files
SHIPPED = {path.stem: path for path in Path(__file__).with_name("weights").glob("*.safetensors")}
"""Name → file of the classifiers that come with the package."""


def list_models() -> dict[str, str]:
    """Name → one line about it."""
    return {name: entry.about for name, entry in MODELS.items()}


def create(name: str, labels: Sequence[str], **options: Any) -> SerModel:
    """A model with random weights, drawn from PyTorch's global generator, but for its FINs.

    labels : the words that it answers, in the order of its logits; options : its own, by their names
    Raises ValueError for an unknown model, for an option that it hasn't or that can't be meant, for a FIN
    that can't be loaded, and for fewer than two labels.
    """
    entry = get_entry(name)
    return build(entry, options_of(entry, options), labels)


def build(entry: ModelEntry, options: Any, labels: Sequence[str]) -> SerModel:
    """As `create`, of options that have been made already."""
    if isinstance(labels, str):
        raise ValueError(f"labels are a list of words, got the word {labels!r} alone")
    return entry.build(options, tuple(labels), entry.fins(options))


def get_entry(name: str) -> ModelEntry:
    """Of the model of that name; ValueError that lists the known ones."""
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}: the known ones are {', '.join(MODELS)}")
    return MODELS[name]


def options_of(entry: ModelEntry, values: Mapping[str, Any]) -> Any:
    """The model's own options, of their values by name; lists may stand for tuples, dicts for groups.

    Raises ValueError for a name that isn't among them, and for values that can't be meant.
    """
    known = [field.name for field in fields(entry.options)]
    for name in values:
        if name not in known:
            own = f"its own are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{entry.name} has no option {name}: {own}")
    return _instance(entry.options, values)


def _instance(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass of what JSON made of it."""
    hints = get_type_hints(kind)
    converted = {}
    for name, value in values.items():
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            value = _instance(hints[name], value)
        elif get_origin(hints[name]) is tuple and isinstance(value, list):
            value = tuple(value)
        converted[name] = value
    return kind(**converted)


def save_model(
    path: Path,
    model: SerModel,
    tensors: Mapping[str, Tensor] | None = None,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a model's weights with all that is needed to build it again, FINs included.

    tensors : other weights of the same model, as its best ones; by default those that it has
    card : what else is known of it, as JSON can hold it
    """
    header = {
        "format": FORMAT,
        "model": model.name,
        "options": asdict(model.options),
        "labels": list(model.labels),
        "fins": [asdict(fin.config) for fin in fins_in(model)],
        "card": dict(card or {}),
    }
    save_tensors(path, model.state_dict() if tensors is None else tensors, header)


def fins_in(model: SerModel) -> list[Fin]:
    """Its FINs; closed forms aren't any."""
    parts = [part for part in model.frontend.parts if isinstance(part, FinFrontEnd)]
    return [fin for part in parts for fin in part.fins()]


@functools.cache
def tell_licence(name: str, licence: str) -> None:
    """Once in a process: these weights aren't under the package's own licence."""
    logging.getLogger("ser_heads").warning(
        "the weights of %s are under %s: no commercial use; ser_heads/models/weights/%s.md says more",
        name,
        licence,
        name,
    )


def load(path: str | Path) -> SerModel:
    """A classifier in evaluation mode on the CPU.

    path : a weights file, the folder of a run, or the name of one that comes with the package
    The licence of one that comes with the package is told once, through logging.
    Raises ValueError, in one sentence, if it is missing, broken, or not of this version.
    """
    name = str(path)
    path = SHIPPED.get(name, Path(path))
    if path.is_dir():
        tidy_run(path)
        path = path / WEIGHTS
    if not path.is_file():
        shipped = f"the names are {', '.join(sorted(SHIPPED))}" if SHIPPED else "none comes with the package"
        raise ValueError(
            f"there is no classifier {path}: give a run's folder or its weights file, or {shipped}"
        )
    tensors, header = load_tensors(path)
    if name in SHIPPED:
        tell_licence(name, header["card"]["licence"])
    if "config" in header and "format" not in header:
        raise ValueError(
            f"{path} was written by version 0.1, whose classifiers this version can't read: make it again by "
            "the command in its README.md; its stores stay as they are"
        )
    try:
        entry = MODELS[header["model"]]
        fins = built_fins([FinConfig(**config) for config in header["fins"]])
        model = entry.build(options_of(entry, header["options"]), tuple(header["labels"]), fins)
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no classifier of this version: train it again") from error
    refuse_non_finite(path, tensors)
    return model.eval()
