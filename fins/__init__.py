"""Feature-imitating networks: small networks that imitate closed-form features of a window of audio."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fins.networks import PaperFin

__version__ = "0.1.0"
__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> PaperFin:
    """A trained FIN on the CPU: (batch, 2048) float32 → (batch, n_outputs) in the feature's own unit.

    path : the folder of a run of fins.train, or its weights file
    Raises ValueError if there are no whole weights of this version.
    """
    from pathlib import Path

    from fins.checkpoints import load_fin  # torch is imported only here

    return load_fin(Path(path))
