"""File names to utterances and ledgers; oracles: the corpora's published counts and trees written by hand."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fins.store import EMOTIONS, Utterance
from pipelines.corpora import CORPORA, LedgerRow, Listing, read_corpus, read_manifest, write_manifest
from pipelines.ledger import COLUMNS, MANIFESTS, MERGED, SYNONYMS, describe_missing, join_runs, resolve
from pipelines.manifests import PARSERS, ManifestsConfig, build_manifest, main
from pipelines.prepare import write_ledger

ONE_OF_EACH = {
    "ravdess": "Actor_01/03-01-05-02-01-02-01.wav",
    "crema_d": "AudioWAV/1001_IEO_ANG_HI.wav",
    "savee": "DC_a07.wav",
    "tess": "OAF_angry/OAF_back_angry.wav",
    "esd": "0011/Angry/0011_000451.wav",
    "emodb": "wav/03a01Wa.wav",
    "synthetic": "s01/s01_angry_03_1.wav",
    "folders": "s01/angry/clip.wav",
}


def write_tree(root: Path, *paths: str) -> Path:
    """Files that differ in size, so that none is another's duplicate; none of them is audio inside."""
    for index, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * (index + 1))
    return root


def by_id(listing: Listing) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in listing.utterances}


def by_path(listing: Listing) -> dict[str, LedgerRow]:
    return {row.path: row for row in listing.ledger}


# words


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


# adapters


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3", ".WAV", ".Flac"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_adapter_reads_every_ending(name, ending, tmp_path):
    path = ONE_OF_EACH[name].replace(".wav", ending)
    listing = read_corpus(name, write_tree(tmp_path, path))
    (utterance,) = listing.utterances
    assert (utterance.path, utterance.corpus, utterance.emotion) == (path, name, "angry")
    stem = path[: -len(ending)]
    assert utterance.id == (stem if name == "folders" else stem.rpartition("/")[2])


def test_the_sweep_has_every_corpus():
    assert set(ONE_OF_EACH) | {"iemocap", "csv"} == set(CORPORA)


def test_ravdess_fields_and_emotions(tmp_path):
    words = ["neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"]
    paths = [f"Actor_07/03-01-{code:02d}-01-02-01-07.wav" for code in range(1, 9)]
    listing = read_corpus("ravdess", write_tree(tmp_path, *paths))
    assert [utterance.emotion for utterance in listing.utterances] == words
    assert {(utterance.speaker, utterance.sentence) for utterance in listing.utterances} == {("07", "02")}
    assert listing.utterances[2] == Utterance(
        id="03-01-03-01-02-01-07",
        path="Actor_07/03-01-03-01-02-01-07.wav",
        corpus="ravdess",
        speaker="07",
        emotion="happy",
        sentence="02",
        intensity="normal",
    )


def test_ravdess_songs_videos_and_wrong_folders_are_dropped(tmp_path):
    song, video = "Actor_01/03-02-05-01-01-01-01.wav", "Actor_01/01-01-05-01-01-01-01.wav"
    moved, good = "Actor_02/03-01-05-01-01-01-01.wav", "flat/03-01-05-02-01-01-01.wav"
    listing = read_corpus("ravdess", write_tree(tmp_path, song, video, moved, good))
    rows = by_path(listing)
    assert rows[song].reason == "song, not speech"
    assert rows[video].reason.startswith("sound of a video")
    assert rows[moved].reason == "folder and name disagree: Actor_02 and Actor_01"
    assert [utterance.path for utterance in listing.utterances] == [good]
    assert listing.utterances[0].intensity == "strong"


def test_crema_d_fields_and_its_short_name(tmp_path):
    listing = read_corpus("crema_d", write_tree(tmp_path, "1040_ITH_SAD_X.wav", "1001_IEO_FEA_MD.wav"))
    short = by_id(listing)["1040_ITH_SAD_XX"]
    assert (short.speaker, short.sentence, short.intensity) == ("1040", "ITH", "unspecified")
    assert by_path(listing)["1040_ITH_SAD_X.wav"].reason.startswith("misnamed")
    assert by_id(listing)["1001_IEO_FEA_MD"].intensity == "medium"


@pytest.mark.parametrize("layout", ["{0}_{1}.wav", "{0}/{1}.wav", "AudioData/{0}/{1}.wav", "{0}/{0}_{1}.wav"])
def test_savee_in_its_layouts(layout, tmp_path):
    codes = {
        "a": "angry",
        "d": "disgust",
        "f": "fear",
        "h": "happy",
        "n": "neutral",
        "sa": "sad",
        "su": "surprise",
    }
    paths = [layout.format(speaker, f"{code}06") for speaker in ("DC", "KL") for code in codes]
    listing = read_corpus("savee", write_tree(tmp_path, *paths))
    expected = {f"{speaker}_{code}06": (speaker, codes[code]) for speaker in ("DC", "KL") for code in codes}
    assert {u.id: (u.speaker, u.emotion) for u in listing.utterances} == expected


def test_savee_sentences_have_the_published_kinds():
    """Per speaker: 3 common in 7 emotions (neutral twice), 2 × 6 specific ones also neutral, others once."""
    times = Counter(row["sentence"] for row in read_manifest("savee") if row["speaker"] == "JK")
    assert Counter(times.values()) == {8: 3, 2: 6 * 2, 1: 6 * 10 + 12}
    emotions = {}
    for row in read_manifest("savee"):
        emotions.setdefault(row["sentence"], set()).add(row["emotion"])
    assert emotions["common_02"] == set(EMOTIONS) - {"calm"}
    assert emotions["su05"] == {"surprise", "neutral"} and emotions["n15"] == {"neutral"}


@pytest.mark.parametrize(
    "folders",
    [
        ("OAF_Fear", "OAF_Pleasant_surprise", "OAF_Sad", "OAF_angry"),
        ("OAF_fear", "OAF_pleasant_surprised", "OAF_sad", "OAF_angry"),
        ("oaf_fear", "oaf_pleasant_surprise", "oaf_sad", "oaf_angry"),
        ("all", "all", "all", "all"),
    ],
)
def test_tess_in_its_layouts(folders, tmp_path):
    emotions = ("fear", "ps", "sad", "angry")
    paths = [f"{folder}/OAF_back_{emotion}.wav" for folder, emotion in zip(folders, emotions, strict=True)]
    listing = read_corpus("tess", write_tree(tmp_path, *paths))
    ids = {f"OAF_back_{emotion}" for emotion in emotions}
    assert set(by_id(listing)) == ids
    assert by_id(listing)["OAF_back_ps"].emotion == "surprise"
    assert {(u.speaker, u.sentence) for u in listing.utterances} == {("OAF", "back")}


def test_tess_both_spellings_count_once_and_contradictions_are_dropped(tmp_path):
    first, second = "OAF_Fear/OAF_back_fear.wav", "OAF_fear/OAF_back_fear.wav"
    emotion, speaker = "YAF_sad/YAF_back_happy.wav", "OAF_sad/YAF_back_sad.wav"
    rows = by_path(read_corpus("tess", write_tree(tmp_path, first, second, emotion, speaker)))
    assert rows[first].action == "used"
    assert rows[second] == LedgerRow(second, "fear", "", "dropped", f"same clip as another file: {first}")
    assert rows[emotion].reason == "folder and name disagree: YAF sad and YAF happy"
    assert rows[speaker].reason == "folder and name disagree: OAF sad and YAF sad"


def test_tess_misnamed_file_is_used_under_its_right_name(tmp_path):
    path = "OAF_neutral/OA_bite_neutral.wav"
    listing = read_corpus("tess", write_tree(tmp_path, path))
    assert by_id(listing)["OAF_bite_neutral"].speaker == "OAF"
    assert by_path(listing)[path].reason == "misnamed: OA for OAF"
    assert path not in listing.missing and len(listing.missing) == 2799


ESD_RANGES = {"Neutral": 1, "Angry": 351, "Happy": 701, "Sad": 1051, "Surprise": 1401}


@pytest.mark.parametrize("emotion", ESD_RANGES)
def test_esd_parts_from_the_number(emotion, tmp_path):
    first = ESD_RANGES[emotion]
    ends = {0: "validation", 19: "validation", 20: "test", 49: "test", 50: "train", 349: "train"}
    paths = [f"0012/{emotion}/0012_{first + offset:06d}.wav" for offset in ends]
    listing = read_corpus("esd", write_tree(tmp_path, *paths))
    assert [u.part for u in listing.utterances] == list(ends.values())
    assert {u.emotion for u in listing.utterances} == {emotion.lower()}
    assert [u.sentence for u in listing.utterances] == [f"english_{offset + 1:03d}" for offset in ends]


def test_esd_parts_from_the_folder_go_first(tmp_path):
    folders = {"train": "train", "evaluation": "validation", "test": "test"}
    paths = [f"0011/Sad/{folder}/0011_{1100 + index:06d}.wav" for index, folder in enumerate(folders)]
    listing = read_corpus("esd", write_tree(tmp_path, *paths))
    assert [u.part for u in listing.utterances] == list(folders.values())


def test_esd_languages_do_not_share_sentences(tmp_path):
    root = write_tree(tmp_path, "0010/Angry/0010_000351.wav", "0011/Angry/0011_000351.wav")
    assert [u.sentence for u in read_corpus("esd", root).utterances] == ["mandarin_001", "english_001"]


def test_esd_wrong_labels_and_both_layouts(tmp_path):
    flat, nested = "0011/Angry/0011_000351.wav", "0011/Angry/evaluation/0011_000351.wav"
    emotion, speaker = "0011/Happy/0011_000352.wav", "0012/Angry/0011_000353.wav"
    beyond, stranger = "0011/Angry/0011_001751.wav", "0021/Angry/0021_000351.wav"
    listing = read_corpus("esd", write_tree(tmp_path, flat, nested, emotion, speaker, beyond, stranger))
    assert len(listing.missing) == 35_000 - 3  # dropped for their folder, two are on disk all the same
    rows = by_path(listing)
    assert rows[flat].action == "used"
    assert rows[nested].reason == f"same clip as another file: {flat}"
    assert rows[emotion].reason == "folder and name disagree: happy and angry"
    assert rows[speaker].reason == "folder and name disagree: 0012 and 0011"
    assert rows[beyond].reason == rows[stranger].reason == "not a name of this corpus"


def test_emodb_letters(tmp_path):
    letters = {"W": "angry", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral"}
    paths = [f"wav/03a01{letter}a.wav" for letter in letters] + ["wav/16b10Lb.wav"]
    listing = read_corpus("emodb", write_tree(tmp_path, *paths))
    assert {u.id[5]: u.emotion for u in listing.utterances} == letters
    assert {(u.speaker, u.sentence) for u in listing.utterances} == {("03", "a01")}
    dropped = LedgerRow("wav/16b10Lb.wav", "boredom", "", "dropped", "boredom is none of our emotions")
    assert by_path(listing)["wav/16b10Lb.wav"] == dropped


IEMOCAP_TURNS = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M003\texc\t[4.0000, 4.0000, 3.0000]
C-E2:\tExcited;\t()

[12.0000 - 13.0000]\tSes01F_impro01_F001\tfru\t[2.0000, 3.0000, 3.0000]
[14.0000 - 15.0000]\tSes01F_impro01_F002\tsur\t[2.0000, 3.0000, 3.0000]
"""


def write_iemocap(root: Path) -> Path:
    improvised = [f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav" for turn in
                  ("F000", "M003", "F001", "F002", "F009")]  # fmt: skip
    scripted = "Session2/sentences/wav/Ses02M_script01_1/Ses02M_script01_1_F007.wav"
    labels = "dialog/EmoEvaluation"
    write_tree(root, *improvised, scripted, "Session1/dialog/wav/Ses01F_impro01.wav")
    write_tree(root, f"Session1/{labels}/Ses01F_impro01.txt", f"Session2/{labels}/Ses02M_script01_1.txt")
    (root / f"Session1/{labels}/Ses01F_impro01.txt").write_text(IEMOCAP_TURNS)
    (root / f"Session2/{labels}/Ses02M_script01_1.txt").write_text(
        "[1.0000 - 2.0000]\tSes02M_script01_1_F007\tang\t[2.0000, 3.0000, 3.0000]\r\n"
    )
    return root


def test_iemocap_labels_speakers_and_dialogs(tmp_path):
    listing = read_corpus("iemocap", write_iemocap(tmp_path))
    assert {u.id: (u.speaker, u.emotion, u.sentence) for u in listing.utterances} == {
        "Ses01F_impro01_F000": ("Ses01F", "neutral", ""),
        "Ses01F_impro01_M003": ("Ses01M", "happy", ""),
        "Ses02M_script01_1_F007": ("Ses02F", "angry", "script01_1"),
    }
    rows = {row.path.rpartition("/")[2]: row for row in listing.ledger}
    assert (rows["Ses01F_impro01_M003.wav"].label, rows["Ses01F_impro01_M003.wav"].action) == (
        "exc",
        "merged",
    )
    assert rows["Ses01F_impro01_F001.wav"].reason == "label fru"
    assert rows["Ses01F_impro01_F002.wav"].reason == "label sur"
    assert rows["Ses01F_impro01_F009.wav"].reason == "no label in dialog/EmoEvaluation"
    assert rows["Ses01F_impro01.wav"].reason == "not a name of this corpus"
    assert rows["Ses01F_impro01.txt"].reason == "not audio"


def test_synthetic_fields(tmp_path):
    (utterance,) = read_corpus("synthetic", write_tree(tmp_path, "s02/s02_surprise_03_1.wav")).utterances
    assert (utterance.speaker, utterance.emotion, utterance.sentence) == ("s02", "surprise", "03")


@pytest.mark.parametrize(
    ("path", "emotion", "speaker", "part"),
    [
        ("angry/a.wav", "angry", "unknown", ""),
        ("s1/Joy/a.wav", "happy", "s1", ""),
        ("happiness/s1/a.wav", "happy", "s1", ""),
        ("train/s1/sad/a.wav", "sad", "s1", "train"),
        ("sad/val/a.wav", "sad", "unknown", "validation"),
        ("sad/s1/angry/a.wav", "angry", "s1", ""),
        ("corpus/s1/Pleasant-Surprise/b.c.wav", "surprise", "s1", ""),
    ],
)
def test_folders_named_after_emotions(path, emotion, speaker, part, tmp_path):
    (utterance,) = read_corpus("folders", write_tree(tmp_path, path)).utterances
    assert (utterance.id, utterance.emotion, utterance.speaker, utterance.part) == (
        *(path[:-4], emotion, speaker, part),
    )


def test_folders_without_an_emotion_are_dropped(tmp_path):
    rows = by_path(read_corpus("folders", write_tree(tmp_path, "angry/a.wav", "bored/b.wav", "c.wav")))
    assert {path: row.action for path, row in rows.items()} == {
        "angry/a.wav": "used",
        "bored/b.wav": "dropped",
        "c.wav": "dropped",
    }


# tables


def write_table(root: Path, *lines: str) -> Path:
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return root / "table.csv"


def test_csv_with_all_columns(tmp_path):
    write_tree(tmp_path, "clips/1.wav")
    table = write_table(
        tmp_path, "id,path,emotion,speaker,sentence,intensity,part", "one,clips/1.wav,Joy,a,b,c,dev"
    )
    listing = read_corpus("csv", table)
    assert listing.utterances == (
        Utterance("one", "clips/1.wav", "csv", "a", "happy", "b", intensity="c", part="validation"),
    )
    assert listing.root == tmp_path and listing.expected == 1


def test_csv_rows_that_cannot_be_used_are_named(tmp_path):
    write_tree(tmp_path, "1.wav", "2.wav", "3.wav", "notes.txt", "5.wav")
    table = write_table(
        tmp_path,
        *("path,emotion,part", "1.wav,angry,", "2.wav,bored,", "sub/../1.wav,sad,", "gone.wav,sad,"),
        *("../out.wav,sad,", "notes.txt,sad,", "3.wav,sad,weekend", ",sad,"),
    )
    listing = read_corpus("csv", table)
    assert [(u.id, u.speaker, u.sentence) for u in listing.utterances] == [("1", "unknown", "")]
    assert Counter(row.reason for row in listing.ledger) == Counter(
        [
            *("", "unknown emotion 'bored': line 3", "same clip as another file: 1.wav"),
            *("not on disk: line 5 has gone.wav", "outside the folder of the table: line 6 has ../out.wav"),
            *("not audio: line 7 has notes.txt", "unknown part 'weekend': line 8", "no path: line 9"),
        ]
    )
    assert (listing.missing, listing.expected) == (("../out.wav", "gone.wav"), 8)


def test_csv_without_its_columns_or_not_a_csv(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the columns path, emotion.*and names file;label"):
        read_corpus("csv", write_table(tmp_path, "file;label", "a.wav;sad"))
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(ValueError, match="can't be read as CSV"):
        read_corpus("csv", tmp_path / "table.csv")
    with pytest.raises(ValueError, match="is a folder: to read csv, give the CSV file itself"):
        read_corpus("csv", tmp_path)


def test_a_written_manifest_is_a_table_again(tmp_path):
    write_tree(tmp_path, "a/1.wav", "2.wav")
    rows = [
        {"id": "one", "path": "a/1.wav", "speaker": "s", "emotion": "fear", "sentence": "x", "part": "test"},
        {"id": "two", "path": "2.wav", "speaker": "t", "emotion": "calm", "intensity": "loud"},
    ]
    write_manifest(rows, tmp_path / "table.csv")
    listing = read_corpus("csv", tmp_path / "table.csv")
    said = [{column: getattr(u, column) for column in COLUMNS[:7]} for u in listing.utterances]
    assert said == [{column: row.get(column, "") for column in COLUMNS[:7]} for row in rows]


# the ledger


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
    listing = read_corpus("folders", root)
    assert {row.path: row.reason for row in listing.ledger} == {
        "linked/angry/1.wav": "",
        "sad/2.wav": "",
        "sad/dead.wav": "a link to nothing",
    }


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
    monkeypatch.setattr("pipelines.corpora.sha256", lambda path: read.append(path.name) or "same")
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


# manifests


@pytest.mark.parametrize(
    ("name", "n_rows", "n_speakers", "n_sentences"),
    [
        *[("ravdess", 24 * 60, 24, 2), ("crema_d", 7442, 91, 12), ("savee", 4 * 120, 4, 87)],
        *[("tess", 2 * 200 * 7, 2, 200), ("esd", 20 * 5 * 350, 20, 700)],
    ],
)
def test_manifests_have_the_published_counts(name, n_rows, n_speakers, n_sentences):
    rows = read_manifest(name)
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    assert len(rows) == n_rows == len({row["path"] for row in rows})
    assert len({row["speaker"] for row in rows}) == n_speakers
    assert len({row["sentence"] for row in rows}) == n_sentences
    assert {row["emotion"] for row in rows} <= set(EMOTIONS)


def test_manifests_have_the_published_counts_of_emotions():
    counts = {name: Counter(row["emotion"] for row in read_manifest(name)) for name in MANIFESTS}
    assert counts["ravdess"] == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS}
    six = ("angry", "disgust", "fear", "happy", "sad")
    assert counts["crema_d"] == {**dict.fromkeys(six, 1271), "neutral": 1087}
    assert counts["savee"] == {**dict.fromkeys((*six, "surprise"), 60), "neutral": 120}
    assert counts["tess"] == dict.fromkeys((*six, "surprise", "neutral"), 400)
    assert counts["esd"] == dict.fromkeys(("angry", "happy", "neutral", "sad", "surprise"), 7000)
    assert Counter(row["part"] for row in read_manifest("esd")) == {
        **{"train": 30_000, "validation": 2_000, "test": 3_000},
    }


def test_the_known_byte_identical_pairs_and_no_others():
    pairs = set()
    for name in ("ravdess", "crema_d", "savee", "tess"):
        groups: dict[str, list[str]] = {}
        for row in read_manifest(name):
            groups.setdefault(row["sha256"], []).append(row["id"])
        pairs |= {tuple(group) for group in groups.values() if len(group) > 1}
    assert pairs == {
        ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),
        ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
        ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
        ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    }


def test_an_unknown_manifest_lists_the_known_ones():
    with pytest.raises(ValueError, match="'emodb' has no manifest: choose one of crema_d, esd"):
        read_manifest("emodb")


def test_the_esd_manifest_follows_from_the_names(tmp_path):
    write_manifest(build_manifest("esd", tmp_path), tmp_path / "esd.csv")
    committed = Path(__file__).parent.parent / "data_manifests" / "esd.csv"
    assert (tmp_path / "esd.csv").read_bytes() == committed.read_bytes()


def test_rebuilding_says_what_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ravdess\.csv does not exist: give the folder"):
        main(ManifestsConfig(originals=tmp_path, out=tmp_path))
    with pytest.raises(FileNotFoundError, match="is no folder: create it"):
        main(ManifestsConfig(originals=tmp_path, out=tmp_path / "nowhere"))
    (tmp_path / "tess.csv").write_text("path,n_bytes\nOAF_angry/strange.wav,1\n")
    with pytest.raises(ValueError, match=r"OAF_angry/strange\.wav is no tess recording"):
        build_manifest("tess", tmp_path)


# real corpora


@pytest.fixture(scope="module")
def corpora() -> Path:
    if not os.environ.get("FIN_SER_CORPORA"):
        pytest.skip("FIN_SER_CORPORA does not say where the real corpora are")
    return Path(os.environ["FIN_SER_CORPORA"])


@pytest.mark.corpora
def test_rebuilding_gives_the_committed_manifests(corpora, tmp_path):
    main(ManifestsConfig(originals=corpora / "originals", out=tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(PARSERS) == set(MANIFESTS)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (Path(__file__).parent.parent / "data_manifests" / path.name).read_bytes()


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "n_utterances", "n_missing"),
    [("ravdess", 1440, 0), ("tess", 1400, 1400), ("savee", 480, 0), ("esd", 118, 34_882)],
)
def test_real_corpora_are_read_whole(corpora, name, n_utterances, n_missing):
    listing = read_corpus(name, corpora / name.upper())
    on_disk = {
        path.relative_to(listing.root).as_posix() for path in listing.root.rglob("*") if path.is_file()
    }
    assert {utterance.path for utterance in listing.utterances} == on_disk
    assert (len(listing.utterances), len(listing.missing)) == (n_utterances, n_missing)
    manifest = {row["id"]: row for row in read_manifest(name)}
    for utterance in listing.utterances:
        row = manifest[utterance.id]
        assert {column: getattr(utterance, column) for column in COLUMNS[2:7]} == {
            c: row[c] for c in COLUMNS[2:7]
        }
    pair = ("Actor_07/03-01-03-01-02-01-07.flac", "Actor_07/03-01-03-01-02-02-07.flac")
    assert listing.duplicates == ((pair,) if name == "ravdess" else ())


@pytest.mark.corpora
def test_what_is_missing_of_the_real_tess_is_every_other_word(corpora):
    listing = read_corpus("tess", corpora / "TESS")
    with (corpora / "originals" / "tess.csv").open(newline="") as file:
        originals = {row["path"] for row in csv.DictReader(file)}
    here = {
        path.relative_to(corpora / "TESS").with_suffix(".wav").as_posix() for path in corpora.glob("TESS/*/*")
    }
    assert set(listing.missing) == originals - here
    words = {path.split("_")[-2] for path in originals - here}
    assert listing.summary()[1] == f"  missing: 100 whole sentences (1400 files): {', '.join(sorted(words))}"


def test_a_table_whose_quotes_or_commas_go_wrong_loses_nothing(tmp_path):
    write_tree(tmp_path, "a.wav", "b.wav")
    rows = ("path,emotion,sentence,speaker", "a.wav,angry,Hello, you,s1", "b.wav,sad,no,s2")
    listing = read_corpus("csv", write_table(tmp_path, *rows))
    assert [its.id for its in listing.utterances] == ["b"]
    reasons = {row.path: row.reason for row in listing.ledger}
    assert reasons["a.wav"] == "more cells than columns, texts with commas need quotes: line 2"
    unclosed = ("path,emotion,sentence", 'a.wav,angry,"He said', "b.wav,sad,x")
    with pytest.raises(ValueError, match="can't be read as CSV"):
        read_corpus("csv", write_table(tmp_path, *unclosed))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are texts")
def test_a_name_that_isnt_utf8_is_counted(tmp_path):
    write_tree(tmp_path, "angry/a.wav")
    odd = os.fsencode(tmp_path / "angry") + b"/\xfcber.wav"
    with open(odd, "wb") as file:
        file.write(b"x")
    listing = read_corpus("folders", tmp_path)
    assert [its.id for its in listing.utterances] == ["angry/a"]
    assert [row.reason for row in listing.ledger if row.reason] == ["a name that isn't UTF-8: rename it"]
    write_ledger(tmp_path / "ledger.csv", listing)
    assert "\\udcfcber.wav" in (tmp_path / "ledger.csv").read_text(encoding="utf-8")
