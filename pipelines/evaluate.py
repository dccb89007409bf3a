"""python -m pipelines.evaluate: judge a classifier on stores that it never saw, or several runs together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from fins.checkpoints import WEIGHTS
from fins.command import run_command
from fins.runs import RESULT, held, read_json, write_json
from fins.store import EMOTIONS
from pipelines.results import (
    PREDICTIONS,
    Predictions,
    answer,
    check_out,
    describe_scores,
    draw_scores,
    find_unseen,
    part_facts,
    prepare_inputs,
    read_predictions,
    read_result,
    scores_of,
)
from ser_heads.data import UtteranceTable
from ser_heads.models import load_model
from ser_heads.training import Feed, predict


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a classifier, by UAR, WA, F1 and their intervals.

    With --store: on every utterance there that it neither trained on nor was chosen by. Without: by what one
    run, or several folds together, said of their own test parts.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of pipelines.train; one if there is a --store."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, as a rule of another corpus."""
    out: Path | None = None
    """Folder for the result; by default inside the run, named after the stores."""
    seed: int = 0
    """Of the resampling."""


def main(config: EvaluateConfig) -> None:
    """Predict or collect, score, write."""
    started = time.monotonic()
    if not config.runs:
        raise ValueError("there is nothing to evaluate: give the folder of a run of pipelines.train")
    if config.store and len(config.runs) > 1:
        raise ValueError("with --store one run is evaluated at a time: give one folder")
    results = [read_result(run) for run in config.runs]
    if config.store:
        facts, predictions = judge(config.runs[0], config.store)
        name = "-".join(path.stem for path in config.store)
    else:
        facts, predictions = collect(config.runs, results)
        name = "evaluation"
    out = config.out or config.runs[0] / name
    check_out(out)
    model = str(results[0]["model"])
    with held(out):
        scores = scores_of(predictions, config.seed)
        predictions.write(out / PREDICTIONS)
        title = f"{model} on {', '.join(scores['per_corpus'])}"
        pictures = draw_scores(out, scores, title)
        result = {
            "model": model,
            "parameters": results[0]["parameters"],
            "runs": [str(run) for run in config.runs],
            "seed": config.seed,
            **facts,
            **scores,
            "seconds": round(time.monotonic() - started, 1),
        }
        (out / "README.md").write_text(describe(result, title, pictures))
        write_json(out / RESULT, result)
    print("\n".join([*result["notes"], *describe_scores(result)]))
    print(f"written to {out}")


def is_judged(out: Path, stores: Sequence[Path]) -> bool:
    """Whether a folder has what a model said of these stores as they are now."""
    if not (out / RESULT).exists():
        return False
    table = UtteranceTable(stores)
    hold = table.facts()
    table.close()
    return read_json(out / RESULT).get("stores_hold") == hold


def judge(run: Path, stores: Sequence[Path]) -> tuple[dict[str, Any], Predictions]:
    """What a run's model says of the utterances of stores that it didn't learn from."""
    model, _, known = load_model(run / WEIGHTS)
    unseen = find_unseen(run, stores, trimmed=not model.whole)
    table, chosen = unseen.table, unseen.rows
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare_inputs(model, table)
    feed = Feed(model, table)
    predictions, used = answer(table, chosen, predict(model.to(device), feed, chosen, device), known)
    labels = predictions.labels
    notes = [f"emotions that can be answered: {', '.join(labels)}"]
    if "calm" in known and "calm" not in labels and "neutral" in labels:
        notes.append("calm counts as neutral: these corpora know no calm")
    if unseen.n_seen:
        notes.append(f"{unseen.n_seen:,} utterances left out: the run learned from them")
    if not used.all():
        unknown = ", ".join(sorted(set(table.columns["emotion"][chosen]) - set(labels)))
        notes.append(f"{(~used).sum():,} utterances left out: the model knows no {unknown}")
    return {
        "protocol": unseen.protocol,
        "stores_hold": table.facts(),
        "parts": part_facts(table, {"test": chosen[used]}),
        "n_left_out": {"learned_from": unseen.n_seen, "unknown_emotion": int((~used).sum())},
        "notes": notes,
    }, predictions


def collect(
    runs: Sequence[Path], results: Sequence[dict[str, Any]], protocol: str | None = None
) -> tuple[dict[str, Any], Predictions]:
    """What several runs of one model said of their test parts, as one table.

    protocol : of folds of one division, whose test parts may be of corpora with other emotions; else runs
        have to be of one kind
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("a run is given twice: once is enough")
    tables = [read_predictions(run) for run in runs]
    labels = tuple(name for name in EMOTIONS if any(name in table.labels for table in tables))
    kinds = {(result["model"], result["protocol"]) for result in results}
    if protocol is None and (len(kinds) > 1 or any(table.labels != labels for table in tables)):
        raise ValueError("the runs differ in model, protocol or emotions: evaluate runs of a kind together")
    together = Predictions(
        [name for table in tables for name in table.names],
        [speaker for table in tables for speaker in table.speakers],
        [emotion for table in tables for emotion in table.truth],
        [emotion for table in tables for emotion in table.answer],
        np.concatenate([over_labels(table, labels) for table in tables]),
        labels,
    )
    uars = [result["uar"] for result in results]
    notes = []
    if len(runs) > 1:
        spread = np.std(uars, ddof=1)
        notes.append(
            f"mean UAR of {len(runs)} runs {100 * np.mean(uars):.1f} %, deviation {100 * spread:.1f} points"
        )
    n_utterances = len(set(together.names))
    if n_utterances < len(together.names):
        notes.append(f"{n_utterances:,} utterances, some count once for each run that has them")
    return {
        "protocol": protocol or results[0]["protocol"],
        "uar_of_runs": uars,
        "mean_uar_of_runs": float(np.mean(uars)),
        "parts": {"test": {"n_utterances": n_utterances, "speakers": sorted(set(together.speakers))}},
        "notes": notes,
    }, together


def over_labels(predictions: Predictions, labels: Sequence[str]) -> NDArray[np.float64]:
    """(n, labels) probabilities; 0 of emotions that couldn't be answered."""
    probabilities = np.zeros((len(predictions.names), len(labels)))
    probabilities[:, [labels.index(label) for label in predictions.labels]] = predictions.probabilities
    return probabilities


def describe(result: dict[str, Any], title: str, pictures: list[str]) -> str:
    """An evaluation as a page of Markdown."""
    return "\n".join(
        [
            f"# {title}",
            "",
            *(f"- {note}" for note in result["notes"]),
            "",
            *describe_scores(result),
            "",
            *(f"![{name}]({name}.png)" for name in pictures),
            "",
        ]
    )


if __name__ == "__main__":
    run_command(main, EvaluateConfig, EvaluateConfig.__doc__ or "")
