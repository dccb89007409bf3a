"""docs/leaderboard.md: every run of results/, best first, and the FINs that come with the package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fins.documents import table_of_rows
from fins.learning.r2 import r2_text
from fins.networks import SHIPPED
from fins.runs import read_json
from ser_heads.evidence.entries import Entry

FEW_SPEAKERS = 2  # of whom an interval says nothing
NAMED_SPEAKERS = 4  # at most: folds of one size are told apart by theirs
HEAD = """# Leaderboard

`python -m pipelines.results table` writes this page from [results/](results.md#runs-that-anyone-can-audit):
don't edit it. All scores are made again from the predictions that lie there. UAR is the mean recall of the
labels; intervals are of 95 %, from resampled speakers. ECE is how far confidence is off, in points."""
FINS = """## FINs

R² (uniform over outputs) of the FINs that come with the package, against the closed forms, on all windows,
by the cards of their weights (`fins/weights`). Below, the worst of four corpora, 100 degraded clips each."""


def leaderboard(entries: Sequence[Entry], scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, in Markdown.

    scores : name of an entry → what its predictions give
    """
    tables = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: -scores[entry.name]["uar"]):
        tables[ground_of(entry)].append(row_of(entry, scores[entry.name]))
    names = (
        "run",
        "model",
        "parameters",
        "trained on",
        "seed",
        "UAR % (95 % interval)",
        "WA %",
        "macro-F1 %",
        "ECE",
    )
    parts = [HEAD]
    for ground, rows in sorted(tables.items()):
        parts += [f"## {ground}", table_of_rows(names, rows)]
    return "\n\n".join([*parts, FINS, table_of_fins(), table_of_conditions()]) + "\n"


def ground_of(entry: Entry) -> str:
    """What is tested on, by which protocol: runs of one ground can be compared."""
    table = entry.predictions.table
    corpora = ", ".join(sorted(set(table["corpus"])))
    speakers = sorted(set(table["speaker"]))
    who = ", ".join(speakers) if len(speakers) <= NAMED_SPEAKERS else f"{len(speakers)} speakers"
    folds = f", {len(entry.runs)} folds" if len(entry.runs) > 1 else ""
    return (
        f"{corpora}: {len(table):,} utterances of {who}, {len(entry.predictions.labels)} labels, "
        f"protocol {entry.about['protocol']}{folds}"
    )


def row_of(entry: Entry, scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Cells of an entry."""
    trains = entry.split[(entry.split[entry.runs] == "train").any(axis=1)]
    corpora = trains["utterance"].str.partition("/")[0]
    uar = f"{100 * scores['uar']:.1f}"
    if scores["n_speakers"] > FEW_SPEAKERS:
        low, high = scores["interval_95"]["uar"]
        uar += f" ({100 * low:.1f} to {100 * high:.1f})"
    return (
        entry.name,
        entry.about["model"],
        f"{entry.about['parameters']:,}",
        ", ".join(sorted(set(corpora))),
        str(entry.about["seed"]),
        uar,
        *(f"{100 * scores[key]:.1f}" for key in ("wa", "macro_f1", "calibration_error")),
    )


def table_of_fins() -> str:
    """R² of each FIN on each corpus."""
    rows = []
    for name, path in SHIPPED.items():
        card = read_json(path.with_suffix(".json"))
        by_corpus = {row["corpus"]: r2_text(row["uniform"]) for row in card["r2"]}
        rows.append((name, f"{card['parameters']:,}", *by_corpus.values()))
        names = ("FIN", "parameters", *by_corpus)
    return table_of_rows(names, rows)


def table_of_conditions() -> str:
    """The worst R² of each FIN over corpora, under each condition."""
    worst: dict[str, dict[str, float]] = defaultdict(dict)
    for name, path in SHIPPED.items():
        for row in read_json(path.with_suffix(".json"))["conditions"]:
            worst[row["condition"]][name] = min(row["uniform"], worst[row["condition"]].get(name, 1.0))
    rows = [(condition, *(r2_text(by_fin[name]) for name in SHIPPED)) for condition, by_fin in worst.items()]
    return table_of_rows(("condition", *SHIPPED), rows)
