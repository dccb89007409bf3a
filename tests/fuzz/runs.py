"""Whole things that are damaged: a corpus with its tables, a store, runs of every kind. Made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from data_manifests.labels import EMOTIONS
from data_manifests.manifest import Utterance
from fins.audio import quantise, resample
from fins.data.audit import AuditConfig, audit_split
from fins.data.store import Recording, write_store
from fins.data.table import UtteranceTable
from fins.learning.run import FinRunConfig, train_fin
from fuzz.sound import RATE, voice
from ser_heads.evidence.entries import add_entry
from ser_heads.experiments import configure, learning
from ser_heads.experiments import run as runs_of_classifiers
from ser_heads.experiments.run import train_classifier
from ser_heads.inference.export import export_model
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.inference.records import AnswerJournal
from ser_heads.models import load

SWEEP = '''"""Two runs."""

from ser_heads.experiments import configure

MINUTES = 3


def runs():
    first = configure("feature_cnn", frozen_epochs=2, copies=0)
    second = configure("raw_cnn", frozen_epochs=1, batch_size=8, label_smoothing=0.1)
    return {"first": first, "second-run": second}
'''
SPACE = '''"""Two options."""

from ser_heads.experiments import configure
from ser_heads.experiments.search.space import Choice, LogUniform, Uniform


def default():
    return configure("fin", frozen_epochs=4)


def space():
    return {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "label_smoothing": Uniform(0.0, 0.3),
        "batch_size": Choice(16, 32),
    }
'''
JOURNAL = (
    '{"trial": 0, "epoch": 1, "uar": 0.25, "loss": 1.5, "phase": "frozen", "seconds": 1.0, "at": 1.0}\n'
    '{"trial": 1, "epoch": 1, "uar": 0.5, "loss": 1.25, "phase": "frozen", "seconds": 1.0, "at": 2.0}\n'
    '{"trial": 0, "ended": "stopped", "why": "", "at": 2.5}\n'
)


@dataclass(frozen=True)
class Whole:
    """folder : that holds all of them; store, own, split, ... : paths of what is whole"""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / {"store": "made.h5", "onnx": "model.onnx"}.get(name, name)


def recordings(n: int = 32) -> list[Recording]:
    """Of four speakers and the first four emotions."""
    made = []
    for place in range(n):
        signal = resample(voice(0.4, place).astype(np.float32), RATE)
        emotion, speaker = EMOTIONS[place % 4], f"s{place // 4 % 4}"
        utterance = Utterance(f"{place:03d}", f"{place:03d}.wav", "made", speaker, emotion, str(place % 3))
        made.append(Recording(utterance, quantise(signal)[0], f"{place:064x}"))
    return made


def write_tables(folder: Path) -> None:
    """A corpus of one's own, a manifest, a split, answers, a sweep, a search space, journals."""
    (folder / "clips").mkdir()
    rows = [f"{place:03d},made/s{place // 4 % 4},{EMOTIONS[place % 4]}" for place in range(32)]
    for place in range(12):
        soundfile.write(folder / "clips" / f"{place:03d}.wav", voice(seed=place), RATE)
    own = [
        f"clips/{place:03d}.wav,{EMOTIONS[place % 4]},s{place % 3},train,0.0,{place + 1}.5"
        for place in range(12)
    ]
    (folder / "own.csv").write_text("\n".join(["path,emotion,speaker,part,start,end", *own]) + "\n")
    part = ("train", "train", "validation", "test")
    manifest = [
        f"made/{row},{part[place // 4 % 4]},{place % 3},{place:064x}" for place, row in enumerate(rows)
    ]
    header = "utterance,speaker,emotion,part,sentence,sha256"
    (folder / "manifest.csv").write_text("\n".join([header, *manifest]) + "\n")
    answers = [
        f"{row.replace(',made/', ',')},{EMOTIONS[(place * 3) % 4]},0.{place + 10}"
        for place, row in enumerate(rows)
    ]
    (folder / "answers.csv").write_text(
        "\n".join(["file,speaker,emotion,answer,confidence", *answers]) + "\n"
    )
    (folder / "sweep.py").write_text(SWEEP)
    (folder / "space.py").write_text(SPACE)
    (folder / "journal.jsonl").write_text(JOURNAL)


def make_whole(folder: Path) -> Whole:
    """All of them, with runs of one epoch and without pictures."""
    whole = Whole(folder)
    write_tables(folder)
    write_store(whole.store, recordings())
    with UtteranceTable([whole.store]) as table:
        assert len(table) == 32
    audit_split(AuditConfig(store=(whole.store,), out=folder / "audit"))
    shutil.copy(folder / "audit" / "split.csv", folder / "split.csv")
    drawn = runs_of_classifiers.draw_scores, learning.plot_learning_curves
    runs_of_classifiers.draw_scores = lambda out, scores, title: []
    learning.plot_learning_curves = lambda *arguments: None
    try:
        options = {"frozen_epochs": 1, "finetuned_epochs": 1, "copies": 0, "fins": ("rms", "zcr")}
        train_classifier(configure("fin", store=(whole.store,), out=folder / "run0", **options))
    finally:
        runs_of_classifiers.draw_scores, learning.plot_learning_curves = drawn
    fin = FinRunConfig("rms", "paper", store=(whole.store,), epochs=1, epoch_windows=64, out=folder / "fin")
    train_fin(fin)
    predict_files(
        PredictOptions(str(folder / "run0"), (str(folder / "clips"),), out=folder / "answers.jsonl")
    )
    for line in (folder / "answers.jsonl").read_text().splitlines()[:8]:
        record = json.loads(line)
        AnswerJournal(folder / "answers.jsonl.unfinished").add(record["file"], [record])
    (folder / "results").mkdir()
    add_entry(folder / "run0", "made", folder / "results")
    return whole


def make_onnx(whole: Whole) -> None:
    """Of the first run."""
    export_model(load(whole.folder / "run0"), whole.onnx)


def table_of(whole: Whole) -> pd.DataFrame:
    """The rows of the store."""
    with UtteranceTable([whole.store]) as table:
        return table.rows
