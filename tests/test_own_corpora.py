"""Corpora of one's own: their names, recordings that several stores have, recordings that came since."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from conftest import make_recordings, make_signal

import fins.data.preparation as preparation
from data_manifests import read_corpus
from data_manifests.manifest import Utterance
from fins.audio import SAMPLE_RATE
from fins.data.audit import AuditConfig, audit_split
from fins.data.corpus_import import PrepareOptions, import_corpus
from fins.data.exploration.page import ExploreConfig, explore, headlines
from fins.data.folds import folds
from fins.data.protocols import Division, divide
from fins.data.store import SOUND, Recording, Store, StoreError, join_stores, write_store
from fins.data.table import UtteranceTable
from fins.data.verification import verify_store

pytestmark = pytest.mark.usefixtures("prepares_here")


def record(root: Path, paths: Sequence[str], first: int = 0) -> Path:
    for number, path in enumerate(paths, first):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, make_signal(number, 4_000), SAMPLE_RATE)
    return root


def prepare(root: Path, out: Path, **options: object) -> list[str]:
    return import_corpus(PrepareOptions("folders", root, out, workers=1, **options))  # type: ignore[arg-type]


def store_of(path: Path, corpus: str, recordings: Sequence[Recording], **columns: str) -> Path:
    utterances = [replace(one.utterance, corpus=corpus, **columns) for one in recordings]
    pairs = zip(utterances, recordings, strict=True)
    write_store(path, [Recording(own, one.signal, one.sha256) for own, one in pairs])
    return path


# ---- names -------------------------------------------------------------------------------------------------


def test_two_folders_with_a_speaker_of_one_name_are_not_merged(tmp_path: Path) -> None:
    paths = [f"s1/{emotion}/{take}.wav" for emotion in ("angry", "happy") for take in range(2)]
    stores = []
    for number, name in enumerate(("one", "two")):
        prepare(record(tmp_path / name, paths, 10 * number), tmp_path / f"{name}.h5")
        stores.append(tmp_path / f"{name}.h5")
    with UtteranceTable(stores) as table:
        assert list(dict.fromkeys(table.rows["person"])) == ["one/s1", "two/s1"]
        assert table.repeats == () and table.rows["counted"].all()
    result, _ = explore(ExploreConfig(tuple(stores), tmp_path / "explored", sample=1))
    assert "one, speakers: s1 4" in headlines(result)
    page = (tmp_path / "explored" / "index.html").read_text()
    assert "one: s1 4" in page and "two: s1 4" in page


def test_folders_of_one_name_in_two_places_are_told_apart_by_a_person(tmp_path: Path) -> None:
    paths = ["s1/angry/0.wav", "s1/happy/0.wav"]
    for number, place in enumerate("ab"):
        record(tmp_path / place / "recordings", paths, 10 * number)
        prepare(tmp_path / place / "recordings", tmp_path / f"{place}.h5")
    with pytest.raises(ValueError, match=r"both have a speaker s1: prepare each with a --name of its own"):
        UtteranceTable([tmp_path / "a.h5", tmp_path / "b.h5"])
    prepare(tmp_path / "b" / "recordings", tmp_path / "named.h5", name="others")
    with UtteranceTable([tmp_path / "a.h5", tmp_path / "named.h5"]) as table:
        assert set(table.rows["person"]) == {"recordings/s1", "others/s1"}
    for place in "ab":
        prepare(tmp_path / place / "recordings", tmp_path / f"same{place}.h5", name="mine")
    with UtteranceTable([tmp_path / "samea.h5", tmp_path / "sameb.h5"]) as table:
        assert set(table.rows["person"]) == {"mine/s1"}


@pytest.mark.parametrize(
    ("name", "message"), [("a/b", "no name"), ("", "no name"), ("ravdess", "is a known corpus")]
)
def test_what_is_no_name(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrepareOptions("folders", tmp_path, tmp_path / "a.h5", name=name)


def test_a_folder_that_is_called_as_a_known_corpus_is_not_taken_for_it(tmp_path: Path) -> None:
    prepare(record(tmp_path / "ravdess", ["01/angry/0.wav", "01/happy/0.wav"]), tmp_path / "a.h5")
    with Store(tmp_path / "a.h5") as store:
        assert set(store.utterances["corpus"]) == {"folders"}


# ---- recordings that several stores have -------------------------------------------------------------------


def test_recordings_that_stand_in_two_stores_count_once(tmp_path: Path) -> None:
    recordings = make_recordings(64)
    flac = [replace(one, sha256=f"{one.sha256} as flac") for one in recordings[:6]]
    other = [replace(one, signal=one.signal[::-1].copy()) for one in make_recordings(16, "other")]
    one = store_of(tmp_path / "one.h5", "one", recordings)
    two = store_of(tmp_path / "two.h5", "two", [*flac, *recordings[6:10], *other])
    with UtteranceTable([one, two]) as table:
        rows = table.rows
        again = rows["corpus"].eq("two") & rows["id"].str.startswith("made")
        np.testing.assert_array_equal(rows["counted"], ~again)
        first, people = table.repeats
        assert first.startswith("10 recordings stand in several stores")
        assert "one/made-000 (one.h5) = two/made-000 (two.h5)" in first and "5 more" in first
        assert "one/s0 = two/s0" in people
        for protocol in ("speaker", "random"):
            parts = divide(rows, Division(protocol), 3)
            used = np.concatenate(list(parts.values()))
            assert sorted(used) == np.flatnonzero(~again).tolist()
        for fold in folds(rows, "random", 4, Division()):
            assert sorted(np.concatenate(list(fold.parts.values()))) == np.flatnonzero(~again).tolist()
    result, page = audit_split(AuditConfig((one, two), protocol="random"))
    assert result["repeats"] == [first, people] and first in page
    assert "identical" not in result["leaks"] and result["speakers"]["unused"] == {"two/s0": 8, "two/s1": 2}


def test_stores_without_digests_of_sound_are_compared_by_their_sound(tmp_path: Path) -> None:
    recordings = make_recordings(16)
    one = store_of(tmp_path / "one.h5", "one", recordings)
    flac = [replace(recording, sha256=f"{recording.sha256} as flac") for recording in recordings]
    two = store_of(tmp_path / "two.h5", "two", flac)
    with h5py.File(two, "r+") as file:
        assert len(file[SOUND]) == 16
        del file[SOUND]
    with UtteranceTable([one, two]) as table:
        assert table.rows["counted"].tolist() == [True] * 16 + [False] * 16
    join_stores(tmp_path / "both.h5", [one, two])
    with Store(tmp_path / "both.h5") as store:
        assert (
            store.sound(3)
            == store.sound(19)
            == hashlib.blake2b(recordings[3].signal.tobytes(), digest_size=16).hexdigest()
        )


def test_recordings_with_two_labels_in_two_stores_count_in_neither(tmp_path: Path) -> None:
    recordings = make_recordings(16)
    one = store_of(tmp_path / "one.h5", "one", recordings)
    two = store_of(tmp_path / "two.h5", "two", recordings[:2], emotion="bored")
    with UtteranceTable([one, two]) as table:
        assert np.flatnonzero(~table.rows["counted"]).tolist() == [0, 1, 16, 17]
        (sentence,) = table.repeats
    assert sentence.startswith("4 recordings stand in several stores with different emotions")
    assert "one/made-000 (one.h5) is angry" in sentence and "two/made-000 (two.h5) is bored" in sentence


def test_copies_of_what_counts_elsewhere_do_not_count_and_silence_is_no_repeat(tmp_path: Path) -> None:
    recordings = make_recordings(4)
    copy = Utterance("made-000+noise", "a.wav", "one", "s0", "angry", "", augmented_from="made-000")
    silence = np.zeros(9_000, np.int16)
    silent = Utterance("silent", "b.wav", "one", "s0", "sad", "")
    both = [*recordings, Recording(silent, silence, "sha-1"), Recording(copy, recordings[3].signal, "sha")]
    one = store_of(tmp_path / "one.h5", "one", both)
    other = [replace(recordings[0], sha256="x"), Recording(copy, recordings[2].signal, "x")]
    two = store_of(tmp_path / "two.h5", "two", [*other, Recording(silent, silence, "sha-2")])
    with h5py.File(two, "r+") as file:
        file["utterances/augmented_from"][1] = b"made-000"
    with h5py.File(one, "r+") as file:
        file["utterances/augmented_from"][5] = b"made-000"
    with UtteranceTable([one, two]) as table:
        assert table.rows["counted"].tolist() == [True] * 6 + [False, False, True]


# ---- recordings that came since ----------------------------------------------------------------------------

PATHS = [f"s{speaker}/{emotion}/0.wav" for speaker in range(3) for emotion in ("angry", "happy")]


def rows_by_id(path: Path) -> dict[str, tuple[str, ...]]:
    with Store(path) as store:
        columns = ("path", "corpus", "speaker", "emotion", "sha256", "sound")
        return {
            str(name): (
                *(str(store.utterances[column][row]) for column in columns),
                *map(str, store.signal(row)),
            )
            for row, name in enumerate(store.utterances["id"])
        }


def test_recordings_that_came_since_are_added(tmp_path: Path) -> None:
    root, out = record(tmp_path / "mine", PATHS[:4]), tmp_path / "mine.h5"
    prepare(root, out)
    record(root, PATHS[4:], 4)
    with pytest.raises(StoreError, match=r"--add takes up recordings that came since"):
        prepare(root, out)
    assert "  added: 2 utterances to the 4 that the store held" in prepare(root, out, add=True)
    fresh = tmp_path / "fresh.h5"
    prepare(root, fresh)
    assert rows_by_id(out) == rows_by_id(fresh)
    verified = verify_store(out)
    assert verified.n > 0 and not verified.faults
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["store"]["n_utterances"] == 6 and report["files_found"] == 6
    before = out.read_bytes()
    prepare(root, out)  # the same command again, now that nothing is new
    prepare(root, out, add=True)
    assert out.read_bytes() == before and not list(tmp_path.glob("*.parts"))


def test_the_first_time_adding_is_preparing(tmp_path: Path) -> None:
    root = record(tmp_path / "mine", PATHS)
    prepare(root, tmp_path / "added.h5", add=True)
    prepare(root, tmp_path / "made.h5")
    assert rows_by_id(tmp_path / "added.h5") == rows_by_id(tmp_path / "made.h5")


def test_what_is_gone_stays_in_the_store_and_is_named(tmp_path: Path) -> None:
    root, out = record(tmp_path / "mine", PATHS[:4]), tmp_path / "mine.h5"
    prepare(root, out)
    (root / PATHS[0]).unlink()
    record(root, PATHS[4:], 4)
    lines = prepare(root, out, add=True)
    assert "  1 recordings of the store are no longer in the corpus; they stay" in lines
    assert f"    {PATHS[0][:-4]}" in lines and len(rows_by_id(out)) == 6


@pytest.mark.parametrize(
    "change",
    [
        "other bytes",
        "has the speaker",
        "was s0/angry/0.wav",
        "s0/happy/1.wav is s0/angry/0.wav there",
        "another --clip",
    ],
)
def test_what_changed_is_not_added_to(tmp_path: Path, change: str) -> None:
    root, out = record(tmp_path / "mine", PATHS[:4]), tmp_path / "mine.h5"
    prepare(root, out)
    before = out.read_bytes()
    record(root, PATHS[4:], 4)
    options: dict[str, object] = {"add": True}
    if change == "other bytes":
        soundfile.write(root / PATHS[0], make_signal(99, 4_000), SAMPLE_RATE)
    elif change == "another --clip":
        options["clip"] = "0:0.1"
    elif change.endswith("there"):
        (root / PATHS[0]).rename(root / "s0/happy/1.wav")
    elif change.startswith("was"):
        soundfile.write(root / "s0/angry/0.flac", make_signal(0, 4_000), SAMPLE_RATE)
        (root / PATHS[0]).unlink()
    else:  # the id stays, the label of it doesn't
        with h5py.File(out, "r+") as file:
            file["utterances/speaker"][0] = b"x"
        before = out.read_bytes()
    with pytest.raises(StoreError, match=change):
        prepare(root, out, **options)
    assert out.read_bytes() == before


def test_a_kill_while_adding_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = record(tmp_path / "mine", PATHS[:4]), tmp_path / "mine.h5"
    prepare(root, out)
    before = out.read_bytes()
    record(root, PATHS[4:], 4)
    with monkeypatch.context() as patched:

        def killed(*arguments: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(preparation, "join_stores", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, out, add=True)
    assert out.read_bytes() == before
    with UtteranceTable([out]) as table:
        assert len(table) == 4
    with monkeypatch.context() as patched:  # what was made before the kill isn't made again
        patched.setattr(preparation, "_make_part", killed)
        prepare(root, out, add=True)
    assert len(rows_by_id(out)) == 6 and not list(tmp_path.glob("*.parts"))


def test_of_two_commands_at_once_none_adds_to_the_store_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (record(tmp_path / name, PATHS) for name in ("one", "two"))
    out, locked = tmp_path / "out.h5", preparation.locked

    def locked_late(folder: Path) -> AbstractContextManager[None]:
        monkeypatch.setattr(preparation, "locked", locked)
        prepare(one, out)
        return locked(folder)

    monkeypatch.setattr(preparation, "locked", locked_late)
    with pytest.raises(StoreError, match="made of other input"):
        prepare(two, out)
    with Store(out) as store:
        assert set(store.utterances["corpus"]) == {"one"}


def test_an_unreadable_recording_is_tried_again_when_others_are_added(tmp_path: Path) -> None:
    root, out = record(tmp_path / "mine", PATHS[:3]), tmp_path / "mine.h5"
    (root / "s1/happy").mkdir()
    (root / PATHS[3]).write_bytes(b"RIFF")
    assert any("can't be read" in line for line in prepare(root, out))
    record(root, PATHS[3:], 3)
    assert not any("can't be read" in line for line in prepare(root, out, add=True))
    assert len(rows_by_id(out)) == 6


@pytest.mark.parametrize(("written", "on_disk"), [("e\u0308", "\u00eb"), ("\u00eb", "e\u0308")])
def test_paths_of_a_table_are_found_however_their_letters_are_composed(
    tmp_path: Path, written: str, on_disk: str
) -> None:
    record(tmp_path, [f"zo{on_disk}/sad.wav", "anna/sad.wav"])
    table = tmp_path / "table.csv"
    table.write_text(f"path,emotion\nzo{written}/sad.wav,sad\nanna/sad.wav,sad\n", encoding="utf-8")
    listing = read_corpus("csv", table)
    assert [utterance.path for utterance in listing.utterances] == ["anna/sad.wav", f"zo{on_disk}/sad.wav"]
    assert not listing.missing


# ---- what prepare says -------------------------------------------------------------------------------------


def test_speakers_and_emotions_of_one_speaker_are_said(tmp_path: Path) -> None:
    root = record(tmp_path / "mine", [*PATHS, "s0/sad/0.wav", "speaker/session1/angry/0.wav"])
    lines = read_corpus("folders", root).summary()
    assert "  speakers: s0 3, s1 2, s2 2, session1 1" in lines
    (lone,) = (line for line in lines if "one speaker alone" in line)
    assert lone.startswith("  sad has one speaker alone, s0 (1 files)") and "--emotions" in lone


def test_files_of_unknown_speakers_are_said(tmp_path: Path) -> None:
    record(tmp_path, ["a.wav", "b.wav", "c.wav"])
    (tmp_path / "table.csv").write_text("path,emotion,speaker\na.wav,sad,s\nb.wav,sad,\nc.wav,sad,\n")
    summary = read_corpus("csv", tmp_path / "table.csv").summary()
    assert any("2 files are of unknown speakers, who count as one" in line for line in summary)


def test_words_that_are_no_labels_have_the_last_word(tmp_path: Path) -> None:
    words = ("FURIOUS", "Happy", "SADNESS", "Wut")
    root = record(tmp_path / "mine", [f"p{n}/{word}/0.wav" for n in range(4) for word in words])
    last = prepare(root, tmp_path / "a.h5")[-1]
    assert last.startswith(
        "LEFT OUT are files whose words are no labels; what is used is happy, sad. FURIOUS 4, Wut 4; the "
    )
    assert "joyful=happy" in last
    pairs = ("FURIOUS=angry", "Wut=angry")
    assert not any("LEFT OUT" in line for line in prepare(root, tmp_path / "b.h5", labels=pairs))


def test_equal_files_of_different_speakers_are_named(tmp_path: Path) -> None:
    root = record(tmp_path / "mine", [f"s{n}/{word}/0.wav" for n in range(4) for word in ("angry", "sad")])
    shutil.copy(root / "s0/sad/0.wav", root / "s3/sad/0.wav")
    prepare(root, tmp_path / "a.h5")
    report = json.loads((tmp_path / "a.report.json").read_text())
    assert report["duplicates"] == [["s0/sad/0.wav", "s3/sad/0.wav"]]
    messages = []
    with UtteranceTable([tmp_path / "a.h5"]) as table:
        for seed in range(9):
            try:
                divide(table.rows, Division(), seed)
            except ValueError as error:
                messages.append(str(error))
    assert messages and all("(mine/s0/sad/0 = mine/s3/sad/0)" in message for message in messages)
