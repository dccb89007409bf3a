"""EmoDB: speaker, text, emotion and version are in the name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.reading import Corpus, ParsedName

EMODB_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
EMODB_EMOTIONS = {
    **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
    **{"F": "happiness", "T": "sadness", "N": "neutral"},
}


def parse_emodb(path: PurePosixPath) -> ParsedName | None:
    """`03a01Fa`: speaker, text, emotion (the initial of the German word), version."""
    name = EMODB_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, text, emotion, _ = name.groups()
    return ParsedName(id=path.stem, speaker=speaker, label=EMODB_EMOTIONS[emotion], sentence=text)


CORPUS = Corpus("03a01Fa.wav", parse_emodb)
