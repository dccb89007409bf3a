"""One run: a classifier is trained, judged on held-out recordings, and written as a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fins.data.protocols import protocol_of
from fins.data.splits import SPLIT, evenly, write_split
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import (
    HISTORY,
    RESULT,
    find_run,
    finish_run,
    locked,
    read_json,
    states_of,
    write_atomically,
    write_history,
)
from fins.tensors import WEIGHTS
from ser_heads.evaluation.calibration import abstain, fit_abstention, fit_temperature
from ser_heads.evaluation.predictions import (
    PREDICTIONS,
    Predictions,
    confidence_of,
    describe_parts,
    draw_scores,
    label_predictions,
    scores_of,
)
from ser_heads.evaluation.scores import METRICS, OF_A_PART
from ser_heads.evaluation.speed import real_time_factor
from ser_heads.experiments.assembly import Assembly, assemble, certify, what_is_there
from ser_heads.experiments.config import RunConfig, command_of
from ser_heads.experiments.inner_folds import join_validation
from ser_heads.experiments.learning import (
    SCORED,
    LearningOutcome,
    Logits,
    fit_by_grid,
    train_in_epochs,
)
from ser_heads.experiments.run_page import describe_run, summarise_run
from ser_heads.models import save_model


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, what its result.json holds, and a few lines for a person."""

    folder: Path
    result: dict[str, Any]
    text: str


def train_classifier(config: RunConfig, watch: Watch = SILENT) -> RunResult:
    """Train, score, write; a killed run goes on from its last epoch, a finished one isn't made again.

    Raises ValueError, in one sentence, for what can't be meant, and where a split breaks what its protocol
    promises.
    """
    started = time.monotonic()
    out = config.out or Path("runs") / default_name(config)
    with UtteranceTable(config.store) as table:
        assembly = assemble(config, table, watch)
        if config.inner_folds:
            assembly = join_validation(assembly)
        asked = {**config.as_json(), "out": None, **what_is_there(config, assembly.model, table)}
        if find_run(out, asked, free=()) == "finished":
            text = f"{out} holds the result of this very run already"
            return RunResult(out, read_json(out / RESULT), text)
        certified = certify(assembly)
        with locked(out):
            return learn_and_write(assembly, asked, certified, out, watch, started)


def default_name(config: RunConfig) -> str:
    """Of a run's folder."""
    division = config.division
    kind = division.fold or division.protocol
    return f"{config.model}-{kind.replace(':', '')}-seed{config.seed}"


def learn_and_write(
    assembly: Assembly,
    asked: Mapping[str, Any],
    certified: dict[str, Any],
    out: Path,
    watch: Watch,
    started: float,
) -> RunResult:
    """One run in its folder, from its start or from where it was killed."""
    learn = train_in_epochs if assembly.entry.fit is None else fit_by_grid
    outcome = learn(assembly, asked, out, watch, started)
    by_part = score_parts(assembly, outcome)
    save_model(out / WEIGHTS, assembly.model)
    predictions, _, scores = by_part["test"]
    predictions.write(out / PREDICTIONS)
    write_split(out / SPLIT, assembly.table.rows, assembly.parts)
    write_history(out / HISTORY, outcome.history, type(outcome.history[0]))
    result = result_of(assembly, outcome, by_part, certified)
    pictures = [*draw_scores(out, scores, assembly.title), *outcome.pictures]
    write_atomically(out / "README.md", describe_run(result, pictures, command_of(assembly.config)))
    finish_run(out, result)  # last: its presence says that the run is whole
    for state in states_of(out):
        state.unlink(missing_ok=True)
    return RunResult(out, result, summarise_run(result))


PartScores = dict[str, tuple[Predictions, int, dict[str, Any]]]
"""Part → predictions, how many recordings have a word that the model doesn't know, and scores."""


def score_parts(assembly: Assembly, outcome: LearningOutcome) -> PartScores:
    """Each part's predictions and scores; temperature and threshold are fitted on the validation part."""
    model, rows = assembly.model, assembly.table.rows
    scored = {**assembly.parts, "train": evenly(assembly.parts["train"], SCORED)}
    logits = {part: outcome.logits(places) for part, places in scored.items() if len(places)}
    if (inner := outcome.out_of_fold) is not None:
        scored["validation"], logits["validation"] = inner.places, inner.logits
    targets = assembly.dataset(scored["validation"]).targets
    if assembly.entry.fit is None:  # votes of machines are no logits
        model.temperature.fill_(fit_temperature(logits["validation"], targets))
    scores: PartScores = {}
    for part, places in scored.items():
        scaled = logits[part] / float(model.temperature)
        predictions, used = label_predictions(rows, places, scaled, model.labels)
        scores[part] = predictions, int((~used).sum()), scores_of(predictions, assembly.config.seed)
    if assembly.entry.fit is None:
        model.abstention.fill_(fit_abstention(*confidence_of(scores["validation"][0])))
    return scores


def result_of(
    assembly: Assembly, outcome: LearningOutcome, by_part: PartScores, certified: dict[str, Any]
) -> dict[str, Any]:
    """What result.json holds."""
    config, model, table = assembly.config, assembly.model, assembly.table
    division = config.division
    _, n_unknown, scores = by_part["test"]
    phases = {phase: score_logits(assembly, logits) for phase, logits in outcome.earlier.items()}
    phases[outcome.phase] = scores
    return {
        "model": config.model,
        "parameters": model.n_parameters(),
        "protocol": division.protocol if division.split is None else protocol_of(table.rows, assembly.parts),
        "fold": division.fold,
        "seed": config.seed,
        "split_seed": config.split_seed,
        "parts": describe_parts(table.rows, assembly.parts),
        "n_unknown_emotion": n_unknown,
        "gaps": assembly.gaps,
        "repeats": list(table.repeats),
        **scores,
        "by_part": {
            part: {key: own[key] for key in (*OF_A_PART, "n_utterances")}
            for part, (_, _, own) in by_part.items()
        },
        "temperature": float(model.temperature),
        "abstention": {
            "threshold": float(model.abstention),
            **{
                part: abstain(*confidence_of(by_part[part][0]), float(model.abstention))
                for part in ("validation", "test")
            },
        },
        "real_time_factor": real_time_factor(model, assembly.dataset(assembly.parts["test"])),
        **outcome.facts,
        "audit": certified,
        "test_by_phase": {phase: {key: own[key] for key in METRICS} for phase, own in phases.items()},
    }


def score_logits(assembly: Assembly, logits: Logits) -> dict[str, Any]:
    """Scores of logits of the test part."""
    rows, places = assembly.table.rows, assembly.parts["test"]
    predictions, _ = label_predictions(rows, places, logits, assembly.model.labels)
    return scores_of(predictions, assembly.config.seed)
