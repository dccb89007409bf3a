"""Rows of a manifest, its columns, and the manifests and published folds that lie beside this file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from data_manifests.rows import parse_rows

COLUMNS = (
    *("id", "path", "speaker", "emotion", "sentence", "intensity", "part"),
    *("sample_rate", "channels", "n_samples", "n_bytes", "sha256"),
)
FOLDER = resources.files("data_manifests")
FOLDS = "folds.csv"
SEGMENT = re.compile(r"(.+)#t=(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)?")
# Corpora of which it is known what should be there: x.csv is the manifest of the corpus x.
MANIFESTS = tuple(
    sorted(
        file.name.removesuffix(".csv")
        for file in FOLDER.iterdir()
        if file.name.endswith(".csv") and file.name != FOLDS
    )
)


UNKNOWN = "unknown"  # the speaker of utterances whose speaker no column and no folder tells


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest: which file, who speaks, how and what.

    id : unique within its corpus, the same whatever the file's ending or the folders' spelling
    path : relative to the corpus's root, with forward slashes, as it is on disk; of a stretch of a file with
        its seconds behind it, as in `a.wav#t=1.5,3`
    corpus, speaker, sentence : labels of the corpus; a speaker is unique within a corpus
    emotion : one of the labels with which the corpus was read
    intensity : the corpus's own word, or empty
    part : the corpus's own train, validation or test, or empty
    augmented_from : id of the original where this is an augmented copy, else empty
    """

    id: str
    path: str
    corpus: str
    speaker: str
    emotion: str
    sentence: str
    intensity: str = ""
    part: str = ""
    augmented_from: str = ""

    @property
    def file(self) -> str:
        """The path of the file, without a stretch."""
        return split_segment(self.path)[0]

    @property
    def segment(self) -> tuple[float, float] | None:
        """Seconds (start, end) in the file, which may end at infinity; None for all of it."""
        return split_segment(self.path)[1]


def segment_path(path: str, start: float | None, end: float | None) -> str:
    """The path of a stretch of a file, in seconds; of all of it where neither end is given."""
    if start is None and end is None:
        return path
    first, last = ("" if time is None else f"{time:.6f}".rstrip("0").rstrip(".") for time in (start, end))
    return f"{path}#t={first or '0'},{last}"


def split_segment(path: str) -> tuple[str, tuple[float, float] | None]:
    """A path without its stretch, and the stretch."""
    parts = SEGMENT.fullmatch(path)
    if parts is None:
        return path, None
    return parts[1], (float(parts[2]), float(parts[3] or "inf"))


def read_manifest(name: str) -> list[dict[str, str]]:
    """Rows of a corpus's manifest, as text by column. Raises ValueError where the corpus has none."""
    if name not in MANIFESTS:
        raise ValueError(f"{name!r} has no manifest: choose one of {', '.join(MANIFESTS)}")
    return _read_rows(f"{name}.csv")


def write_manifest(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write rows as a manifest: a column that a row lacks is empty, an unknown one is a ValueError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def published_folds() -> dict[str, tuple[tuple[str, str], ...]]:
    """Published folds, such as ravdess:1, each with its test speakers as (corpus, speaker)."""
    folds: dict[str, tuple[tuple[str, str], ...]] = {}
    for row in _read_rows(FOLDS):
        name = f"{row['corpus']}:{row['fold']}"
        folds[name] = (*folds.get(name, ()), (row["corpus"], row["speaker"]))
    return folds


def _read_rows(file_name: str) -> list[dict[str, str]]:
    text = (FOLDER / file_name).read_text(encoding="utf-8")
    table = parse_rows(text, file_name)
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]
