"""python -m pipelines.explore: what stores hold, in pictures and numbers, before anything learns from it."""

from __future__ import annotations

from fins.command import run_command
from fins.data.exploration.page import PAGE, ExploreConfig, explore, headlines
from fins.progress import TqdmWatch


def main(config: ExploreConfig) -> None:
    """Measure, count, draw, write."""
    result, out = explore(config, TqdmWatch())
    print(*headlines(result), f"written to {out}; open {PAGE} in a browser", sep="\n")


if __name__ == "__main__":
    run_command(main, ExploreConfig)
