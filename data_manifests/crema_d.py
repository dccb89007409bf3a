"""CREMA-D: actor, sentence, emotion and intensity are in the name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.reading import Corpus, ParsedName

CREMA_D_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
CREMA_D_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}


def parse_crema_d(path: PurePosixPath) -> ParsedName | None:
    """`1001_DFA_ANG_XX`: actor, sentence, emotion, intensity. Some copies have `1040_ITH_SAD_X`."""
    name = CREMA_D_NAME.fullmatch(path.stem)
    if not name:
        return None
    speaker, sentence, emotion, intensity = name.groups()
    note = "misnamed: X for XX" if intensity == "X" else ""
    intensity = "XX" if intensity == "X" else intensity
    return ParsedName(
        id=f"{speaker}_{sentence}_{emotion}_{intensity}",
        speaker=speaker,
        label=emotion,
        sentence=sentence,
        intensity=CREMA_D_INTENSITIES[intensity],
        note=note,
    )


CORPUS = Corpus("1001_DFA_ANG_XX.wav", parse_crema_d)
