"""RAVDESS: everything is in the numbers of a name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.reading import Corpus, ParsedName, disagreement

RAVDESS_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def parse_ravdess(path: PurePosixPath) -> ParsedName | None:
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
    return ParsedName(
        id=path.stem,
        speaker=actor,
        label=RAVDESS_EMOTIONS[int(emotion) - 1],
        sentence=statement,
        intensity={"01": "normal", "02": "strong"}[intensity],
        drop=drop,
    )


CORPUS = Corpus("Actor_01/03-01-05-01-02-01-01.wav", parse_ravdess)
