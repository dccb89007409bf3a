"""IEMOCAP: speaker and dialog are in the name, emotions in a text for each dialog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from data_manifests.reading import Corpus, Named, ParsedName, Resolver, parse_files
from data_manifests.rows import read_text
from data_manifests.walking import files_under, leads_out

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


def read_iemocap(root: Path, resolver: Resolver, follow: bool = False) -> Named:
    """Labels from each turn's line in Session*/dialog/EmoEvaluation/*.txt, then the files by name."""
    labels: dict[str, str] = {}
    for path in map(PurePosixPath, files_under(root, follow)):
        is_text = path.match("dialog/EmoEvaluation/*.txt") and not path.name.startswith(".")
        if is_text and (follow or not leads_out(root, str(path))):
            labels.update(IEMOCAP_LINE.findall(read_text(root / path, errors="replace")))
    return parse_files(root, partial(parse_iemocap, labels=labels), follow)


CORPUS = Corpus("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", read=read_iemocap)
