"""How a run learns: in epochs, or by trying a grid; what it leaves for the scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fins.data.splits import Parts
from fins.progress import Watch
from fins.runs import CHECKPOINT, start_run
from ser_heads.evaluation.drift import FROZEN_WEIGHTS
from ser_heads.evaluation.plots import plot_confusion, plot_learning_curves
from ser_heads.evaluation.predictions import describe_parts, label_predictions, scores_of
from ser_heads.evaluation.scores import OF_A_PART
from ser_heads.experiments.assembly import Assembly
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.inner_folds import OutOfFold, inner_parts, train_inner_folds
from ser_heads.models import save_model
from ser_heads.models.spectral_svm import GridResult, SvmExamples
from ser_heads.training.datasets import StoreDataset
from ser_heads.training.fitting import calibrate_norm
from ser_heads.training.objective import class_weights
from ser_heads.training.schedule import TimeBudget
from ser_heads.training.sources import FrameSource, logits_of
from ser_heads.training.state import TrainingState
from ser_heads.training.trainer import Trainer

ENDING = 10.0  # seconds that scores, pictures and files take
SCORED = 500  # training recordings that are scored at the end, at most
Logits = NDArray[np.float32]  # (n, n_classes)


@dataclass(frozen=True)
class LearningOutcome:
    """What learning left, beside the model's weights.

    logits : places of the table → (n, n_classes) by the weights that are kept
    history : its rows, dataclasses of one kind; phase : whose weights the model has
    earlier : phase before it → logits of the test part; facts : what the result says of it
    out_of_fold : what inner folds answered, in place of a validation part
    """

    logits: Callable[[NDArray[np.int64]], Logits]
    history: Sequence[Any]
    phase: str
    earlier: Mapping[str, Logits]
    facts: dict[str, Any]
    pictures: list[str]
    out_of_fold: OutOfFold | None = None


def train_in_epochs(
    assembly: Assembly, asked: Mapping[str, Any], out: Path, watch: Watch, started: float
) -> LearningOutcome:
    """Both phases, from the start or from the checkpoint; before them those of inner folds, if any."""
    divided = inner_parts(assembly) if assembly.config.inner_folds else []
    start_run(out, asked)
    describe_start(assembly, watch)
    inner = None
    if divided:
        inner = train_inner_folds(assembly, divided, out, watch, trainer_of)
        assembly = replace(assembly, config=replace(assembly.config, recipe=inner.recipe))
    trainer = trainer_of(assembly, out / CHECKPOINT, watch, started)
    state = trainer.run()
    finetuned = any(row.phase == "finetuned" for row in state.history)
    earlier = {}
    if finetuned and trainer.frozen_best:
        save_model(out / FROZEN_WEIGHTS, assembly.model, trainer.frozen_best)
        test = assembly.dataset(assembly.parts["test"])
        earlier["frozen"] = trainer.logits(test, frozen=True)
    history = [asdict(row) for row in state.history]
    plot_learning_curves(out / "learning_curves.png", history, state.best_epoch, assembly.title)
    return LearningOutcome(
        lambda places: trainer.logits(assembly.dataset(places)),
        state.history,
        "finetuned" if finetuned else "frozen",
        earlier,
        {**facts_of(state), **facts_of_inner(inner), "mixed_precision": trainer.mixed},
        ["learning_curves"],
        inner,
    )


def trainer_of(assembly: Assembly, checkpoint: Path, watch: Watch, started: float) -> Trainer:
    """The training of a run, from its start or from the checkpoint."""
    config, parts = assembly.config, assembly.parts
    assert config.recipe is not None
    train, validation = (assembly.dataset(parts[part]) for part in ("train", "validation"))
    if not checkpoint.exists():
        calibrate(assembly, train)
    return Trainer(
        assembly.model,
        train,
        validation if len(validation) else None,
        config.recipe,
        cache=assembly.cache,
        checkpoint=checkpoint,
        device=assembly.device,
        seed=config.seed,
        budget=budget_of(config, parts, started),
        watch=watch,
    )


def facts_of(state: TrainingState) -> dict[str, Any]:
    """What a result tells of a training in epochs."""
    best = state.history[state.best_epoch - 1]
    return {
        "seconds": round(state.seconds, 1),
        "stopped": state.stopped,
        "epochs": len(state.history),
        "best_epoch": state.best_epoch,
        "validation_uar": best.validation_uar,
        "best_phase": best.phase,
    }


def facts_of_inner(inner: OutOfFold | None) -> dict[str, Any]:
    """What a result tells of inner folds, nothing without."""
    if inner is None:
        return {}
    uars = [row["validation_uar"] for row in inner.rows]
    return {"validation_uar": float(np.mean(uars)), "inner_folds": inner.rows}


def calibrate(assembly: Assembly, train: StoreDataset) -> None:
    """Scales of the norm, from frames as the first phase has them."""
    model, recipe = assembly.model.to(assembly.device), assembly.config.recipe
    assert recipe is not None
    cache = assembly.cache if recipe.frozen_epochs else None
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in model.frontend.pretrained():
        parameter.requires_grad_(False)
    calibrate_norm(model, FrameSource(model, train, cache, device=assembly.device))
    for parameter in learning:
        parameter.requires_grad_(True)


def budget_of(config: RunConfig, parts: Parts, started: float) -> TimeBudget | None:
    """What is left of --minutes, and what has to be scored in it."""
    if config.minutes is None:
        return None
    n_scored = 2 * len(parts["test"]) + len(parts["validation"]) + min(len(parts["train"]), SCORED)
    return TimeBudget(config.minutes * 60 - (time.monotonic() - started), ENDING, n_scored)


def describe_start(assembly: Assembly, watch: Watch) -> None:
    """What is trained, on what, in lines for a person."""
    if assembly.entry.fit is None:
        n = assembly.model.n_parameters()
        watch.note(f"{assembly.config.model}: {n:,} parameters; on {assembly.device}")
    for part, described in describe_parts(assembly.table.rows, assembly.parts).items():
        n_speakers = len(described["speakers"])
        watch.note(f"{part}: {described['n_utterances']:,} utterances of {n_speakers} speakers")
    for line in (*assembly.table.repeats, *assembly.gaps):
        watch.note(line)


def fit_by_grid(
    assembly: Assembly, asked: Mapping[str, Any], out: Path, watch: Watch, started: float
) -> LearningOutcome:
    """All that a model tries which isn't trained by gradient, and what the best of each kind answers."""
    config, model = assembly.config, assembly.model
    start_run(out, asked)
    describe_start(assembly, watch)
    train, validation = (examples_of(assembly, part) for part in ("train", "validation"))
    start = time.monotonic()
    left = None if config.minutes is None else config.minutes * 60 - ENDING - (start - started)
    assert assembly.entry.fit is not None
    grid = assembly.entry.fit(model, train, validation, seconds=left, watch=watch)

    def logits(places: NDArray[np.int64]) -> Logits:
        return logits_of(model, assembly.dataset(places), assembly.cache)

    features = score_features(assembly, grid, logits, out)
    facts = {
        "seconds": round(time.monotonic() - start, 1),
        "stopped": grid.stopped,
        "epochs": len(grid.rows),
        "best_epoch": 1 + list(grid.rows).index(grid.best[grid.best_feature]),
        "validation_uar": grid.best[grid.best_feature].validation_uar,
        "best_phase": "fitted",
        "best_feature": grid.best_feature,
        "by_feature": features,
    }
    pictures = [f"confusion-{name}" for name in features]
    return LearningOutcome(logits, grid.rows, "fitted", {}, facts, pictures)


def score_features(
    assembly: Assembly, grid: GridResult, logits: Callable[[NDArray[np.int64]], Logits], out: Path
) -> dict[str, Any]:
    """Feature → its best machine and what that answers; the model is the best of all afterwards."""
    model, features = assembly.model, {}
    for name, tensors in grid.tensors.items():
        model.head.load_state_dict(tensors)
        best = grid.best[name]
        features[name] = {"kernel": best.kernel, "c": best.c, "n_support_vectors": best.n_support_vectors}
        for part in ("validation", "test"):
            places = assembly.parts[part]
            predictions, _ = label_predictions(assembly.table.rows, places, logits(places), model.labels)
            scores = scores_of(predictions, assembly.config.seed)
            features[name][part] = {key: scores[key] for key in (*OF_A_PART, "labels", "confusion")}
        title = f"{assembly.title}: {name}"
        plot_confusion(out / f"confusion-{name}.png", scores["confusion"], scores["labels"], title)
    model.head.load_state_dict(grid.tensors[grid.best_feature])
    return features


def examples_of(assembly: Assembly, part: str) -> SvmExamples:
    """Frames of a part as examples; perturbed copies of training recordings count as recordings."""
    recipe = assembly.config.recipe
    assert recipe is not None
    copies = recipe.copies if part == "train" else 0
    dataset = assembly.dataset(assembly.parts[part])
    source = FrameSource(assembly.model, dataset, assembly.cache, copies=copies)
    places = range(len(dataset))
    features = [
        source.batch([place], [copy])[0].values[0].numpy() for copy in range(copies + 1) for place in places
    ]
    weights = class_weights(dataset.targets, dataset.groups, recipe.class_weights)
    repeated = None if part != "train" or recipe.class_weights == 0 else np.tile(weights, copies + 1)
    return SvmExamples(np.stack(features), np.tile(dataset.targets, copies + 1), repeated)
