"""The classifier that comes with the package: judged by folds, trained on all speakers, with its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from fins.data.audit import audit, certificate, rows_of
from fins.data.protocols import Division
from fins.data.splits import SPLIT, write_split
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import (
    finish_run,
    library_versions,
    locked,
    read_json,
    start_run,
    write_atomically,
    write_json,
)
from ser_heads.evaluation.calibration import calibration_error
from ser_heads.evaluation.predictions import (
    PREDICTIONS,
    Predictions,
    describe_parts,
    label_predictions,
    read_predictions,
    scores_of,
)
from ser_heads.evaluation.unseen import answer_rows
from ser_heads.experiments.assembly import settle_options, what_is_there
from ser_heads.experiments.config import DEFAULT_MODEL, RunConfig, configure
from ser_heads.experiments.folds import CrossvalOptions, cross_validate
from ser_heads.experiments.inner_folds import recipe_of
from ser_heads.experiments.release_card import LICENCE, release_card
from ser_heads.model import SerModel
from ser_heads.models import build, get_entry, save_model
from ser_heads.training.cache import StoreCache
from ser_heads.training.datasets import StoreDataset
from ser_heads.training.fitting import fit
from ser_heads.training.recipe import Recipe

FOLDS = "folds"  # folder of the cross-validation, beside one for each unmet corpus
WEIGHTS = Path(__file__).parents[1] / "models" / "weights"
KEPT = (
    "uar",
    "wa",
    "macro_f1",
    "weighted_f1",
    "interval_95",
    "n_utterances",
    "n_speakers",
    "labels",
    "confusion",
)


@dataclass(frozen=True)
class ReleaseOptions:
    """Train the classifier that comes with the package, and write its weights, figures and card.

    Six published folds say what it is worth on speakers that it never met, and how long to train; then all
    speakers train it. What has been made already isn't made again.
    """

    store: Path
    """RAVDESS, made by pipelines.prepare: it alone trains."""
    unseen: tuple[Path, ...] = ()
    """Stores of other corpora, which test it and do nothing else."""
    model: str = DEFAULT_MODEL
    """Its name, and that of its files."""
    seed: int = 0
    """Of the weights and all that is drawn."""
    runs: Path = Path("runs/release")
    """Folder for the folds, the checkpoint, and what was answered about each other corpus."""
    out: Path = WEIGHTS
    """Folder of the weights: the package's own."""

    def __post_init__(self) -> None:
        names = [FOLDS, *(path.stem for path in self.unseen)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"--unseen: answers about {name}.h5 need a folder of that name: rename the store"
                )


def release(options: ReleaseOptions, watch: Watch = SILENT) -> Path:
    """Folds, length, training, judgement, card; returns the weights file.

    Raises ValueError, in one sentence, for a store that isn't RAVDESS's and for folds that failed.
    """
    config = configure(options.model, store=(options.store,), seed=options.seed, out=options.runs / FOLDS)
    cross_validate(config, CrossvalOptions(folds="published"), watch)
    folds = [read_json(options.runs / FOLDS / f"fold-{number}" / "result.json") for number in range(1, 7)]
    assert config.recipe is not None
    recipe = recipe_of(folds, config.recipe)
    model = train_on_all(config, recipe, options.runs / "checkpoint.safetensors", watch)
    confide(model, folds)
    trained = replace(config, recipe=recipe)
    unseen = {
        path.stem: judge(model, trained, path, options.runs / path.stem, watch) for path in options.unseen
    }
    together = read_predictions(options.runs / FOLDS)
    result = {
        "model": options.model,
        "parameters": model.n_parameters(),
        "labels": list(model.labels),
        "seed": options.seed,
        "licence": LICENCE,
        "trained_on": trained_on(options.store),
        "recipe": {"frozen_epochs": recipe.frozen_epochs, "finetuned_epochs": recipe.finetuned_epochs},
        "temperature": float(model.temperature),
        "abstention": {"threshold": float(model.abstention)},
        "folds": {"uar_of_runs": [fold["uar"] for fold in folds], **figures(together, options.seed)},
        "unseen": unseen,
        "versions": library_versions(),
    }
    weights = options.out / f"{options.model}.safetensors"
    options.out.mkdir(parents=True, exist_ok=True)
    save_model(weights, model, card=short_card(result))
    write_json(weights.with_suffix(".json"), result)
    write_atomically(weights.with_suffix(".md"), release_card(result))
    return weights


def confide(model: SerModel, folds: Sequence[Mapping[str, Any]]) -> None:
    """Set the geometric mean of the folds' temperatures and the median of their thresholds, 0 for none."""
    thresholds = [fold.get("abstention", {"threshold": 0.0})["threshold"] for fold in folds]
    model.temperature.fill_(float(np.exp(np.mean(np.log([fold["temperature"] for fold in folds])))))
    model.abstention.fill_(float(np.median(thresholds)))


def train_on_all(config: RunConfig, recipe: Recipe, checkpoint: Path, watch: Watch) -> SerModel:
    """A model of every recording of the stores; nothing is left to choose by, so the last epoch is kept."""
    with UtteranceTable(config.store) as table:
        labels = order_labels(table.rows["emotion"])
        options = settle_options(config, table, np.arange(len(table)))
        torch.manual_seed(config.seed)
        model = build(get_entry(config.model), options, labels)
        everything = StoreDataset(table, np.arange(len(table)), labels)
        watch.note(f"all {len(everything):,} utterances train, {recipe.frozen_epochs} epochs")
        fit(
            model,
            everything,
            None,
            recipe,
            checkpoint=checkpoint,
            seed=config.seed,
            cache=StoreCache(watch),
            watch=watch,
        )
    return model.eval()


def judge(model: SerModel, config: RunConfig, store: Path, out: Path, watch: Watch) -> dict[str, Any]:
    """What it answers about a corpus that it never met: among that corpus's words, and (`uar_of_all_labels`)
    among all of its own. The answers, the division and its certificate become a run in the folder `out`."""
    with UtteranceTable((store,)) as table:
        everything = np.arange(len(table.rows))
        logits = answer_rows(model, table, everything, watch)
        predictions, used = label_predictions(table.rows, everything, logits, model.labels)
        truth = table.rows["emotion"].to_numpy(dtype=object)[used]
    answers = np.array(model.labels, dtype=object)[logits[used].argmax(axis=1)]
    recalls = [float((answers[truth == emotion] == emotion).mean()) for emotion in sorted(set(truth))]
    keep(model, config, store, out, predictions, used)
    return {
        **figures(predictions, config.seed),
        "uar_of_all_labels": float(np.mean(recalls)),
        "n_unknown_emotion": int((~used).sum()),
    }


def keep(
    model: SerModel,
    config: RunConfig,
    store: Path,
    out: Path,
    predictions: Predictions,
    used: NDArray[np.bool_],
) -> None:
    """What a model of all of `config.store` answered about an unmet corpus, as the folder of a run.

    used : (n,) which utterances of the corpus the predictions are of
    """
    tested = tuple(sorted(set(predictions.table["corpus"])))
    division = Division(protocol="corpus", test_corpus=tested)
    with UtteranceTable((*config.store, store)) as table, locked(out):
        n_trained = len(table.rows) - len(used)
        parts = {
            "train": np.arange(n_trained),
            "validation": np.arange(0),
            "test": n_trained + np.flatnonzero(used),
        }
        asked = replace(config, store=(*config.store, store), division=division, out=None)
        start_run(out, {**asked.as_json(), **what_is_there(asked, model, table)})
        rows, never_shares = rows_of(table.rows, parts), division.never_shares()
        certified = certificate(rows, audit(rows, None, never_shares), False, never_shares)
        write_split(out / SPLIT, table.rows, parts)
        predictions.write(out / PREDICTIONS)
        result = {
            "model": config.model,
            "parameters": model.n_parameters(),
            "protocol": division.protocol,
            "seed": config.seed,
            "parts": describe_parts(table.rows, parts),
            **scores_of(predictions, config.seed),
            "audit": certified,
        }
        finish_run(out, result)


def figures(predictions: Predictions, seed: int) -> dict[str, Any]:
    """Scores with intervals, and how far confidence is off."""
    scores = scores_of(predictions, seed)
    truth = np.array([predictions.labels.index(emotion) for emotion in predictions.table["emotion"]])
    return {
        **{key: scores[key] for key in KEPT},
        "calibration_error": calibration_error(predictions.probabilities, truth),
    }


def trained_on(store: Path) -> dict[str, Any]:
    """How many utterances of which corpora and how many speakers."""
    with UtteranceTable((store,)) as table:
        described = describe_parts(table.rows, {"train": np.arange(len(table.rows))})["train"]
    return {**described, "speakers": len(described["speakers"])}


def short_card(result: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with the weights wherever they go, into ONNX too."""
    return {
        "licence": result["licence"],
        "trained_on": result["trained_on"]["corpora"],
        "uar_unseen_speakers": round(result["folds"]["uar"], 4),
        "uar_unseen_corpora": {name: round(row["uar"], 4) for name, row in result["unseen"].items()},
    }
