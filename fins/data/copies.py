"""Augmented copies and equal files: where one of them is, decides for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fins.data.splits import UNUSED

Key = tuple[str, ...]
NAMED = 5  # groups of equal files that an error names


def counted_of(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """(n,) false for what another row counts for, as `UtteranceTable.rows` say it; they needn't."""
    return rows["counted"].to_numpy(bool) if "counted" in rows else np.ones(len(rows), dtype=bool)


def keys_of(rows: pd.DataFrame, *columns: str) -> list[Key]:
    """(n,) the texts of some columns of each row: what tells one speaker, or one sentence, from another."""
    return list(zip(*(rows[column] for column in columns), strict=True))


def by_name(keys: Iterable[Key]) -> list[Key]:
    """Each once, in the order of what they are called."""
    return sorted(set(keys), key=lambda key: ("/".join(key), key))


def recordings_of(rows: pd.DataFrame) -> list[Key]:
    """(n,) by what equal files are told to be one: the checksum; where it isn't known, corpus and id."""
    return [
        (sha,) if sha else (corpus, name) for sha, corpus, name in keys_of(rows, "sha256", "corpus", "id")
    ]


def origins_of(rows: pd.DataFrame, values: Sequence[Any] | NDArray, name: str = "id") -> dict[int, set[Any]]:
    """Place of an augmented copy → the values of its original, where there is one.

    rows : with corpus, sha256, augmented_from, and the column `name` that augmented_from names
    values : (n,) anything
    Two stores may have recordings of one name in one corpus: the checksum, which a copy takes over, tells
    them apart. Where it has another one there may be several values.
    """
    if (rows["augmented_from"] == "").all():
        return {}
    exact: dict[Key, set[Any]] = defaultdict(set)
    named: dict[Key, set[Any]] = defaultdict(set)
    copies: list[tuple[int, Key, str]] = []
    table = keys_of(rows, "corpus", name, "augmented_from", "sha256")
    for place, (corpus, own, origin, sha) in enumerate(table):
        if origin:
            copies.append((place, (corpus, origin), sha))
        else:
            exact[corpus, own, sha].add(values[place])
            named[corpus, own].add(values[place])
    return {
        place: exact.get((*origin, sha)) or named[origin] for place, origin, sha in copies if origin in named
    }


def parts_with_copies(rows: pd.DataFrame, originals: NDArray[np.object_]) -> NDArray[np.object_]:
    """Part of each utterance, where a copy trains if its original does, and is unused else.

    rows : as `UtteranceTable.rows`; originals : the part of each row that is no copy, in their order
    Raises ValueError if a file that is in one part is byte-identical to one in another.
    """
    original = (rows["augmented_from"] == "").to_numpy()
    parts = np.full(len(rows), UNUSED, dtype=object)
    parts[original] = originals
    parts_of_file: dict[str, set[str]] = defaultdict(set)
    for sha, part in zip(rows["sha256"][original], originals, strict=True):
        parts_of_file[sha].add(part)
    torn = [sha for sha, several in parts_of_file.items() if sha and len(several) > 1]
    if torn:
        table = rows[original]
        groups = [" = ".join(table["name"][table["sha256"] == sha]) for sha in torn[:NAMED]]
        more = f"; and {len(torn) - NAMED} more" if len(torn) > NAMED else ""
        raise ValueError(
            f"{len(torn)} recordings would be in several parts, as byte-identical files of different "
            f"speakers ({'; '.join(groups)}{more}): prepare the corpus without them, all are in its "
            ".report.json under duplicates"
        )
    for place, values in origins_of(rows, parts).items():
        parts[place] = "train" if values == {"train"} else UNUSED
    return parts
