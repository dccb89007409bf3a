"""What became of every file, and why; oracles: trees written by hand."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_table, write_tree
from hypothesis import given
from hypothesis import strategies as st

from data_manifests import read_corpus
from data_manifests.ledger import LedgerRow, Listing, describe_missing, join_runs
from data_manifests.manifest import Utterance
from data_manifests.walking import LEAVES
from fins.data.corpus_import import write_ledger


def test_every_file_is_in_the_ledger_once(tmp_path):
    paths = [
        *("Actor_01/03-01-05-01-01-01-01.wav", "Actor_01/03-01-05-01-01-01-01.flac", "Actor_01/wrong.wav"),
        *(".DS_Store", "Actor_01/._03-01-05-01-01-01-01.wav", ".cache/03-01-05-02-01-01-01.wav"),
        *("readme", "notes.txt", "Actor_99/03-01-05-01-01-01-99.wav"),
    ]
    listing = read_corpus("ravdess", write_tree(tmp_path, *paths))
    assert sorted(paths) == [row.path for row in listing.ledger]
    reasons = {row.path: row.reason for row in listing.ledger}
    assert reasons["Actor_99/03-01-05-01-01-01-99.wav"] == "not in the manifest"
    assert reasons["Actor_01/03-01-05-01-01-01-01.wav"].startswith("same clip as another file: Actor_01/03")
    assert reasons["Actor_01/wrong.wav"] == "not a name of this corpus"
    assert reasons[".cache/03-01-05-02-01-01-01.wav"] == "in a hidden folder"
    assert [p for p, reason in reasons.items() if reason == "not audio"] == sorted(
        [".DS_Store", "Actor_01/._03-01-05-01-01-01-01.wav", "readme", "notes.txt"]
    )
    assert {u.id for u in listing.utterances} == {"03-01-05-01-01-01-01", "03-01-05-01-01-01-99"}


def test_linked_folders_are_followed_once_and_dead_links_are_named(tmp_path):
    write_tree(tmp_path / "elsewhere", "angry/1.wav")
    root = write_tree(tmp_path / "root", "sad/2.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "sad" / "loop").symlink_to(root)
    (root / "sad" / "dead.wav").symlink_to(root / "nowhere.wav")
    listing = read_corpus("folders", root, follow_links=True)
    assert {row.path: row.reason for row in listing.ledger} == {
        "linked/angry/1.wav": "",
        "sad/2.wav": "",
        "sad/dead.wav": "a link to nothing",
    }


def test_links_out_of_the_root_are_counted_and_not_followed(tmp_path, monkeypatch):
    write_tree(tmp_path / "elsewhere", "angry/1.wav")
    root = write_tree(tmp_path / "root", "sad/2.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "sad" / "3.wav").symlink_to(tmp_path / "elsewhere" / "angry" / "1.wav")
    (root / "sad" / "4.wav").symlink_to("2.wav")
    os.mkfifo(root / "sad" / "pipe.wav")
    (root / "sad" / "device.wav").symlink_to("/dev/zero")
    read = []
    monkeypatch.setattr("data_manifests.reading.sha256", lambda path: read.append(path.name) or "same")
    (tmp_path / "link to the root").symlink_to(root)
    for path in (root, tmp_path / "link to the root"):
        listing = read_corpus("folders", path)
        assert {row.path: row.reason for row in listing.ledger} == {
            "linked": LEAVES,
            "sad/2.wav": "",
            "sad/3.wav": LEAVES,
            "sad/4.wav": "",
            "sad/pipe.wav": "no plain file",
            "sad/device.wav": LEAVES,
        }
        assert set(read) == {"2.wav", "4.wav"}
    (root / "sad" / "2.wav").unlink()
    (root / "sad" / "4.wav").unlink()
    with pytest.raises(ValueError, match=r"none of the 1 .* can be used.*which --follow-links reads"):
        read_corpus("folders", root)


def test_files_outside_that_a_table_names_are_not_opened(tmp_path, monkeypatch):
    write_tree(tmp_path, "a.wav", "b.wav", "c/in.wav", "c/out")
    (tmp_path / "c" / "link.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "c" / "deep").symlink_to(tmp_path)
    odd = (".", "/", "..", "x" * 300 + ".wav", "deep/b.wav", "link.wav", "../a.wav", str(tmp_path / "b.wav"))
    table = write_table(tmp_path / "c", "path,emotion", "in.wav,sad", *(f"{path},sad" for path in odd))
    read = []
    monkeypatch.setattr("data_manifests.reading.sha256", lambda path: read.append(path) or "same")
    (tmp_path / "a.wav").write_bytes(b"xxx")
    (tmp_path / "b.wav").write_bytes(b"xxx")
    listing = read_corpus("csv", table)
    assert [one.path for one in listing.utterances] == ["in.wav"] and not read
    kinds = {row.reason.partition(":")[0] for row in listing.ledger} - {""}
    assert kinds == {"no name of a file", "outside the folder of the table", "not on disk", LEAVES}
    followed = read_corpus("csv", table, follow_links=True)
    assert [one.path for one in followed.utterances] == ["deep/b.wav", "in.wav", "link.wav"]


def test_a_cell_that_would_fill_a_store_and_a_time_of_many_digits_are_counted_rows(tmp_path):
    write_tree(tmp_path, "a.wav", "b.wav", "c.wav")
    rows = ("a.wav,sad,,1", f"b.wav,sad,{'x' * 1_001},1", f"c.wav,sad,,{'9' * 900}")
    listing = read_corpus("csv", write_table(tmp_path, "path,emotion,sentence,end", *rows))
    assert [row.reason.partition(":")[0] for row in listing.ledger] == [
        "",
        "a cell of more than 1,000 characters",
        "start and end are no stretch of seconds",
    ]


def test_byte_identical_files_are_found_and_others_of_their_size_are_not(tmp_path):
    for path, content in {"a": b"12", "b": b"34", "c": b"12", "d": b"5", "e": b"34", "f": b"12"}.items():
        write_tree(tmp_path, f"{'sad' if path == 'f' else 'angry'}/{path}.wav")
        next(tmp_path.glob(f"*/{path}.wav")).write_bytes(content)
    listing = read_corpus("folders", tmp_path)
    assert listing.duplicates == (
        ("angry/a.wav", "angry/c.wav", "sad/f.wav"),
        ("angry/b.wav", "angry/e.wav"),
    )
    lines = "\n".join(listing.summary())
    assert "byte-identical: angry/a.wav = angry/c.wav = sad/f.wav (labelled angry, angry, sad)" in lines
    assert lines.endswith("byte-identical: angry/b.wav = angry/e.wav")


def test_only_files_that_share_a_size_are_read(tmp_path, monkeypatch):
    write_tree(tmp_path, "angry/a.wav", "angry/b.wav", "angry/c.wav")
    (tmp_path / "angry/c.wav").write_bytes(b"x")
    read = []
    monkeypatch.setattr("data_manifests.reading.sha256", lambda path: read.append(path.name) or "same")
    assert read_corpus("folders", tmp_path).duplicates == (("angry/a.wav", "angry/c.wav"),)
    assert read == ["a.wav", "c.wav"]


@given(
    st.lists(
        st.sampled_from(["OAF", "YAF", "sad", "Joy", "bored", ".x", "1.wav", "2.FLAC", "n.txt"]), max_size=30
    )
)
def test_the_ledger_adds_up_whatever_the_tree(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("tree")
    folder = root
    for name in names:
        if "." in name[1:]:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            folder = root
        else:
            folder = folder / name
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    usable = {path for path in on_disk if path.endswith((".wav", ".FLAC")) and "/." not in f"/{path}"}
    usable = {path for path in usable if {"sad", "Joy"} & set(path.split("/")[:-1])}
    try:
        if not usable:
            with pytest.raises(ValueError, match="holds no folders file"):
                read_corpus("folders", root)
            return
        listing = read_corpus("folders", root)
        assert Counter(row.path for row in listing.ledger) == Counter(on_disk)
        assert {utterance.path for utterance in listing.utterances} == usable
        assert all(row.reason for row in listing.ledger if row.action == "dropped")
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"ledger": ()}, "an utterance without its row"),
        ({"utterances": ()}, "an utterance without its row"),
        ({"ledger": (LedgerRow("a.wav", "sad", "happy", "used"),)}, "an utterance without its row"),
        ({"ledger": (LedgerRow("a.wav", "sad", "sad", "kept"),)}, "an unknown action"),
        (
            {"ledger": (LedgerRow("a.wav", "sad", "sad", "used"), LedgerRow("b", "", "", "dropped"))},
            "dropped without a reason",
        ),
        ({"missing": ("b.wav",)}, "more missing than expected"),
    ],
)
def test_a_listing_that_does_not_add_up_is_refused(change, fault):
    good = {
        "corpus": "folders",
        "root": Path("."),
        "utterances": (Utterance("a", "a.wav", "folders", "s", "sad", ""),),
        "ledger": (LedgerRow("a.wav", "sad", "sad", "used"),),
    }
    assert Listing(**good).expected == 0
    with pytest.raises(RuntimeError, match=fault):
        Listing(**{**good, **change})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are texts")
def test_a_name_that_isnt_utf8_is_counted(tmp_path):
    write_tree(tmp_path, "angry/a.wav")
    odd = os.fsencode(tmp_path / "angry") + b"/\xfcber.wav"
    with open(odd, "wb") as file:
        file.write(b"x")
    listing = read_corpus("folders", tmp_path)
    assert [utterance.id for utterance in listing.utterances] == ["angry/a"]
    assert [row.reason for row in listing.ledger if row.reason] == ["a name that isn't UTF-8: rename it"]
    write_ledger(tmp_path / "ledger.csv", listing)
    assert "\\udcfcber.wav" in (tmp_path / "ledger.csv").read_text(encoding="utf-8")


# errors


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="no corpus 'ravdes': choose one of ravdess, crema_d, "):
        read_corpus("ravdes", tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist: give the path of tess, with OAF_angry/"):
        read_corpus("tess", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found no file at all"):
        read_corpus("tess", tmp_path)
    write_tree(tmp_path, "a.txt", "sub/DC_a01.wav")
    with pytest.raises(
        ValueError, match=r"expected names like .*OAF_back_angry.wav, found for example sub/DC_a01"
    ):
        read_corpus("tess", tmp_path)
    with pytest.raises(ValueError, match="is a file: to read tess, give its folder"):
        read_corpus("tess", tmp_path / "a.txt")
    write_tree(tmp_path / "songs", "03-02-05-01-01-01-01.wav")
    with pytest.raises(ValueError, match=r"none of the 1 ravdess files .* can be used.*song, not speech"):
        read_corpus("ravdess", tmp_path / "songs")


# summaries


def test_the_summary_names_whole_speakers_sentences_and_single_files():
    rows = [
        {"path": f"{speaker}{sentence}", "speaker": speaker, "sentence": sentence, "emotion": "sad"}
        for speaker in ("s1", "s2", "s3", "s4", "s5")
        for sentence in ("bar", "bath", "beg")
    ]
    missing = ["s1bar", "s1bath", "s1beg", "s3bath", "s2bath", "s4bath", "s5bath", "s5beg"]
    assert describe_missing(missing, rows) == [
        "1 whole speaker (3 files): s1",
        "1 whole sentence (4 files): bath",
        "1 more file: s5beg",
    ]
    assert describe_missing(["b", "a"], []) == ["2 files: a, b"]
    assert describe_missing([f"{i:02d}" for i in range(12)], [])[0].endswith("08, 09 and 2 more")


def test_runs_of_numbers_are_joined_and_words_are_not():
    values = ["01", "02", "03", "04", "06", "07", "bar", "bath", "beg"]
    assert join_runs(["01", "02", "03", "06", "07", "bar", "bath", "beg"], values) == [
        *("01 to 03", "06", "07", "bar", "bath", "beg"),
    ]


def test_the_summary_counts_what_was_done_and_why(tmp_path):
    paths = [
        "OAF_angry/OAF_back_angry.wav",
        "OAF_ps/OAF_back_ps.wav",
        "OAF_ps/OAF_bar_ps.wav",
        "a.txt",
        "b.txt",
    ]
    extra = "OAF_angry/OAF_zebra_angry.wav"
    copies = ("OAF_ps/OAF_back_ps.flac", "OAF_ps/OAF_bar_ps.flac")
    lines = read_corpus("tess", write_tree(tmp_path, *paths, extra, *copies)).summary()
    assert lines[0] == "tess: 3 of 2800 files of the manifest are here; 2797 missing"
    assert "  missing: 1 whole speaker (1400 files): YAF" in lines
    assert "  8 files found, 4 utterances, 1 speakers" in lines
    assert "  used 1" in lines
    assert f"  used 1: not in the manifest (first: {extra})" in lines
    assert "  mapped 2: ps → surprise" in lines
    assert "  dropped 2: not audio (first: a.txt)" in lines
    assert "  dropped 2: same clip as another file (first: OAF_ps/OAF_back_ps.wav)" in lines
    assert "  emotions: angry 2, surprise 2" in lines
