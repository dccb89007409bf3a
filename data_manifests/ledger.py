"""The ledger of a corpus: what became of every file and why, and what of its manifest is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from data_manifests.labels import EMOTIONS, Action, order_labels
from data_manifests.manifest import MANIFESTS, UNKNOWN, Utterance, read_manifest

ACTIONS = get_args(Action)
LISTED = 10  # paths or words that a summary names before it only counts
LISTED_GROUPS = 100  # speakers or sentences that a summary names before it only counts


@dataclass(frozen=True)
class LedgerRow:
    """What became of one file.

    path : relative to the corpus's root, with forward slashes
    label : the corpus's own word, or empty where the file has none
    emotion : one of the labels, or empty where the file is dropped
    action : used (the word is a label), mapped (another word for one), merged (a different emotion counted as
        one) or dropped
    reason : why it was dropped, or what is odd about it; "kind" or "kind: detail"
    """

    path: str
    label: str
    emotion: str
    action: str
    reason: str = ""


@dataclass(frozen=True)
class Listing:
    """Every file of a corpus accounted for. Raises RuntimeError where the counts don't add up.

    root : the folder that the paths are relative to
    utterances : sorted by id
    ledger : one row a file, sorted by path
    labels : the words that utterances can have as their emotion
    unknown : words that are none of the labels, and of how many dropped files; the most frequent first
    missing : paths of the manifest that are not on disk, sorted
    expected : rows of the manifest; 0 where the corpus has none
    duplicates : groups of byte-identical files of the corpus, used or not, each sorted
    copies : id → other files of the same take, which stand in for one that can't be read
    remarks : what else a person has to know
    """

    corpus: str
    root: Path
    utterances: tuple[Utterance, ...]
    ledger: tuple[LedgerRow, ...]
    labels: tuple[str, ...] = EMOTIONS
    unknown: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    expected: int = 0
    duplicates: tuple[tuple[str, ...], ...] = ()
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept = Counter((row.path, row.emotion) for row in self.ledger if row.action != "dropped")
        faults = {
            "an utterance without its row, or the reverse": kept
            != Counter((utterance.path, utterance.emotion) for utterance in self.utterances),
            "an id used twice": len({utterance.id for utterance in self.utterances}) != len(self.utterances),
            "an emotion that is none of the labels": not {utterance.emotion for utterance in self.utterances}
            <= set(self.labels),
            "an unknown action": not {row.action for row in self.ledger} <= set(ACTIONS),
            "a file dropped without a reason": any(
                row.action == "dropped" and not row.reason for row in self.ledger
            ),
            "more missing than expected": len(self.missing) > self.expected,
        }
        for fault, present in faults.items():
            if present:
                raise RuntimeError(f"the ledger of {self.corpus} does not add up: {fault}")

    def summary(self) -> list[str]:
        """Lines for a person: what is here, what is missing, what was done and why, what is there twice."""
        n_speakers = len({utterance.speaker for utterance in self.utterances})
        emotions = Counter(utterance.emotion for utterance in self.utterances)
        counts = ", ".join(f"{label} {emotions[label]}" for label in order_labels(emotions))
        return [
            *self._describe_manifest(),
            f"  {len(self.ledger)} files found, {len(self.utterances)} utterances, {n_speakers} speakers",
            *(f"  {line}" for line in describe_actions(self.ledger)),
            f"  emotions: {counts}",
            *self._describe_speakers(),
            *self._describe_parts(),
            *(f"  {line}" for line in self.remarks),
            *self._describe_labels(set(emotions)),
            *self._describe_duplicates(),
        ]

    def _describe_manifest(self) -> list[str]:
        if not self.expected:
            return [f"{self.corpus}: no manifest says what should be here"]
        n_here = self.expected - len(self.missing)
        rows = read_manifest(self.corpus) if self.corpus in MANIFESTS and self.missing else []
        return [
            f"{self.corpus}: {n_here} of {self.expected} files of the manifest are here; "
            f"{len(self.missing)} missing",
            *(f"  missing: {line}" for line in describe_missing(self.missing, rows)),
        ]

    def _describe_parts(self) -> list[str]:
        parts = Counter(utterance.part or "without one" for utterance in self.utterances)
        if set(parts) == {"without one"}:
            return []
        counts = ", ".join(f"{part} {count}" for part, count in parts.items())
        return [f"  parts of its own: {counts}; they count with --protocol own alone"]

    def _describe_speakers(self) -> list[str]:
        """Who speaks, and emotions of one speaker: a folder that was taken for a speaker is seen."""
        counts = Counter(utterance.speaker for utterance in self.utterances)
        lines = [f"  speakers: {name_speakers(counts)}"]
        if 0 < counts[UNKNOWN] < len(self.utterances):
            lines.append(
                f"  {counts[UNKNOWN]} files are of unknown speakers, who count as one: scores on unseen "
                "speakers can't be trusted"
            )
        of: dict[str, Counter[str]] = {}
        for utterance in self.utterances:
            of.setdefault(utterance.emotion, Counter())[utterance.speaker] += 1
        for emotion in order_labels(of):
            if len(of[emotion]) == 1 and len(counts) > 1:
                ((speaker, n),) = of[emotion].items()
                lines.append(
                    f"  {emotion} has one speaker alone, {speaker} ({n} files): the protocol speaker can't "
                    f"both learn and test it; record it of three or more, or train with --emotions without it"
                )
        return lines

    def named(self, name: str) -> Listing:
        """The same, where the utterances are of a corpus of this name."""
        return replace(self, utterances=tuple(replace(one, corpus=name) for one in self.utterances))

    def left_out(self) -> list[str]:
        """Words that are no labels, in a line that can't be overlooked; or none."""
        if not self.unknown:
            return []
        used = ", ".join(order_labels(utterance.emotion for utterance in self.utterances))
        words = explain_labels(self.unknown, self.labels, self.corpus == "csv")
        return [f"LEFT OUT are files whose words are no labels; what is used is {used}. {words}"]

    def with_copies(self, replaced: Iterable[Sequence[str]]) -> Listing:
        """The same, after some files couldn't be read and copies stood in for them.

        replaced : (path, path of the copy, why) of each
        """
        pairs = [tuple(one) for one in replaced]
        copy_of = {path: copy for path, copy, _ in pairs}
        origin_of = {copy: path for path, copy, _ in pairs}
        why = {path: reason for path, _, reason in pairs}
        row_of = {row.path: row for row in self.ledger}
        rows = []
        for row in self.ledger:
            if row.path in copy_of:
                rows.append(LedgerRow(row.path, row.label, "", "dropped", f"can't be read: {why[row.path]}"))
            elif first := origin_of.get(row.path):
                rows.append(replace(row_of[first], path=row.path, reason=f"in place of a copy: {first}"))
            else:
                rows.append(row)
        utterances = [replace(one, path=copy_of.get(one.path, one.path)) for one in self.utterances]
        return replace(self, utterances=tuple(utterances), ledger=tuple(rows))

    def without(self, unreadable: Iterable[Sequence[str]]) -> Listing:
        """The same but for files that couldn't be read, which are dropped; pairs of path and why."""
        why = {path: reason for path, reason in unreadable}
        rows = (
            replace(row, emotion="", action="dropped", reason=f"can't be read: {why[row.path]}")
            if row.path in why
            else row
            for row in self.ledger
        )
        utterances = (one for one in self.utterances if one.path not in why)
        return replace(self, utterances=tuple(utterances), ledger=tuple(rows))

    def _describe_labels(self, present: set[str]) -> list[str]:
        lines = []
        absent = [label for label in self.labels if label not in present]
        if absent and self.labels != EMOTIONS:
            lines.append(f"  no file is labelled {', '.join(absent)}")
        if self.unknown:
            lines.append(f"  left out: {explain_labels(self.unknown, self.labels, self.corpus == 'csv')}")
        return lines

    def _describe_duplicates(self) -> list[str]:
        emotion = {row.path: row.emotion or "dropped" for row in self.ledger}
        lines = []
        for group in self.duplicates[:LISTED]:
            emotions = [emotion.get(path, "in stretches") for path in group]
            differ = f" (labelled {', '.join(emotions)})" if len(set(emotions)) > 1 else ""
            lines.append(f"  byte-identical: {' = '.join(group)}{differ}")
        if len(self.duplicates) > LISTED:
            lines.append(f"  byte-identical: and {len(self.duplicates) - LISTED} more groups")
        return lines


def explain_labels(unknown: Mapping[str, int], labels: Sequence[str], is_table: bool) -> str:
    """Which words are no labels and of how many files, which words are, and how to use others."""
    counts = shorten([f"{word} {count}" for word, count in unknown.items()], LISTED)
    column = ", or write labels into the column emotion" if is_table else ""
    return (
        f"{counts}; the labels are {', '.join(labels)}: name those that you want (--labels bored stressed "
        f"relaxed), or say there which label a word means (joyful=happy){column}"
    )


def describe_actions(ledger: Sequence[LedgerRow]) -> list[str]:
    """One line an action and kind of reason: how many files, and the first of those with a reason."""
    groups: dict[tuple[int, str], list[str]] = {}
    for row in ledger:
        change = f"{row.label} → {row.emotion}" if row.action in ("mapped", "merged") else ""
        why = "; ".join(part for part in (change, row.reason.partition(": ")[0]) if part)
        groups.setdefault((ACTIONS.index(row.action), why), []).append(row.path if row.reason else "")
    return [
        f"{ACTIONS[action]} {len(paths)}"
        + (f": {why}" if why else "")
        + (f" (first: {paths[0]})" if paths[0] else "")
        for (action, why), paths in sorted(groups.items())
    ]


def describe_missing(missing: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What is missing in few words: whole speakers, then whole sentences, whole emotions, single paths.

    missing : paths of the manifest
    rows : the manifest, or nothing where the corpus has none
    """
    lines = []
    lost = set(missing)
    rest = set(missing)
    for column in ("speaker", "sentence", "emotion"):
        present = {row[column] for row in rows if row["path"] not in lost}
        whole = sorted({row[column] for row in rows if row["path"] in rest and row[column]} - present)
        if whole:
            gone = {row["path"] for row in rows if row[column] in set(whole)} & rest
            rest -= gone
            count = f"{len(whole)} whole {column}{'s' if len(whole) > 1 else ''} ({len(gone)} files)"
            values = sorted({row[column] for row in rows})
            lines.append(f"{count}: {shorten(join_runs(whole, values), LISTED_GROUPS)}")
    if rest:
        count = f"{len(rest)} {'more ' if lines else ''}file{'s' if len(rest) > 1 else ''}"
        lines.append(f"{count}: {shorten(sorted(rest), LISTED)}")
    return lines


def join_runs(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Numbered names that follow each other in `values` as `first to last`, three at least to a run."""
    runs: list[list[str]] = []
    for name in names:
        follows = bool(runs) and name[-1].isdigit() and values.index(name) == values.index(runs[-1][-1]) + 1
        if follows and runs[-1][-1][-1].isdigit():
            runs[-1].append(name)
        else:
            runs.append([name])
    return [text for run in runs for text in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else run)]


def shorten(names: Sequence[str], limit: int) -> str:
    """The first `limit` names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """The same counts, the largest first; equal ones by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def name_speakers(counts: Mapping[str, int], most: int = LISTED) -> str:
    """Speaker → number of utterances, as `anna 12, ben 8 and 3 more`."""
    return shorten([f"{name} {n:,}" for name, n in most_first(counts).items()], most)
