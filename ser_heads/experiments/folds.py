"""Train a fresh model for each fold, and score what all folds answered together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fins.data.folds import PROTOCOL_OF, Fold, FoldKind, folds
from fins.data.splits import write_split
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import find_run, finish_run, locked, start_run, write_atomically
from ser_heads.evaluation.predictions import PREDICTIONS, draw_scores, read_result, scores_of
from ser_heads.evaluation.unseen import collect, describe_evaluation
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.parallel import Job, check_workers, make_runs, share_minutes
from ser_heads.experiments.run import RunResult


@dataclass(frozen=True)
class CrossvalOptions:
    """What a cross-validation needs beside the options of its runs.

    Raises ValueError for workers that can't be meant.
    """

    folds: FoldKind = "speaker"
    """speaker: no speaker in two folds; random: only emotions alike (leaks speakers); published: those of
    data_manifests; ninety_ten: as the wavelet publication, a tenth tests the models of all folds of the rest
    (leaks speakers)."""
    n_folds: int = 5
    """Not of published ones."""
    workers: int = 1
    """Folds at a time, which share the cores: as many as there are cores take the least time in all."""
    address: str | None = None
    """Of a cluster of Ray, each of whose CPUs takes a fold at a time: host:port of its head, or auto. Its
    machines find stores and --out by the same paths. Needs the extra cluster."""

    def __post_init__(self) -> None:
        check_workers(self.workers, self.address)


def cross_validate(
    config: RunConfig, options: CrossvalOptions = CrossvalOptions(), watch: Watch = SILENT
) -> RunResult:
    """Train a fresh model for each fold and score what all answered about utterances that they never met.

    config : of each fold's run; its `minutes` are a budget of all folds, in equal shares, and its `out` the
        folder of all
    A fold that is finished isn't made again. Raises ValueError for folds that can't be made, and for one that
    failed, once the others are made.
    """
    started = time.monotonic()
    out = config.out or Path("runs") / f"{config.model}-{options.folds}-folds-seed{config.seed}"
    with UtteranceTable(config.store) as table:
        divided = folds(table.rows, options.folds, options.n_folds, config.division, config.seed)
        each = replace(config, minutes=share_minutes(config.minutes, len(divided), options.workers))
        identity = {
            **each.as_json(),
            "out": None,
            "folds": options.folds,
            "n_folds": options.n_folds,
            "stores_hold": table.facts(),
        }
        find_run(out, identity, free=())
        with locked(out):
            start_run(out, identity)
            jobs = [job_of(fold, each, out, table) for fold in divided]
            make_folds(jobs, options, watch)
            result, page = score_folds(config, options, out, [job.out for job in jobs])
            result["seconds"] = round(time.monotonic() - started, 1)
            write_atomically(out / "README.md", page)
            finish_run(out, result)  # last: its presence says that all is whole
    return RunResult(out, result, "\n".join(result["notes"]))


def job_of(fold: Fold, config: RunConfig, out: Path, table: UtteranceTable) -> Job:
    """The run of a fold; its split is written, if it isn't a published one."""
    split = out / f"{fold.name}.csv"
    if fold.published is None:
        write_split(split, table.rows, fold.parts)
        division = replace(config.division, split=split)
    else:
        division = replace(config.division, fold=fold.published)
    return Job(fold.name, replace(config, division=division, out=out / fold.name))


def make_folds(jobs: Sequence[Job], options: CrossvalOptions, watch: Watch) -> None:
    """Make all of them; ValueError that names the first that failed."""
    reasons = make_runs(jobs, options.workers, options.address, watch)
    for job, reason in zip(jobs, reasons, strict=True):
        if reason:
            raise ValueError(f"{job.label} failed: {reason}")


def score_folds(
    config: RunConfig, options: CrossvalOptions, out: Path, runs: Sequence[Path]
) -> tuple[dict[str, Any], str]:
    """What all folds answered, as one: the result and its page; predictions and pictures are written."""
    results = [read_result(run) for run in runs]
    facts, predictions = collect(runs, results, PROTOCOL_OF[options.folds])
    scores = scores_of(predictions, config.seed)
    predictions.write(out / PREDICTIONS)
    title = f"{config.model}, {len(runs)} folds ({options.folds}), seed {config.seed}"
    pictures = draw_scores(out, scores, title)
    result = {
        "model": config.model,
        "parameters": results[0]["parameters"],
        "folds": options.folds,
        "runs": [str(run) for run in runs],
        "seed": config.seed,
        **facts,
        **scores,
        "deviation_uar_of_runs": float(np.std(facts["uar_of_runs"], ddof=1)),
    }
    return result, describe_evaluation(result, title, pictures)
