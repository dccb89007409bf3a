"""How a cross-validation divides utterances: every fold tests, or a fixed tenth does."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.manifest import published_folds
from fins.data.copies import Key, by_name, counted_of, keys_of, origins_of, parts_with_copies, recordings_of
from fins.data.protocols import Division, assign_parts, only_emotions, test_on_speakers
from fins.data.splits import UNUSED, Parts, places_of, refuse_empty

FoldKind = Literal["speaker", "random", "published", "ninety_ten"]
PROTOCOL_OF = {"speaker": "speaker", "published": "speaker", "random": "random", "ninety_ten": "random"}
"""Kind of folds → the protocol that it is an instance of."""
N_HELD_OUT = 10  # folds, of which one tests all models of `ninety_ten`


class Fold(NamedTuple):
    """name : "fold-1" and so on; parts : as `divide` gives them, of all training speakers
    published : the published fold that it is, as corpus:number, or None"""

    name: str
    parts: Parts
    published: str | None = None


def folds(rows: pd.DataFrame, kind: FoldKind, n_folds: int, division: Division, seed: int = 0) -> list[Fold]:
    """The divisions of a cross-validation.

    rows : as `UtteranceTable.rows`; n_folds : not of published ones
    kind : "speaker": no speaker in two folds. "random": only emotions alike; a fold tests, the next one
        validates. "published": those of data_manifests. "ninety_ten": a tenth tests, and each fold of the
        rest validates once
    division : of which emotions and split_seed count here; training_speakers are left out when a fold trains
    Raises ValueError before there is any work, for folds that can't be made and parts that are left empty.
    """
    if division.fold or division.split or division.test_corpus:
        raise ValueError("folds say all: they go without --fold, --split and --test-corpus")
    seed = seed if division.split_seed is None else division.split_seed
    divided: list[tuple[str, NDArray[np.object_], str | None]]
    if kind == "published":
        divided = _published(rows, seed)
    else:
        counted = counted_of(rows)
        once = rows[counted].reset_index(drop=True)
        divided = []
        for number, parts in enumerate(_assigned(once, kind, n_folds, seed), 1):
            assigned = np.full(len(rows), UNUSED, dtype=object)
            assigned[counted] = parts
            divided.append((f"fold-{number}", assigned, None))
    made = []
    for name, assigned, published in divided:
        places = places_of(only_emotions(rows, assigned, division.emotions))
        refuse_empty(places)
        made.append(Fold(name, places, published))
    return made


def _published(rows: pd.DataFrame, seed: int) -> list[tuple[str, NDArray[np.object_], str | None]]:
    stored = set(rows["corpus"])
    chosen = [fold for fold in published_folds() if fold.split(":")[0] in stored]
    n_corpora = len({fold.split(":")[0] for fold in chosen})
    if n_corpora != 1:
        raise ValueError(
            f"the stores need to have one corpus with published folds, and have {n_corpora}: choose "
            "--folds speaker, or a --fold at a time"
        )
    return [
        (f"fold-{fold.split(':')[1]}", assign_parts(rows, Division(fold=fold), seed), fold) for fold in chosen
    ]


def _assigned(rows: pd.DataFrame, kind: FoldKind, n_folds: int, seed: int) -> list[NDArray[np.object_]]:
    """Of each fold the part of each utterance."""
    if kind == "random" and n_folds < 3:
        raise ValueError("random folds are at least 3: one tests, one validates, and the others train")
    original = (rows["augmented_from"] == "").to_numpy()
    testing = np.zeros(len(rows), dtype=bool)
    if kind == "ninety_ten":
        testing = fold_utterances(rows, N_HELD_OUT, False, seed) == 0
    number_of = np.full(len(rows), -1)
    left = rows[~testing].reset_index(drop=True)
    number_of[~testing] = fold_utterances(left, n_folds, kind == "speaker", seed)
    if kind == "speaker":
        originals = rows[original].reset_index(drop=True)
        return [
            parts_with_copies(rows, _tested(originals, number_of[original] == number, seed))
            for number in range(n_folds)
        ]
    divided = []
    for number in range(n_folds):
        parts = np.full(len(rows), "train", dtype=object)
        if kind == "random":
            parts[number_of == (number + 1) % n_folds] = "validation"
            parts[number_of == number] = "test"
        else:
            parts[number_of == number] = "validation"
            parts[testing] = "test"
        parts[~original & (parts != "train")] = UNUSED
        divided.append(parts)
    return divided


def _tested(originals: pd.DataFrame, testing: NDArray[np.bool_], seed: int) -> NDArray[np.object_]:
    """The parts of originals, where the speakers of some of them test."""
    speakers = set(keys_of(originals[testing], "corpus", "speaker"))
    parts = test_on_speakers(originals, speakers, np.random.default_rng(seed))
    return np.array(list(parts), dtype=object)


def fold_utterances(rows: pd.DataFrame, n_folds: int, by_speaker: bool, seed: int) -> NDArray[np.int64]:
    """Assign every utterance to a fold, all with about the same emotions, by scikit-learn.

    rows : as `UtteranceTable.rows`
    by_speaker : the utterances of a speaker stay together; else only those of equal files do
    returns : (n_utterances,) folds from 0; augmented copies are where their originals are, and at -1 where
        these aren't there
    Raises ValueError for fewer than two folds, and for fewer speakers or recordings of an emotion than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    original = np.flatnonzero(rows["augmented_from"] == "")
    originals = rows.iloc[original]
    units = keys_of(originals, "corpus", "speaker") if by_speaker else recordings_of(originals)
    n_units = len(set(units))
    if not 2 <= n_folds <= n_units:
        what = "speakers" if by_speaker else "recordings"
        raise ValueError(f"{n_folds} folds can't be made of {n_units} {what}")
    strata = keys_of(originals, "corpus", "emotion")
    most = max(Counter(strata).values())
    if most < n_folds:
        raise ValueError(f"{n_folds} folds can't be made of {most} recordings of an emotion")
    splitter = StratifiedGroupKFold(n_folds)  # before 1.8 its own shuffle gives a group the labels of another
    groups, labels = _shuffled(n_units, seed)[_ranks(units)], _ranks(strata)
    number_of = np.full(len(rows), -1)
    with warnings.catch_warnings():  # of emotions with fewer recordings than folds, which find_gaps names
        warnings.filterwarnings("ignore", "The least populated class")
        for number, (_, members) in enumerate(splitter.split(groups, labels, groups)):
            number_of[original[members]] = number
    for place, numbers in origins_of(rows, number_of).items():
        if len(numbers) > 1:
            raise ValueError(
                "copies can't be told to which of several recordings of one name they belong: give their "
                "corpora other names, or leave the copies out"
            )
        number_of[place] = next(iter(numbers))
    return number_of


def _ranks(keys: Sequence[Key]) -> NDArray[np.int64]:
    """(n,) the place of each among all of them in order."""
    rank_of = {key: rank for rank, key in enumerate(by_name(keys))}
    return np.array([rank_of[key] for key in keys], dtype=np.int64)


def _shuffled(n: int, seed: int) -> NDArray[np.int64]:
    """(n,) a place of its own for each, drawn as scikit-learn draws it."""
    return np.argsort(np.random.RandomState(seed).permutation(n))
