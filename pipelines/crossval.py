"""python -m pipelines.crossval: train a fresh model for each fold, and score what all folds said together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fins.command import run_command
from fins.runs import RESULT, begin_run, held, look_up_run, write_json
from fins.splits import fold_utterances, split_at_speakers
from pipelines import train
from pipelines.evaluate import collect, describe
from pipelines.results import PREDICTIONS, draw_scores, read_result, scores_of, write_split
from pipelines.several import Job, check_workers, make_runs, share_minutes
from pipelines.train import TrainConfig, published_folds
from ser_heads.data import UtteranceTable
from ser_heads.models import ModelConfig, build_model

PROTOCOLS = {"speaker": "speaker", "published": "speaker", "random": "random", "ninety_ten": "random"}
HELD_OUT = 10  # folds, of which one tests all models of `ninety_ten`


@dataclass(frozen=True)
class CrossvalConfig(TrainConfig):
    """Train a fresh model for each fold and score what all said of utterances that they never met.

    Scales, class weights and the epoch that is kept come from a fold's own training and validation parts.
    A fold that is finished isn't made again. --minutes is a budget of all folds, in equal shares.
    """

    folds: Literal["speaker", "random", "published", "ninety_ten"] = "speaker"
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


def main(config: CrossvalConfig) -> None:
    """One run a fold, then all together."""
    started = time.monotonic()
    if config.fold or config.split or config.test_corpus:
        raise ValueError("folds say all: they go without --fold, --split and --test-corpus")
    train.check(config)
    check_workers(config.workers, config.address)
    out = config.out or Path("runs") / f"{config.model}-{config.folds}-folds-seed{config.seed}"
    model, _ = build_model(train.part_of(config, ModelConfig))
    table = UtteranceTable(config.store, trimmed=not model.whole)
    folds = list(divide(table, config))
    minutes = share_minutes(config.minutes, len(folds), config.workers)
    each = replace(train.part_of(config, TrainConfig), minutes=minutes)
    asked = {
        **asdict(config),
        **dict.fromkeys(("out", "workers", "address")),
        "minutes": minutes,
        **train.what_is_there(config, model, table),
    }
    look_up_run(out, asked, free=())
    jobs = []
    with held(out):
        begin_run(out, asked)
        for name, parts, published in folds:
            split = out / f"{name}.csv"
            if parts is not None:
                write_split(split, table, parts)
            where = {"split": split} if published is None else {"fold": published}
            jobs.append(Job(name, replace(each, **where, out=out / name)))
        whys = make_runs(jobs, config.workers, config.address)
        for job, why in zip(jobs, whys, strict=True):
            if why:
                raise ValueError(f"{job.label} failed: {why}")
        runs = [out / job.label for job in jobs]
        results = [read_result(run) for run in runs]
        facts, predictions = collect(runs, results, PROTOCOLS[config.folds])
        scores = scores_of(predictions, config.seed)
        predictions.write(out / PREDICTIONS)
        title = f"{config.model}, {len(runs)} folds ({config.folds}), seed {config.seed}"
        pictures = draw_scores(out, scores, title)
        result: dict[str, Any] = {
            "model": config.model,
            "parameters": results[0]["parameters"],
            "folds": config.folds,
            "runs": [str(run) for run in runs],
            "seed": config.seed,
            **facts,
            **scores,
            "deviation_uar_of_runs": float(np.std(facts["uar_of_runs"], ddof=1)),
            "seconds": round(time.monotonic() - started, 1),
        }
        (out / "README.md").write_text(describe(result, title, pictures))
        write_json(out / RESULT, result)
    print("\n".join(facts["notes"]))
    print(f"written to {out}")


def divide(
    table: UtteranceTable, config: CrossvalConfig
) -> Iterator[tuple[str, dict[str, NDArray[np.int64]] | None, str | None]]:
    """Of each fold its name, and its parts or the published fold that it is."""
    columns = table.columns
    if config.folds == "published":
        stored = set(columns["corpus"])
        chosen = [fold for fold in published_folds() if fold.split(":")[0] in stored]
        n_corpora = len({fold.split(":")[0] for fold in chosen})
        if n_corpora != 1:
            raise ValueError(
                f"the stores need to have one corpus with published folds, and have {n_corpora}: choose "
                "--folds speaker, or a --fold at a time"
            )
        yield from ((f"fold-{fold.split(':')[1]}", None, fold) for fold in chosen)
        return
    testing = np.zeros(len(table), dtype=bool)
    left = dict(columns)
    if config.folds == "ninety_ten":
        testing = fold_utterances(columns, HELD_OUT, False, config.seed) == 0
        left = {name: column[~testing] for name, column in columns.items()}
    folds = np.full(len(table), -1)
    folds[~testing] = fold_utterances(left, config.n_folds, config.folds == "speaker", config.seed)
    for number in range(config.n_folds):
        parts = np.full(len(table), "train", dtype=object)
        if config.folds == "speaker":
            parts = split_at_speakers(columns, set(table.speakers[folds == number]), config.seed)
        elif config.folds == "random":
            parts[folds == number] = "test"
            parts[folds == (number + 1) % config.n_folds] = "validation"
        else:
            parts[folds == number] = "validation"
            parts[testing] = "test"
        parts[(columns["augmented_from"] != "") & (parts != "train")] = "unused"
        if config.emotions is not None:
            parts[~np.isin(columns["emotion"], config.emotions)] = "unused"
        named = {part: np.flatnonzero(parts == part) for part in ("train", "validation", "test")}
        yield f"fold-{number + 1}", named, None


def settings_of(arguments: Sequence[str]) -> CrossvalConfig:
    """The options where none are given: those of the model that the arguments name."""
    own = train.settings_of(arguments)
    return CrossvalConfig(**{its.name: getattr(own, its.name) for its in fields(TrainConfig)})


if __name__ == "__main__":
    run_command(main, CrossvalConfig, CrossvalConfig.__doc__ or "", settings_of)
