"""pipelines.train and pipelines.evaluate from store to report."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_recordings
from matplotlib.image import imread
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

import ser_heads
from data_manifests.labels import EMOTIONS
from fins.data.protocols import PROTOCOLS, SplitProtocol, divide_at_random, speakers_of
from fins.data.store import write_store
from fins.data.table import UtteranceTable
from fins.runs import read_config, read_json
from ser_heads.evaluation.predictions import read_predictions
from ser_heads.evaluation.unseen import EvaluateOptions, evaluate
from ser_heads.experiments.config import RunConfig, configure, read_command_line
from ser_heads.experiments.run import train_classifier
from ser_heads.layers.packet_tree import best_basis
from ser_heads.models import MODELS
from ser_heads.training.recipe import NO_AUGMENTATION

CONTRACT = {"model", "parameters", "protocol", "parts", "labels", "uar", "wa", "macro_f1", "weighted_f1"}
CONTRACT |= {"confusion", "interval_95", "seconds", "precision", "per_label"}


def config(made: Path, out: Path, **changes: Any) -> RunConfig:
    tiny = {"frozen_epochs": 2, "finetuned_epochs": 1, "copies": 1, "fins": ("rms", "chroma")}
    model = changes.pop("model", "fin")
    options = {**tiny, "store": (made,), "out": out, **changes}
    if model not in ("fin", "fin_wavelet"):
        del options["fins"], options["finetuned_epochs"]
    return configure(model, **options)


def judge(run: Path, *stores: Path, out: Path | None = None) -> Path:
    """The folder of an evaluation on stores."""
    return evaluate(EvaluateOptions((run,), stores, out))[0]


@pytest.fixture(scope="module")
def run(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs, of no use but to be looked at."""
    out = tmp_path_factory.mktemp("runs") / "fin"
    train_classifier(config(small_store, out))
    return out


def check_result(folder: Path) -> dict:
    """The contract of DESIGN.md, and every score by scikit-learn from the table of predictions."""
    result = read_json(folder / "result.json")
    assert set(result) >= CONTRACT
    predictions = read_predictions(folder)
    labels = list(predictions.labels)
    assert result["labels"] == labels
    truth, answer = (predictions.table[column].tolist() for column in ("emotion", "answer"))
    present = [label for label in labels if label in truth]
    assert result["uar"] == pytest.approx(recall_score(truth, answer, labels=present, average="macro"))
    assert result["wa"] == pytest.approx(accuracy_score(truth, answer))
    for key, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = f1_score(truth, answer, labels=present, average=average, zero_division=0)
        assert result[key] == pytest.approx(expected)
    for key, score in (("precision", precision_score), ("recall", recall_score)):
        if key == "precision":
            expected = score(truth, answer, labels=present, average="macro", zero_division=0)
            assert result[key] == result.get("by_part", {"test": result})["test"][key]
            assert result[key] == pytest.approx(expected)
        alone = score(truth, answer, labels=labels, average=None, zero_division=0)
        assert [result["per_label"][label][key] for label in labels] == pytest.approx(alone)
    np.testing.assert_array_equal(result["confusion"], confusion_matrix(truth, answer, labels=labels))
    assert [labels[place] for place in predictions.probabilities.argmax(axis=1)] == answer
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)
    for name in ("confusion", "emotions", "speakers", "risk_coverage"):
        assert imread(folder / f"{name}.png").std() > 0.01
    confidence, right = predictions.probabilities.max(axis=1), np.array(truth) == np.array(answer)
    curve = result["risk_coverage"]
    assert curve["coverage"][-1] == 1 and curve["risk"][-1] == pytest.approx(1 - result["wa"])
    orders = (np.lexsort((last, -confidence)) for last in (~right, right))  # of what six digits make alike
    least, most = (np.mean(np.cumsum(~right[order]) / np.arange(1, len(right) + 1)) for order in orders)
    assert least - 1e-9 <= curve["area"] <= most + 1e-9
    text = (folder / "README.md").read_text()
    assert f"| UAR | {100 * result['uar']:.1f} |" in text
    return result


def test_the_page_of_a_run_has_the_command_that_makes_it_again(run: Path, small_store: Path) -> None:
    (line,) = [line for line in (run / "README.md").read_text().splitlines() if line.startswith("python -m")]
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "pipelines.train"]
    again, _ = read_command_line("about", arguments=words[3:])
    assert again == config(small_store, run)


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


@pytest.mark.usefixtures("no_pictures")
def test_the_best_basis_is_that_of_the_training_recordings(small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    changes = {"tree": ("best",), "depth": 3, "frozen_epochs": 1, "copies": 0}
    train_classifier(config(small_store, out, model="wavelet", **changes))
    with UtteranceTable([small_store]) as table, (out / "split.csv").open() as split:
        trained = {row["utterance"] for row in csv.DictReader(split) if row["part"] == "train"}
        places = [place for place, name in enumerate(table.rows["name"]) if name in trained]
        signals = [table.signal(place) for place in places]
    assert 0 < len(signals) < len(table.rows)
    assert ser_heads.load(out).options.tree == best_basis(signals, "sym10", 3)
    assert read_config(out)["tree"] == ["best"]


def test_some_emotions_alone(small_store: Path, tmp_path: Path) -> None:
    four = ("angry", "calm", "happy", "sad")
    out = tmp_path / "four"
    train_classifier(config(small_store, out, model="feature_cnn", emotions=four))
    result = check_result(out)
    assert tuple(result["labels"]) == four and result["n_utterances"] == 8


def test_a_whole_corpus_can_be_held_out(small_store: Path, other_store: Path, tmp_path: Path) -> None:
    out, stores = tmp_path / "run", (small_store, other_store)
    changes = {"model": "feature_cnn", "store": stores, "protocol": "corpus"}
    train_classifier(config(small_store, out, **changes, test_corpus=("other",)))
    result = check_result(out)
    assert result["protocol"] == "corpus" and result["parts"]["test"]["corpora"] == {"other": 16}
    assert all(set(result["parts"][part]["corpora"]) == {"made"} for part in ("train", "validation"))
    with pytest.raises(ValueError, match="give --test-corpus"):
        train_classifier(config(small_store, tmp_path / "none", **changes))


def test_each_model_has_its_own_defaults() -> None:
    config, own = read_command_line("about", arguments=["--seed", "3"])
    assert config == configure("fin", seed=3) and own is None
    for arguments in (["--model", "feature_cnn"], ["--store", "s.h5", "--model=feature_cnn"]):
        config, _ = read_command_line("about", arguments=arguments)
        store = config.store
        assert config == configure("feature_cnn", store=store)
        assert config.recipe is not None
        assert (config.model, config.recipe.copies, config.recipe.optimizer) == ("feature_cnn", 0, "adam")


@pytest.mark.parametrize("model", MODELS)
def test_a_command_line_has_the_options_of_its_model_alone(model: str) -> None:
    own = [item.name for item in fields(MODELS[model].options)]
    others = {item.name for entry in MODELS.values() for item in fields(entry.options)} - set(own)
    for name in sorted(others):
        flag = f"--{name.replace('_', '-')}"
        known = f"its own are --{own[0].replace('_', '-')}" if own else "it has none of its own"
        with pytest.raises(ValueError, match=f"{model} has no option {flag}: {known}"):
            read_command_line("about", arguments=["--model", model, flag, "3"])
    with pytest.raises(ValueError, match="has no option --learning-rat"):
        configure(model, learning_rat=1.0)


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("raw_cnn", {"penalty": 1.0}, "--penalty has no effect on raw_cnn: it has no wavelet kernels"),
        ("wavelet", {"fin_rate": 1e-5}, "--fin-rate has no effect on wavelet: it has no FINs"),
        ("cnn_lstm_1d", {"fin_rate": 1e-3}, "--fin-rate has no effect on cnn_lstm_1d: it has no FINs"),
        ("spectral_svm", {"loss": "focal"}, "--loss has no effect on spectral_svm: it isn't trained by"),
        (
            "feature_cnn",
            {"augmentation": replace(NO_AUGMENTATION, contrast=1.2)},
            "--augmentation.contrast has no effect on feature_cnn: its frames have no levels",
        ),
        (
            "spectrogram_cnn",
            {"augmentation": replace(MODELS["spectrogram_cnn"].recipe.augmentation, seconds=2.0)},
            "--augmentation.seconds has no effect on spectrogram_cnn: its frames have no length but one",
        ),
    ],
)
def test_options_without_effect_are_refused(
    small_store: Path, tmp_path: Path, model: str, changes: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train_classifier(configure(model, store=(small_store,), out=tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_pictures")
def test_the_same_command_gives_the_same_numbers(run: Path, small_store: Path, tmp_path: Path) -> None:
    train_classifier(config(small_store, tmp_path / "again"))
    assert (tmp_path / "again" / "predictions.csv").read_text() == (run / "predictions.csv").read_text()
    train_classifier(config(small_store, tmp_path / "other", seed=1))
    assert (tmp_path / "other" / "predictions.csv").read_text() != (run / "predictions.csv").read_text()


def test_a_finished_run_is_not_made_again(run: Path, small_store: Path) -> None:
    assert "already" in train_classifier(config(small_store, run)).text
    with pytest.raises(ValueError, match="holds another run"):
        train_classifier(config(small_store, run, frozen_epochs=3))


def test_the_models_own_answers_come_out_of_its_file(run: Path, small_store: Path, tmp_path: Path) -> None:
    judge(run, small_store, out=tmp_path / "same")
    one, other = (read_predictions(folder) for folder in (run, tmp_path / "same"))
    names, others = (predictions.table["utterance"].tolist() for predictions in (one, other))
    order = [others.index(name) for name in names]
    assert len(names) == len(others) == 16  # what it learned from is left out
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
    judge(run, tmp_path / "esd.h5")
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
    train_classifier(config(tmp_path / "few.h5", tmp_path / "run", finetuned_epochs=0))
    assert read_json(tmp_path / "run" / "result.json")["labels"] == [
        label for label in EMOTIONS if label not in ("calm", "fear")
    ]
    write_store(tmp_path / "all.h5", make_recordings(16, corpus="other"))
    judge(tmp_path / "run", tmp_path / "all.h5", out=tmp_path / "out")
    result = check_result(tmp_path / "out")
    assert result["n_left_out"]["unknown_emotion"] == 4
    assert any("knows no calm, fear" in note for note in result["notes"])


def test_folds_are_put_together(small_store: Path, tmp_path: Path, run: Path) -> None:
    train_classifier(config(small_store, tmp_path / "other", seed=1, finetuned_epochs=0))
    evaluate(EvaluateOptions((run, tmp_path / "other"), out=tmp_path / "both"))
    result = check_result(tmp_path / "both")
    each = [read_json(folder / "result.json") for folder in (run, tmp_path / "other")]
    np.testing.assert_array_equal(
        result["confusion"], sum(np.array(result_of_fold["confusion"]) for result_of_fold in each)
    )
    assert result["mean_uar_of_runs"] == pytest.approx(
        np.mean([result_of_fold["uar"] for result_of_fold in each])
    )
    with pytest.raises(ValueError, match=r"both holds the evaluation of .*, other: choose another --out"):
        evaluate(EvaluateOptions((tmp_path / "other",), out=tmp_path / "both"))


def test_stored_closed_forms_feed_the_published_head(small_store: Path, tmp_path: Path) -> None:
    train_classifier(config(small_store, tmp_path / "run", model="feature_cnn", protocol="random"))
    result = check_result(tmp_path / "run")
    assert result["protocol"] == "random"
    judge(tmp_path / "run", small_store, out=tmp_path / "same")
    assert read_json(tmp_path / "same" / "result.json")["uar"] == pytest.approx(result["uar"])


def test_published_folds_cover_every_speaker_once() -> None:
    for corpus, n_folds in (("ravdess", 6), ("savee", 4)):
        speakers = [key for fold in range(n_folds) for key in speakers_of(f"{corpus}:{fold + 1}")]
        with (files("data_manifests") / f"{corpus}.csv").open() as file:
            known = {(corpus, row["speaker"]) for row in csv.DictReader(file)}
        assert sorted(speakers) == sorted(known)
    with pytest.raises(ValueError, match="no fold 'ravdess:7': the known ones are ravdess:1"):
        speakers_of("ravdess:7")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": ()}, "give --store"),
        ({"frozen_epochs": 0, "finetuned_epochs": 0}, "there have to be --finetuned-epochs"),
        ({"frozen_epochs": 0, "model": "raw_cnn"}, "has no FINs to finetune"),
        ({"patience": 0}, "at least 1"),
        ({"training_speakers": 0.0}, "--training-speakers is a share"),
        ({"copies": -1}, "at least 0"),
        ({"learning_rate": float("nan")}, "--learning-rate is a number above 0"),
        ({"minutes": 0.0}, "--minutes is a number above 0"),
        ({"fold": "ravdess:1"}, "no utterance of ravdess/01"),
        ({"fold": "ravdess:1", "protocol": "random"}, "goes with --protocol speaker"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_that_cant_be_meant(small_store: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_classifier(config(small_store, tmp_path / "run", **changes))


def test_the_same_store_twice(small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice"):
        train_classifier(config(small_store, tmp_path / "run", store=(small_store, small_store)))


def test_folders_that_are_no_run(run: Path, small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"result\.json is missing"):
        evaluate(EvaluateOptions((tmp_path,)))
    (tmp_path / "result.json").write_text(json.dumps({"feature": "rms"}))
    with pytest.raises(ValueError, match="holds no run of"):
        evaluate(EvaluateOptions((tmp_path,)))
    with pytest.raises(ValueError, match="one run is evaluated at a time"):
        evaluate(EvaluateOptions((run, run), (small_store,)))
    with pytest.raises(ValueError, match="holds a run: choose another"):
        evaluate(EvaluateOptions((run,), out=run))


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
        evaluate(EvaluateOptions((folder,), store, tmp_path / "out"))


def test_other_utterances_of_the_same_speakers_are_no_other_corpus(run: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "more.h5", make_recordings(96)[64:])
    judge(run, tmp_path / "more.h5", out=tmp_path / "out")
    assert read_json(tmp_path / "out" / "result.json")["protocol"] == "random"


def test_results_are_not_written_over_another_run(run: Path, small_store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    with pytest.raises(ValueError, match="holds a run: choose another --out"):
        judge(run, small_store, out=other)
    with pytest.raises(ValueError, match="given twice"):
        evaluate(EvaluateOptions((run, run), out=tmp_path / "out"))


def test_out_is_looked_at_before_anything_is_predicted(
    run: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(*_: object) -> None:
        raise AssertionError("it predicted before it looked")

    monkeypatch.setattr("ser_heads.evaluation.unseen.predict_unseen", predict)
    with pytest.raises(ValueError, match="holds a run: choose another --out"):
        judge(run, small_store, out=run)


def test_one_emotion_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    write_store(tmp_path / "one.h5", [row for row in make_recordings(64) if row.utterance.emotion == "sad"])
    with pytest.raises(ValueError, match="but one emotion"):
        train_classifier(config(tmp_path / "one.h5", tmp_path / "run", protocol="random"))


@pytest.mark.slow
def test_a_small_budget_is_kept(small_store: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    train_classifier(config(small_store, tmp_path / "run", frozen_epochs=2_000, patience=2_000, minutes=0.3))
    assert time.monotonic() - started < 0.3 * 60 + 3
    result = read_json(tmp_path / "run" / "result.json")
    assert 2 < result["epochs"] < 2_000


def test_a_budget_shorter_than_what_follows_still_gives_a_result(small_store: Path, tmp_path: Path) -> None:
    train_classifier(config(small_store, tmp_path / "run", minutes=0.01))
    result = check_result(tmp_path / "run")
    assert result["stopped"] == "minutes" and result["epochs"] == 1


@pytest.mark.usefixtures("no_pictures")
def test_the_split_has_a_seed_of_its_own(small_store: Path, tmp_path: Path, run: Path) -> None:
    options = {"model": "feature_cnn", "frozen_epochs": 1, "copies": 0}
    first = train_classifier(config(small_store, tmp_path / "a", seed=5, split_seed=0, **options))
    other = train_classifier(config(small_store, tmp_path / "b", seed=6, split_seed=0, **options))
    split = (run / "split.csv").read_text()  # of seed 0
    assert split == (first.folder / "split.csv").read_text() == (other.folder / "split.csv").read_text()
    assert first.result["split_seed"] == 0 and first.result["seed"] == 5
    one, two = ((result.folder / "predictions.csv").read_text() for result in (first, other))
    assert one != two


def test_words_of_one_s_own_from_store_to_answers(tmp_path: Path) -> None:
    words = ("relaxed", "bored", "very stressed")
    recordings = [
        replace(row, utterance=replace(row.utterance, emotion=words[place % 3]))
        for place, row in enumerate(make_recordings(48))
    ]
    write_store(tmp_path / "own.h5", recordings)
    train_classifier(config(tmp_path / "own.h5", tmp_path / "run"))
    result = check_result(tmp_path / "run")
    assert result["labels"] == sorted(words)
    assert ser_heads.load(tmp_path / "run").labels == tuple(sorted(words))
    write_store(tmp_path / "eight.h5", make_recordings(16, corpus="other"))
    with pytest.raises(ValueError, match="no emotion is shared"):
        judge(tmp_path / "run", tmp_path / "eight.h5", out=tmp_path / "out")


def test_a_division_that_breaks_its_promise_is_refused(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_random = SplitProtocol(divide_at_random, never_shares=("speakers",))
    monkeypatch.setitem(PROTOCOLS, "speaker", at_random)
    with pytest.raises(ValueError, match=r"breaks what its protocol promises.*speakers in several parts"):
        train_classifier(config(small_store, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_other_folders_are_passed_over_and_counted(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("no run")
    options = EvaluateOptions((run, tmp_path / "empty", tmp_path / "file.txt"), out=tmp_path / "out")
    assert evaluate(options)[1]["notes"][0].startswith("2 of 3 hold no finished run")
    with pytest.raises(ValueError, match="none of 2 folders holds a finished run; the first: "):
        evaluate(EvaluateOptions((tmp_path / "empty", tmp_path / "file.txt")))
