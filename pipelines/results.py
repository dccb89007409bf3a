"""python -m pipelines.results: keep runs for anyone to audit, and check that pages say what they give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fins.command import run_command
from ser_heads.evidence.checking import RESULTS, check_results, write_leaderboard
from ser_heads.evidence.entries import add_entry


@dataclass(frozen=True)
class ResultsOptions:
    """Keep runs in results/, and check that README.md and docs say what they give.

    check: score all again from predictions; a number that differs is told in a sentence, and ends with exit
    code 2. add RUN --name NAME: copy configuration, split, predictions, certificate and versions of a run.
    table: write docs/leaderboard.md.
    """

    action: Annotated[Literal["check", "add", "table"], tyro.conf.Positional]
    """What to do."""
    run: Annotated[Path | None, tyro.conf.Positional] = None
    """To add: folder of pipelines.train, pipelines.crossval or pipelines.release."""
    name: str = ""
    """To add: what the run is called in results/, such as fin-ravdess."""
    root: Path = Path(".")
    """Folder of README.md, docs and results."""

    def __post_init__(self) -> None:
        if self.action == "add" and not (self.run and self.name):
            raise ValueError("to add a run, give its folder and --name NAME")
        if self.action != "add" and (self.run or self.name):
            raise ValueError(f"{self.action} takes neither a run nor a --name: these are for add")


def main(options: ResultsOptions) -> None:
    """One action."""
    if options.action == "check":
        checked = check_results(options.root)
        print("\n".join([*checked.differences, *checked.summary]))
        if checked.differences:
            raise ValueError(f"{len(checked.differences)} differences between results/ and the pages")
        return
    if options.run:
        print(f"written to {add_entry(options.run, options.name, options.root / RESULTS)}")
    print(f"written to {write_leaderboard(options.root)}")


if __name__ == "__main__":
    run_command(main, ResultsOptions)
