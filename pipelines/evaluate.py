"""python -m pipelines.evaluate: judge a classifier on stores that it never met, or several runs together."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.evaluation.predictions import describe_scores
from ser_heads.evaluation.unseen import EvaluateOptions, describe_trust, evaluate


def main(options: EvaluateOptions) -> None:
    """One evaluation."""
    folder, result = evaluate(options, TqdmWatch())
    print(
        "\n".join(
            [*result["notes"], *describe_scores(result), *describe_trust(result), f"written to {folder}"]
        )
    )


if __name__ == "__main__":
    run_command(main, EvaluateOptions)
