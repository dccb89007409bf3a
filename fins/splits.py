"""Which utterances train, validate and test; a number without its protocol is no result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Protocol = Literal["random", "speaker"]
PARTS = ("train", "validation", "test")
SHARES = (0.70, 0.15, 0.15)
VALIDATING = 0.1  # of the speakers that a fold leaves


def split_utterances(utterances: dict[str, NDArray], protocol: Protocol, seed: int) -> NDArray:
    """Assign every utterance to a part.

    utterances : column → (n_utterances,), with id, corpus, speaker, emotion, sha256 and augmented_from
    returns : (n_utterances,) of "train", "validation", "test", and "unused" for augmented copies of
        originals that don't train

    `random` is stratified 70/15/15 by corpus and emotion and shares speakers between parts; equal files stay
    together. `speaker` shares no speaker: 70/15/15 of each corpus's speakers, at least one in each part; a
    corpus of one or two speakers trains. Raises ValueError for another protocol, if no corpus has three, or
    if byte-identical files would be in different parts.
    """
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
    if protocol == "speaker":
        most = max(Counter(stratum_of.values()).values(), default=0)
        if most < len(PARTS):
            raise ValueError(f"the protocol speaker needs a corpus of 3 speakers, and the largest has {most}")
    part_of: dict[str, str] = {}
    rng = np.random.default_rng(seed)
    for stratum in sorted(set(stratum_of.values())):
        members = sorted(unit for unit, its in stratum_of.items() if its == stratum)
        order = rng.permutation(len(members))
        for part, unit in zip(_part_sequence(len(members)), (members[i] for i in order), strict=True):
            part_of[unit] = part

    return _with_copies(utterances, np.array([part_of.get(unit, "unused") for unit in units], dtype=object))


def split_at_speakers(utterances: dict[str, NDArray], held_out: Collection[str], seed: int) -> NDArray:
    """Test on these speakers, as published folds do; train and validate on the others.

    utterances : as above; held_out : speakers as "corpus/speaker", each with an utterance
    returns : as above. Of each corpus's other speakers a tenth validates, rounded down; if that is nobody,
        one of the corpus with the most of them
    Raises ValueError for a speaker without utterances, or if fewer than two speakers are left.
    """
    speakers = np.array([f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")], dtype=object)
    unknown = sorted(set(held_out) - set(speakers))
    if unknown:
        raise ValueError(f"the stores have no utterance of {', '.join(unknown)}: give the store that has")
    others: dict[str, list[str]] = {}
    for speaker in sorted(set(speakers) - set(held_out)):
        others.setdefault(speaker.rsplit("/", 1)[0], []).append(speaker)
    if sum(map(len, others.values())) < 2:
        raise ValueError("fewer than two speakers are left to train and to validate on: give more stores")
    rng = np.random.default_rng(seed)
    validating: set[str] = set()
    for members in others.values():
        order = rng.permutation(len(members))
        validating |= {members[place] for place in order[: int(len(members) * VALIDATING)]}
    if not validating:
        most = max(others.values(), key=len)
        validating = {most[rng.integers(len(most))]}
    parts = np.full(len(speakers), "train", dtype=object)
    parts[np.isin(speakers, list(validating))] = "validation"
    parts[np.isin(speakers, list(held_out))] = "test"
    return _with_copies(utterances, parts)


def _with_copies(utterances: dict[str, NDArray], parts: NDArray) -> NDArray:
    """The parts of originals, and of augmented copies as their originals train or don't; ValueError if a file
    that is in one part is byte-identical to one in another."""
    part_of, parts_of_file = {}, defaultdict(set)
    for corpus, name, sha, copied, part in zip(
        *(utterances[column] for column in ("corpus", "id", "sha256", "augmented_from")), parts, strict=True
    ):
        if not copied:
            part_of[corpus, name] = part
            parts_of_file[sha].add(part)
    twice = [sha for sha, its in parts_of_file.items() if sha and len(its) > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} recordings would be in several parts, as byte-identical files of different "
            "speakers: prepare the corpus without them"
        )
    return np.array(
        [
            part if not copied else "train" if part_of.get((corpus, copied)) == "train" else "unused"
            for corpus, copied, part in zip(
                utterances["corpus"], utterances["augmented_from"], parts, strict=True
            )
        ],
        dtype=object,
    )


def _part_sequence(n: int) -> list[str]:
    """Parts of n units in the shares above; with three or more, each part gets at least one."""
    held_out = max(round(n * SHARES[1]), 1 if n >= len(PARTS) else 0)
    counts = (n - 2 * held_out, held_out, held_out)
    return [part for part, count in zip(PARTS, counts, strict=True) for _ in range(count)]


def _columns(utterances: dict[str, NDArray], *names: str) -> zip:
    return zip(*(utterances[name] for name in names), strict=True)
