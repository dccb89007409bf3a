"""Feature-imitating networks: small networks that imitate closed-form features of a window of audio."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fins.networks import Fin

__version__ = "0.1.0"
__all__ = ["load"]


def load(name: str | os.PathLike[str]) -> Fin:
    """A trained FIN on the CPU: (batch, 2048) float32 → (batch, n_outputs) in the feature's own unit.

    name : zcr, rms, chroma, mfcc, mel, pitch, or mfcc_pruned: weights that come with the package, learned
        from noise alone; else the folder of a run of fins.train, or its weights file
    Raises ValueError if there are no whole weights of this version.
    """
    from pathlib import Path

    from fins.checkpoints import SHIPPED, load_fin  # torch is imported only here

    return load_fin(SHIPPED.get(str(name), Path(name)))
