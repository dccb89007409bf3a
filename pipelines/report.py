"""python -m pipelines.report: what finetuning did to the FINs of classifiers, with pictures."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.evaluation.drift import DriftOptions, report_drift


def main(options: DriftOptions) -> None:
    """One report."""
    folder, text = report_drift(options, TqdmWatch())
    print(text, f"written to {folder}", sep="\n")


if __name__ == "__main__":
    run_command(main, DriftOptions)
