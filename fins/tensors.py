"""Weights and training states on disk: safetensors with a JSON header, written atomically, never pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from fins.digests import check_digest
from fins.disk import replacing

WEIGHTS = "weights.safetensors"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors by name and a header that JSON can hold."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    umask = os.umask(0)
    os.umask(umask)
    try:
        with replacing(path) as partial:
            save_file(contiguous, partial, {"header": json.dumps(header)})
            partial.chmod(0o666 & ~umask)  # as other files of a run, not for their owner alone
    except SafetensorError as error:
        raise OSError(f"{path} can't be written ({error})") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and the header; ValueError in one sentence for a file that is no such thing, or that
    isn't what its run wrote."""
    if not path.is_file():
        raise ValueError(f"the weights {path} are missing: train them first, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["header"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is truncated or was not written by this package: train it again") from error
    check_digest(path)
    return tensors, header


def moments_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer has gathered of each parameter, as tensors by name."""
    state = optimizer.state_dict()["state"]
    return {f"adam.{number}.{name}": moment for number, row in state.items() for name, moment in row.items()}


def restore_moments(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take up again what `moments_of` gave; names without its prefix are left alone."""
    whole = optimizer.state_dict()
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "adam":
            number, moment = rest.split(".")
            whole["state"].setdefault(int(number), {})[moment] = tensor
    optimizer.load_state_dict(whole)


def restore_state(path: Path, restore: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> None:
    """Hand a training's tensors and header to what takes them up; ValueError if they aren't whole."""
    try:
        restore(*load_tensors(path))
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is no whole state of this run: delete it to start over") from error
