"""python -m pipelines.tune: search for better options of a model, by validation alone."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.experiments.search import SearchOptions, search


def main(options: SearchOptions) -> None:
    """One search."""
    result = search(options, TqdmWatch())
    print(result.text, f"written to {result.folder}", sep="\n")


if __name__ == "__main__":
    run_command(main, SearchOptions)
