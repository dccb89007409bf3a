"""End-to-end speech emotion classifiers on top of feature-imitating networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_heads.models import create, list_models, load
    from ser_heads.training.fitting import fit

__all__ = ["create", "fit", "list_models", "load"]
_HOMES = dict.fromkeys(("create", "list_models", "load"), "ser_heads.models")
_HOMES["fit"] = "ser_heads.training.fitting"


def __getattr__(name: str) -> Any:
    """Torch is imported when something of it is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
