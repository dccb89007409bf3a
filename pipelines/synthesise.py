"""python -m pipelines.synthesise: write the synthetic corpus for demo and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fins.command import run_command
from fins.data.synthetic.synthesiser import N_SENTENCES, N_SPEAKERS, N_TAKES, write_corpus
from fins.progress import TqdmWatch


@dataclass(frozen=True)
class SynthesiseConfig:
    """Write a synthetic corpus: eight emotions of every speaker, sentence and take, and a README.txt.

    What was stopped goes on by the same command.
    """

    out: Path
    """Folder to write, new or empty, or what this very command left when it was stopped."""
    n_speakers: int = N_SPEAKERS
    """Number of made-up voices, 1 to 8."""
    n_sentences: int = N_SENTENCES
    """Number of nonsense sentences, 1 to 8."""
    n_takes: int = N_TAKES
    """Number of times that each is spoken, 1 or more."""
    seed: int = 0
    """Of all random draws, 0 or more; the same seed writes the same files."""


def main(config: SynthesiseConfig) -> None:
    """Write the corpus and say how large it is."""
    paths = write_corpus(
        config.out,
        n_speakers=config.n_speakers,
        n_sentences=config.n_sentences,
        n_takes=config.n_takes,
        seed=config.seed,
        watch=TqdmWatch(),
    )
    print(f"{len(paths)} synthetic utterances are in {config.out}")


if __name__ == "__main__":
    run_command(main, SynthesiseConfig)
