"""Answers matched to shares of labels: by scipy's minimiser, by hand, and through the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_signal
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

import ser_heads
from ser_heads.evaluation.scoring import ScoreOptions, score
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.inference.shares import match_shares, parse_shares, shares_of
from ser_heads.models import create, save_model

LABELS = ("bored", "stressed", "relaxed")


def drawn(n: int, n_labels: int = 4, bias: float = 2.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Truth, and probabilities of a model that takes a speaker for label 0 throughout."""
    rng = np.random.default_rng(n)
    truth = np.arange(n) % n_labels
    logits = rng.standard_normal((n, n_labels)) + 2.5 * np.eye(n_labels)[truth]
    return truth, softmax(logits + bias * (np.arange(n_labels) == 0), axis=1)


@pytest.mark.parametrize("shares", [None, (0.1, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize("n", [1, 6, 90])
def test_offsets_are_those_of_the_convex_problem(n: int, shares: tuple[float, ...] | None) -> None:
    """With its offsets the mean probabilities are the shares: there its gradient is zero."""
    _, probabilities = drawn(n)
    wanted = np.full(4, 0.25) if shares is None else np.array(shares)
    logits = np.log(probabilities)

    def loss(offsets: NDArray[np.float64]) -> float:
        return float(logsumexp(logits + offsets, axis=1).mean() - wanted @ offsets)

    offsets = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    expected = log_softmax(logits + n / (n + 4) * offsets, axis=1)
    np.testing.assert_allclose(np.log(match_shares(probabilities, shares)), expected, atol=1e-5)


def test_a_speaker_who_sounds_angry_throughout_is_understood() -> None:
    truth, probabilities = drawn(200)
    before = (probabilities.argmax(axis=1) == truth).mean()
    after = (match_shares(probabilities).argmax(axis=1) == truth).mean()
    assert after > before + 0.1


def test_what_is_even_stays_and_nothing_is_nothing() -> None:
    even = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]])
    np.testing.assert_allclose(match_shares(even), even, atol=1e-9)
    assert match_shares(np.empty((0, 3))).shape == (0, 3)
    certain = np.eye(3)[[0, 0, 0, 1]]
    assert np.isfinite(match_shares(certain)).all()


def test_shares_are_read_from_words() -> None:
    assert shares_of(parse_shares(["even"]), LABELS) == pytest.approx([1 / 3] * 3)
    assert shares_of(parse_shares(["relaxed=.5"]), LABELS) == pytest.approx([0.25, 0.25, 0.5])
    assert shares_of({"bored": 0.2, "stressed": 0.2, "relaxed": 0.6}, LABELS) == pytest.approx(
        [0.2, 0.2, 0.6]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("uneven",), "--shares is even, or label=share"),
        (("bored=a",), "got 'bored=a'"),
        (("bored=.1", "bored=.2"), "bored twice"),
        (("angry=.5",), "got angry=0.5, the labels are bored"),
        (("bored=1.5",), "from 0 to 1"),
        (("bored=nan",), "from 0 to 1"),
        (("bored=.7", "stressed=.7"), "1 together: got 1.4"),
        (("bored=.1", "stressed=.1", "relaxed=.1"), "1 together: got 0.3"),
    ],
)
def test_other_words_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shares_of(parse_shares(words), LABELS)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """80 answers about speaker a, who is taken for bored throughout, and 40 about b."""
    rows = []
    for speaker, n, bias in (("a", 80, 2.0), ("b", 40, 0.0)):
        truth, probabilities = drawn(n, 3, bias)
        for place, row in enumerate(probabilities):
            cells = dict(zip(LABELS, row.round(6), strict=True))
            answer = LABELS[row.argmax()]
            rows.append({"file": f"{speaker}{place}", "speaker": speaker, "emotion": LABELS[truth[place]]})
            rows[-1] |= {"answer": answer, **cells}
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_scores_match_each_speaker_by_itself(table: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(table.open()))
    right = []
    for speaker in "ab":
        of_speaker = [row for row in rows if row["speaker"] == speaker]
        matched = match_shares(np.array([[float(row[label]) for label in LABELS] for row in of_speaker]))
        right += [
            LABELS[best] == row["emotion"] for best, row in zip(matched.argmax(1), of_speaker, strict=True)
        ]
    result, lines = score(ScoreOptions((table,), shares=("even",), out=tmp_path / "out"))
    assert result["wa"] == pytest.approx(np.mean(right))
    before = score(ScoreOptions((table,)))[0]
    assert result["difference"]["by"]["wa"] == pytest.approx(result["wa"] - before["wa"])
    assert result["difference"]["by"]["wa"] > 0.05
    assert any("as they were" in line for line in lines) and any(
        "speaker by speaker" in line for line in lines
    )
    assert json.loads((tmp_path / "out" / "result.json").read_text())["shares"] == ["even"]
    against = score(ScoreOptions((table,), against=(table,), shares=("even",)))[0]
    assert against["difference"]["by"]["wa"] == 0  # both are matched


def test_scores_need_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("file,speaker,emotion,answer\n1,a,sad,sad\n2,a,sad,angry\n")
    with pytest.raises(ValueError, match="needs a column of probabilities"):
        score(ScoreOptions((path,), shares=("even",)))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    save_model(path, create("feature_cnn", LABELS).eval())
    return path


def options_of(weights: Path, folder: Path, **options: Any) -> PredictOptions:
    return PredictOptions(str(weights), (str(folder),), **options)


def test_predictions_are_matched_by_command_and_in_python(weights: Path, tmp_path: Path) -> None:
    import soundfile

    folder = tmp_path / "speaker"
    folder.mkdir()
    for number in range(7):
        soundfile.write(folder / f"{number}.wav", make_signal(number), 22_050)
    paths = sorted(map(str, folder.iterdir()))
    model = ser_heads.load(weights)
    alone = model.predict(paths)
    expected = match_shares(np.array([list(one.probabilities.values()) for one in alone]), (0.5, 0.25, 0.25))
    in_python = model.predict(paths, shares={"bored": 0.5})
    out = tmp_path / "answers.csv"
    answers, _ = predict_files(options_of(weights, folder, out=out, shares=("bored=.5",)))
    for found in (in_python, [answers.records[place] for place in range(7)]):
        shares = [one["probabilities"] if isinstance(one, dict) else one.probabilities for one in found]
        np.testing.assert_allclose([list(row.values()) for row in shares], expected, atol=2e-5)
    assert all("matched to shares" in one.note for one in in_python)
    assert [row["label"] for row in csv.DictReader(out.open())] == [one.label for one in in_python]
    # what is there is matched already: it can't be completed
    with pytest.raises(ValueError, match="matched answers can't be completed: choose another --out"):
        predict_files(options_of(weights, folder, out=out, shares=("bored=.5",)))


def test_shares_that_cant_be_meant_are_told_before_anything_is_read(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got angry=0\.5"):
        predict_files(options_of(weights, tmp_path / "missing", shares=("angry=.5",)))
    with pytest.raises(ValueError, match="leave --timeline out"):
        options_of(weights, tmp_path, shares=("even",), timeline=True)
    with pytest.raises(ValueError, match="give a list"):
        ser_heads.load(weights).predict("missing.wav", shares="even")
    with pytest.raises(ValueError, match="or label and share"):
        ser_heads.load(weights).predict(["missing.wav"], shares="odd")
