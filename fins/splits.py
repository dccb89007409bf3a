"""Which utterances train, validate and test; a number without its protocol is no result."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Protocol = Literal["random", "speaker"]
PARTS = ("train", "validation", "test")
SHARES = (0.70, 0.15, 0.15)


def split_utterances(utterances: dict[str, NDArray], protocol: Protocol, seed: int) -> NDArray:
    """Assign every utterance to a part.

    utterances : column → (n_utterances,), with id, corpus, speaker, emotion, sha256 and augmented_from
    returns : (n_utterances,) of "train", "validation", "test", and "unused" for augmented copies of
        originals that don't train

    `random` is stratified 70/15/15 by corpus and emotion and shares speakers between parts; equal files stay
    together. `speaker` shares no speaker: 70/15/15 of each corpus's speakers, at least one in each part.
    Raises ValueError for another protocol, or a corpus of fewer than three speakers under `speaker`.
    """
    n = len(utterances["id"])
    if protocol == "random":
        strata = [f"{c}/{e}" for c, e in zip(utterances["corpus"], utterances["emotion"], strict=True)]
        units = [sha or f"{c}/{i}" for sha, c, i in _columns(utterances, "sha256", "corpus", "id")]
    elif protocol == "speaker":
        strata = list(utterances["corpus"])
        units = [f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")]
    else:
        raise ValueError(f"there is no protocol {protocol!r}: the known ones are random and speaker")

    original = utterances["augmented_from"] == ""
    stratum_of: dict[str, str] = {}
    for row in map(int, np.flatnonzero(original)):
        stratum_of.setdefault(units[row], strata[row])
    part_of: dict[str, str] = {}
    rng = np.random.default_rng(seed)
    for stratum in sorted(set(stratum_of.values())):
        members = sorted(unit for unit, its in stratum_of.items() if its == stratum)
        if protocol == "speaker" and len(members) < len(PARTS):
            raise ValueError(f"{stratum} has {len(members)} speakers, and the protocol speaker needs 3")
        order = rng.permutation(len(members))
        for part, unit in zip(_part_sequence(len(members)), (members[i] for i in order), strict=True):
            part_of[unit] = part

    parts = np.empty(n, dtype=object)
    for row in range(n):
        part = part_of.get(units[row], "unused")
        parts[row] = part if original[row] or part == "train" else "unused"
    return parts


def _part_sequence(n: int) -> list[str]:
    """Parts of n units in the shares above; with three or more, each part gets at least one."""
    held_out = max(round(n * SHARES[1]), 1 if n >= len(PARTS) else 0)
    counts = (n - 2 * held_out, held_out, held_out)
    return [part for part, count in zip(PARTS, counts, strict=True) for _ in range(count)]


def _columns(utterances: dict[str, NDArray], *names: str) -> zip:
    return zip(*(utterances[name] for name in names), strict=True)
