"""python -m pipelines.audit: what a split or a manifest leaks, in a verdict that a person can read."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fins.command import run_command
from fins.runs import held, write_json
from fins.splits import PARTS, Protocol, origins_of
from fins.store import EMOTIONS
from pipelines.fingerprints import find_alike, fingerprints
from pipelines.results import SPLIT_COLUMNS, check_stores, read_split
from ser_heads.data import UtteranceTable

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
HARMLESS = ("sentences",)  # which a protocol may share without saying more than it holds
MOST_EXAMPLES = 5


@dataclass(frozen=True)
class AuditConfig:
    """Say what a split leaks: speakers, sentences, recordings, labels, classes, copies.

    Give stores and a protocol, or stores and a --split; or a --manifest: a CSV with the columns utterance,
    speaker, emotion and part, and sentence, sha256 and augmented_from where they are known.
    """

    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare."""
    protocol: Protocol = "speaker"
    """As of pipelines.train."""
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


def main(config: AuditConfig) -> None:
    """Look, print, write."""
    rows, near, title = read(config)
    findings = audit(rows, near)
    result = certificate(rows, findings, near is not None)
    page = describe(result, title)
    print(page)
    if config.out is not None:
        with held(config.out):
            with (config.out / "split.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(SPLIT_COLUMNS)
                writer.writerows(zip(*(rows[name] for name in SPLIT_COLUMNS), strict=True))
            (config.out / "README.md").write_text(page + "\n")
            write_json(config.out / "audit.json", result)
        print(f"written to {config.out}")


def read(config: AuditConfig) -> tuple[dict[str, NDArray], list[tuple[int, int]] | None, str]:
    """Rows, pairs of the same sound (None where there is no sound), and a title."""
    if (config.manifest is None) == (not config.store):
        raise ValueError("there is one thing to audit: give --store, or --manifest")
    if config.manifest is not None:
        return read_manifest(config.manifest), None, str(config.manifest.name)
    from pipelines.train import TrainConfig, divide

    check_stores(config.store)
    table = UtteranceTable(config.store, trimmed=False)
    if config.split is not None:
        parts, title = read_split(config.split, table), config.split.name
    else:
        asked = TrainConfig(
            store=config.store,
            protocol=config.protocol,
            test_corpus=config.test_corpus,
            fold=config.fold,
            seed=config.seed,
        )
        parts, title = divide(table, asked), f"{config.fold or config.protocol}, seed {config.seed}"
    with tqdm(total=len(table), unit=" utterances", leave=False) as bar:
        prints = []
        for its in fingerprints(table.stores):
            prints.append(its)
            bar.update(1)
    return rows_of(table, parts), find_alike(prints, table.signal), title


def rows_of(table: UtteranceTable, parts: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray]:
    """Column → (n_utterances,): what an audit looks at."""
    part = np.full(len(table), "unused", dtype=object)
    for name, rows in parts.items():
        part[rows] = name
    corpora = table.columns["corpus"]
    origins = [f"{c}/{i}" if i else "" for c, i in zip(corpora, table.columns["augmented_from"], strict=True)]
    sentences = [f"{c}/{s}" if s else "" for c, s in zip(corpora, table.columns["sentence"], strict=True)]
    return {
        "utterance": np.array(table.names, dtype=object),
        "speaker": table.speakers,
        "emotion": table.columns["emotion"],
        "sentence": np.array(sentences, dtype=object),
        "sha256": table.columns["sha256"],
        "augmented_from": np.array(origins, dtype=object),
        "part": part,
    }


def read_manifest(path: Path) -> dict[str, NDArray]:
    """As `rows_of` gives them; ValueError in one sentence for a file that isn't such a table."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV in UTF-8") from error
    needed = {"utterance", "speaker", "emotion", "part"}
    missing = sorted(needed - columns)
    if missing:
        raise ValueError(f"{path} lacks the column {missing[0]}: an audit needs {', '.join(sorted(needed))}")
    if not rows:
        raise ValueError(f"{path} has no rows")
    for number, row in enumerate(rows, 2):
        if any(row[name] is None for name in needed) or row["part"] not in (*PARTS, "unused"):
            raise ValueError(f"{path}, line {number}: part is one of {', '.join(PARTS)}, unused")
    optional = ("sentence", "sha256", "augmented_from")
    return {
        name: np.array([row.get(name) or "" for row in rows], dtype=object) for name in (*needed, *optional)
    }


def audit(rows: Mapping[str, NDArray], alike: Iterable[tuple[int, int]] | None = None) -> list[Finding]:
    """What a split leaks.

    rows : column → (n,) of utterance, speaker, emotion, sentence, sha256, augmented_from and part; an empty
        text is one that isn't known, and "unused" no part
    alike : pairs of rows that are the same sound
    returns : a finding for each kind of which there is any
    """
    used = np.flatnonzero(rows["part"] != "unused")
    original = used[rows["augmented_from"][used] == ""]
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, column in (("speakers", "speaker"), ("sentences", "sentence")):
        for value, parts in _parts_of(rows, column, original).items():
            if len(parts) > 1:
                found[kind].append(f"{value} in {_list(parts)}")
    same: dict[str, list[int]] = defaultdict(list)
    for row in original:
        if rows["sha256"][row]:
            same[rows["sha256"][row]].append(row)
    identical = [pair for members in same.values() for pair in combinations(members, 2)]
    among = set(original.tolist())
    known = set(identical)
    others = [(a, b) for a, b in alike or () if a in among and b in among and (a, b) not in known]
    for kind, pairs in (("identical", identical), ("alike", others)):
        for a, b in pairs:
            if rows["part"][a] != rows["part"][b]:
                found[kind].append(f"{_place(rows, a)} and {_place(rows, b)}")
    for a, b in [*identical, *others]:
        if rows["emotion"][a] != rows["emotion"][b]:
            found["labels"].append(
                f"{rows['utterance'][a]} is {rows['emotion'][a]}, {rows['utterance'][b]} {rows['emotion'][b]}"
            )
    said = {part: set(rows["emotion"][used][rows["part"][used] == part]) for part in PARTS}
    for part in PARTS:
        lacking = [its for its in EMOTIONS if its in set.union(*said.values()) - said[part]]
        found["classes"] += [f"{part} has no {emotion}" for emotion in lacking]
    origins_in = origins_of(rows["utterance"], rows["sha256"], rows["augmented_from"], rows["part"])
    for row in np.setdiff1d(used, original):
        origins = origins_in.get(row, {"unused"})
        if rows["part"][row] != "train" or origins - {"train", "unused"}:
            found["copies"].append(f"{_place(rows, row)}, its original in {' or '.join(sorted(origins))}")
    return [
        Finding(kind, len(examples), examples[:MOST_EXAMPLES]) for kind, examples in found.items() if examples
    ]


def certificate(rows: Mapping[str, NDArray], findings: Sequence[Finding], listened: bool) -> dict[str, Any]:
    """What was looked at, what was found, and a verdict; goes with every result.

    listened : whether the same sound in different files was looked for too
    """
    leaks = [its.kind for its in findings if its.kind not in (*HARMLESS, "classes")]
    return {
        "verdict": "leaks" if leaks else "clean",
        "leaks": leaks,
        "n_utterances": {part: int((rows["part"] == part).sum()) for part in PARTS},
        "looked_for": [kind for kind in KINDS if kind != "alike" or listened],
        "findings": [asdict(its) for its in findings],
    }


def verdict(result: Mapping[str, Any]) -> str:
    """A certificate in a sentence."""
    if not result["leaks"]:
        return "Nothing leaks."
    return f"It leaks: {'; '.join(KINDS[kind] for kind in result['leaks'])}."


def describe(result: Mapping[str, Any], title: str) -> str:
    """A certificate as a page of Markdown."""
    counts = ", ".join(f"{n:,} {part}" for part, n in result["n_utterances"].items())
    lines = [f"# Audit of {title}", "", f"{verdict(result)} ({counts})", ""]
    findings = {its["kind"]: its for its in result["findings"]}
    lines += ["| looked for | found | examples |", "|---|--:|---|"]
    for kind, words in KINDS.items():
        if kind not in result["looked_for"]:
            lines.append(f"| {words} | not looked for | |")
            continue
        its = findings.get(kind, {"n": 0, "examples": []})
        more = ", …" if its["n"] > len(its["examples"]) else ""
        lines.append(f"| {words} | {its['n']:,} | {'; '.join(its['examples'])}{more} |")
    return "\n".join(lines)


def _parts_of(rows: Mapping[str, NDArray], column: str, chosen: NDArray) -> dict[str, set[str]]:
    """Value of a column → the parts that have it; of what is known."""
    parts: dict[str, set[str]] = defaultdict(set)
    for row in chosen:
        if rows[column][row]:
            parts[rows[column][row]].add(rows["part"][row])
    return parts


def _list(parts: set[str]) -> str:
    return " and ".join(part for part in PARTS if part in parts)


def _place(rows: Mapping[str, NDArray], row: int) -> str:
    return f"{rows['utterance'][row]} ({rows['part'][row]})"


if __name__ == "__main__":
    run_command(main, AuditConfig, AuditConfig.__doc__ or "")
