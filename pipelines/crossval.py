"""python -m pipelines.crossval: train a fresh model for each fold, and score what all folds answered."""

from __future__ import annotations

from fins.progress import TqdmWatch
from ser_heads.experiments.config import RunConfig, run_composed
from ser_heads.experiments.folds import CrossvalOptions, cross_validate

ABOUT = """Train a fresh model for each fold and score what all answered about utterances that they never met.

Scales, class weights and the epoch that is kept come from a fold's own training and validation parts.
A fold that is finished isn't made again. --minutes is a budget of all folds, in equal shares.
The options below are those of the model that --model names.
"""


def main(config: RunConfig, options: CrossvalOptions) -> None:
    """One cross-validation."""
    result = cross_validate(config, options, TqdmWatch())
    print(result.text, f"written to {result.folder}", sep="\n")


if __name__ == "__main__":
    run_composed(main, ABOUT, CrossvalOptions)
