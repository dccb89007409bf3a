"""Preparing a corpus: ours, in parallel, against decoding and labelling one file and one window at a time.

The peer is what a script of librosa calls does: load, frame, call each feature on each window. It works on a
few files, ours on all. Options: --corpus and --root for a real corpus; by default one is synthesised.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import librosa
import tyro
from common import compare, machine

from data_manifests import read_corpus
from fins.audio import HOP, SAMPLE_RATE, WINDOW
from fins.data.preparation import Preparation, prepare_store
from fins.data.synthetic.synthesiser import write_corpus
from fins.features import FEATURES, STORED


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which corpus is prepared."""

    corpus: str = "synthetic"
    root: Path | None = None
    peer_files: int = 4


def main(config: BenchmarkConfig) -> None:
    """Print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        root = config.root or Path(folder) / "corpus"
        if config.root is None:
            write_corpus(root, n_speakers=8, n_sentences=4, n_takes=2)
        listing = read_corpus(config.corpus, root)
        step = len(listing.utterances) // config.peer_files
        paths = [listing.root / utterance.path for utterance in listing.utterances[::step]]
        out = Path(folder) / "store.h5"

        def ours() -> int:
            out.unlink(missing_ok=True)
            accounts = prepare_store(
                out, listing.utterances, listing.root, Preparation(), os.cpu_count() or 1
            )
            return sum(account.n_windows for account in accounts)

        def peer() -> int:
            n_windows = 0
            for path in paths:
                signal, _ = librosa.load(path, sr=SAMPLE_RATE)
                for window in librosa.util.frame(signal, frame_length=WINDOW, hop_length=HOP, axis=0):
                    for name in STORED:
                        FEATURES[name].oracle(window)
                    n_windows += 1
            return n_windows

        print(machine())
        compare(
            f"preparing {len(listing.utterances)} files of {config.corpus}",
            "windows",
            ours,
            peer,
            "one file and one window at a time",
            rounds=2,
        )


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
