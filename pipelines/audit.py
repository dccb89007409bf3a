"""python -m pipelines.audit: what a split or a manifest leaks, in a verdict that a person can read."""

from __future__ import annotations

from fins.command import run_command
from fins.data.audit import AuditConfig, audit_split
from fins.progress import TqdmWatch


def main(config: AuditConfig) -> None:
    """Look, print, write."""
    _, page = audit_split(config, TqdmWatch())
    print(page)
    if config.out is not None:
        print(f"written to {config.out}")


if __name__ == "__main__":
    run_command(main, AuditConfig)
