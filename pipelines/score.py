"""python -m pipelines.score: judge a table of answers, whoever made it, alone or against another."""

from __future__ import annotations

from fins.command import run_command
from ser_heads.evaluation.scoring import ScoreOptions, score


def main(options: ScoreOptions) -> None:
    """One table."""
    _, lines = score(options)
    print("\n".join([*lines, *([f"written to {options.out}"] if options.out else [])]))


if __name__ == "__main__":
    run_command(main, ScoreOptions)
