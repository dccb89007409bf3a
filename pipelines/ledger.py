"""The ledger of a corpus: what became of every file, and why; and the manifests of what should be there."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fins.store import EMOTIONS, Utterance

MANIFESTS = ("crema_d", "esd", "ravdess", "savee", "tess")
COLUMNS = (
    *("id", "path", "speaker", "emotion", "sentence", "intensity", "part"),
    *("sample_rate", "channels", "n_samples", "n_bytes", "sha256"),
)

# Other words for the same emotion. Codes of one corpus (`su`, `W`, `06`) are spelled out by its adapter.
SYNONYMS = {
    **dict.fromkeys(("anger", "ang"), "angry"),
    **dict.fromkeys(("calmness", "cal"), "calm"),
    **dict.fromkeys(("disgusted", "dis"), "disgust"),
    **dict.fromkeys(("fearful", "fea", "afraid"), "fear"),
    **dict.fromkeys(("happiness", "hap", "joy", "joyful"), "happy"),
    **dict.fromkeys(("neu",), "neutral"),
    **dict.fromkeys(("sadness",), "sad"),
    **dict.fromkeys(("surprised", "sur", "ps", "pleasant_surprise", "pleasant_surprised"), "surprise"),
}
# Different emotions that the literature counts as one of ours.
MERGED = dict.fromkeys(("exc", "excited", "excitement"), "happy")

ACTIONS = ("used", "mapped", "merged", "dropped")
LISTED = 10  # paths that a summary names before it only counts
LISTED_GROUPS = 100  # speakers or sentences that a summary names before it only counts


def resolve(label: str) -> tuple[str, str]:
    """Our emotion for a corpus's label, and the action that takes it there.

    label : any case; spaces and hyphens count as underscores
    returns : (one of `EMOTIONS`, "used", "mapped" or "merged"), or ("", "dropped") for an unknown label
    """
    word = "_".join(label.lower().replace("-", " ").replace("_", " ").split())
    if word in EMOTIONS:
        return word, "used"
    if word in SYNONYMS:
        return SYNONYMS[word], "mapped"
    if word in MERGED:
        return MERGED[word], "merged"
    return "", "dropped"


@dataclass(frozen=True)
class LedgerRow:
    """What became of one file.

    path : relative to the corpus's root, with forward slashes
    label : the corpus's own word, or empty where the file has none
    emotion : one of `EMOTIONS`, or empty where the file is dropped
    action : used (the label is ours), mapped (another word for ours), merged (a different emotion counted as
        ours) or dropped
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
    missing : paths of the manifest that are not on disk, sorted
    expected : rows of the manifest; 0 where the corpus has none
    duplicates : groups of byte-identical files of the corpus, used or not, each sorted
    """

    corpus: str
    root: Path
    utterances: tuple[Utterance, ...]
    ledger: tuple[LedgerRow, ...]
    missing: tuple[str, ...] = ()
    expected: int = 0
    duplicates: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        kept = Counter((row.path, row.emotion) for row in self.ledger if row.action != "dropped")
        faults = {
            "an utterance without its row, or the reverse": kept
            != Counter((utterance.path, utterance.emotion) for utterance in self.utterances),
            "an id used twice": len({utterance.id for utterance in self.utterances}) != len(self.utterances),
            "an emotion that is not ours": not {utterance.emotion for utterance in self.utterances}
            <= set(EMOTIONS),
            "an unknown action": not {row.action for row in self.ledger} <= set(ACTIONS),
            "a file dropped without a reason": any(
                row.action == "dropped" and not row.reason for row in self.ledger
            ),
            "more missing than expected": len(self.missing) > self.expected,
        }
        for fault, found in faults.items():
            if found:
                raise RuntimeError(f"the ledger of {self.corpus} does not add up: {fault}")

    def summary(self) -> list[str]:
        """Lines for a person: what is here, what is missing, what was done and why, what is there twice."""
        lines = []
        if self.expected:
            here = self.expected - len(self.missing)
            lines.append(
                f"{self.corpus}: {here} of {self.expected} files of the manifest are here; "
                f"{len(self.missing)} missing"
            )
            rows = read_manifest(self.corpus) if self.corpus in MANIFESTS and self.missing else []
            lines += [f"  missing: {line}" for line in describe_missing(self.missing, rows)]
        else:
            lines.append(f"{self.corpus}: no manifest says what should be here")
        n_speakers = len({utterance.speaker for utterance in self.utterances})
        lines.append(
            f"  {len(self.ledger)} files found, {len(self.utterances)} utterances, {n_speakers} speakers"
        )
        lines += [f"  {line}" for line in describe_actions(self.ledger)]
        emotions = Counter(utterance.emotion for utterance in self.utterances)
        lines.append(
            "  emotions: " + ", ".join(f"{name} {emotions[name]}" for name in EMOTIONS if emotions[name])
        )
        labels = {row.path: row.emotion or "dropped" for row in self.ledger}
        for group in self.duplicates[:LISTED]:
            said = [labels[path] for path in group]
            differ = f" (labelled {', '.join(said)})" if len(set(said)) > 1 else ""
            lines.append(f"  byte-identical: {' = '.join(group)}{differ}")
        if len(self.duplicates) > LISTED:
            lines.append(f"  byte-identical: and {len(self.duplicates) - LISTED} more groups")
        return lines


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


def read_manifest(name: str) -> list[dict[str, str]]:
    """Rows of a corpus's manifest, as text by column. Raises ValueError where the corpus has none."""
    if name not in MANIFESTS:
        raise ValueError(f"{name!r} has no manifest: choose one of {', '.join(MANIFESTS)}")
    text = (resources.files("data_manifests") / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def write_manifest(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write rows as a manifest: a column that a row lacks is empty, an unknown one is a ValueError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
