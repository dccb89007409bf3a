"""python -m pipelines.train: train an emotion classifier, judge it on held-out utterances, write a folder."""

from __future__ import annotations

from fins.progress import TqdmWatch
from ser_heads.experiments.config import RunConfig, run_composed
from ser_heads.experiments.run import train_classifier

ABOUT = """Train an emotion classifier in two phases, with FINs frozen and then finetuned.

It is judged on speakers or utterances that it never met; which epoch is kept is chosen on validation
utterances alone. The options below are those of the model that --model names.
"""


def main(config: RunConfig) -> None:
    """One run."""
    run = train_classifier(config, TqdmWatch())
    print(run.text, f"written to {run.folder}", sep="\n")


if __name__ == "__main__":
    run_composed(main, ABOUT)
