"""What matching answers to even shares of labels is worth, and what it costs where they aren't even.

Of the answers that are kept in results/, no model is needed: `python benchmarks/shares.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from ser_heads.evaluation.predictions import Predictions, predictions_in
from ser_heads.inference.shares import match_shares

RUNS = ("fin-ravdess", "fin-ravdess-seed1", "fin-ravdess-seed2")
N_DRAWS, N_MIXED = 20, 24
Draw = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]


def main() -> None:
    """Print a row for each way of choosing some recordings of each speaker of RAVDESS."""
    print(machine())
    results = Path(__file__).parents[1] / "results"
    kept = [predictions_in(results / run / "predictions.csv") for run in RUNS]
    print("| recordings of each speaker | UAR % of each alone | matched to even shares |\n|---|--:|--:|")
    for about, draw in ways().items():
        alone, matched = (100 * np.mean(column) for column in zip(*uars(kept, draw), strict=True))
        print(f"| {about} | {alone:.1f} | {matched:.1f} |", flush=True)


def ways() -> dict[str, Draw]:
    """What is said of a choice → (truth of a speaker's recordings, generator) → places of those chosen."""
    drawn: dict[str, Draw] = {
        f"{n}, drawn": lambda truth, rng, n=n: rng.choice(len(truth), n, replace=False)
        for n in (4, 8, 16, 32, 60)
    }
    mixed: dict[str, Draw] = {
        f"{N_MIXED}, {how} (Dirichlet, {alpha})": (
            lambda truth, rng, alpha=alpha: draw_unevenly(truth, rng, alpha)
        )
        for how, alpha in {"nearly even": 10, "uneven": 3, "very uneven": 1, "a few labels": 0.5}.items()
    }
    lacking: dict[str, Draw] = {
        f"all but those of {n} of 8 labels": lambda truth, rng, n=n: np.flatnonzero(
            ~np.isin(truth, rng.choice(truth.max() + 1, n, replace=False))
        )
        for n in (1, 2, 4)
    }
    return {**drawn, **mixed, **lacking}


def draw_unevenly(truth: NDArray[np.int64], rng: np.random.Generator, alpha: float) -> NDArray[np.int64]:
    """Places of recordings, as many of each label as its share says, as far as there are so many."""
    shares = rng.dirichlet(np.full(truth.max() + 1, alpha))
    weights = (shares / np.maximum(np.bincount(truth), 1))[truth]
    n = min(N_MIXED, int((weights > 1e-9).sum()))
    return rng.choice(len(truth), n, replace=False, p=weights / weights.sum())


def uars(kept: list[Predictions], draw: Draw) -> list[tuple[float, float]]:
    """UAR of each draw from each run, of recordings alone and matched."""
    rng = np.random.default_rng(0)
    found = []
    for predictions in kept:
        place_of = {label: place for place, label in enumerate(predictions.labels)}
        truth = predictions.table["emotion"].map(place_of).to_numpy(np.int64)
        speakers = predictions.table["speaker"].to_numpy(object)
        for _ in range(N_DRAWS):
            rows: list[tuple[NDArray, NDArray, NDArray]] = []
            for speaker in sorted(set(speakers)):
                places = np.flatnonzero(speakers == speaker)
                places = places[draw(truth[places], rng)]
                alone = predictions.probabilities[places]
                rows.append((truth[places], alone.argmax(axis=1), match_shares(alone).argmax(axis=1)))
            true, *answers = (np.concatenate(column) for column in zip(*rows, strict=True))
            found.append(tuple(recall_score(true, answer, average="macro") for answer in answers))
    return found


if __name__ == "__main__":
    main()
