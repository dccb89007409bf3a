"""Emotions that a part lacks: named, with what to do; and nothing vanishes from a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_divisions import make_rows

from data_manifests.ledger import name_speakers
from fins.data.audit import count_speakers
from fins.data.gaps import find_gaps, find_strangers
from fins.data.protocols import Division, divide
from fins.data.splits import read_split, rows_not_trained_on, write_split
from fins.tables import read_table

WORDS = ("angry", "happy", "sad")


def with_a_lone_emotion() -> pd.DataFrame:
    """Six speakers of three emotions, the first of whom has disgust, too."""
    rows = make_rows([("own", f"s{number}") for number in range(1, 7)], WORDS)
    lone = make_rows([("own", "s1")], ("disgust",), 6)
    return pd.concat([rows, lone], ignore_index=True)


@pytest.mark.parametrize("seed", range(8))
def test_an_emotion_of_one_speaker_is_named_wherever_that_speaker_is(tmp_path: Path, seed: int) -> None:
    rows = with_a_lone_emotion()
    parts = divide(rows, Division(), seed)
    (gap,) = find_gaps(rows, parts)
    assert gap.startswith("disgust (6 recordings, all of one speaker, own/s1) isn't in the ")
    assert "record it of three speakers or more, or leave it out (--emotions angry happy sad)" in gap
    where = next(part for part in parts if "own/s1" in set(rows["person"].iloc[parts[part]]))
    assert ("can't be learned" in gap) == (where != "train")
    path = tmp_path / "split.csv"
    write_split(path, rows, parts)
    split = read_table(path)
    assert sorted(split["utterance"]) == sorted(rows["name"])  # nothing vanishes
    n_unused = 6 if where == "validation" else 0
    assert (split["part"] == "unused").sum() == n_unused
    for part, places in read_split(path, rows).items():
        np.testing.assert_array_equal(places, parts[part])
    sizes = {part: len(places) for part, places in parts.items()}
    unseen = rows_not_trained_on(path, sizes, rows)
    assert set(rows["person"].iloc[unseen.rows]) >= set(rows["person"].iloc[parts["test"]])


def test_emotions_that_all_parts_have_are_no_gap_and_those_left_out_on_purpose_neither() -> None:
    rows = make_rows([("own", f"s{number}") for number in range(6)], WORDS)
    assert find_gaps(rows, divide(rows, Division())) == []
    rows = with_a_lone_emotion()
    for seed in range(3):
        division = Division(emotions=WORDS)
        assert find_gaps(rows, divide(rows, division, seed), division.emotions) == []


def test_unknown_speakers_are_named_where_they_may_be_those_of_another_part() -> None:
    rows = make_rows([("own", name) for name in ("unknown", "s1", "s2", "s3", "s4", "s5")], WORDS)
    others = make_rows([("other", "unknown")], WORDS)
    parts = divide(pd.concat([rows, others], ignore_index=True), Division())
    both = pd.concat([rows, others], ignore_index=True)
    (sentence,) = find_strangers(both, parts)  # all of the other corpus is in one part
    n_unknown = int((rows["person"] == "own/unknown").sum())
    assert sentence.startswith(f"{n_unknown} recordings of own are of unknown speakers, who count as one and")
    named = both[both["person"] != "own/unknown"].reset_index(drop=True)
    assert find_strangers(named, divide(named, Division())) == []


def test_a_part_that_lacks_a_common_emotion_is_named() -> None:
    rows = make_rows([("own", f"s{number}") for number in range(6)], WORDS)
    parts = divide(rows, Division())
    for part, what in (("validation", "which weights are kept"), ("test", "isn't tested")):
        fewer = {**parts, part: parts[part][rows["emotion"].iloc[parts[part]] != "sad"]}
        (gap,) = find_gaps(rows, fewer)
        assert gap.startswith("sad (18 recordings of own/s0, own/s1, own/s2, own/s3, own/s4 and 1 more)")
        assert f"isn't in the {part} part" in gap and what in gap and "three speakers" not in gap


def test_speakers_by_name_and_number() -> None:
    rows = with_a_lone_emotion().rename(columns={"speaker": "_"}).rename(columns={"person": "speaker"})
    rows["part"] = ["train"] * 40 + ["test"] * (len(rows) - 40)
    counts = count_speakers(rows)
    assert sum(counts["train"].values()) == 40 and counts["train"]["own/s1"] == 9
    assert list(counts["test"].values()) == sorted(counts["test"].values(), reverse=True)
    assert name_speakers({"b": 2, "a": 1_200, "c": 2}, 2) == "a 1,200, b 2 and 1 more"
