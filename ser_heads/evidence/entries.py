"""An entry of results/: what a run answered, and what is needed to judge it, without sound or weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fins.data.audit import audit, certificate
from fins.data.splits import PARTS, SPLIT, SPLIT_COLUMNS, UNUSED
from fins.digests import DIGESTS, changed_files, digests_of, read_digests
from fins.disk import replacing
from fins.runs import CONFIG, read_config, read_json, write_json
from fins.tables import read_table, write_table
from ser_heads.evaluation.predictions import (
    PREDICTIONS,
    Predictions,
    match_to_even_shares,
    predictions_in,
    read_predictions,
    read_result,
    scores_of,
)
from ser_heads.evaluation.scores import score_groups

CERTIFICATE = "certificate.json"
FILES = (CONFIG, SPLIT, PREDICTIONS, CERTIFICATE, DIGESTS)
NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
KEYS = SPLIT_COLUMNS[:-1]  # of a split, but for the part
MACHINE_PATH = re.compile(r'(?:^|[",\s])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s",]+', re.MULTILINE)
BY_SPLIT = ("speakers", "corpora", "identical", "labels", "classes")
"""Kinds of leak that a split tells by itself: it says no sentences, and copies have no original there."""


@dataclass(frozen=True)
class Entry:
    """A run that is kept.

    about : config.json: model, parameters, protocol, seed, the configuration and the versions
    parts : run → the part of each utterance; a single run is called "part", others are folds
    certificates : run → what the audit of its division said
    """

    name: str
    about: Mapping[str, Any]
    predictions: Predictions
    split: pd.DataFrame
    certificates: Mapping[str, Any]

    @property
    def runs(self) -> list[str]:
        return [column for column in self.split.columns if column not in KEYS]

    def scores(self) -> dict[str, Any]:
        """All scores, made from the predictions; of folds also the UAR of each, their mean and deviation.

        even : the same of answers that are matched to even shares of labels, speaker by speaker
        """
        scores = scores_of(self.predictions, self.about["seed"])
        scores["even"] = scores_of(match_to_even_shares(self.predictions), self.about["seed"])
        if len(self.runs) == 1:
            return scores
        table, labels = self.predictions.table, self.predictions.labels
        truth, answers = (table[name].map(labels.index).to_numpy() for name in ("emotion", "answer"))
        by_run = score_groups(truth, answers, self.tested_by().tolist(), labels)
        uars = [by_run[run]["uar"] for run in self.runs]
        means = {
            "mean_uar_of_runs": float(np.mean(uars)),
            "deviation_uar_of_runs": float(np.std(uars, ddof=1)),
        }
        return scores | means | {"uar_of_runs": uars}

    def tested_by(self) -> pd.Series:
        """(n,) the run that answered each prediction; "" for none."""
        by_utterance = {
            utterance: run
            for run in self.runs
            for utterance in self.split["utterance"][self.split[run] == "test"]
        }
        return self.predictions.table["utterance"].map(lambda utterance: by_utterance.get(utterance, ""))


def add_entry(run: Path, name: str, results: Path) -> Path:
    """Copy what an entry holds from the folder of pipelines.train, crossval or release; returns its folder.

    Raises ValueError, in one sentence, for a folder that holds no such run, for a name that can't be one, and
    if the scores made from the copy aren't those of the run.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"--name is small letters and digits, joined by - or _, such as fin-ravdess: got {name!r}"
        )
    folder = results / name
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another --name, or delete it")
    result = read_result(run)
    predictions = read_predictions(run)
    if predictions.table["utterance"].duplicated().any():
        raise ValueError(f"{run} answers an utterance more than once: add its runs one by one")
    runs = (
        {"part": run}
        if "folds" not in result
        else {Path(fold).name: run / Path(fold).name for fold in result["runs"]}
    )
    config = {key: value for fold in runs.values() for key, value in read_config(fold).items()} | read_config(
        run
    )
    about = {key: result[key] for key in ("model", "parameters", "protocol", "seed")}
    split, certificates = (
        join_splits(runs),
        {column: read_result(fold)["audit"] for column, fold in runs.items()},
    )
    entry = Entry(name, about, predictions, split, certificates)
    if entry.scores()["confusion"] != result["confusion"]:
        raise ValueError(f"{run} has other scores than its predictions give: make it again")
    folder.mkdir(parents=True)
    write_json(folder / CONFIG, without_paths({**about, **read_json(run / CONFIG), "config": config}))
    write_table(folder / SPLIT, split)
    with replacing(folder / PREDICTIONS) as partial:
        partial.write_bytes((run / PREDICTIONS).read_bytes())
    write_json(folder / CERTIFICATE, certificates)
    write_json(folder / DIGESTS, {"sha256": digests_of(folder)})
    return folder


def join_splits(runs: Mapping[str, Path]) -> pd.DataFrame:
    """The split of each run as a column of its own, named after it."""
    joined = pd.DataFrame()
    for column, folder in runs.items():
        split = read_table(folder / SPLIT)[list(SPLIT_COLUMNS)].rename(columns={"part": column})
        joined = split if joined.empty else joined.merge(split, on=list(KEYS), how="outer")
    return joined.fillna(UNUSED)


def without_paths(value: Any) -> Any:
    """JSON in which a file is told by its name alone: where it lay is nobody's matter."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner) for inner in value]
    is_path = isinstance(value, str) and MACHINE_PATH.fullmatch(value)
    return value.replace("\\", "/").rpartition("/")[2] if is_path else value


def read_entry(folder: Path) -> Entry:
    """Of a folder that `add_entry` made; ValueError in one sentence for one that isn't whole."""
    about, certificates = read_json(folder / CONFIG), read_json(folder / CERTIFICATE)
    lacking = {"model", "parameters", "protocol", "seed", "config", "versions"} - set(about)
    if lacking:
        raise ValueError(f"{folder / CONFIG} lacks {min(lacking)}: add the run again")
    predictions, split = predictions_in(folder / PREDICTIONS), read_table(folder / SPLIT)
    entry = Entry(folder.name, about, predictions, split, certificates)
    if not set(KEYS) < set(split.columns) or set(entry.runs) != set(certificates):
        raise ValueError(f"{folder / SPLIT} and {CERTIFICATE} aren't of the same runs: add the run again")
    return entry


def read_checked(folder: Path) -> tuple[Entry | None, list[str]]:
    """An entry, if it can be read, and what is wrong with it, a sentence each; of one whose files are all
    there and as they were written also where predictions, split and certificate disagree."""
    there = {path.name for path in folder.iterdir()}
    faults = [f"{folder} lacks {name}: add the run again" for name in FILES if name not in there]
    faults += [
        f"{folder} holds {name}, which is no part of an entry: delete it" for name in sorted(there - {*FILES})
    ]
    try:
        if faults := faults or changes(folder) or paths_told(folder):
            return None, faults
        entry = read_entry(folder)
        return entry, [f"{folder}: {fault}" for fault in disagreements(entry)]
    except (LookupError, TypeError, UnicodeError):
        return None, [f"{folder} isn't what add writes: add the run again"]
    except ValueError as error:
        return None, [str(error)]


def changes(folder: Path) -> list[str]:
    """What differs from the digests of an entry, and what these leave out."""
    signed = read_digests(folder)
    return [
        *(f"{folder / fault}: bring it back, or add the run again" for fault in changed_files(folder)),
        *(
            f"{folder / DIGESTS} leaves {name} out: add the run again"
            for name in FILES[:-1]
            if name not in signed
        ),
    ]


def paths_told(folder: Path) -> list[str]:
    """Paths of a machine in the files of an entry."""
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in FILES}
    matches = {name: MACHINE_PATH.search(text) for name, text in texts.items()}
    return [
        f"{folder / name} holds the path {path[0].strip()}: an entry tells names alone"
        for name, path in matches.items()
        if path
    ]


def disagreements(entry: Entry) -> list[str]:
    """Where the predictions aren't of the split's test part, or the certificate isn't the split's."""
    table, labels = entry.predictions.table, list(entry.predictions.labels)
    faults = []
    tested = entry.split[
        (entry.split[entry.runs] == "test").any(axis=1) & entry.split["emotion"].isin(labels)
    ]
    columns = ["utterance", "speaker", "emotion"]
    if sorted(map(tuple, table[columns].to_numpy())) != sorted(map(tuple, tested[columns].to_numpy())):
        faults.append("the predictions aren't of the utterances that test by the split")
    places = table["answer"].map(labels.index).to_numpy()
    shares = entry.predictions.probabilities
    n_other = int((shares[np.arange(len(places)), places] < shares.max(axis=1)).sum())
    if n_other:
        faults.append(f"{n_other} answers aren't the likeliest label")
    for run in entry.runs:
        kept = entry.certificates[run]
        if told_by_split(kept) != told_by_split(audit_again(entry, run, kept["never_shares"])):
            faults.append(f"the certificate of {run} isn't what its split gives")
        if kept["broken"]:
            faults.append(f"the certificate of {run} says that its protocol is broken")
    return faults


def audit_again(entry: Entry, run: str, never_shares: list[str]) -> dict[str, Any]:
    """The certificate of a run's division, as far as the split tells it."""
    corpus = entry.split["utterance"].str.partition("/")[0]
    rows = entry.split[list(KEYS)].assign(
        corpus=corpus, sentence="", augmented_from="", part=entry.split[run]
    )
    return certificate(rows, audit(rows, None, never_shares), False, never_shares)


def told_by_split(kept: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Of a certificate: utterances of each part, and kind of leak → how many."""
    counts = {finding["kind"]: finding["n"] for finding in kept["findings"] if finding["kind"] in BY_SPLIT}
    return {part: kept["n_utterances"][part] for part in PARTS}, counts
