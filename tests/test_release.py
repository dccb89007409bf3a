"""The classifier that comes with the package: how it is made, and what it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_recordings, make_signal
from sklearn.metrics import recall_score

import ser_heads
from data_manifests.labels import EMOTIONS
from fins.audio import SAMPLE_RATE
from fins.data.store import write_store
from fins.data.table import UtteranceTable
from fins.runs import read_json
from ser_heads.evaluation.predictions import read_predictions
from ser_heads.experiments import configure
from ser_heads.experiments import release as module
from ser_heads.experiments.release import ReleaseOptions, confide, recipe_of, release
from ser_heads.models import MODELS, SHIPPED, tell_licence
from ser_heads.training.datasets import StoreDataset
from ser_heads.training.fitting import fit

SHORT = {"frozen_epochs": 2, "finetuned_epochs": 0, "copies": 0}


def short(model: str, **changes: Any) -> Any:
    return configure(model, **SHORT, **changes)


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two utterances of each of RAVDESS's 24 speakers, as far as names go."""
    made = make_recordings(48, corpus="ravdess", n_speakers=1)
    named = [
        replace(made[i], utterance=replace(made[i].utterance, speaker=f"{1 + i // 2:02d}", sentence="1"))
        for i in range(48)
    ]
    path = tmp_path_factory.mktemp("actors") / "ravdess.h5"
    write_store(path, named)
    return path


@pytest.mark.usefixtures("runs_here", "no_pictures")
def test_folds_then_all_speakers(
    actors: Path, other_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "configure", short)
    options = ReleaseOptions(actors, (other_store,), runs=tmp_path / "runs", out=tmp_path / "weights")
    weights = release(options)
    result = read_json(weights.with_suffix(".json"))
    assert result["trained_on"] == {"n_utterances": 48, "speakers": 24, "corpora": {"ravdess": 48}}
    pooled = read_predictions(tmp_path / "runs" / "folds").table
    assert len(pooled) == 48 and pooled["utterance"].is_unique
    assert result["folds"]["uar"] == pytest.approx(
        recall_score(pooled["emotion"], pooled["answer"], average="macro")
    )
    model = ser_heads.load(weights)
    (row,) = result["unseen"].values()
    with UtteranceTable((other_store,)) as table:
        signals = [torch.from_numpy(table.signal(place).copy()) for place in range(len(table.rows))]
        truth = table.rows["emotion"].tolist()
        names = table.rows["name"].tolist()
    answers = [answer.label for answer in model.predict(signals, sampling_rate=SAMPLE_RATE)]
    assert row["uar_of_all_labels"] == pytest.approx(recall_score(truth, answers, average="macro"))
    temperatures = [
        read_json(fold)["temperature"]
        for fold in sorted((tmp_path / "runs").glob("folds/fold-*/result.json"))
    ]
    assert float(model.temperature) == pytest.approx(np.exp(np.log(temperatures).mean()), rel=1e-5)
    assert float(model.abstention) == 0  # of so few recordings no fold has chosen one
    confide(model, [{"temperature": 1.0, "abstention": {"threshold": share}} for share in (0.2, 0.5, 0.9)])
    assert float(model.abstention) == pytest.approx(0.5)
    confide(model, [{"temperature": t} for t in temperatures])  # folds of before there were thresholds
    assert float(model.abstention) == 0
    kept = tmp_path / "runs" / other_store.stem
    assert read_predictions(kept).table["utterance"].tolist() == names
    assert read_json(kept / "result.json")["uar"] == row["uar"]
    certified = read_json(kept / "result.json")["audit"]
    assert certified["n_utterances"] == {"train": 48, "validation": 0, "test": len(names)}
    card = weights.with_suffix(".md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-sa-4.0\n") and f"{100 * row['uar']:.1f}" in card
    before = weights.read_bytes()
    assert release(options) == weights and weights.read_bytes() == before  # from the checkpoint: the same


@pytest.mark.parametrize("stores", [("a/tess.h5", "b/tess.h5"), ("folds.h5",)])
def test_answers_about_two_corpora_need_two_folders(stores: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="need a folder of that name: rename the store"):
        ReleaseOptions(Path("ravdess.h5"), tuple(map(Path, stores)))


def test_the_length_is_what_the_folds_chose() -> None:
    recipe = MODELS["fin"].recipe
    folds = [{"best_epoch": epoch, "best_phase": "frozen"} for epoch in (60, 41, 58, 44, 60, 50)]
    assert recipe_of(folds, recipe).frozen_epochs == 54 and recipe_of(folds, recipe).finetuned_epochs == 0
    folds = [{"best_epoch": 62, "best_phase": "finetuned"}] * 4 + folds[:2]
    assert recipe_of(folds, recipe) == replace(recipe, frozen_epochs=60)


def test_without_validation_the_last_epoch_is_kept(small_store: Path) -> None:
    torch.manual_seed(0)
    model = ser_heads.create("feature_cnn", EMOTIONS)
    recipe = replace(MODELS["feature_cnn"].recipe, **SHORT)
    with UtteranceTable((small_store,)) as table:
        sounds = StoreDataset(table, np.arange(16), EMOTIONS)
        state = fit(model, sounds, None, recipe)
    assert state.best_epoch == len(state.history) == 2 and float(model.temperature) == 1.0
    assert np.isnan(state.history[-1].validation_uar)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_answers_and_tells_its_licence(name: str, caplog: pytest.LogCaptureFixture) -> None:
    tell_licence.cache_clear()
    with caplog.at_level(logging.WARNING):
        model, _ = ser_heads.load(name), ser_heads.load(name)
    assert [record.getMessage().count("CC BY-NC-SA 4.0") for record in caplog.records] == [1]
    answer = model.predict(make_signal(0), sampling_rate=SAMPLE_RATE)
    assert answer.label in model.labels and sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert SHIPPED[name].stat().st_size < 3e6
    result = read_json(SHIPPED[name].with_suffix(".json"))
    assert result["trained_on"]["speakers"] == 24 and len(result["folds"]["uar_of_runs"]) == 6
