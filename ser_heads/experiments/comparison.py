"""Run several models under one protocol and set their scores side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from fins.command import sentence_of
from fins.data.table import UtteranceTable
from fins.learning.degradations import check_condition
from fins.progress import SILENT, Watch
from fins.runs import HISTORY, RESULT, find_run, finish_run, locked, start_run
from fins.tables import read_table
from ser_heads.evaluation.predictions import read_result
from ser_heads.evaluation.scores import METRICS
from ser_heads.evaluation.unseen import slug_of
from ser_heads.experiments.comparison_page import SHOWN, by_kind, describe_runs, kind_of, write_pages
from ser_heads.experiments.comparison_plots import plot_confusions, plot_histories, plot_uars
from ser_heads.experiments.config import RunConfig
from ser_heads.experiments.parallel import UNSEEN, Job, check_workers, make_runs, share_minutes
from ser_heads.experiments.run import RunResult
from ser_heads.experiments.sweeps import Conclusion, Sweep, read_sweep

TAKEN = (  # of a run's result
    *("model", "parameters", "protocol", "fold", "labels", "parts", "seconds", "epochs", "best_epoch"),
    *("stopped", "real_time_factor", "by_part", "confusion", "audit"),
)
SHOWN_OF_HISTORY = ("train_loss", "validation_loss", "validation_uar")


@dataclass(frozen=True)
class CompareOptions:
    """Run several models under one protocol, one after another, and set their scores side by side.

    Each run is one of pipelines.train in a folder of its own. Finished ones aren't made again, a killed one
    goes on, one that can't be made is counted and doesn't stop the others. Out comes one table, with
    pictures: README.md, result.json, and index.html for a browser.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    """Which runs: small, imitated, cnn_lstm, four_emotions, leak_price, fin_vs_random or finetuning, or the
    path of a .py file like those."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    seed: tuple[int, ...] = (0,)
    """Of each run; of several seeds each makes all runs, and means and deviations are told too."""
    split_seed: int | None = None
    """Of the splits of all runs; by default each has its own seed's."""
    unseen: tuple[Path, ...] = ()
    """Stores of other corpora, on which each run's model is judged too."""
    condition: tuple[str, ...] = ()
    """What recordings go through first when each run's model is judged once more, on those of --store that it
    didn't learn from; as in pipelines.evaluate."""
    minutes: float | None = None
    """Budget of the whole sweep, in equal shares for its runs; by default its own, if it has one. What
    --unseen and --condition take comes on top. A comparison goes on under the same shares only, so with as
    many seeds, runs and --workers; on a cluster they are those of runs one after another."""
    workers: int = 1
    """Runs at a time, which share the cores: as many as there are cores take the least time in all."""
    address: str | None = None
    """Of a cluster of Ray, each of whose CPUs takes a run at a time: host:port of its head, or auto. Its
    machines find stores and --out by the same paths. Needs the extra cluster."""
    out: Path | None = None
    """Folder of the comparison and of the runs in it; by default runs/<sweep>-<stores>."""


@dataclass(frozen=True)
class PlannedRun:
    """One run to be made: its name in the sweep, its name here, its options."""

    name: str
    label: str
    config: RunConfig


def compare(options: CompareOptions, watch: Watch = SILENT) -> RunResult:
    """Plan, run, collect, draw, write.

    Raises ValueError, in one sentence, for what can't be meant, and if none of the runs has a result.
    """
    sweep = read_sweep(options.sweep)
    out = options.out or Path("runs") / "-".join([sweep.name, *(path.stem for path in options.store)])
    planned = plan_runs(sweep, options, out)
    for stores in [options.store, *([options.unseen] if options.unseen else [])]:
        UtteranceTable(stores).close()  # if they can't be read it is no run's fault
    identity = identity_of(sweep, options, planned)
    find_run(out, identity, free=("seed", "runs", "unseen", "condition"))
    with locked(out):
        start_run(out, identity)
        rows, failed = make_rows(planned, options, watch)
        if not rows:
            raise ValueError(
                f"none of {len(planned)} runs has a result, the first because: {failed[0]['why']}"
            )
        rows = sort_rows(rows)
        result = {
            "sweep": sweep.name,
            "about": sweep.about,
            "stores": identity["store"],
            "unseen": identity["unseen"],
            "conditions": identity["condition"],
            "seeds": list(options.seed),
            "minutes_each": identity["minutes_each"],
            "n_runs": len(planned),
            "n_failed": len(failed),
            "runs": rows,
            "failed": failed,
            "over_seeds": over_seeds(rows) if len(options.seed) > 1 else [],
        }
        conclusion, why_not = conclude(sweep, out, rows)
        if conclusion is not None:
            result["conclusion"] = {"answers": conclusion.answers, **conclusion.facts}
        write_pages(out, result, draw_runs(out, rows), conclusion, why_not)
        finish_run(out, result)  # last: its presence says that the comparison is whole
    return RunResult(out, result, "\n".join(filter(None, (describe_runs(rows, failed), why_not))))


def identity_of(sweep: Sweep, options: CompareOptions, planned: Sequence[PlannedRun]) -> dict[str, Any]:
    """What tells this comparison from others."""
    return {
        "sweep": sweep.name,
        "store": [str(path) for path in options.store],
        "minutes_each": planned[0].config.minutes,
        "unseen": [str(path) for path in options.unseen],
        "condition": list(options.condition),
        "seed": options.seed,
        "split_seed": options.split_seed,
        "runs": json.loads(json.dumps({name: config.as_json() for name, config in sweep.runs.items()})),
    }


def conclude(sweep: Sweep, out: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Conclusion | None, str]:
    """What the sweep has to say in the end, if anything, or in a sentence why it can't: the table stands."""
    if sweep.conclude is None:
        return None, ""
    try:
        conclusion = sweep.conclude(out, rows)
        if not isinstance(conclusion, Conclusion):
            raise TypeError("it returned no ser_heads.experiments.sweeps.Conclusion")
        return conclusion, ""
    except Exception as error:  # a user's own code
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return None, f"The sweep {sweep.name} comes to no conclusion ({kind}{sentence_of(error)})."


def plan_runs(sweep: Sweep, options: CompareOptions, out: Path) -> list[PlannedRun]:
    """Every run with every seed; ValueError for options that can't be meant."""
    seeds = options.seed
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("--seed takes one or more seeds, each once")
    minutes = sweep.minutes if options.minutes is None else options.minutes
    check_workers(options.workers, options.address)
    for condition in options.condition:
        check_condition(condition)
    each = share_minutes(minutes, len(sweep.runs) * len(seeds), options.workers)
    planned = []
    for seed in seeds:
        for name, own in sweep.runs.items():
            config = replace(
                own, store=options.store, seed=seed, minutes=each, out=out / f"{name}-seed{seed}"
            )
            if options.split_seed is not None:
                config = replace(config, division=replace(own.division, split_seed=options.split_seed))
            planned.append(PlannedRun(name, name if len(seeds) == 1 else f"{name}, seed {seed}", config))
    return planned


def make_rows(
    planned: Sequence[PlannedRun], options: CompareOptions, watch: Watch = SILENT
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of what has a result, and why the others have none; in the order of the plan."""
    jobs = [Job(run.label, run.config, options.unseen, options.condition) for run in planned]
    reasons = make_runs(jobs, options.workers, options.address, watch)
    rows, failed = [], []
    for run, job, reason in zip(planned, jobs, reasons, strict=True):
        known = {"name": run.name, "label": run.label, "folder": job.out.name, "seed": run.config.seed}
        known["division"] = name_division(run.config)
        try:
            if reason:
                raise ValueError(reason)
            rows.append({**known, **row_of_run(job)})
        except ValueError as error:
            failed.append({**known, "why": sentence_of(error)})
    return rows, failed


def name_division(config: RunConfig) -> str:
    """What says which utterances are in the test part, beside the seed."""
    division = config.division
    return str(division.split or division.fold or " ".join([division.protocol, *division.test_corpus]))


def row_of_run(job: Job) -> dict[str, Any]:
    """What the comparison takes from a run's result, and from those on unseen stores and under conditions."""
    result = read_result(job.out)
    missing = [key for key in TAKEN if key not in result]
    if missing:
        raise ValueError(
            f"{job.out / RESULT} knows no {missing[0]}: it is of an earlier version, make it again"
        )
    row = {key: result[key] for key in TAKEN}
    if job.unseen:
        row["unseen"] = scores_in(job.out / UNSEEN)
    if job.conditions:
        row["conditions"] = {one: scores_in(job.out / slug_of(one)) for one in job.conditions}
    return row


def scores_in(folder: Path) -> dict[str, Any]:
    """Of a folder of pipelines.evaluate."""
    scores = read_result(folder)
    return {key: scores[key] for key in (*METRICS, "interval_95", "n_utterances", "labels")}


def read_history(run: Path) -> list[dict[str, float]]:
    """Epoch by epoch: train_loss, validation_loss, validation_uar; nothing of a model without epochs."""
    history = read_table(run / HISTORY)
    if "epoch" not in history:
        return []
    rows = history[list(SHOWN_OF_HISTORY)].astype(float).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def sort_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By UAR on the test part, best first, within each protocol."""
    kinds = list(dict.fromkeys(map(kind_of, rows)))
    return sorted(rows, key=lambda row: (kinds.index(kind_of(row)), -row["by_part"]["test"]["uar"]))


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation of the test scores of each run's seeds, best mean first within each protocol."""
    named: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        named.setdefault(row["name"], []).append(row)
    summaries = []
    for name, own in named.items():
        scores: dict[str, Any] = {}
        for key in SHOWN:
            values = [row["by_part"]["test"][key] for row in own]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            scores[key] = {"mean": float(np.mean(values)), "deviation": deviation}
        known = {key: own[0][key] for key in ("model", "protocol", "fold", "division", "labels")}
        summaries.append({"name": name, **known, "n_seeds": len(own), **scores})
    kinds = list(dict.fromkeys(map(kind_of, rows)))
    return sorted(summaries, key=lambda row: (kinds.index(kind_of(row)), -row["uar"]["mean"]))


def draw_runs(out: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The pictures of a comparison; returns their names. Those over epochs are of the runs that have any."""
    histories = {row["label"]: history for row in rows if (history := read_history(out / row["folder"]))}
    plot_uars(out / "scores.png", by_kind(rows))
    plot_confusions(out / "confusions.png", rows)
    if not histories:
        return ["scores", "confusions"]
    chances = {row["label"]: 1 / len(row["labels"]) for row in rows}
    plot_histories(out / "learning_curves.png", histories, chances)
    plot_histories(out / "losses.png", histories)
    return ["scores", "confusions", "learning_curves", "losses"]
