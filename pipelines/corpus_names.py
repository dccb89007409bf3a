"""What the names of each corpus's files say: one parser a corpus, from a path to a `Clip`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipelines.ledger import resolve

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Clip:
    """What a corpus says about one file.

    id : empty where the file is none of the corpus
    label : the corpus's own word for the emotion
    drop : why the file can't be used, or empty
    note : what is odd about a file that can be used, or empty
    here : false where the file is named but not on disk
    """

    id: str = ""
    speaker: str = ""
    label: str = ""
    sentence: str = ""
    intensity: str = ""
    part: str = ""
    drop: str = ""
    note: str = ""
    here: bool = True


# From a path relative to the root; None where the name is not one of the corpus's.
Parser = Callable[[PurePosixPath], Clip | None]


RAVDESS_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def parse_ravdess(path: PurePosixPath) -> Clip | None:
    """`Actor_12/03-01-06-02-01-01-12`: modality, channel, emotion, intensity, statement, take, actor."""
    name = RAVDESS_NAME.fullmatch(path.stem)
    if not name:
        return None
    modality, channel, emotion, intensity, statement, _, actor = name.groups()
    folders = [folder for folder in path.parts[:-1] if re.fullmatch(r"Actor_\d\d", folder)]
    drop = disagreement(folders[-1] if folders else "", f"Actor_{actor}")
    if modality != "03":
        drop = "sound of a video, not the audio-only recording"
    if channel == "02":
        drop = "song, not speech"
    return Clip(
        id=path.stem,
        speaker=actor,
        label=RAVDESS_EMOTIONS[int(emotion) - 1],
        sentence=statement,
        intensity={"01": "normal", "02": "strong"}[intensity],
        drop=drop,
    )


CREMA_D_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
CREMA_D_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}


def parse_crema_d(path: PurePosixPath) -> Clip | None:
    """`1001_DFA_ANG_XX`: actor, sentence, emotion, intensity. Some copies have `1040_ITH_SAD_X`."""
    name = CREMA_D_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, sentence, emotion, intensity = name.groups()
    note = "misnamed: X for XX" if intensity == "X" else ""
    intensity = "XX" if intensity == "X" else intensity
    return Clip(
        id=f"{speaker}_{sentence}_{emotion}_{intensity}",
        speaker=speaker,
        label=emotion,
        sentence=sentence,
        intensity=CREMA_D_INTENSITIES[intensity],
        note=note,
    )


SAVEE_NAME = re.compile(r"(?:.*/)?([A-Z]{2})[_/](sa|su|[adfhn])(\d\d)")
SAVEE_EMOTIONS = {
    **{"a": "anger", "d": "disgust", "f": "fear", "h": "happiness"},
    **{"n": "neutral", "sa": "sadness", "su": "surprise"},
}
# The neutral recordings 19 to 30 repeat sentences 4 and 5 of each acted emotion, in this order.
SAVEE_REPEATED = ("a", "d", "f", "su", "sa", "h")


def parse_savee(path: PurePosixPath) -> Clip | None:
    """`DC_a01`, or `a01` in a folder `DC`: speaker, emotion, number."""
    name = SAVEE_NAME.fullmatch(path.with_suffix("").as_posix())
    if not name:
        return None
    speaker, emotion, number = name.groups()
    return Clip(
        id=f"{speaker}_{emotion}{number}",
        speaker=speaker,
        label=SAVEE_EMOTIONS[emotion],
        sentence=savee_sentence(emotion, int(number)),
    )


def savee_sentence(emotion: str, number: int) -> str:
    """Which sentence a SAVEE recording says: `common_01` to `common_03`, else such as `a04`.

    Numbers 1 to 3 of every emotion are the common sentences. Neutral then has 12 of its own, the common ones
    again (16 to 18) and those specific to an acted emotion (19 to 30). The published description gives kinds
    and counts; the numbers were found by aligning the recordings (data_manifests/README.md).
    """
    if emotion == "n" and 16 <= number <= 18:
        number -= 15
    if 1 <= number <= 3:
        return f"common_{number:02d}"
    if emotion == "n" and 19 <= number <= 30:
        return f"{SAVEE_REPEATED[(number - 19) // 2]}{4 + (number - 19) % 2:02d}"
    return f"{emotion}{number:02d}"


TESS_NAME = re.compile(r"(oaf?|yaf)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)
TESS_FOLDER = re.compile(r"(oaf|yaf)_(.+)", re.IGNORECASE)


def parse_tess(path: PurePosixPath) -> Clip | None:
    """`OAF_Fear/OAF_back_fear`: speaker, word, emotion; the folder repeats two of them, spelled variously."""
    name = TESS_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, word, emotion = name.group(1).upper(), name.group(2).lower(), name.group(3).lower()
    note = "misnamed: OA for OAF" if speaker == "OA" else ""
    speaker = "OAF" if speaker == "OA" else speaker
    folder = TESS_FOLDER.fullmatch(path.parent.name)
    said = f"{folder.group(1).upper()} {resolve(folder.group(2))[0]}" if folder else ""
    if said.endswith(" "):  # a folder of another kind, such as OAF_files
        said = ""
    return Clip(
        id=f"{speaker}_{word}_{emotion}",
        speaker=speaker,
        label=emotion,
        sentence=word,
        drop=disagreement(said, f"{speaker} {resolve(emotion)[0]}"),
        note=note,
    )


ESD_NAME = re.compile(r"(00(?:0[1-9]|1\d|20))_(\d{6})")
ESD_EMOTIONS = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
ESD_SENTENCES = 350  # recordings of one speaker and emotion, numbered on from emotion to emotion
ESD_EVALUATION, ESD_TEST = 20, 50  # the first 20 of them evaluate, those up to 50 test, the rest train


def parse_esd(path: PurePosixPath) -> Clip | None:
    """`0011/Angry/0011_000351`, with or without a folder `train`, `evaluation` or `test`: speaker, number."""
    name = ESD_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, number = name.group(1), int(name.group(2)) - 1
    if not 0 <= number < len(ESD_EMOTIONS) * ESD_SENTENCES:
        return None
    label, sentence = ESD_EMOTIONS[number // ESD_SENTENCES], number % ESD_SENTENCES
    part = "validation" if sentence < ESD_EVALUATION else "test" if sentence < ESD_TEST else "train"
    folders = path.parts[:-1]
    speakers = [folder for folder in folders if re.fullmatch(r"\d{4}", folder)]
    emotions = [resolve(folder)[0] for folder in folders if resolve(folder)[0]]
    return Clip(
        id=path.stem,
        speaker=speaker,
        label=label,
        sentence=f"{'mandarin' if speaker <= '0010' else 'english'}_{sentence + 1:03d}",
        part=PARTS.get(path.parent.name.lower(), part),
        drop=disagreement(speakers[-1] if speakers else "", speaker)
        or disagreement(emotions[-1] if emotions else "", resolve(label)[0]),
    )


EMODB_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
EMODB_EMOTIONS = {
    **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
    **{"F": "happiness", "T": "sadness", "N": "neutral"},
}


def parse_emodb(path: PurePosixPath) -> Clip | None:
    """`03a01Fa`: speaker, text, emotion (the initial of the German word), version."""
    name = EMODB_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, text, emotion, _ = name.groups()
    return Clip(id=path.stem, speaker=speaker, label=EMODB_EMOTIONS[emotion], sentence=text)


IEMOCAP_NAME = re.compile(r"(Ses\d\d)[FM]_((?:impro|script)\w+?)_([FM])[A-Z]*\d+")
IEMOCAP_LINE = re.compile(r"\[\s*[\d.]+ - [\d.]+\s*\]\t(\S+)\t(\w+)\t")
IEMOCAP_KEPT = ("ang", "hap", "exc", "neu", "sad")


def parse_iemocap(path: PurePosixPath, labels: Mapping[str, str]) -> Clip | None:
    """`Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003`: session, dialog, speaker; labels by id.

    The letter after the session says who wears the markers, the last one who speaks. A scripted dialog has
    the same text in every session, so it is the sentence; an improvised one has no fixed text: empty.
    """
    name = IEMOCAP_NAME.fullmatch(path.stem)
    if not name:
        return None
    session, dialog, speaker = name.groups()
    label = labels.get(path.stem, "")
    drop = "" if label in IEMOCAP_KEPT else f"label {label}" if label else "no label in dialog/EmoEvaluation"
    return Clip(
        id=path.stem,
        speaker=session + speaker,
        label=label,
        sentence=dialog if dialog.startswith("script") else "",
        drop=drop,
    )


SYNTHETIC_NAME = re.compile(r"([^_]+)_([^_]+)_([^_]+)_(\d+)")


def parse_synthetic(path: PurePosixPath) -> Clip | None:
    """`s01/s01_angry_03_1`: speaker, emotion, sentence, take."""
    name = SYNTHETIC_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, emotion, sentence, _ = name.groups()
    return Clip(id=path.stem, speaker=speaker, label=emotion, sentence=sentence)


def parse_folders(path: PurePosixPath) -> Clip | None:
    """Any tree with folders named after emotions: the nearest is the label, the nearest other the speaker.

    A folder named after a part (`train`, `val`, `test`) is the part and never a speaker.
    """
    folders = path.parts[-2::-1]  # nearest first
    emotions = [folder for folder in folders if resolve(folder)[0]]
    if not emotions:
        return None
    speakers = [folder for folder in folders if folder.lower() not in PARTS and folder not in emotions]
    parts = [PARTS[folder.lower()] for folder in folders if folder.lower() in PARTS]
    return Clip(
        id=path.with_suffix("").as_posix(),
        speaker=speakers[0] if speakers else "unknown",
        label=emotions[0],
        part=parts[0] if parts else "",
    )


def disagreement(folder: str, name: str) -> str:
    """The reason to drop a file whose folder contradicts its name; empty where there is no such folder."""
    return f"folder and name disagree: {folder} and {name}" if folder and folder != name else ""
