"""Tables of answers, whoever made them, against scikit-learn, scipy and closed forms."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from ser_heads.evaluation.foreign import read_answers, read_cells
from ser_heads.evaluation.predictions import Predictions
from ser_heads.evaluation.scores import distinct, resample, score_labels
from ser_heads.evaluation.scoring import ScoreOptions, score

LABELS = ("angry", "happy", "sad")
Rows = dict[str, list[str]]


def answers_of(n: int = 240, n_speakers: int = 6, accuracy: float = 0.6, seed: int = 0) -> Rows:
    """Truth, answers, and probabilities that are highest for the answer; the truth is that of any seed."""
    truth = np.random.default_rng(99).integers(0, 3, n)
    rng = np.random.default_rng(seed)
    answer = np.where(rng.random(n) < accuracy, truth, (truth + rng.integers(1, 3, n)) % 3)
    shares = rng.dirichlet(np.ones(3), n)
    top = shares.argmax(axis=1)
    rows = np.arange(n)
    shares[rows, top], shares[rows, answer] = shares[rows, answer], shares[rows, top]
    return {
        "utterance": [f"u{place}" for place in range(n)],
        "speaker": [f"s{place % n_speakers}" for place in range(n)],
        "emotion": [LABELS[place] for place in truth],
        "answer": [LABELS[place] for place in answer],
        **{label: [f"{share:.6f}" for share in shares[:, place]] for place, label in enumerate(LABELS)},
    }


def write(path: Path, rows: Rows, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return path


def scored(path: Path, against: Path | None = None, **options: Any) -> dict[str, Any]:
    return score(ScoreOptions((path,), (against,) if against else (), **options))[0]


def without(rows: Rows, *names: str) -> Rows:
    return {name: cells for name, cells in rows.items() if name not in names}


def test_scores_are_those_of_scikit_learn(tmp_path: Path) -> None:
    rows = answers_of()
    rows["answer"] = ["happy" if word == "sad" else word for word in rows["answer"]]  # sad is never answered
    result = scored(write(tmp_path / "a.csv", without(rows, *LABELS)))
    truth, answers = rows["emotion"], rows["answer"]
    expected = {
        "uar": recall_score(truth, answers, average="macro"),
        "wa": accuracy_score(truth, answers),
        "macro_f1": f1_score(truth, answers, average="macro"),
        "weighted_f1": f1_score(truth, answers, average="weighted"),
        "precision": precision_score(truth, answers, average="macro", zero_division=0),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    alone = precision_recall_fscore_support(truth, answers, labels=LABELS, zero_division=0)
    for place, label in enumerate(LABELS):
        row = [result["per_label"][label][key] for key in ("precision", "recall", "f1", "n_utterances")]
        assert row == pytest.approx([column[place] for column in alone])
    assert result["n_speakers"] == 6 and result["calibration_error"] is None


def test_intervals_are_of_resampled_speakers(tmp_path: Path) -> None:
    """One by one, up to the noise of 4,000 resamples: of each score, precision among them."""
    rows = answers_of()
    result = scored(write(tmp_path / "a.csv", rows))
    speakers = np.array(rows["speaker"])
    members = [np.flatnonzero(speakers == name) for name in sorted(set(speakers))]
    truth, answers = np.array(rows["emotion"]), np.array(rows["answer"])
    rng = np.random.default_rng(5)
    looped: dict[str, list[float]] = {"uar": [], "precision": []}
    for _ in range(800):
        chosen = np.concatenate([members[place] for place in rng.integers(0, 6, 6)])
        looped["uar"].append(recall_score(truth[chosen], answers[chosen], average="macro"))
        looped["precision"].append(precision_score(truth[chosen], answers[chosen], average="macro"))
    for name, values in looped.items():
        assert result["interval_95"][name] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.012)


def test_without_speakers_utterances_are_resampled_and_that_is_said(tmp_path: Path) -> None:
    n = 3_000
    result, lines = score(
        ScoreOptions((write(tmp_path / "a.csv", without(answers_of(n), "speaker", "utterance")),))
    )
    low, high = result["interval_95"]["wa"]
    normal = 1.96 * np.sqrt(result["wa"] * (1 - result["wa"]) / n)  # of a binomial share
    assert (low, high) == pytest.approx((result["wa"] - normal, result["wa"] + normal), abs=0.003)
    assert result["resampled"] == "utterance" and result["n_speakers"] is None and result["per_speaker"] == {}
    text = "\n".join(lines)
    assert (
        "no column of speakers: intervals are from resampled utterances" in text
        and "speakers resampled" not in text
    )


def test_groups_that_are_alike_are_drawn_together() -> None:
    tables = np.random.default_rng(0).integers(0, 2, (500, 2, 2))
    kinds, counts = distinct(tables)
    assert len(kinds) == 16 and counts.sum() == 500
    np.testing.assert_array_equal(np.tensordot(counts, kinds, 1), tables.sum(axis=0))
    drawn = resample(tables, np.random.default_rng(1), 4_000)
    variance = 500 * tables.var(axis=0)  # of a sum of 500 independent draws
    np.testing.assert_allclose(drawn.mean(axis=0), tables.sum(axis=0), rtol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.1)


def test_calibration_error_is_that_of_its_definition(tmp_path: Path) -> None:
    rows = answers_of()
    result = scored(write(tmp_path / "a.csv", rows))
    shares = np.array([rows[label] for label in LABELS], float).T
    confidence, right = (
        shares.max(axis=1),
        np.array(rows["emotion"]) == np.array(LABELS)[shares.argmax(axis=1)],
    )
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert result["calibration_error"] == pytest.approx(error)
    alone = {**without(rows, *LABELS), "Confidence": [f"{share:.6f}" for share in confidence]}
    assert scored(write(tmp_path / "b.csv", alone))["calibration_error"] == pytest.approx(error, abs=1e-6)
    prefixed = {f"p_{name.upper()}" if name in LABELS else name: cells for name, cells in rows.items()}
    assert scored(write(tmp_path / "c.csv", prefixed))["calibration_error"] == pytest.approx(error)
    logits = {**rows, "sad": ["7"] * 240}
    assert scored(write(tmp_path / "d.csv", logits))["calibration_error"] is None


@pytest.mark.parametrize(
    ("names", "delimiter", "encoding"),
    [
        (("Utterance_ID", "SPK", "Y_True", "Y_Pred"), ";", "utf-8-sig"),
        (("File", "Speaker ID", "label", "Prediction"), ",", "utf-8-sig"),
        (("name", "actor", "Ground Truth", "LABEL"), "\t", "utf-8"),
    ],
)
def test_tables_of_others_give_the_same(
    tmp_path: Path, names: tuple[str, ...], delimiter: str, encoding: str
) -> None:
    rows = answers_of()
    expected = scored(write(tmp_path / "a.csv", rows))
    renamed = dict(zip(names, list(rows.values())[:4], strict=True)) | {
        label: rows[label] for label in LABELS
    }
    renamed[names[2]] = [word.upper() for word in rows["emotion"]]
    if delimiter == ";":
        renamed |= {label: [share.replace(".", ",") for share in rows[label]] for label in LABELS}
    result = scored(write(tmp_path / "b.csv", renamed, delimiter, encoding))
    for key in ("uar", "precision", "interval_95", "confusion", "calibration_error"):
        assert result[key] == expected[key], key
    assert list(result["columns"].values()) == [names[2], names[3], names[1], names[0]]


def test_what_a_run_writes_is_read_from_its_folder(tmp_path: Path) -> None:
    import pandas as pd

    rows = answers_of()
    table = pd.DataFrame({name: rows[name] for name in ("utterance", "speaker", "emotion", "answer")})
    table.insert(1, "corpus", "c")
    table["speaker"] = "c/" + table["speaker"]
    shares = np.array([rows[label] for label in LABELS], float).T
    Predictions(table, shares, LABELS).write(tmp_path / "predictions.csv")
    result = scored(tmp_path)
    truth, answers = ([LABELS.index(word) for word in rows[key]] for key in ("emotion", "answer"))
    expected = score_labels(truth, answers, table["speaker"].tolist(), LABELS)
    assert (
        result["uar"] == expected.uar and tuple(result["interval_95"]["uar"]) == expected.interval_95["uar"]
    )
    assert set(result["per_corpus"]) == {"c"} and "c/s0" in result["per_speaker"]


def test_answers_of_predict_are_joined_with_their_truth(tmp_path: Path) -> None:
    rows = answers_of(4)
    files = [f"some/where/{name}.wav" for name in rows["utterance"]]
    predicted = {"file": files, "start": ["0.0"] * 4, "end": ["1.0"] * 4, "label": [*rows["answer"][:3], ""]}
    predicted |= {"confidence": ["0.9"] * 4, **{label: rows[label] for label in LABELS}, "note": [""] * 4}
    truth = {
        "path": ["u1.wav", "where/u0.wav", "u3.wav"],
        "label": [rows["emotion"][place] for place in (1, 0, 3)],
    }
    truth["speaker"] = ["b", "a", "b"]
    answers = read_answers(write(tmp_path / "a.csv", predicted), write(tmp_path / "t.csv", truth))
    assert answers.n_left_out == {"no truth": 1, "no answer": 1} and answers.has_speakers
    assert answers.table["emotion"].tolist() == rows["emotion"][:2]
    assert answers.table["answer"].tolist() == rows["answer"][:2]
    assert answers.table["speaker"].tolist() == ["a", "b"]


def test_names_are_joined_however_their_letters_are_composed(tmp_path: Path) -> None:
    rows = answers_of(2)
    predicted = {"file": ["zoe\u0308/a.wav", "zo\u00eb/b.wav"], "label": rows["answer"]}
    truth = {"file": ["zo\u00eb/a.wav", "zoe\u0308/b.wav"], "emotion": rows["emotion"]}
    answers = read_answers(write(tmp_path / "a.csv", predicted), write(tmp_path / "t.csv", truth))
    assert len(answers.table) == 2 and not answers.n_left_out


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    text = "emotion,answer,speaker\na,a,1\n,a,1\na,,1\nb,a,2\nb,b\n\na,b,\n"
    (tmp_path / "a.csv").write_text(text)
    result, lines = score(ScoreOptions((tmp_path / "a.csv",)))
    assert result["n_left_out"] == {"broken row": 1, "no truth": 1, "no answer": 1, "no speaker": 1}
    assert result["n_utterances"] == 2 and result["confusion"] == [[1, 0], [1, 0]]
    assert "- 4 of 6 rows left out (broken row: 1, no truth: 1, no answer: 1, no speaker: 1)" in lines


def test_a_difference_is_paired(tmp_path: Path) -> None:
    """The observed one in closed form, p against scipy's permutations, on the utterances that both have."""
    first, second = answers_of(accuracy=0.75, seed=1), answers_of(accuracy=0.6, seed=2)
    order = np.random.default_rng(0).permutation(240)[:200]
    fewer = {name: [cells[place] for place in order] for name, cells in second.items()}
    paths = write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", fewer)
    found = scored(paths[0], against=paths[1])["difference"]
    assert (found["n_utterances"], found["n_only_first"], found["n_only_second"]) == (200, 40, 0)
    common = np.sort(order)
    truth, ours, theirs = (
        np.array(cells)[common] for cells in (first["emotion"], first["answer"], second["answer"])
    )
    uars = [recall_score(truth, answers, average="macro") for answers in (ours, theirs)]
    assert (found["first"]["uar"], found["second"]["uar"]) == pytest.approx(uars)
    assert found["by"]["uar"] == pytest.approx(uars[0] - uars[1])
    speakers = np.array(first["speaker"])[common]
    rights = [
        [(answers == truth)[speakers == name].sum() for name in sorted(set(speakers))]
        for answers in (ours, theirs)
    ]
    expected = permutation_test(
        rights, lambda a, b, axis: (a - b).sum(axis=axis), permutation_type="samples", vectorized=True
    )
    assert found["p"]["wa"] == pytest.approx(expected.pvalue)
    low, high = found["interval_95"]["uar"]
    assert low < found["by"]["uar"] < high


def test_thousands_of_utterances_are_compared_without_speakers(tmp_path: Path) -> None:
    n = 4_000
    first, second = (
        without(answers_of(n, accuracy=share, seed=seed), "speaker") for seed, share in ((1, 0.62), (2, 0.6))
    )
    found = scored(write(tmp_path / "a.csv", first), against=write(tmp_path / "b.csv", second))["difference"]
    right = [np.array(rows["emotion"]) == np.array(rows["answer"]) for rows in (first, second)]
    apart = right[0].astype(float) - right[1]
    deviation = np.sqrt((apart**2).sum()) / n  # of a sum whose signs are drawn
    from scipy.stats import norm

    assert found["p"]["wa"] == pytest.approx(2 * norm.sf(abs(apart.mean()) / deviation), abs=0.006)
    half = 1.96 * apart.std() / np.sqrt(n)
    expected = (apart.mean() - half, apart.mean() + half)
    assert tuple(found["interval_95"]["wa"]) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("emotion,speaker\na,1\n", "has no column of the answer: call it answer"),
        ("answer,speaker\na,1\n", "has no column of the truth: call it truth, or give --truth TABLE"),
        ("label,speaker\na,1\n", "has no column of the truth"),
        ("emotion,answer\n,a\n", "has no row with a truth and an answer"),
        ("emotion,answer,Answer\na,a,a\n", "two columns of one name"),
        ("emotion,answer\n" + "".join(f"w{n},w{n}\n" for n in range(101)), "101 different words"),
    ],
)
def test_what_is_no_table_of_answers_is_told_in_a_sentence(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        scored(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00emotion")
    with pytest.raises(ValueError, match="no CSV in UTF-8"):
        scored(tmp_path / "b.csv")


def test_what_cannot_be_compared_is_told_in_a_sentence(tmp_path: Path) -> None:
    rows = answers_of(9)
    first = write(tmp_path / "a.csv", rows)
    cases = {
        "doesn't name its utterances": without(rows, "utterance"),
        "has u1 more than once": {**rows, "utterance": ["u1"] * 9},
        "share no utterance": {**rows, "utterance": [f"v{place}" for place in range(9)]},
        "the truth of 9 utterances differs": {**rows, "emotion": ["other"] * 9},
    }
    for reason, others in cases.items():
        with pytest.raises(ValueError, match=reason):
            scored(first, against=write(tmp_path / "b.csv", others))


def test_tables_of_several_seeds_are_judged_together(tmp_path: Path) -> None:
    """As one model's answers to three times as many utterances, of the same speakers."""
    seeds = (1, 2, 3)
    first = [write(tmp_path / f"a{seed}.csv", answers_of(seed=seed)) for seed in seeds]
    second = [write(tmp_path / f"b{seed}.csv", answers_of(accuracy=0.4, seed=seed)) for seed in seeds]
    result, lines = score(ScoreOptions(tuple(first), against=tuple(second)))
    columns = [*zip(*(stacked(paths) for paths in (first, second)), strict=True)]
    (truth, of_other), (ours, theirs), (speakers, _) = columns
    assert truth == of_other
    assert result["wa"] == pytest.approx(accuracy_score(truth, ours))
    assert result["uar"] == pytest.approx(recall_score(truth, ours, average="macro"))
    found = result["difference"]
    by = recall_score(truth, ours, average="macro") - recall_score(truth, theirs, average="macro")
    assert found["by"]["uar"] == pytest.approx(by)
    assert (found["n_utterances"], found["n_speakers"]) == (len(truth), len(set(speakers)))
    assert result["predictions"] == [str(path) for path in first]
    assert any("each with its own" in line for line in lines)
    with pytest.raises(ValueError, match="3 tables can't be compared with 2"):
        score(ScoreOptions(tuple(first), against=tuple(second[:2])))
    with pytest.raises(ValueError, match="give a table of answers"):
        score(ScoreOptions(()))


def stacked(paths: Sequence[Path]) -> tuple[list[str], list[str], list[str]]:
    """Truth, answer and speaker of all rows of all tables."""
    rows = [row for path in paths for row in csv.DictReader(path.open())]
    truth, answers, speakers = ([row[name] for row in rows] for name in ("emotion", "answer", "speaker"))
    return truth, answers, speakers


def test_a_folder_holds_page_pictures_and_result(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{seed}.csv", answers_of(seed=seed)) for seed in (1, 2))
    out = tmp_path / "out"
    result, lines = score(ScoreOptions((first,), against=(second,), out=out))
    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    page = (out / "README.md").read_text()
    assert "\n".join(lines) in page and "Against " in page
    assert {path.stem for path in out.glob("*.png")} == {"confusion", "emotions", "speakers", "risk_coverage"}
    (out / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="choose another --out"):
        scored(first, out=out)


def test_a_stray_quote_in_a_table_of_answers_is_one_sentence(tmp_path: Path) -> None:
    """Read leniently, it would take the rows up to the next quote into its cell, and they would be gone."""
    rows = [f"u{number},angry,angry" for number in range(6)]
    rows[1], rows[4] = 'u1,"angry,angry', 'u4,"sad,angry'
    (tmp_path / "answers.csv").write_text("\n".join(["file,emotion,answer", *rows, ""]))
    with pytest.raises(ValueError, match="line 3"):
        read_cells(tmp_path / "answers.csv")
