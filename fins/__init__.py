"""Feature-imitating networks: small networks that imitate closed-form features of a window of audio."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fins.finfeatures import FinFeatures
    from fins.networks import Fin
    from fins.networks.frames import Frames

__version__ = "0.2.0"
__all__ = ["FinFeatures", "Frames", "list_fins", "load"]

MODULES = {"FinFeatures": "fins.finfeatures", "Frames": "fins.networks.frames"}
"""Class → where it is; imported when it is asked for, since both take PyTorch."""


def load(name: str | os.PathLike[str]) -> Fin:
    """A trained FIN on the CPU: (batch, 2048) float32 → (batch, n_outputs) in the feature's own unit.

    name : one of `list_fins`: weights that come with the package, learned from noise alone; else the folder
        of a run of fins.train, or its weights file
    Raises ValueError if there are no whole weights of this version.
    """
    from fins.networks import load_fin

    return load_fin(name)


def list_fins() -> tuple[str, ...]:
    """Names of the FINs that come with the package."""
    from fins.networks import SHIPPED

    return tuple(name for name, path in SHIPPED.items() if path.is_file())


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"the package fins has no attribute {name!r}: it has {', '.join(__all__)}")
    return getattr(importlib.import_module(MODULES[name]), name)
