"""SAVEE: emotion and number in the name, the speaker there or in the folder."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.reading import Corpus, ParsedName

SAVEE_NAME = re.compile(r"(?:.*/)?([A-Z]{2})[_/](sa|su|[adfhn])(\d\d)")
SAVEE_EMOTIONS = {
    **{"a": "anger", "d": "disgust", "f": "fear", "h": "happiness"},
    **{"n": "neutral", "sa": "sadness", "su": "surprise"},
}
# The neutral recordings 19 to 30 repeat sentences 4 and 5 of each acted emotion, in this order.
SAVEE_REPEATED = ("a", "d", "f", "su", "sa", "h")


def parse_savee(path: PurePosixPath) -> ParsedName | None:
    """`DC_a01`, or `a01` in a folder `DC`: speaker, emotion, number."""
    name = SAVEE_NAME.fullmatch(path.with_suffix("").as_posix())
    if not name:
        return None
    speaker, emotion, number = name.groups()
    return ParsedName(
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


CORPUS = Corpus("DC_a01.wav or DC/a01.wav", parse_savee)
