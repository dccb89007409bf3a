"""Recordings that stand in several of the stores that are used together: they are named, and count once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.ledger import shorten
from data_manifests.manifest import UNKNOWN
from fins.data.store import FOLDER_DIGEST, Store

NAMED = 5  # recordings, or pairs of speakers, that a sentence names


@dataclass(frozen=True)
class Repeats:
    """counted : (n,) bool, false for what another row counts for, for what has two labels, and for copies of
    such; sentences : what was found, for a person"""

    counted: NDArray[np.bool_]
    sentences: tuple[str, ...] = ()


def find_repeats(stores: Sequence[Store], rows: pd.DataFrame) -> Repeats:
    """By the checksums of files, and by those of the decoded sound.

    rows : as `UtteranceTable.rows`, of these stores
    Of recordings with one emotion the one of the first store counts, of those with several none. Within a
    store nothing is looked for.
    """
    counted = np.ones(len(rows), dtype=bool)
    if len(stores) < 2:
        return Repeats(counted)
    store_of, emotion = rows["store"].to_numpy(np.int64), rows["emotion"].to_numpy(object)
    repeats: dict[int, int] = {}
    torn: set[int] = set()
    for places in _groups(stores, rows):
        if len(set(emotion[places])) > 1:
            torn.update(places)
        repeats |= {place: places[0] for place in places if store_of[place] != store_of[places[0]]}
    repeats = {place: first for place, first in repeats.items() if place not in torn}
    counted[[*torn, *repeats]] = False
    names, origins = rows["id"].to_numpy(object), rows["augmented_from"].to_numpy(object)
    lost = {(store_of[place], names[place]) for place in (*torn, *repeats)}
    for place in np.flatnonzero(origins != ""):
        counted[place] = (store_of[place], origins[place]) not in lost
    return Repeats(counted, tuple(_describe(stores, rows, repeats, sorted(torn))))


def _groups(stores: Sequence[Store], rows: pd.DataFrame) -> list[list[int]]:
    """Places of originals that are one recording, in several stores; rising."""
    group_of: dict[str, list[int]] = defaultdict(list)
    stores_of_length: dict[int, set[int]] = defaultdict(set)
    columns = ("augmented_from", "sha256", "n_samples", "store", "row")
    table = list(zip(*(rows[name] for name in columns), strict=True))
    for origin, _, length, store, _ in table:
        if not origin:
            stores_of_length[length].add(store)
    for place, (origin, sha256, length, store, row) in enumerate(table):
        if origin:
            continue
        group_of[f"file {sha256}" if sha256 else ""].append(place)
        if len(stores_of_length[length]) > 1:
            sound = stores[store].sound(row)
            group_of[f"sound {sound}" if sound else ""].append(place)
    group_of.pop("", None)
    store_of = rows["store"].to_numpy(np.int64)
    several = {tuple(places) for places in group_of.values() if len(set(store_of[places])) > 1}
    return [list(places) for places in sorted(several)]


def _describe(
    stores: Sequence[Store], rows: pd.DataFrame, repeats: dict[int, int], torn: Sequence[int]
) -> list[str]:
    stems = [stores[number].path.name for number in rows["store"]]
    name = [f"{own} ({stem})" for own, stem in zip(rows["name"], stems, strict=True)]
    sentences = []
    if repeats:
        pairs = [f"{name[first]} = {name[place]}" for place, first in sorted(repeats.items())]
        sentences.append(
            f"{len(pairs):,} recordings stand in several stores, byte-identical or as the same sound, and "
            f"count once: {shorten(pairs, NAMED)}"
        )
    if torn:
        emotion = rows["emotion"].to_numpy(object)
        labelled = [f"{name[place]} is {emotion[place]}" for place in torn]
        sentences.append(
            f"{len(torn):,} recordings stand in several stores with different emotions, and none of them is "
            f"used: {shorten(labelled, NAMED)}; mend the labels"
        )
    person, speaker = (rows[column].to_numpy(object) for column in ("person", "speaker"))
    people = {
        f"{person[first]} = {person[place]}"
        for place, first in repeats.items()
        if person[first] != person[place] and UNKNOWN not in (speaker[first], speaker[place])
    }
    if people:
        sentences.append(
            "speakers who share such recordings may be one person, and may be in several parts: "
            f"{shorten(sorted(people), NAMED)}; if so, prepare their stores with one --name"
        )
    return sentences


def refuse_namesakes(stores: Sequence[Store]) -> None:
    """ValueError if two corpora that were named after their folders have one name and a speaker in common.

    They may be one corpus in two places, or strangers: only a person knows.
    """
    known: dict[tuple[str, str], Store] = {}
    for store in stores:
        folder = store.text(FOLDER_DIGEST)
        if not folder:
            continue
        pairs = zip(store.utterances["corpus"], store.utterances["speaker"], strict=True)
        for corpus, speaker in dict.fromkeys(pairs):
            other = known.setdefault((corpus, speaker), store)
            if speaker != UNKNOWN and other.text(FOLDER_DIGEST) != folder:
                raise ValueError(
                    f"{other.path} and {store.path} are of different folders called {corpus}, and both have "
                    f"a speaker {speaker}: prepare each with a --name of its own, or both with the same "
                    "--name if these are the same people"
                )
