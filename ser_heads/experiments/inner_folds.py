"""How long to train, by folds of the training speakers alone; then all of them train."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fins.data.folds import fold_utterances
from fins.data.splits import Parts
from fins.progress import Watch
from fins.runs import INNER
from ser_heads.experiments.assembly import Assembly
from ser_heads.models import build
from ser_heads.training.recipe import Recipe
from ser_heads.training.state import TrainingState
from ser_heads.training.trainer import Trainer

TrainerMaker = Callable[[Assembly, Path, Watch, float], Trainer]


@dataclass(frozen=True)
class OutOfFold:
    """What models of inner folds answered, each about the speakers that it didn't learn from.

    places : (n,) of the table; logits : (n, n_classes)
    recipe : as long as they found best; rows : of each fold what it chose, as JSON holds it
    """

    places: NDArray[np.int64]
    logits: NDArray[np.float32]
    recipe: Recipe
    rows: list[dict[str, Any]]


def join_validation(assembly: Assembly) -> Assembly:
    """The same, where validating recordings train too, for inner folds to divide."""
    parts = assembly.parts
    both = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    return replace(assembly, parts={**parts, "train": both, "validation": both[:0]})


def inner_parts(assembly: Assembly) -> list[Parts]:
    """Of each inner fold, who trains and who validates: no speaker does both, and none of them tests.

    Raises ValueError for fewer speakers than folds.
    """
    config, known = assembly.config, assembly.parts["train"]
    rows = assembly.table.rows.iloc[known].reset_index(drop=True)
    number_of = fold_utterances(rows, config.inner_folds, True, config.split_seed)
    original = (rows["augmented_from"] == "").to_numpy()
    return [
        {
            "train": known[(number_of != number) & (number_of >= 0)],
            "validation": known[(number_of == number) & original],
        }
        for number in range(config.inner_folds)
    ]


def train_inner_folds(
    assembly: Assembly,
    divided: Sequence[Parts],
    out: Path,
    watch: Watch,
    make_trainer: TrainerMaker,
) -> OutOfFold:
    """A model of each inner fold, from its start or from where it was killed.

    The seed of the split draws their weights, so that runs with several seeds of one split choose the same.
    make_trainer : of `learning.trainer_of`
    """
    config = replace(assembly.config, seed=assembly.config.split_seed)
    places, logits, rows = [], [], []
    for number, parts in enumerate(divided, 1):
        watch.note(f"inner fold {number} of {len(divided)}")
        torch.manual_seed(config.seed)
        model = build(assembly.entry, assembly.model.options, assembly.model.labels)
        inner = replace(assembly, config=config, model=model, parts=parts)
        trainer = make_trainer(inner, out / INNER.format(number), watch, time.monotonic())
        state = trainer.run()
        validation = inner.dataset(parts["validation"])
        places.append(parts["validation"])
        logits.append(trainer.logits(validation))
        rows.append(row_of(inner, state))
    assert config.recipe is not None
    return OutOfFold(np.concatenate(places), np.concatenate(logits), recipe_of(rows, config.recipe), rows)


def row_of(inner: Assembly, state: TrainingState) -> dict[str, Any]:
    """What an inner fold chose."""
    best = state.history[state.best_epoch - 1]
    return {
        "validation_speakers": sorted(set(inner.table.rows["person"].iloc[inner.parts["validation"]])),
        "best_epoch": state.best_epoch,
        "best_phase": best.phase,
        "validation_uar": best.validation_uar,
        "seconds": round(state.seconds, 1),
    }


def recipe_of(folds: Sequence[Mapping[str, Any]], recipe: Recipe) -> Recipe:
    """Trained as long as the folds' validation parts found best: the median of the epochs that they chose.

    FINs are finetuned if more than half of the folds kept finetuned ones.
    """
    finetuned = [fold["best_phase"] == "finetuned" for fold in folds]
    frozen = [min(fold["best_epoch"], recipe.frozen_epochs) for fold in folds]
    keeps = np.mean(finetuned) > 0.5
    return replace(
        recipe,
        frozen_epochs=round(float(np.median(frozen))),
        finetuned_epochs=recipe.finetuned_epochs if keeps else 0,
    )
