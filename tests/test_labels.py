"""Words become labels, the eight or one's own; oracles: tables and trees written by hand."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import write_table, write_tree
from hypothesis import given
from hypothesis import strategies as st

from data_manifests import read_corpus
from data_manifests.labels import (
    EMOTIONS,
    MERGED,
    SYNONYMS,
    check_labels,
    normalise,
    order_labels,
    parse_labels,
    resolve,
)
from data_manifests.ledger import LedgerRow
from fins.audio import SAMPLE_RATE
from fins.data.corpus_import import PrepareOptions
from fins.data.store import Store
from pipelines.prepare import main

OWN = ("bored", "Stressed", "very relaxed")


@pytest.mark.parametrize(
    ("word", "emotion", "action"),
    [
        *[(emotion, emotion, "used") for emotion in EMOTIONS],
        ("Angry", "angry", "used"),
        *[("anger", "angry", "mapped"), ("ANG", "angry", "mapped"), ("fearful", "fear", "mapped")],
        *[("happiness", "happy", "mapped"), ("Joy", "happy", "mapped"), ("sadness", "sad", "mapped")],
        *[("ps", "surprise", "mapped"), ("surprised", "surprise", "mapped")],
        *[("Pleasant_surprise", "surprise", "mapped"), ("pleasant surprised", "surprise", "mapped")],
        *[("exc", "happy", "merged"), ("Excited", "happy", "merged")],
        *[("boredom", "", "dropped"), ("", "", "dropped"), ("xxx", "", "dropped")],
    ],
)
def test_a_label_becomes_one_of_ours(word, emotion, action):
    assert resolve(word) == (emotion, action)


def test_the_tables_of_words_do_not_overlap():
    assert not set(SYNONYMS) & set(EMOTIONS) and not set(MERGED) & (set(EMOTIONS) | set(SYNONYMS))
    assert set(SYNONYMS.values()) | set(MERGED.values()) <= set(EMOTIONS)


# labels of one's own


@pytest.mark.parametrize(
    ("word", "label", "action"),
    [
        *[("bored", "bored", "used"), ("BORED", "bored", "used"), ("stressed", "Stressed", "used")],
        *[("Very-Relaxed", "very relaxed", "used"), (" very__relaxed ", "very relaxed", "used")],
        *[("tired", "bored", "mapped"), ("Tired", "bored", "mapped"), ("joy", "very relaxed", "mapped")],
        *[("happy", "", "dropped"), ("anger", "", "dropped"), ("relaxed", "", "dropped")],
    ],
)
def test_words_are_matched_to_labels_of_ones_own(word, label, action):
    assert resolve(word, OWN, {"tired": "bored", "Joy": "Very_Relaxed"}) == (label, action)


def test_synonyms_of_the_eight_count_where_these_are_labels():
    labels = ("Happy", "bored", "anger")
    assert [resolve(word, labels) for word in ("joy", "excited", "sadness", "anger", "angry")] == [
        *(("Happy", "mapped"), ("Happy", "merged"), ("", "dropped"), ("anger", "used"), ("", "dropped")),
    ]
    assert resolve("joy", ("happy", "joy")) == ("joy", "used")
    assert resolve("joy", ("happy", "sad"), {"joy": "sad"}) == ("sad", "mapped")


@given(st.text("aäéç̈ -_がÀ"))
def test_a_word_is_compared_whatever_its_unicode_form(word):
    assert normalise(unicodedata.normalize("NFD", word)) == normalise(unicodedata.normalize("NFC", word))


def test_the_eight_come_first_and_others_are_sorted():
    assert order_labels(["tired", "sad", "bored", "angry", "sad", "Zen"]) == (
        *("angry", "sad", "Zen", "bored", "tired"),
    )
    assert order_labels(reversed(EMOTIONS)) == EMOTIONS and order_labels([]) == ()


def test_labels_and_pairs_are_told_apart():
    assert parse_labels(["bored", "very relaxed", "joyful = bored", "x=very relaxed"]) == (
        ("bored", "very relaxed"),
        {"joyful": "bored", "x": "very relaxed"},
    )
    assert parse_labels(["bored=calm"]) == (EMOTIONS, {"bored": "calm"})
    assert parse_labels(EMOTIONS) == (EMOTIONS, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], None),
        (["bored"], "at least two words, got bored"),
        (["bored", "tired", "Bored"], "the labels bored and Bored are one"),
        (["bored", "bored"], "the labels bored and bored are one"),
        *[(["bored", bad], "can't be a label") for bad in ("", " ", "a,b", "a/b", "a\\b", "-", "a\nb")],
        (["bored", "tired", "joyful=happy"], "'happy' is none of the labels bored, tired"),
        (["bored", "tired", "Bored=tired"], "write another word before it"),
        (["bored", "tired", "=tired"], "write another word before it"),
        (["bored", "tired", "x=bored", "X=tired"], "X is to mean bored and tired: choose one"),
        (["bored", "tired", "x=a=b"], "'a=b' is none of the labels"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(words, message):
    if message is None:
        assert parse_labels(words) == (EMOTIONS, {})
        return
    with pytest.raises(ValueError, match=message):
        parse_labels(words)


def test_the_library_refuses_them_too(tmp_path):
    with pytest.raises(ValueError, match="at least two words, got none"):
        read_corpus("folders", write_tree(tmp_path, "bored/a.wav"), labels=())
    with pytest.raises(ValueError, match="can't be a label"):
        check_labels(("a=b", "c"))


def test_folders_of_ones_own_labels_and_what_is_left_out(tmp_path):
    tree = ("bored/s1/1.wav", "s1/Very_relaxed/2.wav", "train/STRESSED/s2/3.wav", "tired/s2/4.wav")
    root = write_tree(tmp_path, *tree, "s1/happy/5.wav", "tired/s1/val/6.wav", "7.wav")
    listing = read_corpus("folders", root, OWN, {"tired": "bored"})
    assert {u.id: (u.emotion, u.speaker, u.part) for u in listing.utterances} == {
        "bored/s1/1": ("bored", "s1", ""),
        "s1/Very_relaxed/2": ("very relaxed", "s1", ""),
        "train/STRESSED/s2/3": ("Stressed", "s2", "train"),
        "tired/s2/4": ("bored", "s2", ""),
        "tired/s1/val/6": ("bored", "s1", "validation"),
    }
    assert listing.labels == OWN and listing.unknown == {"happy": 1}
    assert {row.path: row.reason for row in listing.ledger if row.reason} == {
        "s1/happy/5.wav": "none of its folders is a label: s1/happy",
        "7.wav": "none of its folders is a label: it is in none",
    }
    lines = listing.summary()
    assert "  emotions: Stressed 1, bored 3, very relaxed 1" in lines
    assert [line for line in lines if "left out" in line] == [
        "  left out: happy 1; the labels are bored, Stressed, very relaxed: name those that you want "
        "(--labels bored stressed relaxed), or say there which label a word means (joyful=happy)"
    ]


def test_a_label_named_as_a_part_is_a_label(tmp_path):
    (first, second) = read_corpus(
        "folders", write_tree(tmp_path, "test/a.wav", "rest/b.wav"), ("test", "rest")
    ).utterances
    assert (first.emotion, first.part, second.emotion, second.part) == ("rest", "", "test", "")


def test_unknown_words_are_counted_the_most_frequent_first(tmp_path):
    tree = [f"{word}/{i}.wav" for word, n in (("bored", 2), ("tired", 3), ("sad", 1)) for i in range(n)]
    listing = read_corpus("folders", write_tree(tmp_path, *tree, "Bored/9.wav", "s1/Tired/9.wav"))
    assert list(listing.unknown.values()) == [4, 3, 1]
    assert [word.lower() for word in listing.unknown] == ["tired", "bored", "s1"]
    (line,) = (line for line in listing.summary() if "left out" in line)
    assert "tired 4" in line.lower() and "the labels are angry, calm" in line


def test_a_label_without_a_file_is_named_where_it_was_asked_for(tmp_path):
    root = write_tree(tmp_path, "bored/a.wav", "sad/b.wav")
    assert "  no file is labelled Stressed, very relaxed" in read_corpus("folders", root, OWN).summary()
    assert "no file is labelled" not in "".join(read_corpus("folders", root).summary())


def test_a_table_of_ones_own_labels(tmp_path):
    write_tree(tmp_path, "1.wav", "2.wav", "3.wav", "4.wav")
    table = write_table(tmp_path, "path,emotion", "1.wav,Bored", "2.wav,happy", "3.wav,tired", "4.wav,")
    listing = read_corpus("csv", table, OWN, {"tired": "Stressed"})
    assert listing.ledger == (
        LedgerRow("1.wav", "Bored", "bored", "used"),
        LedgerRow("2.wav", "happy", "", "dropped", "unknown emotion 'happy': line 3"),
        LedgerRow("3.wav", "tired", "Stressed", "mapped"),
        LedgerRow("4.wav", "", "", "dropped", "unknown emotion '': line 5"),
    )
    assert listing.unknown == {"happy": 1}
    assert listing.summary()[-1].endswith("(joyful=happy), or write labels into the column emotion")


def test_known_corpora_take_labels_too(tmp_path):
    root = write_tree(tmp_path, "03a01Wa.wav", "03a01Lb.wav", "03a01Fa.wav", "03a01Nb.wav")
    listing = read_corpus("emodb", root, ("angry", "bored"), {"boredom": "bored"})
    assert [utterance.emotion for utterance in listing.utterances] == ["bored", "angry"]
    assert listing.unknown == {"happiness": 1, "neutral": 1}


def test_an_error_names_the_words_and_the_option(tmp_path):
    root = write_tree(tmp_path / "tree", "bored/1.wav", "bored/2.wav", "relaxed/3.wav", "notes.txt")
    message = (
        r"tree holds no folders file with one of the labels: bored 2, relaxed 1; the labels are angry, calm, "
        r".*\(--labels bored stressed relaxed\).*\(joyful=happy\)$"
    )
    with pytest.raises(ValueError, match=message):
        read_corpus("folders", root)
    with pytest.raises(ValueError, match="bored 2, relaxed 1; the labels are tired, happy: name those"):
        read_corpus("folders", root, ("tired", "happy"))
    write_tree(tmp_path, "1.wav", "2.wav")
    rows = ("path,emotion", "1.wav,bored", "2.wav,relaxed", "gone.wav,sad")
    with pytest.raises(ValueError, match=r"no csv file with one of .* bored 1, relaxed 1; .*column emotion$"):
        read_corpus("csv", write_table(tmp_path, *rows))
    rows = ("path,emotion", "1.wav,bored", *(f"gone{i}.wav,sad" for i in range(3)))
    with pytest.raises(
        ValueError, match=r"none of the 4 csv files .* can be used; the first, 1\.wav: unknown"
    ):
        read_corpus("csv", write_table(tmp_path, *rows))


def test_prepare_writes_labels_of_ones_own(tmp_path, capsys):
    for number, word in enumerate(("Bored", "very relaxed", "stressed", "happy", "joyful")):
        (tmp_path / "tree" / word).mkdir(parents=True)
        tone = 0.1 * np.sin(np.arange(4_000) * (number + 1) / 9)
        soundfile.write(tmp_path / "tree" / word / "1.wav", tone, SAMPLE_RATE)
    out = tmp_path / "own.h5"
    main(PrepareOptions("folders", tmp_path / "tree", out, (*OWN, "joyful=bored"), workers=1))
    with Store(out) as store:
        assert sorted(store.utterances["emotion"]) == ["Stressed", "bored", "bored", "very relaxed"]
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert (report["labels"], report["unknown_words"]) == (list(OWN), {"happy": 1})
    assert any("left out: happy 1" in line for line in report["summary"])
    assert "left out: happy 1" in capsys.readouterr().out
    with out.with_suffix(".ledger.csv").open(newline="") as file:
        actions = {row["path"]: row["action"] for row in csv.DictReader(file)}
    assert actions["joyful/1.wav"] == "mapped" and actions["happy/1.wav"] == "dropped"


# what workers load


def test_names_need_neither_numpy_nor_another_package():
    code = "import data_manifests.originals, sys; print(*sys.modules)"
    root = str(Path(__file__).parent.parent)
    options = {"cwd": root, "env": {**os.environ, "PYTHONPATH": root}, "text": True, "capture_output": True}
    modules = subprocess.run([sys.executable, "-c", code], check=True, **options).stdout.split()
    assert "data_manifests.folders" in modules
    assert not {"numpy", "pandas", "torch", "fins", "ser_heads", "pipelines"} & set(modules)
