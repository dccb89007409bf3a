"""Speakers by name and number of utterances, so that a folder which was taken for one is seen."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from data_manifests.ledger import LISTED, shorten


def count_speakers(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Part → speaker → number of utterances, of whom there are most first; without augmented copies.

    rows : part, speaker and augmented_from of each
    """
    originals = rows[rows["augmented_from"] == ""]
    counts = {}
    for part, members in originals.groupby("part", sort=False):
        by_number = members["speaker"].value_counts()
        counts[str(part)] = {str(name): int(n) for name, n in sorted(by_number.items(), key=_most_first)}
    return counts


def name_speakers(counts: Mapping[str, int], most: int = LISTED) -> str:
    """Speaker → number of utterances, as `anna 12, ben 8 and 3 more`."""
    ordered = sorted(counts.items(), key=_most_first)
    return shorten([f"{name} {n:,}" for name, n in ordered], most)


def _most_first(pair: tuple[object, int]) -> tuple[int, str]:
    return -pair[1], str(pair[0])
