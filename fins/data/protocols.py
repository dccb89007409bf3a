"""Which utterances train, validate and test; a number without its protocol is no result."""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from data_manifests.manifest import published_folds
from fins.data.copies import Key, by_name, counted_of, keys_of, parts_with_copies, recordings_of
from fins.data.own_parts import divide_as_marked
from fins.data.splits import PARTS, UNUSED, Parts, part_of_each, places_of, read_split, refuse_empty

SHARES = (0.70, 0.15, 0.15)
SENTENCES = 1 / 3  # of a corpus's sentences test, under speaker_sentence; at least one, and never all
VALIDATING = 0.1  # of the speakers that a fold leaves
PROMISES = ("speakers", "sentences", "corpora")

PartOfEach = Sequence[str] | NDArray[np.object_]  # (n,)


@dataclass(frozen=True)
class SplitProtocol:
    """A way to divide utterances, and what it promises.

    divide : (originals, rng, division) → part of each: "train", "validation", "test", or "unused".
        `originals` are rows of `UtteranceTable.rows` without augmented copies, numbered from 0. Copies, equal
        files and parts that stay empty are the work of `divide` below
    never_shares : kinds of leak that an audit of it must not find: "speakers" between any parts; "sentences"
        and "corpora" between the test part and the others
    """

    divide: Callable[[pd.DataFrame, Generator, Division], PartOfEach]
    never_shares: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.never_shares) - set(PROMISES))
        if unknown:
            raise ValueError(f"a protocol can't promise {unknown[0]!r}: it can {', '.join(PROMISES)}")


@dataclass(frozen=True)
class Division:
    """How utterances are divided into parts."""

    protocol: str = "speaker"
    """How utterances are divided: speaker (none shared), speaker_sentence (no sentence with the test part
    either), corpus (tests on --test-corpus), random (by corpus and emotion; leaks speakers), own (the parts
    that corpora give), or a function of your own as module:function."""
    test_corpus: tuple[str, ...] = ()
    """Corpora that test and do nothing else, under the protocol corpus."""
    fold: str | None = None
    """A published fold to test on, as corpus:number: ravdess:1 to 6, savee:1 to 4. Other speakers, of all
    stores, train, and a tenth of them validates."""
    split: Path | None = None
    """A split.csv that another run has written, or one like it, in place of a protocol's own."""
    emotions: tuple[str, ...] | None = None
    """Of the utterances that are used; by default all."""
    training_speakers: float = 1.0
    """Share of each corpus's training speakers that train; the others are left out."""
    split_seed: int | None = None
    """Of the split; by default the seed of the run."""

    def __post_init__(self) -> None:
        if self.split is not None and (self.fold is not None or self.test_corpus):
            raise ValueError("a --split says all: it goes without --fold and --test-corpus")
        if self.fold is not None and (self.protocol != "speaker" or self.test_corpus):
            raise ValueError("a published fold shares no speaker: it goes with --protocol speaker")
        if ":" not in self.protocol:
            get_protocol(self.protocol)
            if self.test_corpus and self.protocol != "corpus":
                raise ValueError("test corpora go with the protocol corpus alone")
        if not 0 < self.training_speakers <= 1:
            raise ValueError("--training-speakers is a share, above 0 and at most 1")
        if self.split_seed is not None and not 0 <= self.split_seed < 2**32:
            raise ValueError("--split-seed is at least 0 and below 2 ** 32")

    def never_shares(self) -> tuple[str, ...]:
        """The promise of the protocol; a split that came as a file promises nothing."""
        return () if self.split is not None else get_protocol(self.protocol).never_shares


def divide_at_random(originals: pd.DataFrame, rng: Generator, division: Division) -> PartOfEach:
    """70/15/15 of each corpus and emotion, so that parts share speakers; equal files stay together."""
    return _in_shares(recordings_of(originals), keys_of(originals, "corpus", "emotion"), rng)


def divide_by_speaker(originals: pd.DataFrame, rng: Generator, division: Division) -> PartOfEach:
    """70/15/15 of each corpus's speakers, at least one in each part; a corpus of one or two speakers trains.

    Raises ValueError if no corpus has three speakers.
    """
    speakers = keys_of(originals, "corpus", "speaker")
    most = max(Counter(corpus for corpus, _ in set(speakers)).values(), default=0)
    if most < len(PARTS):
        raise ValueError(f"the protocol speaker needs a corpus of 3 speakers, and the largest has {most}")
    return _in_shares(speakers, keys_of(originals, "corpus"), rng)


def divide_by_speaker_and_sentence(originals: pd.DataFrame, rng: Generator, division: Division) -> PartOfEach:
    """As by speaker, and the test part shares no sentence with the others: what would share one is unused.

    Of each corpus a third of the sentences tests, drawn among those that are said with the same emotions.
    Raises ValueError if no corpus has two sentences.
    """
    parts = np.asarray(divide_by_speaker(originals, rng, division), dtype=object)
    emotions: dict[Key, set[str]] = defaultdict(set)
    for corpus, text, emotion in keys_of(originals, "corpus", "sentence", "emotion"):
        emotions[corpus, text].add(emotion)
    strata: dict[Key, list[Key]] = defaultdict(list)
    for sentence, spoken in sorted(emotions.items()):
        stratum = (sentence[0], *sorted(spoken))
        strata[stratum].append(sentence)
    chosen: set[Key] = set()
    for _, members in sorted(strata.items()):
        n = min(len(members) - 1, max(1, round(SENTENCES * len(members))))
        chosen |= {members[place] for place in rng.permutation(len(members))[:n]}
    testing = np.array([sentence in chosen for sentence in keys_of(originals, "corpus", "sentence")])
    parts[testing != (parts == "test")] = UNUSED
    if not (parts == "test").any():
        raise ValueError("the protocol speaker_sentence needs a corpus of two sentences or more")
    return parts


def divide_at_corpora(originals: pd.DataFrame, rng: Generator, division: Division) -> PartOfEach:
    """The test corpora test; of the others a tenth of the speakers validates."""
    unknown = sorted(set(division.test_corpus) - set(originals["corpus"]))
    if unknown or not division.test_corpus:
        missing = f"the stores have no utterance of {', '.join(unknown)}" if unknown else "none is named"
        raise ValueError(f"the protocol corpus tests on whole corpora, and {missing}: give --test-corpus")
    speakers = set(keys_of(originals, "corpus", "speaker"))
    return test_on_speakers(originals, {key for key in speakers if key[0] in division.test_corpus}, rng)


PROTOCOLS: dict[str, SplitProtocol] = {
    "random": SplitProtocol(divide_at_random),
    "speaker": SplitProtocol(divide_by_speaker, never_shares=("speakers",)),
    "speaker_sentence": SplitProtocol(divide_by_speaker_and_sentence, never_shares=("speakers", "sentences")),
    "corpus": SplitProtocol(divide_at_corpora, never_shares=("speakers", "corpora")),
    "own": SplitProtocol(divide_as_marked),
}
"""Name → a way to divide utterances. One that is added here is known to all commands and to the audit."""


def get_protocol(name: str) -> SplitProtocol:
    """One of PROTOCOLS, or one's own as module:name, of a function like their `divide` or a SplitProtocol.

    Raises ValueError for an unknown name, and for what can't be imported or is neither.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        known = ", ".join(PROTOCOLS)
        raise ValueError(
            f"there is no protocol {name!r}: the known ones are {known}, and your own as module:function"
        )
    try:
        own = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the protocol {name} can't be imported: {error}") from error
    if not callable(own) and not isinstance(own, SplitProtocol):
        raise ValueError(f"the protocol {name} is no function, and no SplitProtocol either")
    return own if isinstance(own, SplitProtocol) else SplitProtocol(own)


def divide(rows: pd.DataFrame, division: Division, seed: int = 0) -> Parts:
    """Part → its utterances, by their places: the one way in which utterances are divided.

    rows : as `UtteranceTable.rows`; seed : of the split, unless the division has one of its own
    Raises ValueError in one sentence for what the utterances can't be divided into.
    """
    seed = seed if division.split_seed is None else division.split_seed
    if division.split is not None:
        assigned = part_of_each(read_split(division.split, rows), len(rows))
        copy = (rows["augmented_from"] != "").to_numpy()
        if copy.any() and (assigned[copy] == UNUSED).all():  # one written by hand names none
            assigned = parts_with_copies(rows, assigned[~copy])
        assigned[~counted_of(rows)] = UNUSED
    else:
        assigned = assign_parts(rows, division, seed)
    assigned = keep_speakers(rows, assigned, division.training_speakers, seed)
    parts = places_of(only_emotions(rows, assigned, division.emotions))
    emotion = rows["emotion"].to_numpy(dtype=object)
    known = sorted(set(emotion[parts["train"]]))
    if len(known) < 2:
        raise ValueError("the training utterances have but one emotion: there is nothing to tell apart")
    # what training never heard can't choose the epoch; of the test part it is left out when scores are made
    parts["validation"] = parts["validation"][np.isin(emotion[parts["validation"]], known)]
    if not np.isin(emotion[parts["test"]], known).any():
        parts["test"] = parts["test"][:0]
    refuse_empty(parts)
    return parts


def assign_parts(rows: pd.DataFrame, division: Division, seed: int) -> NDArray[np.object_]:
    """(n,) the part of each utterance by a fold or a protocol alone, "unused" for what is left out.

    Augmented copies train if their originals do, and are unused else. Raises ValueError if byte-identical
    files would be in different parts, and for a protocol of one's own that gives anything else.
    """
    if not (counted := counted_of(rows)).all():
        assigned = np.full(len(rows), UNUSED, dtype=object)
        assigned[counted] = assign_parts(rows[counted].reset_index(drop=True), division, seed)
        return assigned
    originals = rows[rows["augmented_from"] == ""].reset_index(drop=True)
    rng = np.random.default_rng(seed)
    if division.fold is not None:
        parts = test_on_speakers(originals, speakers_of(division.fold), rng)
    else:
        parts = get_protocol(division.protocol).divide(originals, rng, division)
    checked = np.array(list(parts), dtype=object)
    unknown = sorted({str(part) for part in checked} - {*PARTS, UNUSED})
    if len(checked) != len(originals) or unknown:
        fault = f"has {', '.join(unknown)}" if unknown else f"has {len(checked)} for {len(originals)} rows"
        raise ValueError(
            f"the protocol {division.protocol} {fault}: it gives each row one of "
            f"{', '.join(PARTS)} and {UNUSED}"
        )
    return parts_with_copies(rows, checked)


def test_on_speakers(originals: pd.DataFrame, testing: Collection[Key], rng: Generator) -> PartOfEach:
    """Test on these speakers, as published folds do; train and validate on the others.

    testing : speakers as (corpus, speaker), each with an utterance
    Of each corpus's other speakers a tenth validates, rounded down; if that is nobody, one of the corpus with
    the most of them. Raises ValueError for a speaker without utterances, or if fewer than two are left.
    """
    speakers = keys_of(originals, "corpus", "speaker")
    unknown = by_name(set(testing) - set(speakers))
    if unknown:
        names = ", ".join(map("/".join, unknown))
        raise ValueError(f"the stores have no utterance of {names}: give the store that has")
    others = _by_corpus(set(speakers) - set(testing))
    if sum(map(len, others.values())) < 2:
        raise ValueError("fewer than two speakers are left to train and to validate on: give more stores")
    validating: set[Key] = set()
    for members in others.values():
        order = rng.permutation(len(members))
        validating |= {members[place] for place in order[: int(len(members) * VALIDATING)]}
    if not validating:
        most = max(others.values(), key=len)
        validating = {most[rng.integers(len(most))]}
    part_of = {**dict.fromkeys(validating, "validation"), **dict.fromkeys(testing, "test")}
    return [part_of.get(speaker, "train") for speaker in speakers]


def keep_speakers(
    rows: pd.DataFrame, assigned: NDArray[np.object_], share: float, seed: int
) -> NDArray[np.object_]:
    """The parts, where only a share of each corpus's training speakers trains and the others are "unused".

    share : above 0 to 1; the number is rounded, but of the corpus with the most one is left. Those of a
        smaller share are among those of a larger one
    """
    speakers = keys_of(rows, "corpus", "speaker")
    trains = assigned == "train"
    training = _by_corpus({speakers[place] for place in np.flatnonzero(trains)})
    most = max(training.values(), key=len, default=[])
    rng = np.random.default_rng(seed)
    chosen: set[Key] = set()
    for members in training.values():
        order = rng.permutation(len(members))
        n = int(share * len(members) + 0.5)
        chosen |= {members[place] for place in order[: max(n, 1) if members is most else n]}
    left_out = trains & ~np.array([speaker in chosen for speaker in speakers], dtype=bool)
    return np.where(left_out, UNUSED, assigned)


def only_emotions(
    rows: pd.DataFrame, assigned: NDArray[np.object_], emotions: Collection[str] | None
) -> NDArray[np.object_]:
    """The parts, where utterances of other emotions are "unused"; ValueError for one that nobody has."""
    if emotions is None:
        return assigned
    stored = sorted(set(rows["emotion"]))
    unknown = sorted(set(emotions) - set(stored))
    if unknown:
        raise ValueError(f"no utterance is {' or '.join(unknown)}: the stores have {', '.join(stored)}")
    return np.where(rows["emotion"].isin(list(emotions)), assigned, UNUSED)


def protocol_of(rows: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]]) -> str:
    """Of a split that came as a file: by what the test part shares with the others."""
    test = rows.iloc[parts["test"]]
    others = rows.iloc[np.concatenate([parts["train"], parts["validation"]])]

    def shared(column: str) -> bool:
        return not set(keys_of(test, "corpus", column)).isdisjoint(keys_of(others, "corpus", column))

    if shared("speaker"):
        return "random"
    if set(test["corpus"]).isdisjoint(others["corpus"]):
        return "corpus"
    known = (test["sentence"] != "").all()
    return "speaker" if shared("sentence") or not known else "speaker_sentence"


def speakers_of(fold: str) -> Sequence[Key]:
    """The test speakers of a published fold, as (corpus, speaker)."""
    folds = published_folds()
    if fold not in folds:
        raise ValueError(f"there is no fold {fold!r}: the known ones are {', '.join(folds)}")
    return folds[fold]


def _in_shares(units: Sequence[Key], strata: Sequence[Key], rng: Generator) -> NDArray[np.object_]:
    """(n,) parts: of the units of each stratum the shares above; a unit is where its first row is."""
    stratum_of: dict[Key, Key] = {}
    for unit, stratum in zip(units, strata, strict=True):
        stratum_of.setdefault(unit, stratum)
    members: dict[Key, list[Key]] = defaultdict(list)
    for unit in by_name(stratum_of):
        members[stratum_of[unit]].append(unit)
    part_of: dict[Key, str] = {}
    for stratum in by_name(members):
        order = rng.permutation(len(members[stratum]))
        for part, place in zip(_part_sequence(len(order)), order, strict=True):
            part_of[members[stratum][place]] = part
    return np.array([part_of[unit] for unit in units], dtype=object)


def _part_sequence(n: int) -> list[str]:
    """Parts of n units in the shares above; with three or more, each part gets at least one."""
    n_held_out = max(round(n * SHARES[1]), 1 if n >= len(PARTS) else 0)
    counts = (n - 2 * n_held_out, n_held_out, n_held_out)
    return [part for part, count in zip(PARTS, counts, strict=True) for _ in range(count)]


def _by_corpus(speakers: Collection[Key]) -> dict[str, list[Key]]:
    """Corpus → its speakers."""
    members: dict[str, list[Key]] = {}
    for speaker in by_name(speakers):
        members.setdefault(speaker[0], []).append(speaker)
    return members
