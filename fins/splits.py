"""Which utterances train, validate and test; a number without its protocol is no result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Protocol = Literal["random", "speaker", "speaker_sentence", "corpus"]
PARTS = ("train", "validation", "test")
SHARES = (0.70, 0.15, 0.15)
SENTENCES = 1 / 3  # of a corpus's sentences test, under speaker_sentence; at least one, and never all
VALIDATING = 0.1  # of the speakers that a fold leaves


def split_utterances(
    utterances: dict[str, NDArray], protocol: Protocol, seed: int, test_corpora: Collection[str] = ()
) -> NDArray:
    """Assign every utterance to a part.

    utterances : column → (n_utterances,), with id, corpus, speaker, emotion, sentence, sha256 and
        augmented_from
    test_corpora : that test under the protocol corpus, and only there
    returns : (n_utterances,) of "train", "validation", "test", and "unused" for augmented copies of
        originals that don't train, and for what speaker_sentence leaves out

    `random` is stratified 70/15/15 by corpus and emotion and shares speakers between parts; equal files stay
    together. `speaker` shares no speaker: 70/15/15 of each corpus's speakers, at least one in each part; a
    corpus of one or two speakers trains. `speaker_sentence`: the same, and the test part shares no sentence
    with the others either. `corpus`: the test corpora test, of the others a tenth of the speakers validates.
    Raises ValueError for another protocol, if no corpus has three speakers or two sentences, and if
    byte-identical files would be in different parts.
    """
    if protocol == "corpus":
        return _split_at_corpora(utterances, test_corpora, seed)
    if test_corpora:
        raise ValueError("test corpora go with the protocol corpus alone")
    if protocol == "random":
        strata = [f"{c}/{e}" for c, e in zip(utterances["corpus"], utterances["emotion"], strict=True)]
        units = [sha or f"{c}/{i}" for sha, c, i in _columns(utterances, "sha256", "corpus", "id")]
    elif protocol in ("speaker", "speaker_sentence"):
        strata = list(utterances["corpus"])
        units = [f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")]
    else:
        known = ", ".join(get_args(Protocol))
        raise ValueError(f"there is no protocol {protocol!r}: the known ones are {known}")

    original = utterances["augmented_from"] == ""
    stratum_of: dict[str, str] = {}
    for row in map(int, np.flatnonzero(original)):
        stratum_of.setdefault(units[row], strata[row])
    if protocol != "random":
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

    parts = np.array([part_of.get(unit, "unused") for unit in units], dtype=object)
    if protocol == "speaker_sentence":
        testing = _sentences_that_test(utterances, rng)
        parts[testing != (parts == "test")] = "unused"
        if not (parts == "test").any():
            raise ValueError("the protocol speaker_sentence needs a corpus of two sentences or more")
    return _with_copies(utterances, parts)


def _sentences_that_test(utterances: dict[str, NDArray], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n_utterances,): a third of the sentences of each corpus, drawn among those said with like emotions."""
    emotions: dict[tuple[str, str], set[str]] = defaultdict(set)
    for corpus, sentence, emotion in _columns(utterances, "corpus", "sentence", "emotion"):
        emotions[corpus, sentence].add(emotion)
    strata: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for (corpus, sentence), its in sorted(emotions.items()):
        strata[(corpus, *sorted(its))].append((corpus, sentence))
    chosen = set()
    for _, members in sorted(strata.items()):
        n = min(len(members) - 1, max(1, round(SENTENCES * len(members))))
        chosen |= {members[place] for place in rng.permutation(len(members))[:n]}
    return np.array([its in chosen for its in _columns(utterances, "corpus", "sentence")])


def _split_at_corpora(utterances: dict[str, NDArray], test_corpora: Collection[str], seed: int) -> NDArray:
    unknown = sorted(set(test_corpora) - set(utterances["corpus"]))
    if unknown or not test_corpora:
        missing = f"the stores have no utterance of {', '.join(unknown)}" if unknown else "none is named"
        raise ValueError(f"the protocol corpus tests on whole corpora, and {missing}: give --test-corpus")
    testing = np.isin(utterances["corpus"], list(test_corpora))
    speakers = [f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")]
    return split_at_speakers(
        utterances, {its for its, test in zip(speakers, testing, strict=True) if test}, seed
    )


def fold_utterances(
    utterances: dict[str, NDArray], n_folds: int, by_speaker: bool, seed: int
) -> NDArray[np.int64]:
    """Assign every utterance to a fold, all with about the same emotions, by scikit-learn.

    by_speaker : the utterances of a speaker stay together; else only those of equal files do
    returns : (n_utterances,) folds from 0; augmented copies are where their originals are
    Raises ValueError for fewer than two folds, and for fewer speakers or recordings of an emotion than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    original = np.flatnonzero(utterances["augmented_from"] == "")
    if by_speaker:
        units = [f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")]
    else:
        units = [sha or f"{c}/{i}" for sha, c, i in _columns(utterances, "sha256", "corpus", "id")]
    groups = np.array(units, dtype=object)[original]
    strata = [f"{c}/{e}" for c, e in _columns(utterances, "corpus", "emotion")]
    if not 2 <= n_folds <= len(set(groups)):
        what = "speakers" if by_speaker else "recordings"
        raise ValueError(f"{n_folds} folds can't be made of {len(set(groups))} {what}")
    most = max(Counter(np.array(strata, dtype=object)[original]).values())
    if most < n_folds:
        raise ValueError(f"{n_folds} folds can't be made of {most} recordings of an emotion")
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = np.full(len(units), -1)
    labels = np.array(strata, dtype=object)[original]
    for fold, (_, held_out) in enumerate(splitter.split(groups, labels.astype(str), groups.astype(str))):
        folds[original[held_out]] = fold
    origins = _origins(utterances, folds)
    if any(len(its) > 1 for its in origins.values()):
        raise ValueError(
            "copies can't be told to which of several recordings of one name they belong: give their corpora "
            "other names, or leave the copies out"
        )
    return np.array([next(iter(origins.get(row, {-1}))) if f < 0 else f for row, f in enumerate(folds)])


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


def keep_speakers(
    utterances: dict[str, NDArray], parts: NDArray, share: float, seed: int
) -> NDArray[np.object_]:
    """The parts, where only a share of each corpus's training speakers trains and the others are "unused".

    share : above 0 to 1; the number is rounded, but of the corpus with the most one is left. Those of a
        smaller share are among those of a larger one
    """
    speakers = np.array([f"{c}/{s}" for c, s in _columns(utterances, "corpus", "speaker")], dtype=object)
    training: dict[str, list[str]] = {}
    for speaker in sorted(set(speakers[parts == "train"])):
        training.setdefault(speaker.rsplit("/", 1)[0], []).append(speaker)
    most = max(training.values(), key=len, default=[])
    rng = np.random.default_rng(seed)
    kept: set[str] = set()
    for members in training.values():
        order = rng.permutation(len(members))
        n = int(share * len(members) + 0.5)
        kept |= {members[place] for place in order[: max(n, 1) if members is most else n]}
    left_out = (parts == "train") & ~np.isin(speakers, list(kept))
    return np.where(left_out, "unused", parts)


def _with_copies(utterances: dict[str, NDArray], parts: NDArray) -> NDArray:
    """The parts of originals, and of augmented copies as their originals train or don't; ValueError if a file
    that is in one part is byte-identical to one in another."""
    parts_of_file = defaultdict(set)
    for sha, copied, part in zip(utterances["sha256"], utterances["augmented_from"], parts, strict=True):
        if not copied:
            parts_of_file[sha].add(part)
    twice = [sha for sha, its in parts_of_file.items() if sha and len(its) > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} recordings would be in several parts, as byte-identical files of different "
            "speakers: prepare the corpus without them"
        )
    origins = _origins(utterances, parts)
    copied = utterances["augmented_from"] != ""
    trains = [origins.get(row) == {"train"} for row in range(len(parts))]
    return np.where(copied, np.where(trains, "train", "unused"), parts).astype(object)


def origins_of(names: NDArray, sums: NDArray, copied: NDArray, values: NDArray) -> dict[int, set]:
    """Row of an augmented copy → the values of its original, where there is one.

    names, sums : (n,) what utterances are called, and their checksums
    copied : (n,) name of the original of a copy, else empty; values : (n,) anything
    Two stores may have recordings of one name in one corpus: the checksum, which a copy takes over, tells
    them apart. Where it has another one there may be several values.
    """
    exact: dict[tuple[str, str], set] = defaultdict(set)
    named: dict[str, set] = defaultdict(set)
    for row in np.flatnonzero(copied == ""):
        exact[names[row], sums[row]].add(values[row])
        named[names[row]].add(values[row])
    copies = np.flatnonzero(copied != "")
    return {
        int(row): exact.get((copied[row], sums[row])) or named[copied[row]]
        for row in copies
        if copied[row] in named
    }


def _origins(utterances: dict[str, NDArray], values: NDArray) -> dict[int, set]:
    """The same of utterances, whose names are those of their corpora and their own."""
    rows = _columns(utterances, "corpus", "id", "augmented_from")
    names, copied = zip(*((f"{c}/{i}", f"{c}/{of}" if of else "") for c, i, of in rows), strict=True)
    return origins_of(np.array(names, object), utterances["sha256"], np.array(copied, object), values)


def _part_sequence(n: int) -> list[str]:
    """Parts of n units in the shares above; with three or more, each part gets at least one."""
    held_out = max(round(n * SHARES[1]), 1 if n >= len(PARTS) else 0)
    counts = (n - 2 * held_out, held_out, held_out)
    return [part for part, count in zip(PARTS, counts, strict=True) for _ in range(count)]


def _columns(utterances: dict[str, NDArray], *names: str) -> zip:
    return zip(*(utterances[name] for name in names), strict=True)
