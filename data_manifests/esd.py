"""ESD: emotion, sentence and part follow from the number in the name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_manifests.labels import resolve
from data_manifests.reading import PARTS, Corpus, ParsedName, disagreement

ESD_NAME = re.compile(r"(00(?:0[1-9]|1\d|20))_(\d{6})")
ESD_EMOTIONS = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
ESD_SENTENCES = 350  # recordings of one speaker and emotion, numbered on from emotion to emotion
ESD_EVALUATION, ESD_TEST = 20, 50  # the first 20 of them evaluate, those up to 50 test, the rest train


def parse_esd(path: PurePosixPath) -> ParsedName | None:
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
    return ParsedName(
        id=path.stem,
        speaker=speaker,
        label=label,
        sentence=f"{'mandarin' if speaker <= '0010' else 'english'}_{sentence + 1:03d}",
        part=PARTS.get(path.parent.name.lower(), part),
        drop=disagreement(speakers[-1] if speakers else "", speaker)
        or disagreement(emotions[-1] if emotions else "", resolve(label)[0]),
    )


def all_paths() -> list[str]:
    """The 35,000 paths without folders for the parts: 20 speakers, 5 emotions, 350 sentences."""
    return [
        f"{speaker:04d}/{emotion}/{speaker:04d}_{first + sentence:06d}.wav"
        for speaker in range(1, 21)
        for emotion, first in zip(ESD_EMOTIONS, range(1, 1751, ESD_SENTENCES), strict=True)
        for sentence in range(ESD_SENTENCES)
    ]


CORPUS = Corpus("0011/Angry/0011_000351.wav", parse_esd)
