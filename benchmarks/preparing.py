"""Preparing a corpus: ours, in parallel, against two scripts of librosa calls.

One loads, frames, and calls each feature on each window; it works on a few files, ours on all. The other
calls each feature on whole clips, in as many processes as ours, and stores nothing. Options: --corpus and
--root for a real corpus; by default one is synthesised.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

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

        def window_by_window() -> int:
            import librosa

            n_windows = 0
            for path in paths:
                signal, _ = librosa.load(path, sr=SAMPLE_RATE)
                for window in librosa.util.frame(signal, frame_length=WINDOW, hop_length=HOP, axis=0):
                    for name in STORED:
                        FEATURES[name].oracle(window)
                    n_windows += 1
            return n_windows

        def clip_by_clip() -> int:
            every = [listing.root / utterance.path for utterance in listing.utterances]
            with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1) as pool:
                return sum(pool.imap_unordered(features_of_clip, every, chunksize=16))

        print(machine())
        name = f"preparing {len(listing.utterances)} files of {config.corpus}"
        compare(name, "windows", ours, window_by_window, "one file and one window at a time", rounds=2)
        compare(name, "windows", ours, clip_by_clip, "one clip at a time, in as many processes")


def features_of_clip(path: Path) -> int:
    """The five features by librosa; how many windows they have."""
    import librosa

    signal, _ = librosa.load(path, sr=SAMPLE_RATE)
    grid = {"hop_length": HOP, "center": False}
    librosa.feature.zero_crossing_rate(signal, frame_length=WINDOW, **grid)
    librosa.feature.rms(y=signal, frame_length=WINDOW, **grid)
    spectrum = {"y": signal, "sr": SAMPLE_RATE, "n_fft": WINDOW, **grid}
    librosa.feature.chroma_stft(tuning=0.0, **spectrum)
    librosa.feature.mfcc(n_mfcc=20, **spectrum)
    return librosa.feature.melspectrogram(**spectrum).shape[1]


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
