"""Audits: every planted leak is found, a clean split is clean; sounds that are one are told from others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soxr
from conftest import make_recordings, make_signal
from numpy.typing import NDArray

from data_manifests.labels import EMOTIONS
from fins.audio import cut_windows
from fins.data import audit as auditing
from fins.data.audit import KINDS, AuditConfig, Finding
from fins.data.protocols import Division, divide
from fins.data.same_sound import correlation, find_alike, fingerprint
from fins.data.splits import read_split
from fins.data.store import Recording, Store, to_amplitude, write_store
from fins.data.table import UtteranceTable
from fins.features import compute_features
from pipelines import audit as audits

Rows = dict[str, NDArray]


def clean_rows() -> Rows:
    """Nine speakers, three in each part; each part has sentences of its own, and every emotion."""
    parts = ("train", "validation", "test")
    rows = [
        (f"c/{s}-{e}", f"c/s{s}", e, f"c/{s % 3}-{i % 4}", f"sha {s} {e}", "", parts[s % 3])
        for s in range(9)
        for i, e in enumerate(EMOTIONS)
    ]
    rows += [
        (f"{name}+noise", *its, f"{sha}+", name, part) for name, *its, sha, _, part in rows if part == "train"
    ]
    names = ("utterance", "speaker", "emotion", "sentence", "sha256", "augmented_from", "part")
    return {n: np.array(column, object) for n, column in zip(names, zip(*rows, strict=True), strict=True)}


def moved_speaker(rows: Rows) -> None:
    rows["part"][rows["utterance"] == "c/0-sad"] = "test"
    rows["part"][rows["augmented_from"] == "c/0-sad"] = "unused"


def shared_sentence(rows: Rows) -> None:
    rows["sentence"][3] = rows["sentence"][11]


def same_file(rows: Rows) -> None:
    rows["sha256"][2 * 8] = rows["sha256"][0]


def other_label(rows: Rows) -> None:
    rows["sha256"][[0, 1]] = "one file, angry and calm"


def no_such_emotion(rows: Rows) -> None:
    rows["part"][(rows["emotion"] == "happy") & (rows["part"] == "validation")] = "unused"


def copy_that_tests(rows: Rows) -> None:
    rows["part"][-1] = "test"


def copy_of_what_tests(rows: Rows) -> None:
    rows["augmented_from"][-1] = rows["utterance"][rows["part"] == "test"][0]


LEAKS = {
    moved_speaker: {"speakers", "sentences"},
    shared_sentence: {"sentences"},
    same_file: {"identical"},
    other_label: {"labels"},
    no_such_emotion: {"classes"},
    copy_that_tests: {"copies"},
    copy_of_what_tests: {"copies"},
}


def audit(rows: Rows, alike: list[tuple[int, int]] | None = None, *promise: str) -> list[Finding]:
    """Of a table that may lack the column of the corpus, as if all were of one."""
    return auditing.audit(pd.DataFrame({"corpus": "", **rows}), alike, promise)


def test_a_clean_split_is_clean() -> None:
    assert audit(clean_rows(), []) == []


@pytest.mark.parametrize("plant", LEAKS, ids=lambda plant: plant.__name__)
def test_every_planted_leak_is_found_and_no_other(plant: Callable[[Rows], None]) -> None:
    rows = clean_rows()
    plant(rows)
    findings = audit(rows, [])
    assert {its.kind for its in findings} == LEAKS[plant]
    assert all(its.n >= len(its.examples) >= 1 for its in findings)


def test_sounds_that_are_one_are_a_leak_across_parts_and_wrong_with_two_labels() -> None:
    rows = clean_rows()
    assert audit(rows, [(0, 24)]) == []  # both train, and say the same emotion
    (across,) = audit(rows, [(0, 8)])
    assert (across.kind, across.n) == ("alike", 1) and "c/0-angry (train)" in across.examples[0]
    (labels,) = audit(rows, [(0, 1)])
    assert labels.kind == "labels"


def mel_of(signal: NDArray) -> NDArray:
    return compute_features(cut_windows(np.ascontiguousarray(signal, np.float32)), ["mel"])["mel"]


def through(signal: NDArray, rate: int) -> NDArray:
    return soxr.resample(soxr.resample(signal, 22_050, rate), rate, 22_050)


CHANGES = {
    "level": lambda signal: 0.2 * signal,
    "ends": lambda signal: np.concatenate([np.zeros(700), signal[300:]]),
    "noise, 30 dB": lambda signal: (
        signal + 0.03 * signal.std() * np.random.default_rng(0).standard_normal(len(signal))
    ),
    "made at 8 kHz": lambda signal: through(signal, 8_000),
    "8 bits": lambda signal: np.round(signal * 127) / 127,
    "clipped": lambda signal: signal.clip(-0.6 * signal.max(), 0.6 * signal.max()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_sound_is_known_again_whatever_its_file_went_through(change: str) -> None:
    sounds = [make_signal(seed, 40_000) for seed in range(30)]
    sounds.append(CHANGES[change](sounds[7]).astype(np.float32))
    prints = [fingerprint(mel_of(sound)) for sound in sounds]
    assert find_alike(prints, sounds.__getitem__) == [(7, 30)]


def test_silence_and_short_sounds_are_like_nothing() -> None:
    silence = np.zeros(10_000, np.float32)
    prints = [
        fingerprint(mel_of(its)) for its in (silence, silence, make_signal(0, 2_048), make_signal(0, 3_000))
    ]
    assert prints[:2] == [None, None]
    assert find_alike(prints, make_signal) == []
    assert correlation(silence, silence) == 0


@pytest.mark.corpora
def test_the_known_pair_of_ravdess_is_found_and_nothing_else(real_store: Path) -> None:
    with Store(real_store) as store:
        from fins.data.same_sound import fingerprints

        pairs = find_alike(list(fingerprints([store])), lambda row: to_amplitude(store.signal(row)))
        same = {
            (a, b)
            for a in range(store.n_utterances)
            for b in range(a)
            if store.utterances["sha256"][a] == store.utterances["sha256"][b]
        }
    assert {(b, a) for a, b in pairs} == same


@pytest.fixture(scope="module")
def leaky_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean corpus, and one recording of it once more, louder, of another speaker."""
    recordings = make_recordings(64)
    first, other = recordings[0], recordings[40]
    louder = (first.signal.astype(float) * 1.4).clip(-32_768, 32_767).astype(np.int16)
    recordings[40] = Recording(other.utterance, louder, other.sha256)
    path = tmp_path_factory.mktemp("leaky") / "leaky.h5"
    write_store(path, recordings)
    return path


def test_an_audit_of_stores(small_store: Path, leaky_store: Path, tmp_path: Path) -> None:
    for store, seed in ((small_store, 0), *((leaky_store, seed) for seed in range(4))):
        out = tmp_path / f"{store.stem}{seed}"
        audits.main(AuditConfig(store=(store,), seed=seed, out=out))
        result = json.loads((out / "audit.json").read_text())
        table = UtteranceTable([store])
        parts = read_split(out / "split.csv", table.rows)
        part_of = {row: part for part, rows in parts.items() for row in rows}
        across = store == leaky_store and part_of[0] != part_of[40]
        assert result["verdict"] == ("leaks" if across else "clean")
        assert ("alike" in result["leaks"]) == across
        assert result["n_utterances"] == {part: len(rows) for part, rows in parts.items()}
        page = (out / "README.md").read_text()
        assert ("Nothing leaks" in page) != across
        assert all(words in page for words in KINDS.values())


def test_a_split_that_was_saved_is_the_split_again(small_store: Path, tmp_path: Path) -> None:
    audits.main(AuditConfig(store=(small_store,), protocol="random", seed=5, out=tmp_path / "audit"))
    saved = tmp_path / "audit" / "split.csv"
    table = UtteranceTable([small_store])
    for part, rows in divide(table.rows, Division("random"), 5).items():
        np.testing.assert_array_equal(read_split(saved, table.rows)[part], rows)
        again = divide(table.rows, Division(split=saved))
        np.testing.assert_array_equal(again[part], rows)
    rows = list(csv.reader(saved.open()))
    faults = {
        "lack": [rows[0], ["made/none", *rows[1][1:]]],
        "another recording": [rows[0], [*rows[1][:3], "sha", rows[1][4]]],
        "twice": [rows[0], rows[1], rows[1]],
        "no part": [rows[0], [*rows[1][:4], "exam"]],
        "is no split": [["utterance"], ["x"]],
    }
    for reason, changed in faults.items():
        with (tmp_path / "split.csv").open("w", newline="") as file:
            csv.writer(file).writerows(changed)
        with pytest.raises(ValueError, match=reason):
            read_split(tmp_path / "split.csv", table.rows)


def test_a_manifest_alone(tmp_path: Path) -> None:
    rows = clean_rows()
    moved_speaker(rows)
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    audits.main(AuditConfig(manifest=path, out=tmp_path / "out"))
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["leaks"] == ["speakers"] and "alike" not in result["looked_for"]
    assert result["n_rows"] == len(rows["utterance"])
    for text, reason in (
        ("utterance,speaker\na,b\n", "lacks the column emotion"),
        ("", "is empty: an audit needs"),
        ('utterance,speaker,emotion,part\na,"b,sad,train\nc,b,sad,test"\n', "line 2 takes other rows"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            audits.main(AuditConfig(manifest=path))
    path.write_text("utterance,speaker,emotion,part\na,b,sad,exam\n")
    with pytest.raises(ValueError, match="line 2"):
        audits.main(AuditConfig(manifest=path))
    with pytest.raises(ValueError, match="one thing to audit"):
        audits.main(AuditConfig())


def test_a_split_of_unknown_speakers_is_not_said_to_be_clean(tmp_path: Path) -> None:
    parts = ("train", "train", "train", "validation", "test")
    lines = [
        f"u{n},{f's{n % 5}' if n % 3 else ''},{'calm' if n % 2 else 'sad'},{parts[n % 5]}" for n in range(30)
    ]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["utterance,speaker,emotion,part", *lines]))
    result, page = auditing.audit_split(AuditConfig(manifest=path))
    assert result["leaks"] == [] and not result["speakers_known"]
    assert "Nothing is known to leak, but not all speakers are known. " in page
    assert "10 recordings are of unknown speakers" in page


def test_copies_of_namesakes_are_told_apart_by_their_checksums() -> None:
    rows = clean_rows()
    rows["sha256"] = np.array([sha.rstrip("+") for sha in rows["sha256"]], object)
    other = {name: column.copy() for name, column in rows.items()}
    other["sha256"] = other["sha256"] + " of another store"
    other["speaker"], other["sentence"] = other["speaker"] + "o", other["sentence"] + "o"
    other["part"][:] = np.where(other["augmented_from"] == "", "test", "unused")
    both = {name: np.concatenate([rows[name], other[name]]) for name in rows}
    assert not [its for its in audit(both) if its.kind == "copies"]
    both["part"][-1] = "train"  # a copy of what the other store has in test
    (found,) = (its for its in audit(both) if its.kind == "copies")
    assert found.n == 1 and found.examples[0].endswith("its original in test")
