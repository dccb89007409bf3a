"""python -m pipelines.release: train the classifier that comes with the package, and write its card."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.experiments.release import ReleaseOptions, release


def main(options: ReleaseOptions) -> None:
    """One classifier."""
    print(f"written to {release(options, TqdmWatch())}, with its .json and .md")


if __name__ == "__main__":
    run_command(main, ReleaseOptions)
