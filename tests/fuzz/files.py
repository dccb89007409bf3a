"""Damaged tables, splits, sweeps, configurations, stores, checkpoints, weights and ONNX files."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors import safe_open

from data_manifests import read_corpus
from data_manifests.reading import PARTS
from fins.audio import resample
from fins.data.audit import AuditConfig, audit_split
from fins.data.splits import read_split
from fins.data.store import Store
from fins.data.table import UtteranceTable
from fins.data.verification import verify
from fins.learning.report import read_results
from fins.networks import load_fin
from fins.runs import read_config
from fuzz.mutations import (
    Rng,
    damage_bytes,
    damage_json,
    damage_lines,
    damage_script,
    damage_table,
)
from fuzz.runs import Whole, table_of
from fuzz.sound import RATE, SEED, voice
from fuzz.watchdog import Fault, Verdict, judge
from ser_heads.evaluation import unseen
from ser_heads.evaluation.predictions import predictions_in
from ser_heads.evaluation.scoring import ScoreOptions, score
from ser_heads.evaluation.unseen import EvaluateOptions, evaluate
from ser_heads.evidence.entries import read_checked
from ser_heads.experiments.comparison import row_of_run
from ser_heads.experiments.config import configure
from ser_heads.experiments.parallel import Job
from ser_heads.experiments.search import SHIPPED as SPACES
from ser_heads.experiments.search.space import draw_trials, read_space
from ser_heads.experiments.search.trials import Journal
from ser_heads.experiments.sweeps import read_sweep
from ser_heads.inference.export import TOLERANCE, compare
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.inference.predict import probabilities_of
from ser_heads.models import load

Damage = Callable[[bytes, Rng], tuple[bytes, str]]
Check = Callable[[Path, "Cases"], None]


@dataclass(frozen=True)
class Target:
    """name : in the report; file : that is damaged, relative to what is whole; check : reads it, and raises
    Fault for a wrong answer; beside : other files of its folder are there, too; digests : and their checksums
    """

    name: str
    file: str
    damage: Damage
    check: Check
    beside: bool = False
    digests: bool = False


class Cases:
    """Numbered damages of whole files; each lies in a folder of its own while it is read."""

    def __init__(self, folder: Path, whole: Whole, targets: Sequence[Target], title: str) -> None:
        self.folder, self.whole, self.targets, self.title = folder, whole, targets, title
        self.rows = table_of(whole)
        with Store(whole.store) as store:
            self.stored = datasets_of(store.file)
        self.content = {target.file: (whole.folder / target.file).read_bytes() for target in targets}

    def damaged(self, number: int) -> tuple[Target, bytes, str]:
        """The same for the same number."""
        rng = np.random.default_rng([SEED, number, len(self.title)])
        target = self.targets[number % len(self.targets)]
        return target, *target.damage(self.content[target.file], rng)

    def name(self, number: int) -> str:
        target, _, damage = self.damaged(number)
        return f"{self.title} {number}, {target.name}, {damage}"

    def work(self, number: int) -> Verdict:
        """Read one."""
        target, content, _ = self.damaged(number)
        place = self.folder / f"case-{os.getpid()}"
        source = self.whole.folder / target.file
        place.mkdir()
        if target.beside:
            for path in source.parent.iterdir():
                if path.is_file() and path != source and (target.digests or path.name != "digests.json"):
                    os.link(path, place / path.name)
        elif target.name == "own table":
            (place / "clips").symlink_to(self.whole.folder / "clips")
        path = place / source.name
        path.write_bytes(content)
        drawn, unseen.draw_scores = unseen.draw_scores, lambda out, scores, title: []
        names = () if target.check is check_weights else (path.name, place.name)
        verdict = judge(lambda: target.check(path, self), *names, *(["answers.jsonl"] if names else []))
        unseen.draw_scores = drawn
        shutil.rmtree(place)
        return verdict


def n_rows(path: Path) -> int | None:
    """By Python's own reader, where no quote and no odd line end makes it a matter of taste."""
    content = path.read_bytes()
    if any(mark in content for mark in (b'"', b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xe2\x80")):
        return None
    return sum(bool(row) for row in csv.reader(content.decode().split("\n"))) - 1


def same_rows(path: Path, n: int) -> None:
    expected = n_rows(path)
    if expected is not None and n != expected:
        raise Fault(f"{expected} rows, of which {n} were read")


def check_own(path: Path, cases: Cases) -> None:
    listing = read_corpus("csv", path, follow_links=True)
    clips = os.path.realpath(path.parent / "clips")
    for utterance in listing.utterances:
        if not os.path.realpath(path.parent / utterance.file).startswith(clips):
            raise Fault(f"{utterance.file} is outside")
    same_rows(path, len(listing.ledger))


def check_manifest(path: Path, cases: Cases) -> None:
    certificate, _ = audit_split(AuditConfig(manifest=path))
    same_rows(path, sum(certificate["n_utterances"].values()))


def check_split(path: Path, cases: Cases) -> None:
    parts = read_split(path, cases.rows)
    if n_rows(path) is not None:
        with path.open(encoding="utf-8-sig") as file:
            words = [row["part"].strip().lower() for row in csv.DictReader(file)]
        if sum(word in PARTS for word in words) != sum(map(len, parts.values())):
            raise Fault("rows of a split were passed over")


def check_answers(path: Path, cases: Cases) -> None:
    result, _ = score(ScoreOptions((path,)))
    if not all(0 <= result[name] <= 1 for name in ("uar", "wa")):
        raise Fault(f"scores of {result['uar']} and {result['wa']}")


def check_predictions(path: Path, cases: Cases) -> None:
    same_rows(path, len(predictions_in(path)))


def check_sweep(path: Path, cases: Cases) -> None:
    if not read_sweep(str(path)).runs:
        raise Fault("a sweep without runs")


def check_space(path: Path, cases: Cases) -> None:
    draw_trials(read_space(str(path), SPACES), 4, 0)


def check_run(path: Path, cases: Cases) -> None:
    """All that reads a run's configuration and result."""
    read_config(path.parent)
    row_of_run(Job("damaged", configure("fin", out=path.parent)))
    evaluate(EvaluateOptions((path.parent,), out=path.parent / "evaluation"))


def check_fin(path: Path, cases: Cases) -> None:
    read_results((path.parent,))


def check_entry(path: Path, cases: Cases) -> None:
    """An entry whose files have changed has a fault."""
    if not read_checked(path.parent)[1] and path.read_bytes() != cases.content[f"results/made/{path.name}"]:
        raise Fault("a changed entry without a fault")


def check_digests(path: Path, cases: Cases) -> None:
    list(verify((path.parent,)))


def check_journal(path: Path, cases: Cases) -> None:
    Journal(path).n_ended()


def check_records(path: Path, cases: Cases) -> None:
    """Answers that are there, whole or not, are completed."""
    out = path.with_name("answers.jsonl")
    clips = (str(cases.whole.folder / "clips"),)
    answers, _ = predict_files(PredictOptions(str(cases.whole.folder / "run0"), clips, out=out))
    if len(out.read_text().splitlines()) != len(answers.records):
        raise Fault("answers are missing")


RUN = [
    Target(f"{file} of a run", f"run0/{file}", damage, check_run, beside=True)
    for file, damage in (
        ("config.json", damage_json),
        ("result.json", damage_json),
        ("history.csv", damage_table),
    )
]
TABLES = [
    Target("own table", "own.csv", damage_table, check_own),
    Target("manifest", "manifest.csv", damage_table, check_manifest),
    Target("split", "split.csv", damage_table, check_split),
    Target("answers", "answers.csv", damage_table, check_answers),
    Target("predictions", "run0/predictions.csv", damage_table, check_predictions),
    Target("sweep", "sweep.py", damage_script, check_sweep),
    Target("search space", "space.py", damage_script, check_space),
    *RUN,
    Target("result of a FIN", "fin/result.json", damage_json, check_fin, beside=True),
    Target("digests", "run0/digests.json", damage_json, check_digests, beside=True, digests=True),
    Target("entry", "results/made/config.json", damage_json, check_entry, beside=True, digests=True),
    Target("journal of a search", "journal.jsonl", damage_lines, check_journal),
    Target("written answers", "answers.jsonl", damage_lines, check_records),
    Target("unfinished answers", "answers.jsonl.unfinished", damage_lines, check_records),
]


def datasets_of(file: h5py.File) -> dict[str, Any]:
    """Name → values of each dataset, by h5py alone."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: file[name][...] for name in names}


def check_store(path: Path, cases: Cases) -> None:
    """What is read is what was written; else `verify` or the reader says that it isn't."""
    with UtteranceTable([path]) as table:
        len(table.rows)
    with Store(path) as store:
        damaged = store.damaged()
        if damaged:
            raise ValueError(f"{path}: {damaged} aren't what was written")
        for name, values in datasets_of(store.file).items():
            if not np.array_equal(values, cases.stored[name]):
                raise Fault(f"{name} has changed without a word")


def check_weights(path: Path, cases: Cases) -> None:
    """Weights beside their digests are what was written; without them answers are numbers at least."""
    model = load(path)
    expected = load(cases.whole.folder / "run0").state_dict()
    is_same = all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    if (path.parent / "digests.json").exists() and not is_same:
        raise Fault("weights have changed without a word")
    prediction = probabilities_of(model, [resample(voice().astype(np.float32), RATE)])
    if not np.isfinite(prediction).all():
        raise Fault("probabilities that are no numbers")


def check_fin_weights(path: Path, cases: Cases) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in load_fin(path).state_dict().values()):
        raise Fault("weights that are no numbers")


def check_tensors(path: Path, cases: Cases) -> None:
    """A checkpoint is restored as the commands do, as it was written, or refused."""
    from fins.learning.trainer import WindowTrainingState
    from fins.tensors import restore_state

    def restore(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        with safe_open(cases.whole.folder / "fin" / path.name, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if not torch.equal(tensors[name], file.get_tensor(name)):
                    raise Fault(f"{name} of a checkpoint has changed without a word")
        WindowTrainingState(**header)

    restore_state(path, restore)


def check_onnx(path: Path, cases: Cases) -> None:
    """What export does before it gives a file its name."""
    difference = compare(load(cases.whole.folder / "run0"), path)
    if not difference <= TOLERANCE:
        raise ValueError(f"{path} differs from PyTorch by {difference}")


STORES = [
    Target("store", "made.h5", damage_bytes, check_store),
    Target("weights with digests", "run0/weights.safetensors", damage_bytes, check_weights, True, True),
    Target("weights alone", "run0/weights.safetensors", damage_bytes, check_weights),
    Target("weights of a FIN", "fin/weights.safetensors", damage_bytes, check_fin_weights),
    Target("checkpoint", "fin/checkpoint.safetensors", damage_bytes, check_tensors),
]
ONNX = Target("ONNX", "model.onnx", damage_bytes, check_onnx)
