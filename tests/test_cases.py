"""Inputs like those that people reported trouble with, each made here, and what should become of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import make_signal
from test_containers import assert_whole, without_xing

from data_manifests import endings, read_corpus
from data_manifests.ledger import Listing
from fins.audio import SAMPLE_RATE, AudioError, read_audio, read_mixed
from fins.data.corpus_import import PrepareOptions, import_corpus
from fins.data.protocols import Division, divide
from fins.data.splits import read_split
from fins.data.table import UtteranceTable
from fins.tables import read_table
from ser_heads.experiments import configure
from ser_heads.experiments.run import train_classifier

pytestmark = pytest.mark.usefixtures("prepares_here")

RATE = 16_000
M4A = b"\0\0\0\x1cftypM4A \0\0\2\0M4A isommp42"


class Notes:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def bar(self, total: int | None, unit: str, what: str = ""):  # type: ignore[no-untyped-def]
        from fins.progress import SILENT

        return SILENT.bar(total, unit, what)


def voice(seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 20))
    return 0.1 * tone * (1 + np.sin(6 * np.pi * time)) / 2


def put(root: Path, paths: Sequence[str], n_samples: int = 4_000) -> Path:
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, make_signal(number, n_samples), SAMPLE_RATE)
    return root


def prepare(root: Path, out: Path, corpus: str = "folders", **options: object) -> list[str]:
    return import_corpus(PrepareOptions(corpus, root, out, workers=1, **options))  # type: ignore[arg-type]


def read_own(folder: Path, *lines: str, n_clips: int = 2) -> Listing:
    put(folder, [f"clips/{number:02d}.wav" for number in range(n_clips)], 2 * SAMPLE_RATE)
    (folder / "own.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_corpus("csv", folder / "own.csv")


def test_another_signal_of_a_take_is_not_the_speech(tmp_path: Path) -> None:
    takes = [f"03a01{letter}a.wav" for letter in "WFTN"]
    put(tmp_path, [f"{folder}/{take}" for folder in ("wav", "laryngo") for take in takes])
    listing = read_corpus("emodb", tmp_path)
    assert {utterance.path for utterance in listing.utterances} == {f"wav/{take}" for take in takes}
    assert [row.reason for row in listing.ledger].count("a laryngogram, not the speech") == 4


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_without_a_length_is_read_whole(tmp_path: Path, mode: str) -> None:
    without_xing(tmp_path / "a.mp3", bitrate_mode=mode, compression_level=0.6)
    assert_whole(tmp_path / "a.mp3")


def test_an_emotion_of_one_speaker_is_named_and_nothing_vanishes(tmp_path: Path, no_pictures: None) -> None:
    paths = [
        f"s{speaker}/{emotion}/{take}.wav"
        for speaker in range(1, 7)
        for emotion in ("angry", "happy", "sad", *(["disgust"] if speaker == 1 else []))
        for take in range(1 if emotion != "disgust" else 2)
    ]
    store = tmp_path / "lone.h5"
    notes = Notes()
    options = PrepareOptions("folders", put(tmp_path / "lone", paths), store, workers=1)
    import_corpus(options, notes)
    assert "disgust has one speaker alone, s1 (2 files)" in notes.lines[0]
    out = tmp_path / "run"
    config = configure("raw_cnn", store=(store,), frozen_epochs=1, copies=0, out=out)
    train_classifier(config, notes)
    (gap,) = json.loads((out / "result.json").read_text())["gaps"]
    assert gap.startswith("disgust (2 recordings, all of one speaker, lone/s1) isn't in the ")
    assert "record it of three speakers or more" in gap and "--emotions angry happy sad" in gap
    assert gap in notes.lines and gap in (out / "README.md").read_text()
    assert len(read_table(out / "split.csv")) == len(paths)


def test_stretches_are_utterances_of_their_own(tmp_path: Path) -> None:
    rows = ("path,start,end,emotion", "clips/00.wav,0,1,angry", "clips/00.wav,1,2,sad")
    listing = read_own(tmp_path, *rows)
    assert [(one.segment, one.emotion) for one in listing.utterances] == [((0, 1), "angry"), ((1, 2), "sad")]


def test_two_columns_of_one_name_are_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two columns of one name: 'emotion'"):
        read_own(tmp_path, "path,emotion,emotion", "clips/00.wav,angry,neutral")


def test_absolute_paths_inside_the_folder_are_read(tmp_path: Path) -> None:
    listing = read_own(tmp_path, "path,emotion", f"{tmp_path.resolve() / 'clips/00.wav'},angry")
    assert [utterance.path for utterance in listing.utterances] == ["clips/00.wav"]


def test_one_file_with_two_labels_is_named(tmp_path: Path) -> None:
    rows = ("path,emotion", "clips/00.wav,angry", "clips/00.wav,sad", "clips/01.wav,sad")
    listing = read_own(tmp_path, *rows)
    assert [utterance.path for utterance in listing.utterances] == ["clips/01.wav"]
    reasons = {row.reason for row in listing.ledger if row.reason}
    assert reasons == {"several labels for one recording: clips/00.wav is angry (line 2) and sad (line 3)"}


def test_parts_of_ones_own_and_a_split_by_hand_with_a_mark_of_byte_order(tmp_path: Path) -> None:
    paths = [
        f"{part}/{emotion}/{take}.wav"
        for part, n_takes in (("Train", 4), ("Validation", 2), ("Test", 2))
        for emotion in ("angry", "happy", "sad")
        for take in range(n_takes)
    ]
    root, store = put(tmp_path / "own", paths), tmp_path / "own.h5"
    line = "  parts of its own: test 6, train 12, validation 6; they count with --protocol own alone"
    assert line in read_corpus("folders", root).summary()
    prepare(root, store)
    rows = ["utterance,part", *(f"{path[:-4]},{path.split('/')[0].lower()}" for path in paths)]
    split = tmp_path / "own.csv"
    split.write_text("\ufeff" + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    with UtteranceTable([store]) as table:
        by_folder, by_hand = divide(table.rows, Division("own")), read_split(split, table.rows)
    assert {part: len(places) for part, places in by_folder.items()} == {
        **{"train": 12, "validation": 6, "test": 6}
    }
    for part, places in by_folder.items():
        np.testing.assert_array_equal(by_hand[part], places)


def test_opposite_phase_takes_a_channel_and_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([voice(), -voice()], axis=1), RATE)
    signal, faults = read_mixed(tmp_path / "a.wav")
    assert np.abs(signal).max() > 0.1 and "opposite phase" in faults["phase"]


@pytest.mark.parametrize("kind", ["scaled as integers", "one huge sample"])
def test_samples_that_are_no_amplitudes_are_refused(tmp_path: Path, kind: str) -> None:
    samples = voice().astype("f4")
    if kind == "one huge sample":
        samples[100] = 1e30
    else:
        samples *= 32_768
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds samples up to .*, where full scale is 1"):
        read_audio(tmp_path / "a.wav")


def test_a_pointer_of_git_lfs_says_what_to_run(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 64044\n"
    (tmp_path / "a.wav").write_text(text)
    with pytest.raises(AudioError, match="git lfs pull"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32"])
def test_codecs_of_telephones_are_read(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), RATE, subtype=subtype)
    assert abs(len(read_audio(tmp_path / "a.wav")) / SAMPLE_RATE - 1) < 0.03


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFDB, 0xFFFFFFFF])
def test_a_size_that_no_recorder_filled_in_is_no_length(tmp_path: Path, size: int) -> None:
    header = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    start = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + header + b"data" + struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(start + (voice() * 32_767).astype("<i2").tobytes())
    assert len(read_audio(tmp_path / "a.wav")) == SAMPLE_RATE


def test_a_format_that_is_not_decoded_is_named_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "has_decoders", lambda: False)
    put(tmp_path, ["sad/a.wav"])
    (tmp_path / "sad" / "b.m4a").write_bytes(M4A)
    wanted = r'ffmpeg -i \S+b.m4a \S+b.wav, or pip install "fin-ser\[decoders\]"'
    with pytest.raises(AudioError, match=f"is m4a or mp4, .*{wanted}"):
        read_audio(tmp_path / "sad" / "b.m4a")
    (row,) = (row for row in read_corpus("folders", tmp_path).ledger if row.action == "dropped")
    assert row.reason.startswith("m4a isn't decoded here, convert it, ffmpeg -i clip.m4a clip.wav")


def test_words_of_ones_own_are_labels_or_a_sentence_says_how(tmp_path: Path) -> None:
    words = ("bored", "stressed", "relaxed")
    paths = [f"p{speaker}/{word}/0.wav" for speaker in range(1, 5) for word in words]
    put(tmp_path, paths)
    with pytest.raises(ValueError, match=r"bored 4, .*the labels are angry, .*--labels bored stressed"):
        read_corpus("folders", tmp_path)
    assert len(read_corpus("folders", tmp_path, words).utterances) == 12


def test_some_known_words_make_no_silent_store_of_two_classes(tmp_path: Path) -> None:
    words = ("FURIOUS", "Happy", "SADNESS", "Wut")
    root = put(tmp_path / "some", [f"p{n}/{word}/0.wav" for n in range(1, 5) for word in words])
    last = prepare(root, tmp_path / "some.h5")[-1]
    assert last.startswith("LEFT OUT") and "what is used is happy, sad. FURIOUS 4, Wut 4;" in last
    assert json.loads((tmp_path / "some.report.json").read_text())["unknown_words"] == {
        "FURIOUS": 4,
        "Wut": 4,
    }


def test_twins_are_not_merged_and_what_both_hold_is_found(tmp_path: Path, no_pictures: None) -> None:
    paths = [f"s1/{emotion}/{take}.wav" for emotion in ("angry", "happy") for take in range(3)]
    stores = (tmp_path / "one.h5", tmp_path / "two.h5")
    for store in stores:
        prepare(put(tmp_path / store.stem, paths), store)
    out, notes = tmp_path / "run", Notes()
    config = configure("raw_cnn", store=stores, protocol="random", frozen_epochs=1, copies=0, out=out)
    train_classifier(config, notes)
    repeats = json.loads((out / "result.json").read_text())["repeats"]
    assert repeats[0].startswith("6 recordings stand in several stores, byte-identical or as the same sound")
    assert "one/s1 = two/s1" in repeats[1] and set(repeats) <= set(notes.lines)
    split = read_table(out / "split.csv")
    assert set(split["speaker"]) == {"one/s1", "two/s1"} and len(split) == 12
    assert set(split["part"][split["speaker"] == "two/s1"]) == {"unused"}
