"""File names to utterances, corpus by corpus; oracles: published descriptions, trees written by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import write_table, write_tree

from data_manifests import CORPORA, endings, read_corpus
from data_manifests.labels import EMOTIONS
from data_manifests.ledger import LedgerRow, Listing
from data_manifests.manifest import COLUMNS, Utterance, read_manifest, write_manifest

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


def by_id(listing: Listing) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in listing.utterances}


def by_path(listing: Listing) -> dict[str, LedgerRow]:
    return {row.path: row for row in listing.ledger}


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
    dropped = LedgerRow("wav/16b10Lb.wav", "boredom", "", "dropped", "boredom is none of the labels")
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
    assert rows["Ses01F_impro01_F001.wav"].reason == "fru is none of the labels"
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
        *("path,emotion,part", "1.wav,angry,", "2.wav,bored,", "sub/../1.wav,angry,", "gone.wav,sad,"),
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
    with pytest.raises(ValueError, match=r"lacks the columns emotion.*and names file, label"):
        read_corpus("csv", write_table(tmp_path, "file;label", "a.wav;sad"))
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(ValueError, match="the table can't be read"):
        read_corpus("csv", tmp_path / "table.csv")
    with pytest.raises(ValueError, match="is a folder: to read csv, give the CSV file itself"):
        read_corpus("csv", tmp_path)


def test_a_name_that_no_file_can_have_is_a_counted_row(tmp_path):
    write_tree(tmp_path, "a.wav")
    names = (".", "/", "..", "./", "//", "x" * 300 + ".wav", "y/" * 3_000 + "z.wav", "a.wav/b.wav")
    listing = read_corpus(
        "csv", write_table(tmp_path, "path,emotion", *(f"{name},sad" for name in names), "a.wav,sad")
    )
    assert [utterance.id for utterance in listing.utterances] == ["a"]
    assert len(listing.ledger) == len(names) + 1
    reasons = {row.reason.partition(" has ")[0] for row in listing.ledger if row.action == "dropped"}
    assert {f"line {number}" for number in range(2, 10)} == {reason.partition(": ")[2] for reason in reasons}


def test_a_written_manifest_is_a_table_again(tmp_path):
    write_tree(tmp_path, "a/1.wav", "2.wav")
    rows = [
        {"id": "one", "path": "a/1.wav", "speaker": "s", "emotion": "fear", "sentence": "x", "part": "test"},
        {"id": "two", "path": "2.wav", "speaker": "t", "emotion": "calm", "intensity": "loud"},
    ]
    write_manifest(rows, tmp_path / "table.csv")
    listing = read_corpus("csv", tmp_path / "table.csv")
    rows_read = [{column: getattr(u, column) for column in COLUMNS[:7]} for u in listing.utterances]
    assert rows_read == [{column: row.get(column, "") for column in COLUMNS[:7]} for row in rows]


def test_a_table_whose_quotes_or_commas_go_wrong_loses_nothing(tmp_path):
    write_tree(tmp_path, "a.wav", "b.wav")
    rows = ("path,emotion,sentence,speaker", "a.wav,angry,Hello, you,s1", "b.wav,sad,no,s2")
    listing = read_corpus("csv", write_table(tmp_path, *rows))
    assert [utterance.id for utterance in listing.utterances] == ["b"]
    reasons = {row.path: row.reason for row in listing.ledger}
    assert reasons["a.wav"] == "more cells than columns, texts with commas need quotes: line 2"
    short = ("path,emotion,sentence", "a.wav,angry", "", "b.wav,sad,no")
    listing = read_corpus("csv", write_table(tmp_path, *short))
    assert [utterance.id for utterance in listing.utterances] == ["b"]
    assert {row.path: row.reason for row in listing.ledger}["a.wav"] == "fewer cells than columns: line 2"
    unclosed = ("path,emotion,sentence", 'a.wav,angry,"He said', "b.wav,sad,x")
    with pytest.raises(ValueError, match="the table can't be read"):
        read_corpus("csv", write_table(tmp_path, *unclosed))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["path,emotion,part", "Path,EMOTION,Part", "File, Emotion ,part"])
def test_a_table_as_spreadsheets_write_it(tmp_path, header, mark):
    write_tree(tmp_path, "a.wav", "b.wav")
    rows = [line.replace(",", mark) for line in (header, "a.wav,angry,Train", "b.wav,sad,dev")]
    listing = read_corpus("csv", write_table(tmp_path, *rows))
    assert [(u.path, u.emotion, u.part) for u in listing.utterances] == [
        ("a.wav", "angry", "train"),
        ("b.wav", "sad", "validation"),
    ]
    assert (
        "  parts of its own: train 1, validation 1; they count with --protocol own alone" in listing.summary()
    )


def test_columns_of_one_name_are_refused_and_others_are_named(tmp_path):
    write_tree(tmp_path, "a.wav")
    for header in ("path,emotion,emotion", "path,emotion,Emotion "):
        with pytest.raises(ValueError, match=r"(several columns called |two columns of one name: .)emotion"):
            read_corpus("csv", write_table(tmp_path, header, "a.wav,angry,sad"))
    listing = read_corpus("csv", write_table(tmp_path, "path,emotion,split,age", "a.wav,angry,train,30"))
    assert "  columns that aren't used: split, age" in listing.summary()


def test_a_recording_with_two_labels_is_used_with_neither(tmp_path):
    write_tree(tmp_path, "a.wav", "b.wav")
    rows = ("path,emotion,id", "a.wav,angry,1", "b.wav,sad,2", "./a.wav,sad,3", "b.wav,sadness,4")
    listing = read_corpus("csv", write_table(tmp_path, *rows))
    assert [(u.id, u.path) for u in listing.utterances] == [("2", "b.wav")]
    assert Counter(row.reason for row in listing.ledger) == {
        "several labels for one recording: a.wav is angry (line 2) and sad (line 4)": 2,
        "same clip as another file: b.wav": 1,
        "": 1,
    }


def test_absolute_paths_inside_the_folder_and_those_of_windows_are_read(tmp_path):
    write_tree(tmp_path, "in/clips/a.wav", "in/clips/b.wav", "out.wav")
    rows = (
        f"{tmp_path}/in/clips/a.wav,angry",
        "clips\\b.wav,sad",
        f"{tmp_path}/out.wav,sad",
        "C:\\c.wav,sad",
    )
    listing = read_corpus("csv", write_table(tmp_path / "in", "path,emotion", *rows))
    assert [u.path for u in listing.utterances] == ["clips/a.wav", "clips/b.wav"]
    assert sorted(row.reason.partition(": line")[0] for row in listing.ledger if row.reason) == [
        "not on disk",
        "outside the folder of the table",
    ]


@pytest.mark.parametrize("path", [".", "/", "..", "x" * 300 + ".wav"])
def test_a_path_that_no_file_can_have_costs_its_own_row_alone(tmp_path, path):
    write_tree(tmp_path, "a.wav")
    listing = read_corpus("csv", write_table(tmp_path, "path,emotion", f"{path},sad", "a.wav,angry"))
    assert [u.path for u in listing.utterances] == ["a.wav"] and len(listing.ledger) == 2


def test_stretches_of_a_file_are_utterances_of_their_own(tmp_path):
    write_tree(tmp_path, "a.wav", "b.wav", "c.wav")
    rows = ("file,start,end,emotion", "a.wav,0,1.5,angry", "a.wav,1.5,,sad", "b.wav,,,happy",
            "b.wav,0 days 00:01:02.250000,0 days 01:00:00,calm", "c.wav,2,1,sad", "c.wav,soon,later,sad",
            "a.wav,1.50,NaT,fear", "c.wav,1,2,sad", "c.wav,1.0,2.0,sad")  # fmt: skip
    listing = read_corpus("csv", write_table(tmp_path, *rows))
    assert {u.id: (u.file, u.segment, u.emotion) for u in listing.utterances} == {
        "a#t=0,1.5": ("a.wav", (0.0, 1.5), "angry"),
        "b": ("b.wav", None, "happy"),
        "b#t=62.25,3600": ("b.wav", (62.25, 3600.0), "calm"),
        "c#t=1,2": ("c.wav", (1.0, 2.0), "sad"),
    }
    assert Counter(row.reason.partition(": ")[0] for row in listing.ledger if row.reason) == {
        "several labels for one recording": 2,
        "start and end are no stretch of seconds": 2,
        "same clip as another file": 1,
    }


# several files of one take


def test_the_larynx_of_emodb_is_not_its_speech(tmp_path):
    paths = ("laryngo/03a01Wa.wav", "egg/03a01Wa.wav", "wav/03a01Wa.wav")
    listing = read_corpus("emodb", write_tree(tmp_path, *paths))
    assert [u.path for u in listing.utterances] == ["wav/03a01Wa.wav"]
    assert {row.reason for row in listing.ledger} == {"", "a laryngogram, not the speech"}
    assert listing.copies == {}


def test_what_lies_in_emodbs_own_folder_is_its_speech(tmp_path):
    paths = ("other/03a01Wa.wav", "wav/03a01Wa.mp3", "a/16a01Fa.wav")
    listing = read_corpus("emodb", write_tree(tmp_path, *paths))
    assert [u.path for u in listing.utterances] == ["wav/03a01Wa.mp3", "a/16a01Fa.wav"]
    assert listing.copies == {"03a01Wa": ("other/03a01Wa.wav",)}


@pytest.mark.parametrize("lossy", [".mp3", ".ogg", ".opus"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_of_several_copies_the_lossless_is_used(name, lossy, tmp_path):
    good = ONE_OF_EACH[name]
    other = good.replace(".wav", lossy)
    listing = read_corpus(name, write_tree(tmp_path, other, good))
    (utterance,) = listing.utterances
    assert utterance.path == good and listing.copies == {utterance.id: (other,)}
    assert by_path(listing)[other].reason == f"same clip as another file: {good}"


def test_sound_that_has_to_be_converted_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(endings, "has_decoders", lambda: False)
    listing = read_corpus(
        "folders", write_tree(tmp_path, "sad/a.wav", "sad/b.m4a", "sad/c.M4A", "sad/d.webm")
    )
    reason = (
        'm4a isn\'t decoded here, convert it, ffmpeg -i clip.m4a clip.wav, or pip install "fin-ser[decoders]"'
    )
    assert f"  dropped 2: {reason} (first: sad/b.m4a)" in listing.summary()
