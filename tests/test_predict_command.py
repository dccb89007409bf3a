"""python -m pipelines.predict: files and folders, every format, bad files, stopped work, standard input."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import warm
from conftest import make_signal

from fins.progress import SILENT
from ser_heads.inference import files as module
from ser_heads.inference.files import FileAnswers, PredictOptions, find_files, predict_files
from ser_heads.inference.predict import predict_each
from ser_heads.inference.records import AnswerJournal, render
from ser_heads.models import create, load, save_model

LABELS = ("bored", "stressed", "relaxed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    folder.mkdir()
    torch.manual_seed(0)
    save_model(folder / "weights.safetensors", create("fin", LABELS, fins=("rms", "zcr")))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings, one of them in a folder below, and what is none."""
    speech = tmp_path / "speech"
    for number, name in enumerate(("b.wav", "a/z.flac", "a/10.ogg")):
        (speech / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(speech / name, make_signal(number, 24_000 + 1_000 * number), 16_000)
    (speech / "notes.txt").write_text("none")
    (speech / ".hidden").mkdir()
    (speech / ".hidden" / "c.wav").write_text("none")
    (speech / "a" / "._b.wav").write_text("none")
    return speech


NAMES = ("a/10.ogg", "a/z.flac", "b.wav")


def answer_files(run: Path, *paths: Path | str, **options: Any) -> tuple[FileAnswers, list[str]]:
    return predict_files(PredictOptions(str(run), tuple(map(str, paths)), **options))


def assert_same(records: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """But for the last digit, which depends on what is answered together."""
    for record, other in zip(records, others, strict=True):
        assert record["probabilities"] == pytest.approx(other["probabilities"], abs=3e-6)
        assert {**record, "probabilities": 0, "confidence": 0} == {
            **other,
            "probabilities": 0,
            "confidence": 0,
        }


def test_a_folder_is_answered_in_order_as_the_model_answers_each(run: Path, folder: Path) -> None:
    answers, report = answer_files(run, folder / "b.wav", folder)
    files = [str(folder / name) for name in ("b.wav", "a/10.ogg", "a/z.flac")]  # each once
    assert [record["file"] for record in answers.records] == files
    assert report == ["1 files that aren't called as audio were passed over"]
    for record, prediction in zip(answers.records, predict_each(load(run), files), strict=True):
        assert record["label"] == prediction.label and record["start"] == 0
        assert record["end"] == pytest.approx(prediction.seconds, abs=1e-6)
        assert record["probabilities"] == pytest.approx(prediction.probabilities, abs=2e-6)


def test_formats_hold_the_same(run: Path, folder: Path) -> None:
    texts = {
        form: answer_files(run, folder, format=form)[0].text for form in ("csv", "json", "jsonl", "table")
    }
    records = json.loads(texts["json"])
    assert records == [json.loads(line) for line in texts["jsonl"].splitlines()]
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert list(rows[0]) == ["file", "start", "end", "label", "confidence", *LABELS, "note", "made_by"]
    lines = texts["table"].splitlines()
    assert lines[0].split() == ["file", "start", "end", "label", "confidence", "note"]
    for record, row, line in zip(records, rows, lines[1:], strict=True):
        assert row["file"] == record["file"] and row["label"] == record["label"] == line.split()[3]
        assert {label: float(row[label]) for label in LABELS} == record["probabilities"]
        assert float(line.split()[4]) == pytest.approx(record["confidence"], abs=5e-4)


def test_the_ending_of_out_says_the_format(tmp_path: Path) -> None:
    forms = {
        name: PredictOptions("x", ("y",), out=Path(name)).form()
        for name in ("a.CSV", "a.json", "a.jsonl", "a")
    }
    assert forms == {"a.CSV": "csv", "a.json": "json", "a.jsonl": "jsonl", "a": "table"}
    assert PredictOptions("x", ("y",), out=Path("a.csv"), format="json").form() == "json"


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_a_file_of_answers_is_completed_and_nothing_is_answered_twice(
    run: Path, folder: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer_files(run, folder)[0].records
    out = tmp_path / f"answers.{form}"
    answer_files(run, folder / "b.wav", out=out)
    read: list[str] = []
    monkeypatch.setattr(module, "read_channels", lambda path: read.append(path.name) or real(path))
    answers, report = answer_files(run, folder, out=out)
    assert read == ["10.ogg", "z.flac"]
    assert "1 of 3 files were answered before, and are as they were" in report
    assert out.read_text() == answers.text
    assert_same(answers.records, whole)
    again, _ = answer_files(run, folder / "b.wav", out=out)  # what was answered before stays
    assert len(again.records) == 3 and len(read) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "speech"]


def test_a_file_that_changed_since_is_answered_again(run: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    before = answer_files(run, folder, out=out)[0].records
    soundfile.write(folder / "b.wav", np.zeros(30_000, np.float32), 16_000)
    os.utime(folder / "b.wav", ns=(out.stat().st_mtime_ns + 1,) * 2)
    answers, report = answer_files(run, folder, out=out)
    assert "2 of 3 files were answered before, and are as they were" in report
    for old, new in zip(before, answers.records, strict=True):
        assert old["file"] == new["file"]
        assert ("silence" in new["note"]) == (old != new) == old["file"].endswith("b.wav")


def test_a_path_that_is_missing_is_a_counted_line_beside_others(run: Path, folder: Path) -> None:
    answers, report = answer_files(run, folder / "b.wav", Path("nowhere.wav"))
    assert [Path(record["file"]).name for record in answers.records] == ["b.wav"]
    assert report == ["nowhere.wav is missing: check the path", "1 of 2 files couldn't be used"]


real = module.read_channels


def test_stopped_work_goes_on(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer_files(run, folder)[0].records
    out = tmp_path / "answers.jsonl"
    monkeypatch.setattr(module, "BATCH", 1)

    def interrupted(path: Path) -> Any:
        if path.name == "b.wav":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(module, "read_channels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer_files(run, folder, out=out)
    assert not out.exists()
    journal = tmp_path / "answers.jsonl.unfinished"
    journal.write_text(journal.read_text() + '{"file": "half')  # killed as it wrote
    monkeypatch.setattr(module, "read_channels", real)
    answers, report = answer_files(run, folder, out=out)
    assert "2 of 3 files were answered before, and are as they were" in report
    assert out.read_text() == answers.text and not journal.exists()
    assert_same(answers.records, whole)


def test_answers_of_another_classifier_or_of_other_stretches_arent_mixed(
    run: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    answer_files(run, folder, out=out)
    torch.manual_seed(1)
    save_model(tmp_path / "other.safetensors", create("fin", LABELS, fins=("rms", "zcr")))
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "other.safetensors", {}, "made by"),
        (run, {"timeline": True}, "made by"),
        (run, {"trim": False}, "made by"),
        (run, {"labels": LABELS[:2]}, "holds no answers in csv with the labels bored, stressed"),
        (run, {"format": "json"}, "holds no answers in json"),
        (run, {"format": "table"}, "a table can't be taken up"),
    ]
    before = out.read_text()
    for classifier, options, reason in cases:
        with pytest.raises(ValueError, match=reason):
            answer_files(classifier, folder, out=out, **options)
    assert out.read_text() == before


def test_a_bad_file_is_a_counted_line_and_the_others_are_answered(run: Path, folder: Path) -> None:
    (folder / "a" / "bad.wav").write_bytes(b"RIFF of nothing")
    (folder / "empty.mp3").touch()
    answers, report = answer_files(run, folder)
    assert [record["file"] for record in answers.records] == [str(folder / name) for name in NAMES]
    assert len(answers.failures) == 2 and "bad.wav is truncated or no audio" in answers.failures[0]
    assert "empty.mp3 is empty" in answers.failures[1]
    assert report[-1] == "2 of 5 files couldn't be used"


def test_a_timeline_of_each_file(run: Path, folder: Path) -> None:
    (folder / "a" / "bad.wav").write_bytes(b"RIFF of nothing")
    answers, _ = answer_files(run, folder, timeline=True, window=0.5, hop=0.25)
    assert len(answers.failures) == 1
    model = load(run)
    expected = [model.timeline(folder / name, 0.5, 0.25) for name in NAMES]
    assert [record["label"] for record in answers.records] == [
        label for table in expected for label in table["label"]
    ]
    assert all("0.5 s every 0.25 s" in record["made_by"] for record in answers.records)


def test_nothing_is_answered_below_the_confidence_asked_for(run: Path, folder: Path, tmp_path: Path) -> None:
    shown = answer_files(run, folder, format="json")[0].records
    between = sorted(record["confidence"] for record in shown)[1]
    out = tmp_path / "answers.csv"
    for _ in range(2):  # taken up again, the threshold may be another one
        answer_files(run, folder, out=out, abstain=1.0)
        assert {row["label"] for row in csv.DictReader(out.open())} == {""}
        answers, _ = answer_files(run, folder, out=out, abstain=between)
        rows = list(csv.DictReader(out.open()))
        assert [bool(row["label"]) for row in rows] == [
            row["confidence"] >= between for row in answers.records
        ]
        assert sum(not row["label"] for row in rows) == 1
    model = load(run)
    model.abstention.fill_(between - 1e-4)
    save_model(tmp_path / "chosen.safetensors", model)
    answers, _ = answer_files(tmp_path / "chosen.safetensors", folder, format="csv", abstain="chosen")
    assert [row["label"] for row in csv.DictReader(io.StringIO(answers.text))].count("") == 1
    assert json.loads(render(shown, "json", LABELS, 1.0))[0]["label"] is None
    assert render(shown, "table", LABELS, 1.0).splitlines()[1].split()[3] == "-"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"run": "nowhere"}, "there is no classifier nowhere"),
        ({"paths": ("nowhere.wav",)}, "nowhere.wav is missing"),
        ({"paths": ()}, "nothing to answer about"),
        ({"labels": ("angry", "bored")}, "can't answer 'angry'"),
        ({"labels": ("bored",)}, "two labels or more"),
        ({"abstain": 1.5}, "--abstain is a confidence"),
        ({"abstain": float("nan")}, "--abstain is a confidence"),
        ({"abstain": "chosen"}, "no confidence was chosen for .*: give --abstain a number"),
        ({"timeline": True, "hop": 0.0}, "hop is a time above 0"),
        ({"out": Path("no/where.csv")}, "is no file in a folder that is there"),
    ],
)
def test_what_cant_be_meant_is_refused_before_any_work(
    run: Path, folder: Path, options: dict[str, Any], reason: str
) -> None:
    whole: dict[str, Any] = {"run": str(run), "paths": (str(folder),), **options}
    with pytest.raises(ValueError, match=reason) as caught:
        predict_files(PredictOptions(**whole), SILENT)
    assert "\n" not in str(caught.value)


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="no audio below"):
        find_files([str(tmp_path)])


def test_labels_called_as_columns_are_refused_in_csv_alone(tmp_path: Path, folder: Path) -> None:
    save_model(tmp_path / "w.safetensors", create("fin", ("note", "end"), fins=("rms",)))
    with pytest.raises(ValueError, match="choose --format json"):
        answer_files(tmp_path / "w.safetensors", folder, format="csv")
    assert len(answer_files(tmp_path / "w.safetensors", folder, format="jsonl")[0].records) == 3


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("[]\n")
    with pytest.raises(ValueError, match="delete it to start over"):
        AnswerJournal(tmp_path / "j").read()


def test_the_command_reads_standard_input_and_ends_with_its_exit_codes(run: Path, folder: Path) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, make_signal(1, 30_000), 16_000, format="WAV", subtype="PCM_16")
    command = [sys.executable, "-m", "pipelines.predict", str(run), "-", "--format", "json"]
    piped = subprocess.run(command, input=sound.getvalue(), capture_output=True)
    assert piped.returncode == 0, piped.stderr
    records = json.loads(piped.stdout)
    signal = np.rint(make_signal(1, 30_000) * 32_767).astype(np.int16)
    prediction = predict_each(load(run), [signal], 16_000)[0]
    assert [record["file"] for record in records] == ["-"]
    assert records[0]["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-3)

    (folder / "bad.wav").write_bytes(b"RIFF of nothing")
    some = warm.run("-m", "pipelines.predict", run, folder, "-")
    assert some.returncode == 1
    errors = some.stderr.splitlines()
    assert [line for line in errors if "bad.wav" in line] and errors[-1] == "2 of 5 files couldn't be used"
    assert [line for line in errors if "standard input is empty" in line]
    assert len(some.stdout.splitlines()) == 1 + 3

    wrong = warm.run("-m", "pipelines.predict", run, "nowhere.wav")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: nowhere.wav is missing: check the path\n"
