"""pipelines.train and pipelines.evaluate from store to report."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from conftest import make_recordings
from matplotlib.image import imread
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

import pipelines.evaluate as evaluate
import pipelines.train as train
from fins.runs import read_json
from fins.store import EMOTIONS, write_store
from pipelines.results import read_predictions

CONTRACT = {"model", "parameters", "protocol", "parts", "labels", "uar", "wa", "macro_f1", "weighted_f1"}
CONTRACT |= {"confusion", "interval_95", "seconds"}


def config(made: Path, out: Path, **changes: object) -> train.TrainConfig:
    tiny = {"model": "fin", "fins": ("rms", "chroma"), "frozen_epochs": 2, "finetuned_epochs": 1, "copies": 1}
    return train.TrainConfig(**{**tiny, "store": (made,), "out": out, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, of no use but to be looked at."""
    out = tmp_path_factory.mktemp("runs") / "fin"
    train.main(config(small_store, out))
    return out


def check_result(folder: Path) -> dict:
    """The contract of DESIGN.md, and every score by scikit-learn from the table of predictions."""
    result = read_json(folder / "result.json")
    assert set(result) >= CONTRACT
    said = read_predictions(folder)
    labels = list(said.labels)
    assert result["labels"] == labels
    present = [label for label in labels if label in said.truth]
    assert result["uar"] == pytest.approx(
        recall_score(said.truth, said.answer, labels=present, average="macro")
    )
    assert result["wa"] == pytest.approx(accuracy_score(said.truth, said.answer))
    for key, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = f1_score(said.truth, said.answer, labels=present, average=average, zero_division=0)
        assert result[key] == pytest.approx(expected)
    np.testing.assert_array_equal(
        result["confusion"], confusion_matrix(said.truth, said.answer, labels=labels)
    )
    best = [labels[place] for place in said.probabilities.argmax(axis=1)]
    assert best == said.answer
    np.testing.assert_allclose(said.probabilities.sum(axis=1), 1, atol=1e-5)
    for name in ("confusion", "emotions", "speakers"):
        assert imread(folder / f"{name}.png").std() > 0.01
    text = (folder / "README.md").read_text()
    assert f"| UAR | {100 * result['uar']:.1f} |" in text
    return result


def test_a_run_keeps_the_contract(run: Path, small_store: Path) -> None:
    result = check_result(run)
    assert result["parts"]["test"]["n_utterances"] == sum(map(sum, result["confusion"])) == 16
    speakers = [set(result["parts"][part]["speakers"]) for part in ("train", "validation", "test")]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 4
    assert set(result["test_by_phase"]) == {"frozen", "finetuned"}
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["frozen", "frozen", "finetuned"]
    assert {row["validation_uar"] for row in rows} >= {f"{result['validation_uar']}"}
    kept = read_json(run / "config.json")
    assert kept["config"]["seed"] == 0 and "torch" in kept["versions"]
    assert (
        result["audit"]["verdict"] == "clean" and "Audit: Nothing leaks." in (run / "README.md").read_text()
    )
    with (run / "split.csv").open() as file:
        parts = Counter(row["part"] for row in csv.DictReader(file))
    assert parts == {"train": 32, "validation": 16, "test": 16}
    assert imread(run / "learning_curves.png").std() > 0.01
    assert not list(run.glob("*.partial"))


def test_some_emotions_alone(small_store: Path, tmp_path: Path) -> None:
    four = ("angry", "calm", "happy", "sad")
    out = tmp_path / "four"
    train.main(config(small_store, out, model="feature_cnn", fins=None, emotions=four, finetuned_epochs=0))
    result = check_result(out)
    assert tuple(result["labels"]) == four and result["n_utterances"] == 8


def test_a_whole_corpus_can_be_held_out(small_store: Path, other_store: Path, tmp_path: Path) -> None:
    out, stores = tmp_path / "run", (small_store, other_store)
    changes = {"model": "feature_cnn", "fins": None, "store": stores, "protocol": "corpus"}
    train.main(config(small_store, out, **changes, test_corpus=("other",)))
    result = check_result(out)
    assert result["protocol"] == "corpus" and result["parts"]["test"]["corpora"] == {"other": 16}
    assert all(set(result["parts"][part]["corpora"]) == {"made"} for part in ("train", "validation"))
    with pytest.raises(ValueError, match="give --test-corpus"):
        train.main(config(small_store, tmp_path / "none", **changes))


def test_each_model_has_its_own_defaults() -> None:
    assert train.settings_of(["--seed", "3"]) == train.TrainConfig()
    for arguments in (["--model", "feature_cnn"], ["--store", "s.h5", "--model=feature_cnn"]):
        settings = train.settings_of(arguments)
        assert settings == train.with_settings("feature_cnn")
        assert (settings.model, settings.copies, settings.optimizer) == ("feature_cnn", 0, "adam")


def test_the_same_command_gives_the_same_numbers(run: Path, small_store: Path, tmp_path: Path) -> None:
    train.main(config(small_store, tmp_path / "again"))
    assert (tmp_path / "again" / "predictions.csv").read_text() == (run / "predictions.csv").read_text()
    train.main(config(small_store, tmp_path / "other", seed=1))
    assert (tmp_path / "other" / "predictions.csv").read_text() != (run / "predictions.csv").read_text()


def test_a_finished_run_is_not_made_again(
    run: Path, small_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(config(small_store, run))
    assert "already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds another run"):
        train.main(config(small_store, run, frozen_epochs=3))


def test_the_models_own_answers_come_out_of_its_file(run: Path, small_store: Path, tmp_path: Path) -> None:
    evaluate.main(evaluate.EvaluateConfig((run,), (small_store,), tmp_path / "same"))
    one, other = (read_predictions(folder) for folder in (run, tmp_path / "same"))
    order = [other.names.index(name) for name in one.names]
    assert len(one.names) == len(other.names) == 16  # what it learned from is left out
    np.testing.assert_allclose(one.probabilities, other.probabilities[order], atol=2e-6)
    result = check_result(tmp_path / "same")
    assert result["n_left_out"] == {"learned_from": 48, "unknown_emotion": 0}
    assert result["protocol"] == "speaker"


def test_another_corpus_with_fewer_emotions(run: Path, tmp_path: Path) -> None:
    recordings = [
        row
        for row in make_recordings(40, corpus="esd", n_speakers=5)
        if row.utterance.emotion in ("angry", "happy", "neutral", "sad", "surprise")
    ]
    write_store(tmp_path / "esd.h5", recordings)
    evaluate.main(evaluate.EvaluateConfig((run,), (tmp_path / "esd.h5",)))
    result = check_result(run / "esd")
    assert result["labels"] == ["angry", "happy", "neutral", "sad", "surprise"]
    assert result["protocol"] == "corpus"
    assert any("calm counts as neutral" in note for note in result["notes"])
    low, high = result["interval_95"]["uar"]
    assert low <= result["uar"] <= high
    shutil.rmtree(run / "esd")


def test_an_emotion_that_training_had_not_is_left_out_and_counted(tmp_path: Path) -> None:
    few = [row for row in make_recordings(64) if row.utterance.emotion not in ("calm", "fear")]
    write_store(tmp_path / "few.h5", few)
    train.main(config(tmp_path / "few.h5", tmp_path / "run", finetuned_epochs=0))
    assert read_json(tmp_path / "run" / "result.json")["labels"] == [
        label for label in EMOTIONS if label not in ("calm", "fear")
    ]
    write_store(tmp_path / "all.h5", make_recordings(16, corpus="other"))
    evaluate.main(evaluate.EvaluateConfig((tmp_path / "run",), (tmp_path / "all.h5",), tmp_path / "out"))
    result = check_result(tmp_path / "out")
    assert result["n_left_out"]["unknown_emotion"] == 4
    assert any("knows no calm, fear" in note for note in result["notes"])


def test_folds_are_put_together(small_store: Path, tmp_path: Path, run: Path) -> None:
    train.main(config(small_store, tmp_path / "other", seed=1, finetuned_epochs=0))
    evaluate.main(evaluate.EvaluateConfig((run, tmp_path / "other"), out=tmp_path / "both"))
    result = check_result(tmp_path / "both")
    each = [read_json(folder / "result.json") for folder in (run, tmp_path / "other")]
    np.testing.assert_array_equal(result["confusion"], sum(np.array(its["confusion"]) for its in each))
    assert result["mean_uar_of_runs"] == pytest.approx(np.mean([its["uar"] for its in each]))


def test_stored_closed_forms_feed_the_published_head(small_store: Path, tmp_path: Path) -> None:
    train.main(config(small_store, tmp_path / "run", model="feature_cnn", fins=None, protocol="random"))
    result = check_result(tmp_path / "run")
    assert result["protocol"] == "random"
    evaluate.main(evaluate.EvaluateConfig((tmp_path / "run",), (small_store,), tmp_path / "same"))
    assert read_json(tmp_path / "same" / "result.json")["uar"] == pytest.approx(result["uar"])


def test_published_folds_cover_every_speaker_once() -> None:
    for corpus, n_folds in (("ravdess", 6), ("savee", 4)):
        speakers = [its for fold in range(n_folds) for its in train.speakers_of(f"{corpus}:{fold + 1}")]
        with (files("data_manifests") / f"{corpus}.csv").open() as file:
            known = {f"{corpus}/{row['speaker']}" for row in csv.DictReader(file)}
        assert sorted(speakers) == sorted(known)
    with pytest.raises(ValueError, match="no fold 'ravdess:7': the known ones are ravdess:1"):
        train.speakers_of("ravdess:7")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": ()}, "give --store"),
        ({"frozen_epochs": 0, "finetuned_epochs": 0}, "there have to be --finetuned-epochs"),
        ({"frozen_epochs": 0, "model": "wavelet", "fins": None}, "has no FINs to finetune"),
        ({"patience": 0}, "at least 1"),
        ({"training_speakers": 0.0}, "--training-speakers is a share"),
        ({"copies": -1}, "at least 0"),
        ({"learning_rate": float("nan")}, "--learning-rate is a number above 0"),
        ({"minutes": 0.0}, "--minutes is a number above 0"),
        ({"minutes": 0.01}, "minutes are too few"),
        ({"fold": "ravdess:1"}, "no utterance of ravdess/01"),
        ({"fold": "ravdess:1", "protocol": "random"}, "goes with --protocol speaker"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_that_cant_be_meant(small_store: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train.main(config(small_store, tmp_path / "run", **changes))


def test_the_same_store_twice(small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice"):
        train.main(config(small_store, tmp_path / "run", store=(small_store, small_store)))


def test_folders_that_are_no_run(run: Path, small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"result\.json is missing"):
        evaluate.main(evaluate.EvaluateConfig((tmp_path,)))
    (tmp_path / "result.json").write_text(json.dumps({"feature": "rms"}))
    with pytest.raises(ValueError, match="holds no run of"):
        evaluate.main(evaluate.EvaluateConfig((tmp_path,)))
    with pytest.raises(ValueError, match="one run is evaluated at a time"):
        evaluate.main(evaluate.EvaluateConfig((run, run), (small_store,)))
    with pytest.raises(ValueError, match="holds a run: choose another"):
        evaluate.main(evaluate.EvaluateConfig((run,), out=run))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("split.csv", lambda text: text[:900], "damaged|isn't whole"),
        (
            "split.csv",
            lambda text: "\n".join(text.splitlines()[:20]) + "\n",
            "what was trained on isn't known",
        ),
        ("split.csv", lambda text: "", "damaged"),
        ("split.csv", lambda text: text.replace("train", "trai", 1), "isn't whole"),
        ("split.csv", lambda text: "x" * 200_000, "damaged|isn't whole"),
        ("result.json", lambda text: "{}", "no run of"),
        ("weights.safetensors", lambda text: "half", "truncated"),
        ("predictions.csv", lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "isn't whole"),
        ("predictions.csv", lambda text: text.replace("0.", "zero", 1), "no table of predictions"),
    ],
)
def test_a_damaged_run_is_not_evaluated(
    run: Path, small_store: Path, tmp_path: Path, name: str, damage: Callable[[str], str], message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / name).write_text(damage((folder / name).read_text(errors="replace")))
    store = () if name == "predictions.csv" else (small_store,)
    with pytest.raises(ValueError, match=message):
        evaluate.main(evaluate.EvaluateConfig((folder,), store, tmp_path / "out"))


def test_other_utterances_of_the_same_speakers_are_no_other_corpus(run: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "more.h5", make_recordings(96)[64:])
    evaluate.main(evaluate.EvaluateConfig((run,), (tmp_path / "more.h5",), tmp_path / "out"))
    assert read_json(tmp_path / "out" / "result.json")["protocol"] == "random"


def test_results_are_not_written_over_another_run(run: Path, small_store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    with pytest.raises(ValueError, match="holds a run: choose another --out"):
        evaluate.main(evaluate.EvaluateConfig((run,), (small_store,), other))
    with pytest.raises(ValueError, match="given twice"):
        evaluate.main(evaluate.EvaluateConfig((run, run), out=tmp_path / "out"))


def test_one_emotion_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    write_store(tmp_path / "one.h5", [row for row in make_recordings(64) if row.utterance.emotion == "sad"])
    with pytest.raises(ValueError, match="but one emotion"):
        train.main(config(tmp_path / "one.h5", tmp_path / "run", protocol="random"))


@pytest.mark.slow
def test_a_small_budget_is_kept(small_store: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    train.main(config(small_store, tmp_path / "run", frozen_epochs=2_000, patience=2_000, minutes=0.3))
    assert time.monotonic() - started < 0.3 * 60 + 3
    result = read_json(tmp_path / "run" / "result.json")
    assert 2 < result["epochs"] < 2_000


def test_a_budget_that_was_too_small_can_be_raised(small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        train.main(config(small_store, tmp_path / "run", minutes=0.01))
    train.main(config(small_store, tmp_path / "run"))
