"""python -m pipelines.predict: what a classifier answers about recordings of one's own."""

from __future__ import annotations

import sys

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.inference.files import PredictOptions, predict_files


def main(options: PredictOptions) -> None:
    """Answer, print or write; what couldn't be used goes to standard error, and is exit code 1."""
    answers, report = predict_files(options, TqdmWatch())
    if options.out is None:
        print(answers.text, end="")
    else:
        report.append(f"{len(answers.records)} answers written to {options.out}")
    print(*report, sep="\n", end="\n" if report else "", file=sys.stderr)
    if answers.failures:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, PredictOptions)
