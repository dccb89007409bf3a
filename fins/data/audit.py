"""What a split or a manifest leaks, locked against what its protocol promises, in a verdict for a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from data_manifests.ledger import LISTED_GROUPS, most_first, name_speakers
from fins.data.copies import keys_of, origins_of
from fins.data.gaps import find_gaps, find_strangers
from fins.data.protocols import Division, divide, get_protocol
from fins.data.same_sound import find_alike, fingerprints
from fins.data.splits import PARTS, SPLIT, SPLIT_COLUMNS, UNUSED, part_of_each, places_of, read_split
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from fins.runs import locked, write_atomically, write_json
from fins.tables import TableError, read_table, write_table

KINDS = {
    "speakers": "speakers in several parts",
    "sentences": "sentences in several parts",
    "identical": "byte-identical recordings in several parts",
    "alike": "recordings of the same sound in several parts, in files that differ",
    "labels": "recordings of the same sound with different emotions",
    "classes": "emotions that a part lacks",
    "copies": "augmented copies outside the training part, or whose originals are",
}
"""What is looked for, in the order of a report."""
PROMISED = {
    "sentences": "sentences of the test part in other parts",
    "corpora": "corpora of the test part in other parts",
}
"""What is looked for, too or instead, where a protocol promises that there is none."""
HARMLESS = ("sentences", "classes")  # where no protocol promises otherwise
MOST_EXAMPLES = 5
MANIFEST_COLUMNS = ("utterance", "speaker", "emotion", "part")
OPTIONAL_COLUMNS = ("sentence", "sha256", "augmented_from")


@dataclass(frozen=True)
class AuditConfig:
    """Say what a split leaks: speakers, sentences, recordings, labels, classes, copies.

    Give stores and a protocol, or stores and a --split; or a --manifest: a CSV with the columns utterance,
    speaker, emotion and part, and sentence, sha256 and augmented_from where they are known.
    """

    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare."""
    protocol: str = "speaker"
    """As of pipelines.train; a --split or a --manifest is locked against what it promises."""
    test_corpus: tuple[str, ...] = ()
    """As of pipelines.train."""
    fold: str | None = None
    """As of pipelines.train."""
    split: Path | None = None
    """A split.csv that a run has written, or one like it."""
    manifest: Path | None = None
    """Instead of stores; there is no sound then, so that only byte-identical recordings are found."""
    seed: int = 0
    """Of the protocol's split."""
    out: Path | None = None
    """Folder for the certificate, the split and a page; by default they are only printed."""


@dataclass(frozen=True)
class Finding:
    """kind : of KINDS; n : how many; examples : a few of them, in words"""

    kind: str
    n: int
    examples: list[str]


def audit_split(config: AuditConfig, watch: Watch = SILENT) -> tuple[dict[str, Any], str]:
    """The certificate of what the options name, and its page as Markdown; both go to --out if there is one.

    Raises ValueError in one sentence for what can't be audited.
    """
    rows, alike, title, repeats = read(config, watch)
    never_shares = get_protocol(config.protocol).never_shares
    findings = audit(rows, alike, never_shares)
    result = certificate(rows, findings, alike is not None, never_shares)
    parts = places_of(rows["part"].to_numpy())
    named = rows.assign(person=rows["speaker"])
    strangers = find_strangers(named, parts)
    result |= {"gaps": [*find_gaps(named, parts), *strangers], "speakers": count_speakers(rows)}
    result |= {"repeats": list(repeats), "speakers_known": not strangers}
    page = describe_audit(result, title)
    if config.out is not None:
        with locked(config.out):
            write_table(config.out / SPLIT, rows[list(SPLIT_COLUMNS)])
            write_atomically(config.out / "README.md", page + "\n")
            write_json(config.out / "audit.json", result)
    return result, page


def read(
    config: AuditConfig, watch: Watch = SILENT
) -> tuple[pd.DataFrame, list[tuple[int, int]] | None, str, tuple[str, ...]]:
    """Rows, pairs of the same sound (None where there is no sound), a title, and what several stores have."""
    if (config.manifest is None) == (not config.store):
        raise ValueError("there is one thing to audit: give --store, or --manifest")
    division = Division(config.protocol, config.test_corpus, config.fold, config.split)
    if config.manifest is not None:
        return read_manifest(config.manifest), None, str(config.manifest.name), ()
    with UtteranceTable(config.store) as table:
        if config.split is not None:
            parts, title = read_split(config.split, table.rows), config.split.name
        else:
            parts = divide(table.rows, division, config.seed)
            title = f"{config.fold or config.protocol}, seed {config.seed}"
        prints = []
        with watch.bar(len(table), "utterances") as bar:
            for fingerprint in fingerprints(table.stores):
                prints.append(fingerprint)
                bar.update()
        return rows_of(table.rows, parts), find_alike(prints, table.signal), title, table.repeats


def rows_of(utterances: pd.DataFrame, parts: Mapping[str, NDArray[np.int64]]) -> pd.DataFrame:
    """What an audit looks at, of each row of an `UtteranceTable`."""
    corpus = utterances["corpus"] + "/"
    sentence, origin = utterances["sentence"], utterances["augmented_from"]
    return pd.DataFrame(
        {
            "corpus": utterances["corpus"],
            "utterance": utterances["name"],
            "speaker": utterances["person"],
            "emotion": utterances["emotion"],
            "sentence": (corpus + sentence).where(sentence != "", ""),
            "sha256": utterances["sha256"],
            "augmented_from": (corpus + origin).where(origin != "", ""),
            "part": part_of_each(parts, len(utterances)),
        }
    )


def count_speakers(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Part → speaker → number of utterances, of whom there are most first; without augmented copies.

    rows : part, speaker and augmented_from of each
    """
    originals = rows[rows["augmented_from"] == ""]
    return {
        str(part): most_first(Counter(map(str, members["speaker"])))
        for part, members in originals.groupby("part", sort=False)
    }


def read_manifest(path: Path) -> pd.DataFrame:
    """As `rows_of` gives them, of one corpus; ValueError in one sentence for a file that is no such table."""
    try:
        table = read_table(path)
    except TableError as error:
        raise ValueError(f"{error}: an audit needs a CSV with {', '.join(MANIFEST_COLUMNS)}") from error
    missing = sorted(set(MANIFEST_COLUMNS) - set(table.columns))
    if missing:
        needed = ", ".join(sorted(MANIFEST_COLUMNS))
        raise ValueError(f"{path} lacks the column {missing[0]}: an audit needs {needed}")
    if table.empty:
        raise ValueError(f"{path} has no rows")
    for number, part in enumerate(table["part"], 2):
        if part not in (*PARTS, UNUSED):
            raise ValueError(f"{path}, line {number}: part is one of {', '.join(PARTS)}, {UNUSED}")
    return table.reindex(columns=["corpus", *MANIFEST_COLUMNS, *OPTIONAL_COLUMNS], fill_value="").assign(
        corpus=""
    )


def audit(
    rows: pd.DataFrame, alike: Iterable[tuple[int, int]] | None = None, never_shares: Sequence[str] = ()
) -> list[Finding]:
    """What a split leaks.

    rows : corpus, utterance, speaker, emotion, sentence, sha256, augmented_from and part of each; an empty
        text is one that isn't known, and "unused" no part. Speakers and sentences are a corpus's own
    alike : pairs of rows that are the same sound
    never_shares : what the protocol promises, as in `SplitProtocol`
    returns : a finding for each kind of which there is any
    """
    rows = rows.reset_index(drop=True)
    used = rows[rows["part"] != UNUSED]
    originals = used[used["augmented_from"] == ""]
    identical = _identical_pairs(originals)
    known = set(identical)
    among = set(originals.index)
    others = [(a, b) for a, b in alike or () if a in among and b in among and (a, b) not in known]
    examples = {
        "speakers": _shared(originals, "speaker", only_test=False),
        "sentences": _shared(originals, "sentence", only_test="sentences" in never_shares),
        "corpora": _shared(originals, "corpus", only_test=True) if "corpora" in never_shares else [],
        "identical": _torn(rows, identical),
        "alike": _torn(rows, others),
        "labels": _labelled_twice(rows, [*identical, *others]),
        "classes": _lacking(used),
        "copies": _misplaced_copies(rows),
    }
    return [Finding(kind, len(words), words[:MOST_EXAMPLES]) for kind, words in examples.items() if words]


def certificate(
    rows: pd.DataFrame, findings: Sequence[Finding], listened: bool, never_shares: Sequence[str] = ()
) -> dict[str, Any]:
    """What was looked at, what was found, and a verdict; goes with every result.

    listened : whether the same sound in different files was looked for too
    never_shares : what the protocol promises; `broken` names what of that it doesn't keep
    """
    kinds = [finding.kind for finding in findings]
    leaks = [kind for kind in kinds if kind not in HARMLESS or kind in never_shares]
    return {
        "verdict": "leaks" if leaks else "clean",
        "leaks": leaks,
        "never_shares": list(never_shares),
        "broken": [kind for kind in leaks if kind in never_shares],
        "n_rows": len(rows),
        "n_utterances": {part: int((rows["part"] == part).sum()) for part in PARTS},
        "looked_for": [kind for kind in words_of(never_shares) if kind != "alike" or listened],
        "findings": [asdict(finding) for finding in findings],
    }


def verdict(result: Mapping[str, Any]) -> str:
    """A certificate in a sentence."""
    if not result["leaks"]:
        known = result.get("speakers_known", True)
        return "Nothing leaks." if known else "Nothing is known to leak, but not all speakers are known."
    words = words_of(result.get("never_shares", ()))
    return f"It leaks: {'; '.join(words[kind] for kind in result['leaks'])}."


def describe_audit(result: Mapping[str, Any], title: str) -> str:
    """A certificate as a page of Markdown."""
    counts = ", ".join(f"{n:,} {part}" for part, n in result["n_utterances"].items())
    lines = [f"# Audit of {title}", "", f"{verdict(result)} ({counts}; {result['n_rows']:,} rows)", ""]
    findings = {finding["kind"]: finding for finding in result["findings"]}
    lines += ["| looked for | found | examples |", "|---|--:|---|"]
    for kind, words in words_of(result["never_shares"]).items():
        if kind not in result["looked_for"]:
            lines.append(f"| {words} | not looked for | |")
            continue
        finding = findings.get(kind, {"n": 0, "examples": []})
        more = ", …" if finding["n"] > len(finding["examples"]) else ""
        lines.append(f"| {words} | {finding['n']:,} | {'; '.join(finding['examples'])}{more} |")
    for part, counts in result.get("speakers", {}).items():
        lines += ["", f"Speakers, {part} ({len(counts):,}): {name_speakers(counts, LISTED_GROUPS)}"]
    lines += [
        line for key in ("repeats", "gaps") for sentence in result.get(key, ()) for line in ("", sentence)
    ]
    return "\n".join(lines)


def words_of(never_shares: Sequence[str]) -> dict[str, str]:
    """Kind of leak → what is looked for, under such a promise."""
    return {**KINDS, **{kind: PROMISED[kind] for kind in never_shares if kind in PROMISED}}


def _shared(originals: pd.DataFrame, column: str, only_test: bool) -> list[str]:
    """Values of a column, where they are known, that are in several parts; or in the test part and others."""
    parts_of: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for corpus, value, part in keys_of(originals, "corpus", column, "part"):
        if value:
            parts_of[corpus, value].add(part)
    return [
        f"{value} in {' and '.join(part for part in PARTS if part in parts)}"
        for (_, value), parts in parts_of.items()
        if len(parts) > 1 and (not only_test or "test" in parts)
    ]


def _identical_pairs(originals: pd.DataFrame) -> list[tuple[int, int]]:
    """Pairs of rows of byte-identical files, by their index."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, sha256 in zip(originals.index, originals["sha256"], strict=True):
        if sha256:
            members[sha256].append(int(place))
    return [pair for places in members.values() for pair in combinations(places, 2)]


def _torn(rows: pd.DataFrame, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Pairs whose two are in different parts."""
    part = rows["part"].to_numpy()
    where = _place_names(rows)
    return [f"{where(a)} and {where(b)}" for a, b in pairs if part[a] != part[b]]


def _labelled_twice(rows: pd.DataFrame, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Pairs whose two have different emotions."""
    name, emotion = rows["utterance"].to_numpy(), rows["emotion"].to_numpy()
    return [
        f"{name[a]} is {emotion[a]}, {name[b]} {emotion[b]}" for a, b in pairs if emotion[a] != emotion[b]
    ]


def _lacking(used: pd.DataFrame) -> list[str]:
    """Emotions that one part has and another one hasn't."""
    emotions_of = {part: set(used["emotion"][used["part"] == part]) for part in PARTS}
    every = order_labels(used["emotion"])
    return [
        f"{part} has no {emotion}" for part in PARTS for emotion in every if emotion not in emotions_of[part]
    ]


def _misplaced_copies(rows: pd.DataFrame) -> list[str]:
    """Augmented copies that don't train, or whose original is in another part."""
    origins = origins_of(rows, rows["part"].to_numpy(), name="utterance")
    where = _place_names(rows)
    misplaced = []
    copies = rows[(rows["part"] != UNUSED) & (rows["augmented_from"] != "")]
    for place, part in zip(copies.index, copies["part"], strict=True):
        parts = origins.get(place, {UNUSED})
        if part != "train" or parts - {"train", UNUSED}:
            misplaced.append(f"{where(place)}, its original in {' or '.join(sorted(parts))}")
    return misplaced


def _place_names(rows: pd.DataFrame) -> Callable[[int], str]:
    """Place → "utterance (part)"."""
    name, part = rows["utterance"].to_numpy(), rows["part"].to_numpy()
    return lambda place: f"{name[place]} ({part[place]})"
