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


OTHER_SIGNALS = ("laryng", "lary", "egg", "glott")  # how folders and files of the larynx's signal are called


def parse_emodb(path: PurePosixPath) -> ParsedName | None:
    """`03a01Fa`: speaker, text, emotion (the initial of the German word), version.

    EmoDB 2.0 has the larynx's signal beside the speech, under the same names in a folder of its own.
    """
    name = EMODB_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, text, emotion, _ = name.groups()
    larynx = any(folder.lower().startswith(OTHER_SIGNALS) for folder in path.parts[:-1])
    return ParsedName(
        id=path.stem,
        speaker=speaker,
        label=EMODB_EMOTIONS[emotion],
        sentence=text,
        second=bool(path.parts[:-1]) and "wav" not in map(str.lower, path.parts[:-1]),
        drop="a laryngogram, not the speech" if larynx else "",
    )


CORPUS = Corpus("03a01Fa.wav", parse_emodb)
