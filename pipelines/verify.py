"""python -m pipelines.verify: whether stores and runs are what was written, by their checksums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fins.command import run_command
from fins.data.verification import verify


@dataclass(frozen=True)
class VerifyConfig:
    """Read stores and runs to their last byte, and name what isn't what was written.

    Ends with exit code 2 if anything isn't. What earlier versions wrote carries no checksums, and is said so.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Stores (.h5 files) and folders of runs; those inside a folder are looked at, too."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("there is nothing to verify: give stores, or folders of runs")


def main(config: VerifyConfig) -> None:
    """A line for each."""
    n_changed = 0
    for verified in verify(config.paths):
        print(verified.describe())
        n_changed += bool(verified.faults)
    if n_changed:
        raise ValueError(f"{n_changed} of what was looked at isn't what was written")


if __name__ == "__main__":
    run_command(main, VerifyConfig)
