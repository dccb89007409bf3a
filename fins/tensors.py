"""Weights and training states on disk: safetensors with a JSON header, written atomically, never pickled."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from fins.digests import check_digest
from fins.disk import replacing

WEIGHTS = "weights.safetensors"
HEX = re.compile("[0-9a-f]{64}")
DIGEST = "sha256"  # in the header: one key there keeps files the same to the byte


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors by name and a header that JSON can hold, with a digest of both."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    known = {**header, DIGEST: digest_of(contiguous, json.dumps(header))}
    with replacing(path) as partial:  # by a name of its own, safetensors would leave the one that is locked
        partial.write_bytes(save(contiguous, {"header": json.dumps(known)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and the header, checked by the file's own digest, which earlier versions didn't write,
    and by its run's; ValueError in one sentence for what is no such file or isn't what was written."""
    if not path.is_file():
        raise ValueError(f"the weights {path} are missing: train them first, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["header"])
            if not isinstance(header, dict):
                raise TypeError("no object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is truncated or was not written by this package: train it again") from error
    is_older = not any(isinstance(value, str) and HEX.fullmatch(value) for value in header.values())
    digest = header.pop(DIGEST, "" if is_older else None)  # its own name may have changed, too
    if digest != "" and digest != digest_of(tensors, json.dumps(header)):
        raise ValueError(f"{path} isn't what was written: bring back a copy, or make it again")
    check_digest(path)
    return tensors, header


def digest_of(tensors: Mapping[str, Tensor], header: str) -> str:
    """SHA-256 of names, types, shapes and values, and of the header as JSON."""
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
