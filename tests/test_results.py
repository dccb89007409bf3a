"""The runs of results/: what is kept, what pages say of it, and that each kind of difference is noticed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from code_blocks import ROOT, run_module
from sklearn.metrics import f1_score, recall_score

from fins.digests import digests_of
from fins.runs import read_json, write_json
from ser_heads.evidence import checking
from ser_heads.evidence.checking import check_results, write_leaderboard
from ser_heads.evidence.entries import FILES, Entry, add_entry, read_checked, read_entry
from ser_heads.evidence.leaderboard import ground_of
from ser_heads.evidence.pages import Quotes, compare_page, lines_of
from ser_heads.experiments import configure
from ser_heads.experiments.folds import CrossvalOptions, cross_validate
from ser_heads.experiments.run import train_classifier
from ser_heads.models import SHIPPED

KEPT = sorted(path.name for path in (ROOT / "results").iterdir())


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is as results/ has it is read and scored once, for all of these tests."""

    def read(folder: Path) -> tuple[Entry | None, list[str]]:
        theirs = {path.name: path.read_bytes() for path in folder.iterdir()}
        return known(folder.name) if theirs == contents(folder.name) else read_checked(folder)

    def score(entry: Entry) -> dict[str, Any]:
        is_known = contents(entry.name) and entry is known(entry.name)[0]
        return known_scores(entry.name) if is_known else scores_of(entry)

    monkeypatch.setattr(checking, "read_checked", read)
    monkeypatch.setattr(checking, "read_entry", lambda folder: read(folder)[0])
    monkeypatch.setattr(Entry, "scores", score)


scores_of = Entry.scores


@cache
def contents(name: str) -> dict[str, bytes]:
    """Of each file of results/name; nothing for another name."""
    return {path.name: path.read_bytes() for path in (ROOT / "results" / name).glob("*")}


@cache
def known(name: str) -> tuple[Entry | None, list[str]]:
    return read_checked(ROOT / "results" / name)


@cache
def known_scores(name: str) -> dict[str, Any]:
    entry = known(name)[0]
    assert entry is not None
    return scores_of(entry)


def test_every_number_of_the_pages_is_that_of_its_run() -> None:
    checked = check_results(ROOT)
    assert not checked.differences
    assert f"{len(KEPT)} runs in results/" in checked.summary[0]


@pytest.mark.parametrize("name", KEPT)
def test_scores_are_those_of_scikit_learn(name: str) -> None:
    entry = read_entry(ROOT / "results" / name)
    scores, table = entry.scores(), pd.read_csv(ROOT / "results" / name / "predictions.csv")
    assert scores["uar"] == pytest.approx(recall_score(table["emotion"], table["answer"], average="macro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(table["emotion"], table["answer"], average="macro"))
    for run, uar in zip(entry.runs, scores.get("uar_of_runs", []), strict=bool(len(entry.runs) > 1)):
        of_run = table[table["utterance"].isin(entry.split["utterance"][entry.split[run] == "test"])]
        assert uar == pytest.approx(recall_score(of_run["emotion"], of_run["answer"], average="macro"))


def test_the_card_of_what_is_shipped_says_what_is_kept() -> None:
    card = read_json(SHIPPED["fin"].with_suffix(".json"))
    for name, row in {"ravdess": card["folds"], **card["unseen"]}.items():
        scores = read_entry(ROOT / "results" / f"fin-{name}").scores()
        assert (row["uar"], row["confusion"]) == (scores["uar"], scores["confusion"])
        assert row["interval_95"].items() <= scores["interval_95"].items()
        assert row["calibration_error"] == pytest.approx(scores["calibration_error"], abs=1e-6)


@pytest.fixture(scope="module")
def sources() -> dict[str, dict[str, Any]]:
    """The scores of each entry."""
    return {name: known_scores(name) for name in KEPT}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """README.md, docs and results, as they are here."""
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "docs").mkdir()
    for page in (ROOT / "docs").glob("*.md"):
        shutil.copy(page, tmp_path / "docs")
    shutil.copytree(ROOT / "results", tmp_path / "results")
    return tmp_path


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def test_a_copy_has_no_differences(copied: Path) -> None:
    assert not check_results(copied).differences


@pytest.mark.parametrize(
    ("page", "old", "new", "sentence"),
    [
        ("README.md", "UAR 67.3 %", "UAR 67.4 %", "README.md:.* has 67.4, but uar of fin-ravdess is 67.3"),
        ("README.md", "63.3 to 71.3", "63.4 to 71.3", "has 63.4, but low of fin-ravdess is 63.3"),
        ("README.md", "R² ≥ 1 - 5e-05", "R² ≥ 1 - 4e-05", "has 1 - 4e-05, but ravdess of zcr is 1 - 5e-05"),
        ("README.md", "fin-esd uar low", "fin-emodb uar low", "names fin-emodb, which isn't in results/"),
        ("README.md", "fin-tess uar", "fin-tess warm", "names warm of fin-tess, which is no score"),
        ("README.md", "fin-tess uar", "fin-tess uar low", r"has 1 numbers \(41.3\) and names 2 scores"),
        ("README.md", " <!-- results: fin-tess uar -->", "", "has 41.3 and doesn't say of which run"),
        ("README.md", "results: fin-tess uar -", "results: earlier -", "README.md quotes results/ alone"),
        (
            "README.md",
            "## Results\n",
            "## Results\n\n<!-- not certified: lost -->\n",
            "quotes results/ alone",
        ),
        (
            "docs/results.md",
            "(69.1, 62.5",
            "(69.1, 62.6",
            "has 62.6, but uar_of_runs.1 of fin-ravdess is 62.5",
        ),
        ("docs/results.md", "| 33.1 |", "| 33.0 |", "has 33.0, but ece of fin-savee is 33.1"),
        ("docs/models.md", "# Models\n", "# Models\n\nIts UAR is 99.9.\n", "docs/models.md:3 has 99.9 and"),
    ],
)
def test_a_number_that_differs_is_told(
    sources: dict[str, dict[str, Any]], page: str, old: str, new: str, sentence: str
) -> None:
    text, quotes = (ROOT / page).read_text(encoding="utf-8"), Quotes()
    assert old in text
    compare_page(page, text.replace(old, new, 1), sources, quotes)
    assert any(re.search(sentence, difference) for difference in quotes.differences), quotes.differences


def test_a_stale_leaderboard_is_told(copied: Path) -> None:
    replaced(copied / "docs" / "leaderboard.md", "67.3", "67.4")
    (difference,) = check_results(copied).differences
    assert difference.startswith("docs/leaderboard.md isn't what results/ gives")
    write_leaderboard(copied)
    assert not check_results(copied).differences


def test_runs_that_others_test_stand_apart() -> None:
    entries = [read_entry(ROOT / "results" / f"fin-savee-fold{number}") for number in (1, 2)]
    assert ["of savee/JE" in ground_of(entries[0]), "of savee/KL" in ground_of(entries[1])] == [True, True]


def signed_again(folder: Path) -> None:
    write_json(folder / "digests.json", {"sha256": digests_of(folder)})


def exchange_answers(folder: Path) -> None:
    """Every sad voice is recognised, by the probabilities too."""
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    labels = list(table.columns[5:])
    sad = table["emotion"] == "sad"
    table.loc[sad, "answer"] = "sad"
    table.loc[sad, labels] = ["1.000000" if label == "sad" else "0.000000" for label in labels]
    table.to_csv(folder / "predictions.csv", index=False)
    signed_again(folder)


def flip_one_answer(folder: Path) -> None:
    replaced(folder / "predictions.csv", "ravdess/01,neutral,neutral", "ravdess/01,neutral,sad")


def flip_and_sign(folder: Path) -> None:
    flip_one_answer(folder)
    signed_again(folder)


def leave_an_utterance_out(folder: Path) -> None:
    lines = (folder / "predictions.csv").read_bytes().splitlines(keepends=True)
    (folder / "predictions.csv").write_bytes(b"".join(lines[:-1]))
    signed_again(folder)


def train_on_a_test_speaker(folder: Path) -> None:
    split = pd.read_csv(folder / "split.csv", dtype=str)
    mine = split["utterance"] == split["utterance"][split["fold-1"] == "validation"].iloc[0]
    split.loc[mine, "fold-1"] = "train"
    split.to_csv(folder / "split.csv", index=False)
    signed_again(folder)


def name_a_path(folder: Path) -> None:
    replaced(folder / "config.json", '"ravdess.h5"', '"/home/me/ravdess.h5"')
    signed_again(folder)


def sign_nothing(folder: Path) -> None:
    flip_one_answer(folder)
    write_json(folder / "digests.json", {"sha256": {}})


def write_otherwise(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)
        signed_again(folder)

    return change


def put_sound_beside(folder: Path) -> None:
    (folder / "clip.wav").write_bytes(b"RIFF")


def break_the_promise(folder: Path) -> None:
    certificates = read_json(folder / "certificate.json")
    certificates["fold-1"]["broken"] = ["speakers"]
    write_json(folder / "certificate.json", certificates)
    signed_again(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (flip_one_answer, "predictions.csv has changed"),
        (flip_and_sign, "1 answers aren't the likeliest label"),
        (leave_an_utterance_out, "predictions aren't of the utterances that test by the split"),
        (train_on_a_test_speaker, "the certificate of fold-1 isn't what its split gives"),
        (break_the_promise, "says that its protocol is broken"),
        (name_a_path, "holds the path .*/home/me/ravdess.h5"),
        (sign_nothing, "digests.json leaves predictions.csv out"),
        (write_otherwise("predictions.csv", b"\xff"), "isn't what add writes"),
        (write_otherwise("split.csv", b"utterance,speaker,emotion,sha256,part\n"), "add the run again"),
        (
            write_otherwise("certificate.json", json.dumps({f"fold-{n}": [] for n in range(1, 7)}).encode()),
            "isn't what add writes",
        ),
        (put_sound_beside, "holds clip.wav, which is no part of an entry"),
        *((lambda folder, name=name: (folder / name).unlink(), f"lacks {name}") for name in FILES),
    ],
)
def test_an_entry_that_differs_is_told(tmp_path: Path, change: Callable[[Path], None], sentence: str) -> None:
    folder = tmp_path / "fin-ravdess"
    shutil.copytree(ROOT / "results" / "fin-ravdess", folder)
    assert not read_checked(folder)[1]
    change(folder)
    assert any(re.search(sentence, fault) for fault in read_checked(folder)[1]), read_checked(folder)[1]


def test_other_answers_have_other_scores(copied: Path) -> None:
    exchange_answers(copied / "results" / "fin-ravdess")
    differences = check_results(copied).differences
    assert any("README.md" in line and "but uar of fin-ravdess is" in line for line in differences)
    assert any("leaderboard.md isn't" in line for line in differences)


@pytest.mark.parametrize("change", [flip_one_answer, put_sound_beside])
def test_a_faulty_entry_fails_the_check(copied: Path, change: Callable[[Path], None]) -> None:
    change(copied / "results" / "fin-ravdess")
    differences = check_results(copied).differences
    assert differences and all("fin-ravdess" in difference for difference in differences)


def test_a_missing_entry_is_told(copied: Path) -> None:
    shutil.rmtree(copied / "results" / "fin-savee")
    assert any(
        "names fin-savee, which isn't" in difference for difference in check_results(copied).differences
    )


def test_results_stay_small(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(path.stat().st_size for path in (ROOT / "results").rglob("*")) < 10e6
    monkeypatch.setattr(checking, "MOST_BYTES", 1_000_000)
    assert "MB: 1 at most" in check_results(copied).differences[0]


def test_the_command_ends_with_code_2_and_a_sentence_a_difference(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copied)
    run_module("pipelines.results", ["check"], monkeypatch)
    assert "aren't certified" in capsys.readouterr().out
    replaced(copied / "README.md", "UAR 67.3 %", "UAR 67.4 %")
    replaced(copied / "docs" / "results.md", "| 33.1 |", "| 33.0 |")
    with pytest.raises(SystemExit) as ended:
        run_module("pipelines.results", ["check"], monkeypatch)
    shown = capsys.readouterr()
    assert ended.value.code == 2 and shown.err.startswith("error: 2 differences")
    assert [" has 67.4, but " in shown.out, " has 33.0, but " in shown.out] == [True, True]
    run_module("pipelines.results", ["table"], monkeypatch)
    for words in (["add"], ["check", "runs/x"], ["add", "nowhere", "--name", "a"], ["--root", "no", "check"]):
        with pytest.raises(SystemExit) as ended:
            run_module("pipelines.results", words, monkeypatch)
        assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: ")


def test_what_counts_as_a_score() -> None:
    page = (
        "# A page\n\nVersion 2.13.0 and 3.5 s, `--share 0.7`.\n\n"
        "UAR 61.2 % of 95 % of arXiv 2606.03359: 7 points, [x](a1.5.md), -1.1 (+2.0), 1 - 4e-14, .985.\n\n"
        "```text\nUAR 1.5\n```\n\n| UAR |\n|--:|\n| 50.0 |\n\n"
        "## Lost\n\n<!-- not certified: lost -->\n\nWA 1.5\n\n### Inside\n\nWA 2.5\n\n## After\n\nWA 3.5\n"
    )
    lines = [(line.numbers, line.scored, line.reason) for line in lines_of(page) if line.numbers]
    assert lines == [
        (["3.5"], False, ""),
        (["61.2", "7", "-1.1", "+2.0", "1 - 4e-14", ".985"], True, ""),
        (["50.0"], True, ""),
        (["1.5"], True, "lost"),
        (["2.5"], True, "lost"),
        (["3.5"], True, ""),
    ]


@pytest.mark.usefixtures("runs_here", "no_pictures")
def test_runs_and_folds_are_added(small_store: Path, tmp_path: Path) -> None:
    usual = {"frozen_epochs": 1, "finetuned_epochs": 0, "copies": 0, "store": (small_store,)}
    run = train_classifier(configure("feature_cnn", **usual, out=tmp_path / "run"))
    folds = cross_validate(
        configure("feature_cnn", **usual, out=tmp_path / "folds"), CrossvalOptions(n_folds=2)
    )
    (tmp_path / "docs").mkdir()
    for name, made in {"one": run, "two": folds}.items():
        folder = add_entry(made.folder, name, tmp_path / "results")
        scores = read_entry(folder).scores()
        assert not read_checked(folder)[1]
        assert {key: scores[key] for key in ("uar", "confusion", "interval_95", "per_speaker")} == {
            key: made.result[key] for key in ("uar", "confusion", "interval_95", "per_speaker")
        }
        assert scores.get("uar_of_runs") == made.result.get("uar_of_runs")
        assert str(tmp_path) not in "".join(path.read_text() for path in folder.iterdir())
        assert read_json(folder / "config.json")["config"]["store"] == [small_store.name]
        assert (folder / "predictions.csv").read_bytes() == (made.folder / "predictions.csv").read_bytes()
    page = write_leaderboard(tmp_path).read_text()
    assert "| one | feature_cnn |" in page and "protocol speaker, 2 folds" in page


@pytest.mark.usefixtures("no_pictures")
def test_what_cannot_be_added_is_told(small_store: Path, tmp_path: Path) -> None:
    usual = {"frozen_epochs": 1, "finetuned_epochs": 0, "copies": 0, "store": (small_store,)}
    run = train_classifier(configure("feature_cnn", **usual, out=tmp_path / "run")).folder
    results = tmp_path / "results"
    for name in ("", "A", "../a", "a b"):
        with pytest.raises(ValueError, match="small letters"):
            add_entry(run, name, results)
    with pytest.raises(ValueError, match="is missing"):
        add_entry(tmp_path, "a", results)
    add_entry(run, "a", results)
    with pytest.raises(ValueError, match="exists"):
        add_entry(run, "a", results)
    result = read_json(run / "result.json")
    result["confusion"][0][0] += 1
    (run / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="other scores"):
        add_entry(run, "b", results)
    assert not (results / "b").exists()
