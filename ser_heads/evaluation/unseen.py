"""A classifier on stores that it never met, or several runs together."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from fins.command import sentence_of
from fins.data.splits import SPLIT, rows_not_trained_on
from fins.data.table import UtteranceTable
from fins.learning.degradations import AS_RECORDED, check_condition
from fins.progress import SILENT, Watch
from fins.runs import RESULT, finish_run, forget_result, locked, read_json, write_atomically
from fins.tensors import WEIGHTS
from ser_heads.evaluation.calibration import FEW, abstain
from ser_heads.evaluation.predictions import (
    PREDICTIONS,
    Predictions,
    check_out,
    confidence_of,
    describe_confidence,
    describe_parts,
    describe_scores,
    draw_scores,
    join_predictions,
    label_predictions,
    read_predictions,
    read_result,
    scores_of,
)
from ser_heads.model import SerModel
from ser_heads.models import MODELS, load
from ser_heads.training.cache import StoreCache
from ser_heads.training.datasets import DegradedDataset, StoreDataset
from ser_heads.training.sources import logits_of


@dataclass(frozen=True)
class EvaluateOptions:
    """Judge a classifier, by UAR, WA, F1 and their intervals.

    With --store: on every utterance there that it neither trained on nor was chosen by. Without: by what one
    run, or several folds together, answered about their own test parts.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of pipelines.train; one if there is a --store. Among several, others are passed over."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, as a rule of another corpus."""
    out: Path | None = None
    """Folder for the result; by default inside the run, of several the first, named after the stores."""
    condition: str = AS_RECORDED
    """What the recordings of --store go through first: as recorded, 'noise, 10 dB', 'telephone band, 300 to
    3400 Hz', or another one of those of fins.report."""
    seed: int = 0
    """Of the resampling."""

    def __post_init__(self) -> None:
        check_condition(self.condition)
        if self.condition != AS_RECORDED and not self.store:
            raise ValueError("--condition is of the recordings of a --store: give one")


def evaluate(options: EvaluateOptions, watch: Watch = SILENT) -> tuple[Path, dict[str, Any]]:
    """Predict or collect, score, write; returns the folder and what its result.json holds."""
    runs, notes = runs_among(options.runs)
    if options.store and len(runs) > 1:
        raise ValueError("with --store one run is evaluated at a time: give one folder")
    out = options.out or runs[0] / default_name(options)
    check_out(out)
    if options.store:
        asked = (options.condition, options.seed, watch, notes)
        return out, evaluate_run(runs[0], options.store, out, *asked)
    started = time.monotonic()
    results = [read_result(run) for run in runs]
    refuse_other_runs(out, runs)
    facts, predictions = collect(runs, results)
    facts["notes"] = [*notes, *facts["notes"]]
    return out, write_evaluation(out, runs, results[0], facts, predictions, options.seed, started)


def refuse_other_runs(out: Path, runs: Sequence[Path]) -> None:
    """ValueError if a folder has the evaluation of other runs, which would be lost."""
    names = [run.resolve().name for run in runs]
    if (out / RESULT).is_file():
        judged = [Path(run).resolve().name for run in read_json(out / RESULT).get("runs", names)]
        if judged != names:
            raise ValueError(f"{out} holds the evaluation of {', '.join(judged)}: choose another --out")


def default_name(options: EvaluateOptions) -> str:
    """Of the folder in a run."""
    if not options.store:
        return "evaluation"
    degraded = () if options.condition == AS_RECORDED else (slug_of(options.condition),)
    return "-".join([*(path.stem for path in options.store), *degraded])


def slug_of(condition: str) -> str:
    """A condition as a part of a folder's name."""
    return re.sub(r"\W+", "-", condition).strip("-")


def runs_among(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Those that hold finished runs of pipelines.train, and how many don't, in a sentence.

    Raises ValueError if none does: of one folder alone, with the reason.
    """
    if not folders:
        raise ValueError("there is nothing to evaluate: give the folder of a run of pipelines.train")
    if len(folders) == 1:
        if not folders[0].is_dir():
            raise ValueError(f"{folders[0]} is no folder: give that of a run of pipelines.train")
        read_result(folders[0])
        return list(folders), []
    runs, reasons = [], []
    for folder in folders:
        try:
            read_result(folder)
            runs.append(folder)
        except (ValueError, OSError) as error:
            reasons.append(sentence_of(error))
    if not runs:
        raise ValueError(f"none of {len(folders)} folders holds a finished run; the first: {reasons[0]}")
    passed = f"{len(reasons)} of {len(folders)} hold no finished run of pipelines.train and are passed over"
    return runs, [passed] if reasons else []


def evaluate_run(
    run: Path,
    stores: Sequence[Path],
    out: Path,
    condition: str = AS_RECORDED,
    seed: int = 0,
    watch: Watch = SILENT,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge one run's model on stores, and write that into a folder; returns what its result.json holds.

    condition : what their recordings go through first, one of `fins.learning.degradations.CONDITIONS`
    """
    started = time.monotonic()
    check_out(out)
    result = read_result(run)
    with locked(out):
        facts, predictions = predict_unseen(run, stores, watch, condition)
        facts["notes"] = [*notes, *facts["notes"]]
        facts["calibration_error_of_run"] = result.get("calibration_error")
        return write_evaluation(out, [run], result, facts, predictions, seed, started)


def write_evaluation(
    out: Path,
    runs: Sequence[Path],
    of_run: dict[str, Any],
    facts: dict[str, Any],
    predictions: Predictions,
    seed: int,
    started: float,
) -> dict[str, Any]:
    """Scores, predictions, pictures and a page; result.json comes last."""
    out.mkdir(parents=True, exist_ok=True)
    forget_result(out)
    scores = scores_of(predictions, seed)
    predictions.write(out / PREDICTIONS)
    title = f"{of_run['model']} on {', '.join(scores['per_corpus'])}"
    pictures = draw_scores(out, scores, title)
    result = {
        "model": of_run["model"],
        "parameters": of_run["parameters"],
        "runs": [str(run) for run in runs],
        "seed": seed,
        **facts,
        **scores,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_atomically(out / "README.md", describe_evaluation(result, title, pictures))
    finish_run(out, result)
    return result


def is_judged(out: Path, stores: Sequence[Path]) -> bool:
    """Whether a folder has what a model answered about these stores as they are now."""
    if not (out / RESULT).exists():
        return False
    with UtteranceTable(stores) as table:
        return read_json(out / RESULT).get("stores_hold") == table.facts()


def predict_unseen(
    run: Path, stores: Sequence[Path], watch: Watch = SILENT, condition: str = AS_RECORDED
) -> tuple[dict[str, Any], Predictions]:
    """What a run's model answers about the utterances of stores that it didn't learn from."""
    model = load(run / WEIGHTS)
    parts = {part: described["n_utterances"] for part, described in read_result(run)["parts"].items()}
    with UtteranceTable(stores) as table:
        unseen = rows_not_trained_on(run / SPLIT, parts, table.rows)
        chosen = table.rows.iloc[unseen.rows]
        logits = answer_rows(model, table, unseen.rows, watch, condition)
        predictions, used = label_predictions(table.rows, unseen.rows, logits, model.labels)
        labels = predictions.labels
        notes = [f"emotions that can be answered: {', '.join(labels)}"]
        if condition != AS_RECORDED:
            notes.append(f"recordings were degraded first: {condition}")
        if "calm" in model.labels and "calm" not in labels and "neutral" in labels:
            notes.append("calm counts as neutral: these corpora know no calm")
        if unseen.n_seen:
            notes.append(f"{unseen.n_seen:,} utterances left out: the run learned from them")
        if not used.all():
            unknown = ", ".join(sorted(set(chosen["emotion"]) - set(labels)))
            notes.append(f"{(~used).sum():,} utterances left out: the model knows no {unknown}")
        return {
            "protocol": unseen.protocol,
            "stores_hold": table.facts(),
            "condition": condition,
            "parts": describe_parts(table.rows, {"test": unseen.rows[used]}),
            "abstention": {
                "threshold": float(model.abstention),
                "test": abstain(*confidence_of(predictions), float(model.abstention)),
            },
            "n_left_out": {"learned_from": unseen.n_seen, "unknown_emotion": int((~used).sum())},
            "notes": notes,
        }, predictions


def answer_rows(
    model: SerModel,
    table: UtteranceTable,
    rows: NDArray[np.int64],
    watch: Watch = SILENT,
    condition: str = AS_RECORDED,
) -> NDArray[np.float32]:
    """(n, n_labels) logits of these rows of a table, divided by the model's temperature."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    words = table.rows.iloc[rows]["emotion"].unique().tolist()
    model.requires_grad_(False)
    if condition == AS_RECORDED:
        sounds, cache = StoreDataset(table, rows, words), StoreCache(watch)
    else:
        sounds, cache = DegradedDataset(table, rows, words, condition), None
    logits = logits_of(model.to(device), sounds, cache, device=device)
    return logits / float(model.temperature)


def collect(
    runs: Sequence[Path], results: Sequence[dict[str, Any]], protocol: str | None = None
) -> tuple[dict[str, Any], Predictions]:
    """What several runs of one model answered about their test parts, as one table.

    protocol : of folds of one division, whose test parts may be of corpora with other emotions; else runs
        have to be of one kind
    """
    if len({os.path.realpath(run) for run in runs}) < len(runs):
        raise ValueError("a run is given twice: once is enough")
    tables = [read_predictions(run) for run in runs]
    kinds = {(result["model"], result["protocol"]) for result in results}
    if protocol is None and (len(kinds) > 1 or len({predictions.labels for predictions in tables}) > 1):
        raise ValueError("the runs differ in model, protocol or emotions: evaluate runs of a kind together")
    together = join_predictions(tables)
    uars = [result["uar"] for result in results]
    notes = []
    if len(runs) > 1:
        mean, deviation = 100 * np.mean(uars), 100 * np.std(uars, ddof=1)
        notes.append(f"mean UAR of {len(runs)} runs {mean:.1f} %, deviation {deviation:.1f} points")
    n_utterances = together.table["utterance"].nunique()
    if n_utterances < len(together):
        notes.append(f"{n_utterances:,} utterances, some count once for each run that has them")
    speakers = sorted(set(together.table["speaker"]))
    return {
        "protocol": protocol or results[0]["protocol"],
        "uar_of_runs": uars,
        "mean_uar_of_runs": float(np.mean(uars)),
        "parts": {"test": {"n_utterances": n_utterances, "speakers": speakers}},
        "notes": notes,
    }, together


def describe_trust(result: dict[str, Any]) -> list[str]:
    """How far confidence can be trusted, also on recordings unlike those by which it was fitted."""
    if result["model"] in MODELS and MODELS[result["model"]].fit is not None:
        return ["Its probabilities are shares of votes: they tell no confidence."]
    lines = [describe_confidence(result)]
    if "calibration_error_of_run" not in result:
        return lines
    own = result["calibration_error_of_run"]
    beside = "" if own is None else f" (on the run's own test part it was off by {100 * own:.1f} points)"
    lines.append(
        f"Its temperature was fitted on other recordings{beside}: a confidence isn't to be trusted as the "
        "chance of being right on a corpus of which no such error is known, and a threshold is better chosen "
        "again on recordings of its kind."
    )
    if result["n_utterances"] < FEW:
        lines.append(f"Of fewer than {FEW} recordings this error is mostly chance.")
    return [" ".join(lines)]


def describe_evaluation(result: dict[str, Any], title: str, pictures: Sequence[str]) -> str:
    """An evaluation as a page of Markdown."""
    lines = [f"# {title}", "", *(f"- {note}" for note in result["notes"]), "", *describe_scores(result), ""]
    lines += [*describe_trust(result), ""]
    return "\n".join([*lines, *(f"![{name}]({name}.png)" for name in pictures), ""])
