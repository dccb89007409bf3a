"""pipelines.compare: sweeps of tiny runs, held against the runs' own results and scikit-learn."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from matplotlib.image import imread
from sklearn.metrics import accuracy_score, f1_score, recall_score

from data_manifests.labels import EMOTIONS
from fins.data.protocols import Division
from fins.data.splits import evenly
from fins.data.table import UtteranceTable
from fins.features import STORED
from fins.runs import read_json
from pipelines.compare import main
from ser_heads.evaluation.predictions import label_predictions, read_predictions
from ser_heads.evaluation.speed import real_time_factor
from ser_heads.experiments import comparison, comparison_page, configure, parallel, run
from ser_heads.experiments.comparison import CompareOptions
from ser_heads.experiments.parallel import Job, make_apart
from ser_heads.experiments.run import RunResult
from ser_heads.experiments.sweeps import read_sweep
from ser_heads.models import MODELS, load
from ser_heads.training.datasets import StoreDataset
from ser_heads.training.sources import logits_of
from ser_heads.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("runs_here")
TINY = """Two heads <b>on</b> | few epochs.'''

from ser_heads.experiments import configure

SHORT = {"frozen_epochs": 2, "finetuned_epochs": 0, "copies": 1}


def runs():
    return {
        "gone": configure("fin", fins=("<i>no|where</i>",), **SHORT),
        "fin": configure("fin", fins=("rms", "chroma"), **SHORT),
        "computed": configure("feature_cnn", **SHORT),
    }
"""


def sweep_of(folder: Path, text: str = "'''" + TINY, name: str = "tiny") -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("seconds", "real_time_factor")}


@pytest.fixture(scope="module")
def made(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two runs, and of one that can't be made."""
    folder = tmp_path_factory.mktemp("compared")
    main(CompareOptions(sweep_of(folder), (small_store,), out=folder / "out"))
    return folder / "out"


def test_the_table_is_that_of_the_runs(made: Path) -> None:
    result = read_json(made / "result.json")
    assert (result["n_runs"], result["n_failed"], result["seeds"]) == (3, 1, [0])
    assert result["over_seeds"] == [] and result["minutes_each"] is None
    scores = [row["by_part"]["test"]["uar"] for row in result["runs"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 2
    cells = {line.split(" | ")[0].strip("| "): line for line in (made / "README.md").read_text().splitlines()}
    for row in result["runs"]:
        its = read_json(made / row["folder"] / "result.json")
        known = ("name", "label", "folder", "seed", "division")
        assert row == {**{key: row[key] for key in known}, **pick(its, row)}
        assert row["division"] == "speaker"
        said = read_predictions(made / row["folder"]).table
        assert row["by_part"]["test"] == {key: its[key] for key in row["by_part"]["test"]}
        assert row["by_part"]["test"]["uar"] == pytest.approx(
            recall_score(said["emotion"], said["answer"], average="macro")
        )
        shown = (its["parameters"], *(100 * its[key] for key in ("uar", "wa", "macro_f1")))
        for text in (f"| {shown[0]:,} |", f"| {shown[1]:.1f} | {shown[2]:.1f} | {shown[3]:.1f} |"):
            assert text in cells[row["label"]]
        assert f"| {100 * its['by_part']['train']['wa']:.1f} |" in cells[row["label"]]


def pick(result: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key in row}


@pytest.mark.parametrize("name", ["fin", "computed"])
def test_each_part_is_scored_as_scikit_learn_does(made: Path, small_store: Path, name: str) -> None:
    folder = made / f"{name}-seed0"
    result = read_json(folder / "result.json")
    model = load(folder)
    table = UtteranceTable([small_store])
    with (folder / "split.csv").open() as file:
        part_of = {row["utterance"]: row["part"] for row in csv.DictReader(file)}
    for part in ("train", "validation", "test"):
        rows = np.array([place for place, name in enumerate(table.rows["name"]) if part_of[name] == part])
        logits = logits_of(model, StoreDataset(table, rows, model.labels))
        said = np.array(model.labels)[logits.argmax(axis=1)]
        truth = table.rows["emotion"].to_numpy()[rows]
        expected = {
            "uar": recall_score(truth, said, average="macro"),
            "wa": accuracy_score(truth, said),
            "macro_f1": f1_score(truth, said, average="macro"),
            "weighted_f1": f1_score(truth, said, average="weighted"),
            "n_utterances": len(rows),
        }
        its = result["by_part"][part]
        assert {key: its[key] for key in expected} == pytest.approx(expected)
        predictions, _ = label_predictions(table.rows, rows, logits, model.labels)
        assert model.labels == EMOTIONS == predictions.labels
    assert result["by_part"]["validation"]["uar"] == pytest.approx(result["validation_uar"])
    low, high = result["by_part"]["train"]["interval_95"]["uar"]
    assert low <= result["by_part"]["train"]["uar"] <= high


@pytest.mark.usefixtures("no_pictures")
def test_a_large_part_is_scored_by_an_even_sample(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.testing.assert_array_equal(evenly(np.arange(10, 21), 3), [10, 15, 20])
    np.testing.assert_array_equal(evenly(np.arange(4), 4), np.arange(4))
    monkeypatch.setattr(run, "SCORED", 20)
    out = tmp_path / "run"
    run.train_classifier(configure("feature_cnn", store=(small_store,), frozen_epochs=1, out=out))
    result = read_json(out / "result.json")
    assert [its["n_utterances"] for its in result["by_part"].values()] == [20, 16, 16]
    assert "Of the training utterances 20, evenly spread, are scored" in (out / "README.md").read_text()


def test_a_run_that_cant_be_made_is_counted(made: Path) -> None:
    result = read_json(made / "result.json")
    (failed,) = result["failed"]
    assert failed["label"] == "gone" and "there is no FIN" in failed["why"]
    page = (made / "README.md").read_text()
    assert "| gone | " in page and "| failed |" in page and "1 of 3 runs failed" in page
    assert r"- gone: there is no FIN &lt;i>no\|where&lt;/i>: the names are" in page


@pytest.mark.slow
def test_a_run_in_its_own_process_is_the_same_run(made: Path, small_store: Path, tmp_path: Path) -> None:
    options = {"store": (small_store,), "frozen_epochs": 2, "finetuned_epochs": 0, "copies": 1}
    make_apart(Job("alone", configure("feature_cnn", out=tmp_path / "run", **options)))
    one, other = (folder / "predictions.csv" for folder in (tmp_path / "run", made / "computed-seed0"))
    assert one.read_text() == other.read_text()


@pytest.mark.parametrize(
    ("fins", "workers", "message"),
    [
        (("nowhere",), 1, "^there is no FIN nowhere: the names are chroma, .*"),
        ((3,), 2, "^it has a bug, whose traceback stands above$"),
    ],
)
def test_why_a_process_failed(
    small_store: Path,
    tmp_path: Path,
    fins: Any,
    workers: int,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    job = Job("bad", configure("fin", store=(small_store,), out=tmp_path / "run", fins=fins))
    with pytest.raises(ValueError, match=message):
        make_apart(job, workers)
    assert ("Traceback" in capfd.readouterr().err) == ("bug" in message)


class Page(HTMLParser):
    """What a page is made of, and the text that it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [its or "" for name, its in attrs if name in ("src", "href", "srcset", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def test_the_page_needs_nothing_else_and_shows_what_was_said(made: Path) -> None:
    text = (made / "index.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "b", "i"} & set(page.tags)
    assert page.tags.count("img") == 4 and len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|https?:", text) and "color-scheme: light dark" in text
    shown = " ".join(page.shown)
    assert "Two heads <b>on</b> | few epochs." in shown and "<i>no|where</i>" in shown
    result = read_json(made / "result.json")
    for row in result["runs"]:
        assert f"{100 * row['by_part']['test']['uar']:.1f}" in shown
    for name in comparison_page.CAPTIONS:
        assert imread(made / f"{name}.png").std() > 0.01


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_sweep_goes_on_to_the_same_table(
    made: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_json(made / "result.json")
    again = made.with_name("again")
    config = CompareOptions(str(made.with_name("tiny.py")), (small_store,), out=again)
    epoch, epochs = Trainer._epoch, []

    def killed(training: Trainer, *arguments: Any) -> None:
        epochs.append(training.state.epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        epoch(training, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    assert (again / "fin-seed0" / "result.json").is_file() and not (again / "result.json").exists()
    assert (again / "computed-seed0" / "checkpoint.safetensors").is_file()
    capsys.readouterr()
    main(config)
    said = capsys.readouterr().out
    assert said.count("already") == 1 and "run 3 of 3: computed" in said
    shutil.rmtree(again / "fin-seed0")
    main(config)
    assert capsys.readouterr().out.count("already") == 1
    after = read_json(again / "result.json")
    assert [timeless(row) for row in after["runs"]] == [timeless(row) for row in before["runs"]]
    assert after["failed"] == before["failed"]
    for row in after["runs"]:
        one, other = (folder / row["folder"] / "predictions.csv" for folder in (made, again))
        assert one.read_text() == other.read_text()
        assert comparison.read_history(one.parent) == comparison.read_history(other.parent)
    # what another command made isn't mixed with it
    with pytest.raises(ValueError, match="holds another run"):
        main(CompareOptions(config.sweep, config.store, minutes=9, out=again))


def assert_close(ours: Any, theirs: Any) -> None:
    """Equal but for roundings, through lists and dictionaries."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_close(ours[key], theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
    else:
        assert ours == (pytest.approx(theirs, abs=1e-6) if isinstance(theirs, float) else theirs)


def read_rows(out: Path) -> list[dict[str, Any]]:
    return read_json(out / "result.json")["runs"]


ONE = "from ser_heads.experiments import configure\n\n\ndef runs():\n    return {made}\n"
FEW = ONE.format(
    made="""{
        f"{protocol}-{n}": configure(
            "feature_cnn", frozen_epochs=1, protocol=protocol, emotions=("angry", "calm", "sad")[:n]
        )
        for protocol, n in (("speaker", 3), ("random", 2), ("speaker", 2))
    }"""
)


@pytest.mark.usefixtures("no_pictures")
def test_seeds_together_and_protocols_apart(small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(CompareOptions(sweep_of(tmp_path, FEW), (small_store,), (0, 1), minutes=60, out=out))
    result = read_json(out / "result.json")
    assert result["minutes_each"] == pytest.approx((60 - parallel.ENDING / 60) / 6 - parallel.STARTING / 60)
    kinds = [(row["protocol"], len(row["labels"])) for row in result["runs"]]
    assert kinds == sorted(kinds, key=[("speaker", 3), ("random", 2), ("speaker", 2)].index)
    uars = [row["by_part"]["test"]["uar"] for row in result["runs"]]
    assert all(uars[place] >= uars[place + 1] for place in (0, 2, 4))
    assert {row["label"] for row in result["runs"]} >= {"random-2, seed 0", "random-2, seed 1"}
    for row in result["over_seeds"]:
        its = [read_json(out / f"{row['name']}-seed{seed}" / "result.json")["wa"] for seed in (0, 1)]
        assert row["wa"]["mean"] == pytest.approx(sum(its) / 2)
        assert row["wa"]["deviation"] == pytest.approx(abs(its[0] - its[1]) / np.sqrt(2))
        assert row["n_seeds"] == 2
    page = (out / "README.md").read_text()
    assert "speaker: angry, calm, sad" in page and "chance is 33.3 %" in page and "chance is 50.0 %" in page
    assert page.count("speaker: angry, calm, seed") == 2 and "±" in page and "no speaker is in two" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no runs"),
        ("def runs():\n    return {}\n", "has no runs"),
        ("def runs(:\n", r"is broken \(SyntaxError"),
        ("def runs():\n    x = 1\n    return nothing\n", r"is broken, line 3 \(NameError"),
        ("import no_such_module\n", r"is broken, line 1 \(ModuleNotFoundError"),
        (
            ONE.format(made="{'a': configure('fin', epochs=3)}"),
            r"line 5 \(ValueError: fin has no option --epochs",
        ),
        ("from pipelines.train import with_settings\n", "as files for version 0.1 did"),
        (ONE.format(made="{'a/b': configure('fin')}"), "can't name a run's folder"),
        (ONE.format(made="{'a': 'fin'}"), "the run a has no options"),
        (
            ONE.format(made="{'a': configure('fine')}"),
            "line 5 .*there is no model 'fine': the known ones are",
        ),
        (
            ONE.format(made="{'a': configure('fin', optimizer='sdg')}"),
            "has --optimizer 'sdg': the known ones",
        ),
        (ONE.format(made="{'a': configure('fin', emotions=('rage',))}"), "no utterance is rage"),
        (ONE.format(made="{'a': configure('fin', seed=3)}"), "sets seed, which is for the command line"),
        (
            ONE.format(made="{'a': configure('fin', copies=-1)}"),
            "line 5 .*--frozen-epochs, --finetuned",
        ),
        (ONE.format(made="{'a': configure('fin', copies='1')}"), r"line 5 \(TypeError"),
        (f"MINUTES = 'ten'\n{FEW}", "MINUTES that are no number"),
        (f"{FEW}\nconclude = 3\n", "a conclude that is no function"),
        (ONE.format(made="{'wärme': configure('fin')}"), "first a letter or a digit"),
        (f"MINUTES = 0.1\n{FEW}", "--minutes is a number above 0.75"),
        (ONE.format(made="{'a': configure('fin', fins=('x',))}"), "none of 1 runs has a result"),
    ],
)
def test_sweeps_that_cant_be_meant(small_store: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        main(CompareOptions(sweep_of(tmp_path, text), (small_store,), out=tmp_path / "out"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "result.json").exists()


def test_options_that_cant_be_meant(small_store: Path, tmp_path: Path) -> None:
    named = sweep_of(tmp_path, FEW)
    with pytest.raises(
        ValueError,
        match="give one of cnn_lstm, fin_vs_random, finetuning, four_emotions, imitated, leak_price, small, "
        "or the path",
    ):
        main(CompareOptions("smal", (small_store,)))
    with pytest.raises(ValueError, match="there is no sweep"):
        main(CompareOptions(str(tmp_path / "gone.py"), (small_store,)))
    with pytest.raises(ValueError, match="give --store"):
        main(CompareOptions(named))
    with pytest.raises(ValueError, match=r"gone\.h5 is missing"):
        main(CompareOptions(named, (tmp_path / "gone.h5",), out=tmp_path / "out"))
    with pytest.raises(ValueError, match=r"gone\.h5 is missing"):
        main(CompareOptions(named, (small_store,), unseen=(tmp_path / "gone.h5",), out=tmp_path / "out"))
    with pytest.raises(ValueError, match="is given twice"):
        main(CompareOptions(named, (small_store,), unseen=(small_store, small_store), out=tmp_path / "out"))
    with pytest.raises(ValueError, match="each once"):
        main(CompareOptions(named, (small_store,), (1, 1)))
    assert not (tmp_path / "out").exists()


def test_the_sweeps_of_the_package() -> None:
    small = read_sweep("small")
    assert {name: its.model for name, its in small.runs.items()} == {name: name for name in MODELS}
    assert small.minutes is not None and small.minutes <= 120
    assert small.runs["feature_cnn"] == configure("feature_cnn")
    imitated = read_sweep("imitated").runs
    sets = {frozenset(its.options.fins) for its in imitated.values()}
    every = {frozenset(its) for n in range(6) for its in combinations(STORED, n)}
    assert len(imitated) == 32 and sets == every
    assert len({json.dumps(str(its)) for its in imitated.values()}) == 32
    assert {its.model for its in imitated.values()} == {"feature_cnn"}
    cells = read_sweep("cnn_lstm").runs.values()
    assert {(its.model, its.recipe.optimizer, its.recipe.copies) for its in cells} == set(
        product(("cnn_lstm_1d", "cnn_lstm_2d"), ("sgd", "adam"), (0, 5))
    )
    four = read_sweep("four_emotions").runs.values()
    assert {(its.model, its.recipe.copies, its.division.protocol) for its in four} == set(
        product(("spectral_svm", "raw_cnn", "spectrogram_cnn"), (0, 4), ("random", "speaker"))
    )
    for its in four:
        own = its.recipe.augmentation
        plain = its.recipe.copies == 0 or its.model == "spectral_svm"
        assert ((own.stretch, own.n_masks, own.mixup) == (1.0, 0, 0.0)) == plain
    assert {its.division.emotions for its in four} == {("angry", "calm", "happy", "sad")}
    assert (len(cells), len(four)) == (8, 12)
    leaks = read_sweep("leak_price").runs.values()
    assert [its.division.protocol for its in leaks] == ["random", "speaker", "speaker_sentence", "corpus"]
    assert len({str(replace(its, division=Division())) for its in leaks}) == 1


def test_an_answer_is_timed_without_what_is_kept(
    made: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(made / "computed-seed0")
    table = UtteranceTable([small_store])
    dataset = StoreDataset(table, np.array([3, 8, 13]), model.labels)
    places: list[int] = []
    signal = UtteranceTable.signal
    monkeypatch.setattr(UtteranceTable, "stored_features", None)
    monkeypatch.setattr(
        UtteranceTable, "signal", lambda table, place: places.append(place) or signal(table, place)
    )
    clock = iter(np.cumsum([0, 9, 0, 1, 0, 2, 0, 6]))  # seconds; the first answer warms up
    monkeypatch.setattr("ser_heads.evaluation.speed.time.perf_counter", lambda: float(next(clock)))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(n_threads + 1)
    factor = real_time_factor(model, dataset)
    n_left = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    seconds = table.rows["n_samples"].to_numpy()[[3, 8, 13]] / 22_050
    assert factor == pytest.approx(np.median(np.array([1, 2, 6]) / seconds))
    assert places == [3, 3, 8, 13] and n_left == n_threads + 1


def test_mean_and_deviation_over_seeds() -> None:
    kind = {"model": "fin", "protocol": "speaker", "fold": None, "labels": ["angry", "sad"]}
    kind["division"] = "speaker"
    rows = [
        {"name": name, **kind, "by_part": {"test": dict.fromkeys(comparison_page.SHOWN, value)}}
        for name, value in (("a", 0.2), ("b", 0.5), ("a", 0.4), ("a", 0.6))
    ]
    best, other = comparison.over_seeds(rows)
    assert (best["name"], best["n_seeds"], best["uar"]) == ("b", 1, {"mean": 0.5, "deviation": None})
    assert (other["name"], other["n_seeds"]) == ("a", 3)
    assert other["uar"] == pytest.approx({"mean": 0.4, "deviation": 0.2})  # of a sample: of 3, by 2


@pytest.mark.usefixtures("no_pictures")
def test_two_at_a_time_say_the_same_and_are_judged_on_unseen_stores(
    made: Path, small_store: Path, other_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parallel, "make_apart", make_apart)
    context = warm.warm_context()
    monkeypatch.setattr(parallel.multiprocessing, "get_context", lambda method: context)
    out = tmp_path / "out"
    sweep = str(made.with_name("tiny.py"))
    main(CompareOptions(sweep, (small_store,), unseen=(other_store,), workers=2, out=out))
    result, before = read_json(out / "result.json"), read_json(made / "result.json")
    assert result["unseen"] == [str(other_store)]
    unseen = [row.pop("unseen") for row in result["runs"]]
    # the other one had all threads, and sums differ by roundings with their number
    assert_close([timeless(row) for row in result["runs"]], [timeless(row) for row in before["runs"]])
    assert result["failed"] == before["failed"]
    page = (out / "README.md").read_text()
    for row, its in zip(result["runs"], unseen, strict=True):
        said = read_predictions(out / row["folder"] / parallel.UNSEEN).table
        assert its["uar"] == pytest.approx(recall_score(said["emotion"], said["answer"], average="macro"))
        assert f"| {100 * its['uar']:.1f} (" in page and "unseen UAR %" in page
    with pytest.raises(ValueError, match="--workers is at least 1"):
        main(CompareOptions(sweep, (small_store,), workers=0, out=out))
    # judged on other stores, or on none, without training again; and on the same ones not once more
    monkeypatch.setattr(Trainer, "run", None)
    judged: list[Path] = []
    judge = parallel.evaluate_run
    monkeypatch.setattr(
        parallel,
        "evaluate_run",
        lambda run, *rest, **options: judged.append(run) or judge(run, *rest, **options),
    )
    monkeypatch.setattr(parallel, "make_apart", lambda job, *rest: job.make())
    for stores, n_judged in (((), 0), ((other_store,), 0), ((other_store, small_store), 2)):
        main(CompareOptions(sweep, (small_store,), unseen=stores, workers=2, out=out))
        assert len(judged) == n_judged
        counts = [row.get("unseen", {"n_utterances": 0})["n_utterances"] for row in read_rows(out)]
        assert len(set(counts)) == 1 and (counts[0] > 0) == bool(stores)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('uar')", "KeyError: 'uar'"),
        ("raise ValueError('too few runs')", r"\(too few runs"),
        ("return 3", "returned no ser_heads.experiments.sweeps.Conclusion"),
    ],
)
def test_a_conclusion_that_fails_costs_no_table(
    made: Path, small_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, why: str
) -> None:
    out = shutil.copytree(made, tmp_path / "out")
    text = f"{made.with_name('tiny.py').read_text()}\n\ndef conclude(folder, rows):\n    {body}\n"
    main(CompareOptions(sweep_of(tmp_path, text), (small_store,), out=out))
    for said in (capsys.readouterr().out, (out / "README.md").read_text()):
        assert re.search(f"The sweep tiny comes to no conclusion .*{why}", said)
    assert timeless(read_rows(out)[0]) == timeless(read_rows(made)[0])
    assert "conclusion" not in read_json(out / "result.json")


def test_finished_runs_are_looked_at_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work: list[int] = []
    together = []

    def look(config: Any) -> RunResult:
        at_work.append(1)
        time.sleep(0.02)
        together.append(len(at_work))
        at_work.pop()
        return RunResult(Path(), {}, "")

    monkeypatch.setattr(Job, "is_made", lambda job: True)
    monkeypatch.setattr(parallel, "train_classifier", look)
    assert parallel.make_runs([Job(str(n), configure("fin")) for n in range(6)], workers=3) == [""] * 6
    assert together == [1] * 6


def part(n: int, *speakers: str) -> dict[str, Any]:
    return {"n_utterances": n, "speakers": list(speakers)}


def test_what_is_divided_otherwise_stands_apart() -> None:
    configs = [
        configure("fin", protocol="corpus", test_corpus=("esd",)),
        configure("fin", protocol="corpus", test_corpus=("savee",)),
        configure("fin", fold="ravdess:1"),
        configure("fin", split=Path("mine.csv")),
    ]
    divisions = [comparison.name_division(its) for its in configs]
    assert divisions == ["corpus esd", "corpus savee", "ravdess:1", "mine.csv"]

    def row(name: str, division: str, n: int, leaks: list[str]) -> dict[str, Any]:
        parts = {"train": part(n, "a", "b"), "validation": part(2, "c"), "test": part(3, "d")}
        its = {"name": name, "label": name, "division": division, "labels": ["sad"], "seed": 0}
        return {**its, "parts": parts, "audit": {"leaks": leaks}}

    rows = [row("x", "speaker", 9, []), row("y", "speaker", 5, []), row("z", "speaker", 9, [])]
    columns = comparison_page.part_columns([*rows, row("w", "mine.csv", 7, ["speakers"])])
    assert columns["train"] == {
        "speaker, seed 0: x, z": "9 utterances, 2 speakers",
        "speaker, seed 0: y": "5 utterances, 2 speakers",
        "mine.csv, seed 0": "7 utterances, 2 speakers",
    }
    assert set(columns["test"].values()) == {"3 utterances, 1 speaker"}
    assert comparison_page.describe_verdicts(rows, "speaker") == "Nothing leaks."
    both = comparison_page.describe_verdicts([*rows[:2], row("z", "speaker", 9, ["speakers"])], "speaker")
    assert both.startswith("Of x, y: Nothing leaks. Of z: It leaks: ")


def test_cells() -> None:
    scores = {"uar": 0.5, "wa": 0.25, "interval_95": {"uar": [0.4, 0.625], "wa": [0.1, 0.9]}}
    assert (comparison_page.score_cell(scores, "uar"), comparison_page.score_cell(scores, "wa")) == (
        "50.0 (40.0 to 62.5)",
        "25.0",
    )
    scores["interval_95"] = {"uar": None}
    assert comparison_page.score_cell(scores, "uar") == "50.0"


def test_all_seeds_may_share_one_split() -> None:
    def seeds(**changes: Any) -> set[tuple[int, int]]:
        options = CompareOptions("leak_price", (Path("a.h5"),), (0, 1), **changes)
        planned = comparison.plan_runs(read_sweep("leak_price"), options, Path("out"))
        return {(run.config.seed, run.config.split_seed) for run in planned}

    assert seeds() == {(0, 0), (1, 1)}
    assert seeds(split_seed=7) == {(0, 7), (1, 7)}
