"""python -m pipelines.compare: run several models under one protocol and set their scores side by side."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.experiments.comparison import CompareOptions, compare


def main(options: CompareOptions) -> None:
    """One comparison."""
    result = compare(options, TqdmWatch())
    print(result.text, f"written to {result.folder}", sep="\n")


if __name__ == "__main__":
    run_command(main, CompareOptions)
