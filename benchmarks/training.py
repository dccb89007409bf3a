"""Training from a store against the very same steps on float32 tensors in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from common import compare, machine

from fins.networks import build_fin
from fins.preparation import Preparation, prepare_store
from fins.streams import WindowStream, epoch_order
from fins.synthetic import write_corpus
from fins.training import Fit, FitOptions
from pipelines.corpora import read_corpus


@dataclass(frozen=True)
class BenchmarkConfig:
    """Which store, and how many windows the tensors in memory hold."""

    store: Path | None = None
    windows: int = 40_000


def main(config: BenchmarkConfig) -> None:
    """Print the ratio for a light and a heavy stack."""
    print(machine(), f"; {torch.get_num_threads()} threads", sep="")
    with tempfile.TemporaryDirectory() as folder:
        store = config.store or make_store(Path(folder))
        for feature, share in (("rms", 1), ("zcr", 1), ("mfcc", 20)):
            measure(feature, store, config.windows // share, Path(folder))


def make_store(folder: Path) -> Path:
    """A store of synthetic speech."""
    write_corpus(folder / "corpus", n_speakers=8, n_sentences=6, n_takes=2)
    listing = read_corpus("synthetic", folder / "corpus")
    for _ in prepare_store(folder / "made.h5", listing.utterances, listing.root, Preparation(), 2):
        pass
    return folder / "made.h5"


def measure(feature: str, store: Path, n_windows: int, folder: Path) -> None:
    """Both sides take the same steps on as many windows in the same batches."""
    stream = WindowStream([store], feature)
    parts = stream.split("random", 0)
    options = FitOptions("mse", 64, 1e-4, 1, 1, 0)
    torch.manual_seed(0)
    fit = Fit(
        build_fin(feature, "paper"), stream, parts, options, folder / "none.safetensors", torch.device("cpu")
    )
    chosen, held = [], 0
    for reference in epoch_order(parts["train"], 0, 1, 0):
        if held < n_windows:
            chosen.append(reference)
            held += stream.count_windows([reference])
    whole = stream.load(chosen)
    windows, labels = whole.batch(slice(None), torch.device("cpu"))
    rng = np.random.default_rng(0)

    def from_store() -> int:
        for buffer in stream.buffers(stream.group(chosen)):
            order = rng.permutation(len(buffer))
            for start in range(0, len(buffer), options.batch_size):
                fit._step(*buffer.batch(order[start : start + options.batch_size], fit.device))
        return held

    def in_memory() -> int:
        order = torch.from_numpy(rng.permutation(len(windows)))
        for index in order.split(options.batch_size):
            fit._step(windows[index], labels[index])
        return held

    compare(f"training {feature} from a store", "windows", from_store, in_memory, "from tensors in memory")


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
