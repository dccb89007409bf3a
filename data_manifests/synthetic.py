"""The made corpus: speaker, emotion, sentence and take are in the name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.reading import Corpus, ParsedName

SYNTHETIC_NAME = re.compile(r"([^_]+)_([^_]+)_([^_]+)_(\d+)")


def parse_synthetic(path: PurePosixPath) -> ParsedName | None:
    """`s01/s01_angry_03_1`: speaker, emotion, sentence, take."""
    name = SYNTHETIC_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, emotion, sentence, _ = name.groups()
    return ParsedName(id=path.stem, speaker=speaker, label=emotion, sentence=sentence)


CORPUS = Corpus("s01/s01_angry_03_1.wav", parse_synthetic)
