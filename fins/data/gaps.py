"""What a split lacks, emotions of a part or names of speakers, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from data_manifests.ledger import shorten
from data_manifests.manifest import UNKNOWN

MOST_SPEAKERS = 5  # that are named


def find_gaps(
    rows: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]], emotions: Collection[str] | None = None
) -> list[str]:
    """A sentence for each emotion that some part has no recording of.

    rows : as `UtteranceTable.rows`; parts : as `divide` gives them; emotions : as of a `Division`, those
        that are meant to be used
    """
    originals = rows[rows["augmented_from"] == ""]
    if emotions is not None:
        originals = originals[originals["emotion"].isin(list(emotions))]
    present = {part: set(rows["emotion"].iloc[places]) for part, places in parts.items()}
    every = order_labels(originals["emotion"])
    sentences = []
    for emotion in every:
        lacking = [part for part, among in present.items() if emotion not in among]
        if lacking:
            members = originals[originals["emotion"] == emotion]
            others = [other for other in every if other != emotion]
            sentences.append(f"{describe_gap(emotion, members, lacking)}: {advise(members, others)}")
    return sentences


def find_strangers(rows: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """A sentence for each corpus of which recordings of unknown speakers stand in one part and others in
    another: who tests may have trained.

    rows : corpus, person and augmented_from of each; no name is an unknown speaker, too
    """
    used = pd.concat([rows.iloc[places].assign(part=part) for part, places in parts.items()])
    originals = used[used["augmented_from"] == ""]
    sentences = []
    for corpus, members in originals.groupby("corpus", sort=False):
        unknown = members["person"].map(lambda person: person.rpartition("/")[2] in ("", UNKNOWN))
        if unknown.any() and members["part"].nunique() > 1:
            of = f" of {corpus}" if corpus else ""
            sentences.append(
                f"{int(unknown.sum()):,} recordings{of} are of unknown speakers, who count as one and may be "
                "anybody: scores on unseen speakers can't be trusted; name the speakers, or leave these out"
            )
    return sentences


def describe_gap(emotion: str, members: pd.DataFrame, lacking: Collection[str]) -> str:
    """Who has an emotion, and what its absence in some parts means."""
    people = sorted(set(members["person"]))
    who = f"{len(members):,} recordings of {shorten(people, MOST_SPEAKERS)}"
    if len(people) == 1:
        who = f"{len(members):,} recordings, all of one speaker, {people[0]}"
    if "train" in lacking:
        return (
            f"{emotion} ({who}) isn't in the training part, so it can't be learned: its recordings choose "
            "no weights and are left out of the scores"
        )
    effects = {"validation": "has no say in which weights are kept", "test": "isn't tested"}
    what = " and ".join(effects[part] for part in lacking)
    return f"{emotion} ({who}) isn't in the {' and '.join(lacking)} part: it is learned, but {what}"


def advise(members: pd.DataFrame, others: Collection[str]) -> str:
    """What to do about an emotion that a part lacks."""
    ways = []
    if members["person"].nunique() < 3:
        ways.append("record it of three speakers or more")
    if len(others) > 1:
        ways.append(f"leave it out (--emotions {' '.join(others)})")
    return ", or ".join([*ways, "divide otherwise (--split-seed, --protocol)"])
