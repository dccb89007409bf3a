"""python -m pipelines.prepare: a corpus on disk becomes a store, with every file accounted for."""

from __future__ import annotations

from fins.command import run_command
from fins.data.corpus_import import PrepareOptions, import_corpus
from fins.progress import TqdmWatch


def main(options: PrepareOptions) -> None:
    """One corpus."""
    lines = import_corpus(options, TqdmWatch())
    print("\n".join(lines), f"written to {options.out}, with its .report.json and .ledger.csv", sep="\n")


if __name__ == "__main__":
    run_command(main, PrepareOptions)
