"""A split as a file: which utterance was in which part, so that others can use it and know what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.reading import PARTS as PART_WORDS
from fins.tables import TableError, read_table, write_table

PARTS = ("train", "validation", "test")
UNUSED = "unused"
SPLIT = "split.csv"
SPLIT_COLUMNS = ("utterance", "speaker", "emotion", "sha256", "part")

Parts = dict[str, NDArray[np.int64]]  # part → places of its utterances, rising


def write_split(path: Path, rows: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Which utterance was in which part, with its checksum; those in none follow as unused.

    rows : as `UtteranceTable.rows`; parts : part → places of its utterances
    """
    parts = {**parts, UNUSED: np.flatnonzero(part_of_each(parts, len(rows)) == UNUSED)}
    chosen = rows.iloc[np.concatenate([np.asarray(places, np.int64) for places in parts.values()])]
    split = {
        "utterance": chosen["name"],
        "speaker": chosen["person"],
        "emotion": chosen["emotion"],
        "sha256": chosen["sha256"],
        "part": np.repeat(list(parts), [len(places) for places in parts.values()]),
    }
    write_table(path, pd.DataFrame(split))


def read_split(path: Path, rows: pd.DataFrame) -> Parts:
    """Part → the utterances of a table that a split has there; of others nothing is used.

    path : a split.csv, or a table written by hand: utterance (as "corpus/id", as id or as path) and part are
        enough, and part may be another word for one, such as dev
    Raises ValueError for a file that is none, an utterance that the stores lack or that is another recording
    by now, and one that is there twice.
    """
    split = _split_table(path, ("utterance", "part"))
    lookups = _places_by_name(rows)
    emotions = rows["emotion"].to_numpy()
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    assigned: set[int] = set()
    for row in split.to_dict("records"):
        name, part = row["utterance"], PART_WORDS.get(row["part"].strip().lower(), row["part"])
        if part == UNUSED:
            continue
        places = next((lookup[name] for lookup in lookups if name in lookup), {})
        if not places:
            raise ValueError(f"{path} has {name}, which the stores lack: give the stores that it was made of")
        if "sha256" not in row and len(places) > 1:
            raise ValueError(f"{path}: the stores have several {name}: give its sha256 in a column")
        place = places.get(row["sha256"], -1) if "sha256" in row else next(iter(places.values()))
        if place < 0 or row.get("emotion", emotions[place]) != emotions[place]:
            raise ValueError(f"{path}: {name} is another recording there, or has another emotion")
        if part not in parts or place in assigned:
            fault = "is there twice" if place in assigned else f"is in {part!r}, which is no part"
            raise ValueError(f"{path}: {name} {fault}")
        assigned.add(place)
        parts[part].append(place)
    return {part: np.array(sorted(places), np.int64) for part, places in parts.items()}


def _places_by_name(rows: pd.DataFrame) -> list[dict[str, dict[str, int]]]:
    """Of each way to call an utterance, the best first: name → checksum → place. Two stores may have
    recordings of one name: checksums tell."""
    lookups: list[dict[str, dict[str, int]]] = []
    for column in (name for name in ("name", "id", "path") if name in rows):
        lookup: dict[str, dict[str, int]] = {}
        for place, (name, sha256) in enumerate(zip(rows[column], rows["sha256"], strict=True)):
            key = sha256 if sha256 not in lookup.get(name, {}) else f"{sha256} {place}"
            lookup.setdefault(name, {})[key] = place
        lookups.append(lookup)
    return lookups


def _split_table(path: Path, columns: Sequence[str] = SPLIT_COLUMNS) -> pd.DataFrame:
    """columns : that it has at least, among those of a split"""
    try:
        split = read_table(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: check the path; a finished run has one") from error
    except TableError as error:
        raise ValueError(f"{error}: make the split again") from error
    if not set(columns) <= set(split.columns) <= set(SPLIT_COLUMNS) or split.empty:
        raise ValueError(f"{path} is no split: its columns are {', '.join(SPLIT_COLUMNS)}")
    return split


@dataclass(frozen=True)
class Unseen:
    """Of a table, what a run neither learned from nor was chosen by.

    rows : (n,) places, no augmented copies; n_seen : how many originals are left out
    protocol : corpus if none of their corpora was seen, speaker if none of their speakers, else random
    """

    rows: NDArray[np.int64]
    n_seen: int
    protocol: str


def rows_not_trained_on(split: Path, n_of_parts: Mapping[str, int], rows: pd.DataFrame) -> Unseen:
    """By names and checksums.

    split : the split.csv of a run; n_of_parts : part → how many utterances it had, by the run's result
    rows : as `UtteranceTable.rows`, of any stores
    Raises ValueError if nothing is left, or if the file isn't whole.
    """
    table = _split_table(split)
    counts = table["part"][table["part"] != UNUSED].value_counts().to_dict()
    if counts != {part: n for part, n in n_of_parts.items() if n}:
        raise ValueError(f"{split} isn't whole, so what was trained on isn't known: make the run again")
    learned = table[table["part"].isin(("train", "validation"))]
    sums = learned["sha256"][learned["sha256"] != ""]
    seen = rows["name"].isin(learned["utterance"]) | rows["sha256"].isin(sums)
    original = rows["augmented_from"] == ""
    counted = rows["counted"].to_numpy(bool) if "counted" in rows else True
    places = np.flatnonzero(original & ~seen & counted)
    if len(places) == 0:
        raise ValueError(f"{split.parent} learned from every utterance of the stores: give another store")
    left = rows.iloc[places]
    protocol = "random"
    if not _any_begins(learned["speaker"], left["corpus"]):
        protocol = "corpus"
    elif not left["person"].isin(learned["speaker"]).any():
        protocol = "speaker"
    return Unseen(places.astype(np.int64), int((original & seen).sum()), protocol)


def _any_begins(persons: pd.Series, corpora: pd.Series) -> bool:
    """Whether any "corpus/speaker" is of one of these corpora, whatever slashes names hold."""
    starts = tuple(f"{corpus}/" for corpus in corpora.unique())
    return any(person.startswith(starts) for person in persons.unique())


def part_of_each(parts: Mapping[str, NDArray[np.int64]], n: int) -> NDArray[np.object_]:
    """(n,) the part of each utterance, "unused" for those that none has."""
    assigned = np.full(n, UNUSED, dtype=object)
    for part, places in parts.items():
        assigned[places] = part
    return assigned


def places_of(assigned: NDArray[np.object_]) -> Parts:
    """Part → its utterances, from the part of each."""
    return {part: np.flatnonzero(assigned == part) for part in PARTS}


def refuse_empty(parts: Parts) -> None:
    """ValueError if a part has no utterance."""
    empty = [part for part, places in parts.items() if len(places) == 0]
    if empty:
        raise ValueError(f"too few utterances in the stores: none is left for {' and '.join(empty)}")


def evenly(places: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """All of them, or so many, evenly spread from the first to the last."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).round().astype(int)]
