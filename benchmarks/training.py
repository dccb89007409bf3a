"""Training from a store against the very same steps on float32 tensors in memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from common import compare, machine

from data_manifests import read_corpus
from fins.data.preparation import Preparation, prepare_store
from fins.data.protocols import Division
from fins.data.synthetic.synthesiser import write_corpus
from fins.learning.trainer import WindowRecipe, WindowTrainer
from fins.learning.windows import WindowStream, epoch_order
from fins.networks import FinConfig, build_fin


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
    parts = stream.split(Division(protocol="random"), 0)
    recipe = WindowRecipe("mse", 64, 1e-4, 1, 1, 0)
    torch.manual_seed(0)
    trainer = WindowTrainer(
        build_fin(FinConfig(feature, "paper")),
        stream,
        parts,
        recipe,
        folder / "none.safetensors",
        torch.device("cpu"),
    )
    chosen, n_chosen = [], 0
    for reference in epoch_order(parts["train"], 0, 1, 0):
        if n_chosen < n_windows:
            chosen.append(reference)
            n_chosen += stream.count_windows([reference])
    whole = stream.load(chosen)
    windows, labels = whole.batch(slice(None), torch.device("cpu"))
    rng = np.random.default_rng(0)

    def from_store() -> int:
        for block in stream.blocks(stream.group(chosen)):
            order = rng.permutation(len(block))
            for start in range(0, len(block), recipe.batch_size):
                trainer._step(*block.batch(order[start : start + recipe.batch_size], trainer.device))
        return n_chosen

    def in_memory() -> int:
        order = torch.from_numpy(rng.permutation(len(windows)))
        for index in order.split(recipe.batch_size):
            trainer._step(windows[index], labels[index])
        return n_chosen

    compare(f"training {feature} from a store", "windows", from_store, in_memory, "from tensors in memory")


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
