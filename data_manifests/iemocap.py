"""IEMOCAP: speaker and dialog are in the name, emotions in a text for each dialog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from data_manifests.reading import Corpus, Named, ParsedName, Resolver, files_under, parse_files

IEMOCAP_NAME = re.compile(r"(Ses\d\d)[FM]_((?:impro|script)\w+?)_([FM])[A-Z]*\d+")
IEMOCAP_LINE = re.compile(r"\[\s*[\d.]+ - [\d.]+\s*\]\t(\S+)\t(\w+)\t")
IEMOCAP_RARE = ("dis", "fea", "sur")  # of which it has too few, so nobody counts them


def parse_iemocap(path: PurePosixPath, labels: Mapping[str, str]) -> ParsedName | None:
    """`Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003`: session, dialog, speaker; labels by id.

    The letter after the session says who wears the markers, the last one who speaks. A scripted dialog has
    the same text in every session, so it is the sentence; an improvised one has no fixed text: empty.
    """
    name = IEMOCAP_NAME.fullmatch(path.stem)
    if not name:
        return None
    session, dialog, speaker = name.groups()
    label = labels.get(path.stem, "")
    drop = f"label {label}" if label in IEMOCAP_RARE else "" if label else "no label in dialog/EmoEvaluation"
    return ParsedName(
        id=path.stem,
        speaker=session + speaker,
        label=label,
        sentence=dialog if dialog.startswith("script") else "",
        drop=drop,
    )


def read_iemocap(root: Path, resolver: Resolver) -> Named:
    """Labels from each turn's line in Session*/dialog/EmoEvaluation/*.txt, then the files by name."""
    labels: dict[str, str] = {}
    for path in map(PurePosixPath, files_under(root)):
        if path.match("dialog/EmoEvaluation/*.txt") and not path.name.startswith("."):
            labels.update(IEMOCAP_LINE.findall((root / path).read_text(encoding="utf-8", errors="replace")))
    return parse_files(root, partial(parse_iemocap, labels=labels))


CORPUS = Corpus("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", read=read_iemocap)
