"""Training in one call: scales, both phases, the temperature of probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fins.progress import SILENT, Watch
from ser_heads.evaluation.calibration import fit_abstention, fit_temperature
from ser_heads.frontends import FrameBatch
from ser_heads.model import SerModel
from ser_heads.training.cache import FrameCache, MemoryCache
from ser_heads.training.datasets import SpeechDataset, copying_of
from ser_heads.training.recipe import Recipe
from ser_heads.training.schedule import TimeBudget
from ser_heads.training.sources import FrameSource
from ser_heads.training.state import TrainingState
from ser_heads.training.trainer import Trainer

CALIBRATION = 200  # training recordings of which scales are taken, at least, if there are so many


def calibrate_norm(model: SerModel, source: FrameSource) -> None:
    """Set the scales of a model's norm to those of training recordings, as they are; before any training."""
    calibrate = getattr(model.norm, "calibrate", None)
    if calibrate is None:
        return
    model.eval()

    def frames() -> Iterator[FrameBatch]:
        for place in range(0, len(source), max(1, len(source) // CALIBRATION)):
            with torch.no_grad():
                yield source.batch([place])[0]

    calibrate(frames())


def fit(
    model: SerModel,
    train: SpeechDataset,
    validation: SpeechDataset | None,
    recipe: Recipe | None = None,
    *,
    minutes: float | None = None,
    checkpoint: Path | None = None,
    seed: int = 0,
    cache: FrameCache | None = None,
    watch: Watch = SILENT,
) -> TrainingState:
    """Train a classifier on recordings of one's own; it has its best weights afterwards, in evaluation mode.

    train, validation : any torch Datasets of (waveform, label), see SpeechDataset; the second chooses epoch,
        temperature and threshold. Without it (None) the last epoch is kept, and these stay as they are
    recipe : by default the model's own; minutes : budget of all
    checkpoint : file by which a killed training goes on; cache : of frames, by default in memory
    Raises ValueError for a model that isn't trained by gradient, and for items that can't be meant.
    """
    chosen = check_fit(model, train, validation, recipe)
    kept = MemoryCache() if cache is None else cache
    if checkpoint is None or not checkpoint.exists():
        for parameter in model.frontend.pretrained():  # so that its frames are kept
            parameter.requires_grad_(False)
        calibrate_norm(model, FrameSource(model, train, kept))
    trainer = Trainer(
        model,
        train,
        validation,
        chosen,
        cache=kept,
        checkpoint=checkpoint,
        seed=seed,
        budget=None if minutes is None else TimeBudget(60 * minutes),
        watch=watch,
    )
    state = trainer.run()
    if validation is not None and (facts := trainer.validation_facts):
        fit_confidence(model, trainer.logits(validation), facts.targets)
    return state


def fit_confidence(model: SerModel, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
    """Set the temperature, and the threshold below which not to answer.

    logits : (n, n_classes) of validation recordings; targets : (n,) places of their labels
    """
    model.temperature.fill_(fit_temperature(logits, targets))
    shares = (torch.from_numpy(logits).double() / model.temperature.cpu().double()).softmax(dim=1).numpy()
    model.abstention.fill_(fit_abstention(shares.max(axis=1), shares.argmax(axis=1) == targets))


def check_fit(
    model: SerModel, train: SpeechDataset, validation: SpeechDataset | None, recipe: Recipe | None
) -> Recipe:
    """The recipe, by default the model's own; ValueError for what can't be fitted."""
    from ser_heads.models import MODELS

    entry = MODELS[model.name]
    if entry.fit is not None:
        raise ValueError(f"{model.name} isn't trained by gradient: python -m pipelines.train fits it")
    if len(train) == 0 or (validation is not None and len(validation) == 0):
        raise ValueError("there has to be something to train on, and something else to validate on")
    chosen = recipe or entry.recipe
    if chosen.copies and chosen.copying != copying_of(train):
        raise ValueError(
            f"the recipe makes copies by {chosen.copying!r}: give the dataset that word as its `copying`"
        )
    return chosen
