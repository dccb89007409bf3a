"""What a store is made of, what became of the files, and what a corpus has that its store lacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from data_manifests.ledger import shorten
from data_manifests.manifest import Utterance, split_segment
from data_manifests.reading import sha256
from fins.data.store import Store, StoreError

Augment = Literal["none", "paper"]
Copies = Mapping[str, Sequence[str]]
NO_COPIES: Copies = MappingProxyType({})
NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
SAME = ("corpus", "speaker", "emotion", "sentence", "intensity", "part")
BYTES = ("path", "sha256")


@dataclass(frozen=True)
class Preparation:
    """What decides a store's content, beside the files themselves.

    clip : seconds (start, stop) that are kept of each recording, shorter ones centred in zeros; or None
    augment : "paper" adds a noisy and a stretched copy of what a corpus doesn't mark as validation or test
    seed : of the augmentations' noise
    """

    clip: tuple[float, float] | None = None
    augment: Augment = "none"
    seed: int = 0


@dataclass
class PreparationCounts:
    """What became of the files; counts add up over parts."""

    n_utterances: int = 0  # stored, augmented copies included
    n_augmented: int = 0
    n_windows: int = 0
    n_seconds: float = 0.0
    n_padded: int = 0  # shorter than one window, or than the clip, and padded with zeros to it
    n_cut: int = 0  # longer than the clip, and cut to it
    n_tail_samples: int = 0  # dropped at the ends, less than a hop each
    n_silent: int = 0  # nothing but zeros
    n_clipped_samples: int = 0  # beyond full scale
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # path, why
    replaced: list[tuple[str, str, str]] = field(default_factory=list)  # path, the copy in its place, why
    channels: list[tuple[str, str]] = field(default_factory=list)  # path, which weren't taken and why
    clipped: list[tuple[str, int]] = field(default_factory=list)  # path, samples beyond full scale
    n_before: int = 0  # utterances that the store held when others were added, augmented copies included
    gone: list[str] = field(default_factory=list)  # ids that the store holds and the corpus lacks by now

    def add(self, other: PreparationCounts) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


def identity_of(utterances: Sequence[Utterance], root: Path, preparation: Preparation, copies: Copies) -> str:
    """Names the input: rows, sizes and times of the files, and what is done to them."""
    digest = hashlib.sha256(repr(preparation).encode())
    if copies:
        digest.update(repr(sorted(copies.items())).encode())
    for utterance in utterances:
        path = root / utterance.file
        facts = path.stat() if path.is_file() else None
        digest.update(repr((utterance, facts and (facts.st_size, facts.st_mtime_ns))).encode())
    return digest.hexdigest()


def stored_identity(out: Path) -> str:
    """Of what a store was made."""
    with Store(out) as store:
        return str(json.loads(store.text("identity", "null")))


def stored_counts(out: Path, identity: str) -> PreparationCounts:
    """The counts of a store that this very input made already."""
    if stored_identity(out) != identity:
        raise StoreError(
            f"{out} exists already, made of other input: --add takes up recordings that came since, or "
            "delete it or choose another --out"
        )
    with Store(out) as store:
        return PreparationCounts(**json.loads(store.text("account")))


def what_is_new(
    out: Path, utterances: Sequence[Utterance], root: Path, preparation: Preparation, copies: Copies
) -> tuple[list[Utterance], PreparationCounts]:
    """Utterances that a store lacks, and the counts of what it holds.

    Raises StoreError if it was made by another preparation, or if a recording that it holds has other labels,
    other bytes or another name by now. What it holds and the corpus lacks is kept, and named in the counts.
    """
    with Store(out) as store:
        if json.loads(store.text("preparation", "null")) != json.loads(json.dumps(asdict(preparation))):
            raise StoreError(f"{out} was made with another --clip, --augment or --seed: give these again")
        counts = PreparationCounts(**json.loads(store.text("account")))
        held = {
            str(name): row
            for row, name in enumerate(store.utterances["id"])
            if not store.utterances["augmented_from"][row]
        }
        digest = lru_cache(maxsize=1)(sha256)  # stretches of one file follow each other
        changes = []
        for utterance in utterances:
            if utterance.id in held:
                row = {name: str(store.utterances[name][held[utterance.id]]) for name in (*SAME, *BYTES)}
                if change := _change(utterance, row, copies.get(utterance.id, ()), root, digest):
                    changes.append(f"{utterance.path} {change}")
        gone = sorted(set(held) - {utterance.id for utterance in utterances})
        new = [one for one in utterances if one.id not in held]
        path_of = {
            store.utterances["sha256"][held[name]]: store.utterances["path"][held[name]] for name in gone
        }
        for utterance in new if gone else ():  # else it would be there twice, with two labels perhaps
            if path := path_of.get(_bits(utterance.path, root, digest)):
                changes.append(f"{utterance.path} is {path} there")
        n_stored = store.n_utterances
    if changes:
        raise StoreError(
            f"{out}: {len(changes)} recordings aren't those that it holds ({shorten(changes, 3)}); --add "
            "takes up new ones alone, so delete it or choose another --out"
        )
    # those that couldn't be read are tried again
    return new, replace(counts, unreadable=[], n_before=n_stored, gone=gone)


def _change(
    utterance: Utterance,
    row: Mapping[str, str],
    copies: Sequence[str],
    root: Path,
    digest: Callable[[Path], str],
) -> str:
    """What tells an utterance from that of its name in a store; empty if nothing does."""
    for name in SAME:
        if getattr(utterance, name) != row[name]:
            return f"has the {name} {getattr(utterance, name) or 'empty'}, and {row[name] or 'empty'} there"
    if row["path"] not in (utterance.path, *copies):
        return f"was {row['path']}"
    bits = _bits(row["path"], root, digest)
    if not bits:
        return "can't be read"
    return "" if bits == row["sha256"] else "has other bytes"


def _bits(path: str, root: Path, digest: Callable[[Path], str]) -> str:
    """The checksum that a store has of a file or of a stretch of it; empty where it can't be read."""
    file, segment = split_segment(path)
    try:
        bits = digest(root / file)
    except OSError:
        return ""
    return hashlib.sha256(f"{bits} {segment}".encode()).hexdigest() if segment else bits
