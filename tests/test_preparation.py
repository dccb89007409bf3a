"""Preparing a store: what goes in is what the files hold, and every file is accounted for."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_manifests.manifest import Utterance
from fins.audio import HOP, SAMPLE_RATE, WINDOW, quantise, read_audio
from fins.data.corpus_import import PrepareOptions, parse_clip
from fins.data.preparation import (
    Preparation,
    PreparationCounts,
    _finished,
    _group,
    _make_part,
    cut_clip,
    load_recordings,
    parts_folder,
)
from fins.data.protocols import Division, assign_parts
from fins.data.store import Store, StoreError
from fins.data.synthetic.synthesiser import write_corpus
from fins.data.table import rows_of_stores
from pipelines.prepare import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 synthetic utterances of three speakers."""
    root = tmp_path_factory.mktemp("made")
    write_corpus(root / "corpus", n_speakers=3, n_sentences=1, n_takes=1)
    return root / "corpus"


@pytest.fixture(scope="module")
def prepared(made: Path) -> Path:
    out = made.parent / "made.h5"
    main(PrepareOptions("synthetic", made, out, workers=2))
    return out


def tone(rate: int, seconds: float) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


def awkward_corpus(root: Path) -> tuple[list[str], list[str]]:
    """A tree of good but unusual files and of bad ones; returns the names of both."""
    for emotion in ("angry", "Happiness", "sad", "boredom"):
        (root / emotion).mkdir(parents=True)
    write = soundfile.write
    write(root / "angry/stereo.wav", np.stack([tone(44_100, 0.4)] * 2, axis=1), 44_100)
    write(root / "angry/eight_bit.wav", tone(SAMPLE_RATE, 0.4), SAMPLE_RATE, subtype="PCM_U8")
    write(root / "Happiness/ninety_six.flac", tone(96_000, 0.4), 96_000, subtype="PCM_24")
    write(root / "Happiness/short.wav", tone(SAMPLE_RATE, 0.01), SAMPLE_RATE)
    write(root / "sad/silent.wav", np.zeros(5_000), SAMPLE_RATE)
    write(root / "sad/loud.wav", 3 * tone(SAMPLE_RATE, 0.4), SAMPLE_RATE, subtype="FLOAT")
    write(root / "boredom/unknown_label.wav", tone(SAMPLE_RATE, 0.4), SAMPLE_RATE)
    write(root / "sad/nan.wav", np.full(5_000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    whole = (root / "angry/eight_bit.wav").read_bytes()
    (root / "sad/truncated.wav").write_bytes(whole[: len(whole) // 2])
    (root / "sad/text.wav").write_text("not audio")
    (root / "sad/empty.wav").touch()
    good = ["angry/eight_bit.wav", "angry/stereo.wav", "Happiness/ninety_six.flac", "Happiness/short.wav"]
    return [*good, "sad/silent.wav", "sad/loud.wav"], ["nan.wav", "truncated.wav", "text.wav", "empty.wav"]


def test_the_store_holds_what_the_files_hold(made: Path, prepared: Path) -> None:
    files = sorted(made.rglob("*.wav"))
    with Store(prepared) as store:
        assert sorted(store.utterances["path"]) == [path.relative_to(made).as_posix() for path in files]
        assert store.n_utterances == 24
        for row, path in enumerate(store.utterances["path"]):
            np.testing.assert_array_equal(store.signal(row), quantise(read_audio(made / path))[0])
            _, speaker, emotion = made.name, *path.split("/")[1].split("_")[:2]
            assert (store.utterances["speaker"][row], store.utterances["emotion"][row]) == (speaker, emotion)
    assert not parts_folder(prepared).exists()


def test_every_file_is_accounted_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = awkward_corpus(tmp_path / "tree")
    out = tmp_path / "stores" / "tree.h5"
    main(PrepareOptions("folders", tmp_path / "tree", out, workers=1))
    printed = capsys.readouterr().out
    report = json.loads(out.with_suffix(".report.json").read_text())
    assert report["files_found"] == 11
    assert report["files"] == {"dropped": 5, "mapped": 2, "used": 4}
    assert report["store"]["n_utterances"] == len(good)
    assert [Path(path).name for path, _ in report["store"]["unreadable"]] == sorted(bad)
    assert (report["store"]["n_padded"], report["store"]["n_silent"]) == (1, 1)
    assert report["store"]["n_clipped_samples"] > 100
    for words in ("4 files that can't be read", "1 silent throughout", "nan.wav", "boredom"):
        assert words in printed
    with out.with_suffix(".ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    dropped = [Path(row["path"]).name for row in rows if row["reason"].startswith("can't be read: ")]
    assert len(rows) == 11 and sorted(dropped) == sorted(bad)
    with Store(out) as store:
        assert sorted(store.utterances["path"]) == sorted(good)
        lengths = store.utterances["n_samples"]
        tails = sum(max(0, n - WINDOW) % HOP for n in lengths)
        assert report["store"]["n_tail_samples"] == tails
        assert min(lengths) == WINDOW


def test_strict_ends_at_the_first_file_that_can_not_be_read(tmp_path: Path) -> None:
    awkward_corpus(tmp_path / "tree")
    with pytest.raises(ValueError, match=r"--strict: .*(truncated|NaN|empty|no audio)"):
        main(PrepareOptions("folders", tmp_path / "tree", tmp_path / "tree.h5", workers=1, strict=True))
    assert not (tmp_path / "tree.h5").exists()


def test_a_corpus_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree/sad").mkdir(parents=True)
    (tmp_path / "tree/sad/text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"none of the 1 files could be read; .*no audio"):
        main(PrepareOptions("folders", tmp_path / "tree", tmp_path / "tree.h5", workers=1))


def test_the_same_command_again_keeps_the_store_and_other_input_is_refused(
    made: Path, prepared: Path, tmp_path: Path
) -> None:
    before = prepared.stat().st_mtime_ns
    report = prepared.with_suffix(".report.json").read_text()
    main(PrepareOptions("synthetic", made, prepared, workers=2))
    assert prepared.stat().st_mtime_ns == before
    assert prepared.with_suffix(".report.json").read_text() == report
    with pytest.raises(StoreError, match="made of other input"):
        main(PrepareOptions("synthetic", made, prepared, clip="0:1"))
    (tmp_path / "tree/sad").mkdir(parents=True)
    soundfile.write(tmp_path / "tree/sad/a.wav", tone(SAMPLE_RATE, 1), SAMPLE_RATE)
    ledger = prepared.with_suffix(".ledger.csv").read_text()
    with pytest.raises(StoreError, match="made of other input"):
        main(PrepareOptions("folders", tmp_path / "tree", prepared))
    assert prepared.with_suffix(".ledger.csv").read_text() == ledger


def test_a_folder_in_the_way_is_left_alone(made: Path, tmp_path: Path) -> None:
    parts = parts_folder(tmp_path / "made.h5")
    parts.mkdir()
    (parts / "precious.txt").write_text("keep me")
    with pytest.raises(StoreError, match="is in the way"):
        main(PrepareOptions("synthetic", made, tmp_path / "made.h5"))
    assert (parts / "precious.txt").exists()


def test_published_augmentations(tmp_path: Path) -> None:
    signal = tone(SAMPLE_RATE, 1.0)
    soundfile.write(tmp_path / "a.wav", signal, SAMPLE_RATE, subtype="FLOAT")
    utterance = Utterance("a", "a.wav", "made", "s", "calm", "")
    preparation = Preparation(augment="paper", seed=1)
    account = PreparationCounts()
    original, noisy, stretched = load_recordings(utterance, tmp_path, preparation, account)
    assert account.n_augmented == 2
    assert [r.utterance.augmented_from for r in (original, noisy, stretched)] == ["", "a", "a"]

    noise = (noisy.signal - original.signal.astype(float)) / 32_768
    assert 0 < noise.std() < 0.035 * 0.4
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.05  # white
    assert len(stretched.signal) == pytest.approx(1.25 * len(signal), rel=0.01)
    middle = stretched.signal[6_000:18_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    pitch = spectrum.argmax() * SAMPLE_RATE / (1 << 18)
    assert pitch == pytest.approx(440 * 2 ** (0.7 / 12), rel=2e-3)

    again = load_recordings(utterance, tmp_path, preparation, PreparationCounts())
    np.testing.assert_array_equal(again[1].signal, noisy.signal)
    other = load_recordings(utterance, tmp_path, replace(preparation, seed=2), PreparationCounts())
    assert (other[1].signal != noisy.signal).any()
    held_out = replace(utterance, part="test")
    assert len(load_recordings(held_out, tmp_path, preparation, PreparationCounts())) == 1


def test_augmented_copies_in_a_store_only_train(made: Path, tmp_path: Path, prepares_here: None) -> None:
    out = tmp_path / "augmented.h5"
    main(PrepareOptions("synthetic", made, out, augment="paper", clip="0:0.5"))
    with Store(out) as store:
        assert store.n_utterances == 72
        parts = assign_parts(rows_of_stores([store]), Division("random"), 0)
        copies = store.utterances["augmented_from"] != ""
        assert set(parts[copies]) == {"train", "unused"}
        assert set(store.utterances["n_samples"][~copies]) == {SAMPLE_RATE // 2}


def test_a_clip_is_cut_or_centred_in_zeros() -> None:
    signal = np.arange(1, 5 * SAMPLE_RATE, dtype=np.float32)
    cut = cut_clip(signal, 0.6, 3.1)
    assert len(cut) == 55_125 and cut[0] == round(0.6 * SAMPLE_RATE) + 1
    short = cut_clip(signal[: 2 * SAMPLE_RATE], 0.6, 3.1)
    kept = 2 * SAMPLE_RATE - round(0.6 * SAMPLE_RATE)
    before = (55_125 - kept) // 2
    assert len(short) == 55_125 and not short[:before].any() and not short[before + kept :].any()
    np.testing.assert_array_equal(short[before : before + kept], signal[round(0.6 * SAMPLE_RATE) :][:kept])
    assert not cut_clip(signal[:100], 0.6, 3.1).any()


def test_what_a_clip_pads_cuts_or_misses_is_counted(tmp_path: Path) -> None:
    (tmp_path / "tree/sad").mkdir(parents=True)
    for name, seconds in (("long", 2.0), ("exact", 1.5), ("short", 1.0), ("early", 0.4)):
        soundfile.write(tmp_path / f"tree/sad/{name}.wav", tone(SAMPLE_RATE, seconds), SAMPLE_RATE)
    out = tmp_path / "clips.h5"
    main(PrepareOptions("folders", tmp_path / "tree", out, clip="0.5:1.5"))
    account = json.loads(out.with_suffix(".report.json").read_text())["store"]
    assert (account["n_utterances"], account["n_cut"], account["n_padded"]) == (3, 1, 1)
    ((path, why),) = account["unreadable"]
    assert path == "sad/early.wav" and "ends before the clip starts" in why


def test_a_part_with_a_file_that_could_not_be_read_is_made_again(made: Path, tmp_path: Path) -> None:
    good = Utterance("a", next(made.rglob("*.wav")).relative_to(made).as_posix(), "made", "s", "calm", "")
    part = tmp_path / "000000.h5"
    account = _make_part(part, [good, replace(good, id="b", path="lost.wav")], made, Preparation())
    assert (account.n_utterances, len(account.unreadable)) == (1, 1)
    assert _finished(part) is None
    assert _make_part(part, [good], made, Preparation()) == _finished(part)
    part.with_suffix(".json").write_text('{"other": 1}')
    assert _finished(part) is None


def test_stretches_of_a_file_are_stored_apart(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", tone(SAMPLE_RATE, 3), SAMPLE_RATE)
    rows = ("path,start,end,emotion", "long.wav,0,1,angry", "long.wav,1.25,,sad", "long.wav,2,5,sad")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    main(PrepareOptions("csv", tmp_path / "table.csv", tmp_path / "a.h5", workers=1))
    report = json.loads((tmp_path / "a.report.json").read_text())
    ((path, why),) = report["store"]["unreadable"]
    assert path == "long.wav#t=2,5" and "long.wav ends after 3.00 s" in why
    whole = quantise(read_audio(tmp_path / "long.wav"))[0]
    with Store(tmp_path / "a.h5") as store:
        assert list(store.utterances["emotion"]) == ["angry", "sad"]
        np.testing.assert_array_equal(store.signal(0), whole[:SAMPLE_RATE])
        np.testing.assert_array_equal(store.signal(1), whole[round(1.25 * SAMPLE_RATE) :])
        assert len(set(store.utterances["sha256"])) == 2


def test_a_copy_stands_in_for_a_take_that_can_not_be_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for emotion in ("sad", "angry"):
        (tree / emotion).mkdir(parents=True)
        soundfile.write(tree / f"{emotion}/a.wav", tone(SAMPLE_RATE, 0.5), SAMPLE_RATE)
        soundfile.write(tree / f"{emotion}/a.flac", tone(SAMPLE_RATE, 0.5), SAMPLE_RATE)
        soundfile.write(tree / f"{emotion}/a.ogg", tone(SAMPLE_RATE, 0.5), SAMPLE_RATE)
    (tree / "sad/a.flac").write_bytes((tree / "sad/a.flac").read_bytes()[:-50])
    main(PrepareOptions("folders", tree, tmp_path / "a.h5", workers=1))
    with Store(tmp_path / "a.h5") as store:
        assert list(store.utterances["path"]) == ["angry/a.flac", "sad/a.wav"]
    report = json.loads((tmp_path / "a.report.json").read_text())
    assert [pair[:2] for pair in report["store"]["replaced"]] == [["sad/a.flac", "sad/a.wav"]]
    assert report["store"]["unreadable"] == [] and report["files"] == {"dropped": 4, "used": 2}
    with (tmp_path / "a.ledger.csv").open() as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert (
        rows["sad/a.flac"]["reason"].startswith("can't be read: ") and rows["sad/a.wav"]["action"] == "used"
    )


def test_channels_that_cancel_or_are_silent_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice = tone(SAMPLE_RATE, 0.5)
    (tmp_path / "tree/sad").mkdir(parents=True)
    for name, right in (("a", -voice), ("b", 0 * voice), ("c", voice)):
        soundfile.write(tmp_path / f"tree/sad/{name}.wav", np.stack([voice, right], axis=1), SAMPLE_RATE)
    main(PrepareOptions("folders", tmp_path / "tree", tmp_path / "a.h5", workers=1))
    report = json.loads((tmp_path / "a.report.json").read_text())
    assert [path for path, _ in report["store"]["channels"]] == ["sad/a.wav", "sad/b.wav"]
    printed = capsys.readouterr().out
    assert "sad/a.wav: its channels are in opposite phase" in printed and "channel 2 is silent" in printed
    with Store(tmp_path / "a.h5") as store:
        for row in range(3):
            np.testing.assert_allclose(store.signal(row), np.rint(voice * 32_768), atol=2)


def test_samples_beyond_full_scale_are_counted_by_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tree/sad").mkdir(parents=True)
    for name, factor in (("a", 2.6), ("b", 9.0), ("c", 0.5)):
        soundfile.write(
            tmp_path / f"tree/sad/{name}.wav", factor * tone(SAMPLE_RATE, 0.4), SAMPLE_RATE, subtype="FLOAT"
        )
    main(PrepareOptions("folders", tmp_path / "tree", tmp_path / "a.h5", workers=1))
    report = json.loads((tmp_path / "a.report.json").read_text())
    counts = dict(map(tuple, report["store"]["clipped"]))
    assert set(counts) == {"sad/a.wav", "sad/b.wav"}
    assert sum(counts.values()) == report["store"]["n_clipped_samples"]
    assert f"sad/b.wav: {counts['sad/b.wav']} samples" in capsys.readouterr().out


def test_long_recordings_get_parts_of_their_own(tmp_path: Path) -> None:
    utterances = []
    for number, n_bytes in enumerate([10, 10, 9 << 20, 10, 5 << 20, 5 << 20, *[10] * 36]):
        (tmp_path / f"{number}.wav").write_bytes(bytes(n_bytes))
        utterances.append(Utterance(str(number), f"{number}.wav", "made", "s", "calm", ""))
    groups = _group(utterances, tmp_path)
    assert [utterance for group in groups for utterance in group] == utterances
    assert [len(group) for group in groups] == [2, 1, 2, 32, 5]


@pytest.mark.parametrize("clip", ["1", "a:b", "3:1", "-1:2", "0:inf", "1:2:3", "0:0.05"])
def test_a_clip_that_is_no_range_is_refused(clip: str) -> None:
    with pytest.raises(ValueError, match="--clip"):
        parse_clip(clip)


def test_options_that_can_not_be_meant_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--workers"):
        main(PrepareOptions("synthetic", made, tmp_path / "a.h5", workers=0))
    with pytest.raises(ValueError, match=r"ends in \.h5"):
        main(PrepareOptions("synthetic", made, tmp_path / "a.csv"))


@pytest.mark.corpora
def test_the_real_savee_is_stored_whole(corpora: Path, tmp_path: Path) -> None:
    main(PrepareOptions("savee", corpora / "SAVEE", tmp_path / "savee.h5"))
    with Store(tmp_path / "savee.h5") as store:
        assert store.n_utterances == 480 and len(set(store.utterances["speaker"])) == 4
        row = 123
        path = corpora / "SAVEE" / store.utterances["path"][row]
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == SAMPLE_RATE
        np.testing.assert_array_equal(store.signal(row), samples)
