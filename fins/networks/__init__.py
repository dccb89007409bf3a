"""A window → a feature: FINs built from what is known of a feature, saved, and loaded again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from torch import Tensor

from fins.features import FEATURES, get_feature
from fins.networks.compact import CompactFin
from fins.networks.fin import Fin, FinConfig, Topology, count_parameters
from fins.networks.published import PaperFin, ScaledFin, StridedFin
from fins.networks.spectral import MelFin
from fins.tensors import WEIGHTS, load_tensors, save_tensors

__all__ = [
    "SHIPPED",
    "CompactFin",
    "Fin",
    "FinConfig",
    "ScaledFin",
    "StridedFin",
    "Topology",
    "build_fin",
    "count_parameters",
    "load_fin",
    "save_fin",
]

SHIPPED = {
    name: Path(__file__).parents[1] / "weights" / f"{name}.safetensors"
    for name in (*(name for name, feature in FEATURES.items() if feature.compact), "mfcc_pruned")
}
"""Name → weights of the FINs that come with the package: a compact one of each feature that has one."""


def build_fin(config: FinConfig) -> Fin:
    """A FIN with random weights, drawn from PyTorch's global generator.

    One that is to be pruned has all its weights until it is, or until pruned weights are loaded.
    Raises ValueError for an unknown feature or topology, or one that the feature doesn't have.
    """
    name = config.feature
    if config.topology not in get_args(Topology):
        raise ValueError(
            f"there is no topology {config.topology!r}: the known ones are {', '.join(get_args(Topology))}"
        )
    # one's own closed form isn't imported where it is known how many outputs it has
    feature = None if ":" in name and config.n_outputs else get_feature(name)
    config = replace(config, n_outputs=feature.n_outputs if feature else config.n_outputs)
    if config.topology == "paper":
        if feature is None or feature.published is None:
            raise ValueError(f"nobody published a FIN of {name}: it has the compact topology only")
        return PaperFin(config, feature.published)
    fin = StridedFin(config) if feature is None or feature.compact is None else feature.compact()
    if config.topology == "pruned" and not isinstance(fin, MelFin):
        raise ValueError(f"a FIN of {name} can't be pruned, its weights are all needed: build a compact one")
    fin.config = config
    return fin


def save_fin(path: Path, fin: Fin) -> None:
    """Write a FIN's weights, with the configuration to build it again."""
    save_tensors(path, fin.state_dict(), asdict(fin.config))


def load_fin(name: str | os.PathLike[str]) -> Fin:
    """A trained FIN in evaluation mode on the CPU.

    name : of the SHIPPED, or the folder of a run, or a weights file
    Raises ValueError if the file is missing, broken, or doesn't fit the topology that it names.
    """
    path = SHIPPED.get(str(name), Path(name))
    path = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        names = ", ".join(sorted(SHIPPED))
        raise ValueError(
            f"there is no FIN {name}: the names are {names}; or give a run's folder, or its weights"
        )
    tensors, header = load_tensors(path)
    try:
        fin = build_fin(FinConfig(header["feature"], header["topology"], header["n_outputs"]))
        fin.load_state_dict(tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no weights of a FIN of this version: train it again") from error
    refuse_non_finite(path, tensors)
    return fin.eval()


def refuse_non_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """ValueError, in one sentence, for weights of which one is NaN or infinite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path} is damaged: {name} holds numbers that are NaN or infinite")
