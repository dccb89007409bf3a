"""From configurations to folders: runs, cross-validations, comparisons and searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_heads.experiments.config import RunConfig, configure

__all__ = ["RunConfig", "configure"]


def __getattr__(name: str) -> Any:
    """Torch is imported when something of it is asked for."""
    if name in __all__:
        from ser_heads.experiments import config

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
