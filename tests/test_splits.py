"""Splits against set arithmetic on the rows themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_manifests.labels import EMOTIONS
from fins.data import folds as folding
from fins.data import protocols
from fins.data.copies import parts_with_copies
from fins.data.protocols import PARTS, Division, _part_sequence, assign_parts, divide
from fins.data.protocols import test_on_speakers as on_speakers
from fins.data.splits import read_split


def table(n_speakers: int = 8, n_each: int = 5, copies: bool = False) -> dict[str, np.ndarray]:
    rows = [
        (f"{s}-{e}-{k}", "made", f"s{s}", e, "", f"sha-{s}-{e}-{k}", f"t{k}" if k < 3 else f"{e}{k}")
        for s in range(n_speakers)
        for e in EMOTIONS
        for k in range(n_each)
    ]
    if copies:
        rows += [(f"{i}+noise", c, s, e, i, sha, t) for i, c, s, e, _, sha, t in rows]
    names = ("id", "corpus", "speaker", "emotion", "augmented_from", "sha256", "sentence")
    return {
        name: np.array(column, object) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def frame(utterances: dict[str, np.ndarray]) -> pd.DataFrame:
    """As the rows of an `UtteranceTable`."""
    rows = pd.DataFrame(utterances)
    return rows.assign(name=rows["corpus"] + "/" + rows["id"], person=rows["corpus"] + "/" + rows["speaker"])


def split_utterances(
    utterances: dict[str, np.ndarray], protocol: str, seed: int, test_corpora: Sequence[str] = ()
) -> np.ndarray:
    return assign_parts(frame(utterances), Division(protocol, tuple(test_corpora)), seed)


def split_at_speakers(utterances: dict[str, np.ndarray], testing: Sequence[str], seed: int) -> np.ndarray:
    rows = frame(utterances)
    originals = rows[rows["augmented_from"] == ""].reset_index(drop=True)
    keys = [tuple(name.split("/")) for name in testing]
    parts = on_speakers(originals, keys, np.random.default_rng(seed))
    return parts_with_copies(rows, np.array(parts, object))


def keep_speakers(
    utterances: dict[str, np.ndarray], parts: np.ndarray, share: float, seed: int
) -> np.ndarray:
    return protocols.keep_speakers(frame(utterances), parts, share, seed)


def fold_utterances(
    utterances: dict[str, np.ndarray], n_folds: int, by_speaker: bool, seed: int
) -> np.ndarray:
    return folding.fold_utterances(frame(utterances), n_folds, by_speaker, seed)


def test_random_is_70_15_15_in_every_corpus_and_emotion() -> None:
    utterances = table()
    parts = split_utterances(utterances, "random", seed=0)
    for emotion in EMOTIONS:
        counts = Counter(parts[utterances["emotion"] == emotion])
        assert counts == {"train": 28, "validation": 6, "test": 6}


@pytest.mark.parametrize("n", range(1, 12))
def test_three_or_more_units_leave_one_to_each_part(n: int) -> None:
    parts = _part_sequence(n)
    counts = [parts.count(part) for part in PARTS]
    held_out = 0 if n < 3 else max(1, round(0.15 * n))
    assert counts == [n - 2 * held_out, held_out, held_out]


def test_equal_files_stay_together() -> None:
    utterances = table()
    utterances["sha256"][[0, 77, 200]] = "the same"
    for seed in range(20):
        parts = split_utterances(utterances, "random", seed)
        assert len(set(parts[[0, 77, 200]])) == 1


def test_speaker_shares_no_speaker() -> None:
    utterances = table()
    for seed in range(10):
        parts = split_utterances(utterances, "speaker", seed)
        speakers = {
            part: set(utterances["speaker"][parts == part]) for part in ("train", "validation", "test")
        }
        assert all(speakers.values())
        assert sum(map(len, speakers.values())) == len(set.union(*speakers.values())) == 8


def test_speaker_sentence_tests_on_other_speakers_and_other_sentences() -> None:
    utterances = table(n_speakers=9)
    for seed in range(10):
        parts = split_utterances(utterances, "speaker_sentence", seed)
        said = {part: set(utterances["sentence"][parts == part]) for part in ("train", "validation", "test")}
        heard = {part: set(utterances["speaker"][parts == part]) for part in said}
        assert not said["test"] & (said["train"] | said["validation"])
        assert sum(map(len, heard.values())) == len(set.union(*heard.values())) == 9
        for part in said:  # of the three sentences of all emotions one tests
            assert set(utterances["emotion"][parts == part]) == set(EMOTIONS)
        assert len([its for its in said["test"] if its.startswith("t")]) == 1
    one = {**utterances, "sentence": np.full(len(parts), "the same", object)}
    with pytest.raises(ValueError, match="two sentences"):
        split_utterances(one, "speaker_sentence", 0)


def test_corpus_tests_on_a_corpus_that_nothing_else_has() -> None:
    first, second = table(), table(n_speakers=3)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    both["corpus"] = np.array(["made"] * len(first["id"]) + ["other"] * len(second["id"]), object)
    both["sha256"] = np.array(
        [f"{c}{s}" for c, s in zip(both["corpus"], both["sha256"], strict=True)], object
    )
    parts = split_utterances(both, "corpus", 0, test_corpora=["other"])
    assert set(parts[both["corpus"] == "other"]) == {"test"}
    assert Counter(parts[both["corpus"] == "made"]) == {"train": 280, "validation": 40}
    for corpora, reason in (((), "none is named"), (("third",), "no utterance of third")):
        with pytest.raises(ValueError, match=reason):
            split_utterances(both, "corpus", 0, test_corpora=corpora)
    with pytest.raises(ValueError, match="corpus alone"):
        split_utterances(both, "speaker", 0, test_corpora=["other"])


@pytest.mark.parametrize("by_speaker", [True, False])
def test_folds_hold_every_utterance_once_with_like_emotions(by_speaker: bool) -> None:
    utterances = table(copies=True)
    utterances["sha256"][[0, 77, 200]] = "the same"
    folds = fold_utterances(utterances, 4, by_speaker, seed=1)
    original = utterances["augmented_from"] == ""
    for fold in range(4):
        counts = Counter(utterances["emotion"][original & (folds == fold)])
        assert set(counts) == set(EMOTIONS) and max(counts.values()) - min(counts.values()) <= 2
        if by_speaker:
            speakers = utterances["speaker"]
            assert not set(speakers[folds == fold]) & set(speakers[folds != fold])
    assert set(folds) == set(range(4)) and (by_speaker or len(set(folds[[0, 77, 200]])) == 1)
    fold_of = dict(zip(utterances["id"], folds, strict=True))
    pairs = zip(utterances["id"][~original], utterances["augmented_from"][~original], strict=True)
    assert all(fold_of[copy] == fold_of[origin] for copy, origin in pairs)
    np.testing.assert_array_equal(folds, fold_utterances(utterances, 4, by_speaker, seed=1))
    with pytest.raises(ValueError, match="can't be made"):
        fold_utterances(utterances, 9 if by_speaker else 1, by_speaker, 0)


@pytest.mark.parametrize("protocol", ["random", "speaker"])
def test_augmented_copies_only_train_and_only_beside_their_originals(protocol: str) -> None:
    utterances = table(copies=True)
    parts = split_utterances(utterances, protocol, seed=3)
    part_of = dict(zip(utterances["id"], parts, strict=True))
    copies = utterances["augmented_from"] != ""
    for identity, origin in zip(utterances["id"][copies], utterances["augmented_from"][copies], strict=True):
        assert part_of[identity] == ("train" if part_of[origin] == "train" else "unused")
    assert not np.isin(parts[~copies], ["unused"]).any()


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    utterances = table()
    first, again, other = (split_utterances(utterances, "random", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_can_not_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a corpus of 3 speakers, and the largest has 2"):
        split_utterances(table(n_speakers=2), "speaker", 0)
    with pytest.raises(ValueError, match="known ones are random, speaker, speaker_sentence, corpus"):
        split_utterances(table(), "sentence", 0)


def test_a_corpus_of_two_speakers_trains_beside_a_larger_one() -> None:
    large, small = table(n_speakers=6), table(n_speakers=2)
    small["corpus"][:] = "small"
    small["sha256"] = small["sha256"] + "-small"
    both = {name: np.concatenate([large[name], small[name]]) for name in large}
    parts = split_utterances(both, "speaker", seed=0)
    assert set(parts[both["corpus"] == "small"]) == {"train"}
    assert set(parts[both["corpus"] == "made"]) == {"train", "validation", "test"}


def test_a_share_of_the_training_speakers_trains_and_a_larger_one_has_them_too() -> None:
    large, small = table(n_speakers=20), table(n_speakers=5)
    small["corpus"] = np.full(len(small["id"]), "small", object)
    small["sha256"] = "small " + small["sha256"]
    both = {name: np.concatenate([large[name], small[name]]) for name in large}
    speakers = both["corpus"] + "/" + both["speaker"]
    for seed in range(5):
        parts = split_utterances(both, "speaker", seed)  # 14 and 3 train
        before: set[str] = set()
        for share, n_large, n_small in ((0.01, 1, 0), (0.1, 1, 0), (0.25, 4, 1), (0.5, 7, 2), (1.0, 14, 3)):
            fewer = keep_speakers(both, parts, share, seed)
            kept = set(speakers[fewer == "train"])
            assert before <= kept
            assert Counter(its.split("/")[0] for its in kept) == {
                corpus: n for corpus, n in (("made", n_large), ("small", n_small)) if n
            }
            others = parts != "train"
            assert (fewer[others] == parts[others]).all()
            trained = np.isin(speakers, list(kept))
            assert ((fewer == "unused") == (~others & ~trained)).all()
            before = kept


def test_a_fold_tests_on_its_speakers_and_a_tenth_of_the_others_validates() -> None:
    utterances = table(n_speakers=24, n_each=1, copies=True)
    original = utterances["augmented_from"] == ""
    for seed in range(5):
        parts = split_at_speakers(utterances, ["made/s3", "made/s11"], seed)
        speakers = {
            part: set(utterances["speaker"][parts == part]) for part in ("train", "validation", "test")
        }
        assert speakers["test"] == {"s3", "s11"}
        assert len(speakers["validation"]) == 2
        assert speakers["train"] == {f"s{i}" for i in range(24)} - speakers["test"] - speakers["validation"]
        assert set(parts[original]) == {"train", "validation", "test"}
        assert set(parts[~original]) == {"train", "unused"}


def test_a_fold_of_few_speakers_leaves_one_to_validate() -> None:
    utterances = table(n_speakers=4)
    parts = split_at_speakers(utterances, ["made/s0"], seed=1)
    counts = {part: len(set(utterances["speaker"][parts == part])) for part in set(parts)}
    assert counts == {"train": 2, "validation": 1, "test": 1}


def test_folds_that_can_not_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no utterance of made/s9"):
        split_at_speakers(table(), ["made/s9"], 0)
    with pytest.raises(ValueError, match="fewer than two speakers are left"):
        split_at_speakers(table(n_speakers=3), ["made/s0", "made/s1"], 0)


def test_copies_with_a_checksum_of_their_own_follow_their_originals() -> None:
    utterances = table(copies=True)
    copies = utterances["augmented_from"] != ""
    utterances["sha256"][copies] = utterances["sha256"][copies] + "-copy"
    parts = split_utterances(utterances, "random", seed=3)
    part_of = dict(zip(utterances["id"], parts, strict=True))
    for identity, origin in zip(utterances["id"][copies], utterances["augmented_from"][copies], strict=True):
        assert part_of[identity] == ("train" if part_of[origin] == "train" else "unused")
    assert "train" in parts[copies]


def test_equal_files_of_different_speakers_are_refused_where_speakers_matter() -> None:
    utterances = table()
    utterances["sha256"][[0, 300]] = "the same"
    with pytest.raises(ValueError, match="1 recordings would be in several parts"):
        for seed in range(20):
            split_utterances(utterances, "speaker", seed)


def namesakes() -> dict[str, np.ndarray]:
    """Two stores of one corpus with other recordings of the same names; copies have their checksums."""
    one, other = table(copies=True), table(copies=True)
    other["sha256"] = other["sha256"] + "-other"
    return {name: np.concatenate([one[name], other[name]]) for name in one}


def originals_of(utterances: dict[str, np.ndarray]) -> np.ndarray:
    """(n,) row of the original of each copy, by name and checksum, and of itself else."""
    plain = utterances["augmented_from"] == ""
    keys = zip(utterances["id"], utterances["sha256"], strict=True)
    row_of = {key: row for row, key in enumerate(keys) if plain[row]}
    copied = zip(utterances["augmented_from"], utterances["sha256"], strict=True)
    return np.array([row_of.get(key, row) for row, key in enumerate(copied)])


@pytest.mark.parametrize("protocol", ["random", "speaker"])
def test_copies_of_namesakes_follow_the_recording_that_they_are_of(protocol: str) -> None:
    utterances = namesakes()
    parts = split_utterances(utterances, protocol, seed=0)
    copies = np.flatnonzero(utterances["augmented_from"] != "")
    for row in copies:
        assert parts[row] == ("train" if parts[originals_of(utterances)[row]] == "train" else "unused")
    folds = fold_utterances(utterances, 4, False, 0)
    np.testing.assert_array_equal(folds, folds[originals_of(utterances)])


def test_copies_of_namesakes_with_checksums_of_their_own_train_if_all_of_these_do() -> None:
    utterances = namesakes()
    copies = utterances["augmented_from"] != ""
    utterances["sha256"][copies] = utterances["sha256"][copies] + "-copy"
    parts = split_utterances(utterances, "random", seed=0)
    for row in np.flatnonzero(copies):
        its = parts[~copies & (utterances["id"] == utterances["augmented_from"][row])]
        assert len(its) == 2 and (parts[row] == "train") == (set(its) == {"train"})
    with pytest.raises(ValueError, match="which of several recordings of one name"):
        fold_utterances(utterances, 4, False, 0)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0-angry-0,training set", "is in 'training set', which is no part"),
        ("0-angry-1,test", "is there twice"),
    ],
)
def test_a_split_with_a_part_that_is_none_or_a_recording_twice_is_refused(
    tmp_path: Path, line: str, fault: str
) -> None:
    path = tmp_path / "split.csv"
    path.write_text(f"utterance,part\n0-angry-1,train\n0-angry-2,dev\n{line}\n")
    with pytest.raises(ValueError, match=fault):
        read_split(path, frame(table()))


def test_a_test_part_of_nothing_but_what_was_never_learned_is_refused(tmp_path: Path) -> None:
    rows = frame(table())
    parts = np.where(rows["emotion"] == "sad", "test", np.where(rows["speaker"] == "s0", "dev", "train"))
    path = tmp_path / "split.csv"
    rows.assign(utterance=rows["id"], part=parts)[["utterance", "part"]].to_csv(path, index=False)
    with pytest.raises(ValueError, match="none is left for test"):
        divide(rows, Division(split=path))


def test_copies_of_namesakes_in_different_folds_are_refused() -> None:
    utterances = table()
    utterances["id"][1] = utterances["id"][0]  # two recordings of one name
    copy = {**{name: column[0] for name, column in utterances.items()}, "sha256": "of neither"}
    copy |= {"id": "copy", "augmented_from": utterances["id"][0]}
    with_copy = {name: np.append(column, copy[name]) for name, column in utterances.items()}
    refused = set()
    for seed in range(8):
        first, second = fold_utterances(utterances, 2, by_speaker=False, seed=seed)[:2]
        refused.add(first != second)
        if first == second:
            assert fold_utterances(with_copy, 2, by_speaker=False, seed=seed)[-1] == first
        else:
            with pytest.raises(ValueError, match="copies can't be told to which of several recordings"):
                fold_utterances(with_copy, 2, by_speaker=False, seed=seed)
    assert refused == {True, False}
