"""TESS: speaker, word and emotion are in the name; the folder repeats two of them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.labels import resolve
from data_manifests.reading import Corpus, ParsedName, disagreement

TESS_NAME = re.compile(r"(oaf?|yaf)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE)
TESS_FOLDER = re.compile(r"(oaf|yaf)_(.+)", re.IGNORECASE)


def parse_tess(path: PurePosixPath) -> ParsedName | None:
    """`OAF_Fear/OAF_back_fear`: speaker, word, emotion; the folder repeats two of them, spelled variously."""
    name = TESS_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, word, emotion = name.group(1).upper(), name.group(2).lower(), name.group(3).lower()
    note = "misnamed: OA for OAF" if speaker == "OA" else ""
    speaker = "OAF" if speaker == "OA" else speaker
    folder = TESS_FOLDER.fullmatch(path.parent.name)
    emotion_of_folder = resolve(folder.group(2))[0] if folder else ""
    # a folder of another kind, such as OAF_files, says nothing
    repeated = f"{folder.group(1).upper()} {emotion_of_folder}" if folder and emotion_of_folder else ""
    return ParsedName(
        id=f"{speaker}_{word}_{emotion}",
        speaker=speaker,
        label=emotion,
        sentence=word,
        drop=disagreement(repeated, f"{speaker} {resolve(emotion)[0]}"),
        note=note,
    )


CORPUS = Corpus("OAF_angry/OAF_back_angry.wav", parse_tess)
