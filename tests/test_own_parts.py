"""Divisions that a user brings along: parts of a corpus's own and splits written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_divisions import make_rows

from fins.data.protocols import Division, divide
from fins.data.splits import Parts, read_split

WRITTEN = ("train", "test", "validation", "train")  # of the speakers, in turn


def marked(n_speakers: int = 8, corpus: str = "made") -> pd.DataFrame:
    rows = make_rows([(corpus, f"{number:02d}") for number in range(n_speakers)])
    return rows.assign(
        part=[WRITTEN[int(speaker) % 4] for speaker in rows["speaker"]], path=rows["id"] + ".wav"
    )


def names(rows: pd.DataFrame, parts: Parts) -> dict[str, list[str]]:
    return {part: sorted(rows["name"].iloc[places]) for part, places in parts.items()}


def expected(rows: pd.DataFrame) -> dict[str, list[str]]:
    return {part: sorted(rows["name"][rows["part"] == part]) for part in ("train", "validation", "test")}


def test_parts_of_its_own_are_kept_whatever_the_seed() -> None:
    rows = marked()
    for seed in range(3):
        assert names(rows, divide(rows, Division("own"), seed)) == expected(rows)


def test_what_has_no_part_is_left_out() -> None:
    rows = marked()
    rows.loc[::5, "part"] = ""
    assert names(rows, divide(rows, Division("own"))) == expected(rows)


@pytest.mark.parametrize("n_speakers", [2, 16])
def test_without_a_validation_part_some_of_training_validates(n_speakers: int) -> None:
    rows = marked(n_speakers)
    rows.loc[rows["part"] == "validation", "part"] = "train"
    parts = divide(rows, Division("own"), 1)
    assert names(rows, parts)["test"] == expected(rows)["test"]
    learned = np.concatenate([parts["train"], parts["validation"]])
    assert sorted(rows["name"].iloc[learned]) == expected(rows)["train"]
    speakers = {part: set(rows["speaker"].iloc[parts[part]]) for part in ("train", "validation")}
    n_training = len(set(rows["speaker"][rows["part"] == "train"]))
    assert speakers["train"].isdisjoint(speakers["validation"]) == (n_training >= 3)
    assert (
        len(parts["validation"]) == max(1, round(0.1 * n_training)) * len(rows) // n_speakers
        or n_training < 3
    )


def test_a_corpus_without_parts_is_named() -> None:
    rows = pd.concat([marked(), marked(corpus="bare").assign(part="")], ignore_index=True)
    with pytest.raises(ValueError, match=r"the protocol own needs parts, and bare has none"):
        divide(rows, Division("own"))
    with pytest.raises(ValueError, match="no recording has the part test of its own"):
        divide(marked().assign(part="train"), Division("own"))


@pytest.mark.parametrize("column", ["name", "id", "path"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_split_by_hand_needs_utterance_and_part(tmp_path: Path, column: str, mark: str) -> None:
    rows = marked()
    words = {"train": "Train", "validation": "dev", "test": "testing"}
    lines = [f"{name},{words[part]}" for name, part in zip(rows[column], rows["part"], strict=True)]
    path = tmp_path / "split.csv"
    path.write_text(mark + "utterance,part\r\n" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    assert names(rows, divide(rows, Division(split=path))) == expected(rows)


def test_copies_train_with_their_originals_under_a_split_by_hand(tmp_path: Path) -> None:
    rows = marked()
    copies = rows.assign(id=rows["id"] + "+noise", name=rows["name"] + "+noise", augmented_from=rows["id"])
    both = pd.concat([rows, copies], ignore_index=True)
    rows.rename(columns={"name": "utterance"})[["utterance", "part"]].to_csv(tmp_path / "a.csv", index=False)
    parts = names(both, divide(both, Division(split=tmp_path / "a.csv")))
    assert parts["test"] == expected(rows)["test"] and parts["validation"] == expected(rows)["validation"]
    assert parts["train"] == sorted(n + end for n in expected(rows)["train"] for end in ("", "+noise"))


def test_a_name_that_several_stores_have_needs_its_checksum(tmp_path: Path) -> None:
    rows = marked()
    both = pd.concat([rows, rows.assign(sha256=rows["sha256"] + "x")], ignore_index=True)
    (tmp_path / "a.csv").write_text(f"utterance,part\n{rows['id'][0]},train\n")
    with pytest.raises(ValueError, match=r"the stores have several .*: give its sha256"):
        read_split(tmp_path / "a.csv", both)
