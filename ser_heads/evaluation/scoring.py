"""Scores of a table of answers, whoever made it, and how much better one table is than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from data_manifests.labels import normalise, order_labels
from fins.documents import table_of_rows
from fins.runs import RESULT, write_atomically, write_json
from ser_heads.evaluation.calibration import FEW
from ser_heads.evaluation.foreign import AnswerTable, join_answers, read_answers, same_utterances
from ser_heads.evaluation.predictions import (
    TITLES,
    check_out,
    describe_confidence,
    describe_scores,
    draw_scores,
    score_confidence,
    score_table,
)
from ser_heads.evaluation.scores import (
    METRICS,
    count_confusions,
    difference,
    metrics,
)
from ser_heads.inference.shares import match_each_speaker, parse_shares, shares_of

AS_THEY_WERE = "the same answers as they were"


@dataclass(frozen=True)
class ScoreOptions:
    """Judge answers, whoever made them: UAR, WA, F1, precision, with 95 % intervals from resampled speakers,
    and ECE where probabilities are there.

    A table is a CSV with commas, semicolons or tabs, and a header in any case. Truth: emotion, truth, y_true,
    target. Answer: answer, prediction, y_pred. Label is whichever of the two is missing. If they are there:
    speaker, utterance or file, corpus, confidence, and a column of probabilities for each label. The answers
    of pipelines.predict are such a table, once --truth says what is true. Several tables, such as one a seed,
    are judged together: each answer counts.
    """

    predictions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The table, or the folder of a run or evaluation; one or more."""
    against: tuple[Path, ...] = ()
    """As many other tables, in the same order: each is compared with its own, on the utterances of both."""
    shares: tuple[str, ...] = ()
    """Of labels, which each speaker's recordings are known to have: even, or label=share for some labels, the
    others sharing what is left. Answers are matched to them, speaker by speaker, and without --against
    compared with what they were."""
    truth: Path | None = None
    """Table with file and emotion, and speaker if there is one, for answers that have no truth beside them. A
    file there may be the end of a path here."""
    out: Path | None = None
    """Folder for the result, by default none is written."""
    seed: int = 0
    """Of the resampling."""


def score(options: ScoreOptions) -> tuple[dict[str, Any], list[str]]:
    """What result.json holds, and the lines of a page about it; written if there is an --out.

    Raises OSError, and ValueError in one sentence for tables that can't be meant.
    """
    if options.out is not None:
        check_out(options.out)
    if not options.predictions:
        raise ValueError("give a table of answers, or the folder of a run")
    if options.against and len(options.against) != len(options.predictions):
        raise ValueError(
            f"{len(options.predictions)} tables can't be compared with {len(options.against)}: give as many"
        )
    tables = read_all(options.predictions, options.truth)
    others = read_all(options.against, options.truth, tables[0].labels)
    result: dict[str, Any] = {"predictions": names_of(options.predictions), "seed": options.seed}
    if options.against:
        result["against"] = names_of(options.against)
    if options.shares:
        result |= {"shares": list(options.shares), "against": result.get("against", AS_THEY_WERE)}
        as_they_were = tables
        tables, others = ([with_shares(table, options.shares) for table in side] for side in (tables, others))
        others = others or as_they_were
    result |= score_answers(join_answers(tables), options.seed)
    if others:
        paths = options.predictions, options.against or options.predictions
        result["difference"] = compare_answers(tables, others, *paths, options.seed)
    lines = describe(result)
    if options.out is not None:
        write_result(options.out, result, lines)
    return result, lines


def read_all(
    paths: Sequence[Path], truth: Path | None = None, labels: Sequence[str] = ()
) -> list[AnswerTable]:
    """Tables whose words are written as the first labels that there are."""
    tables: list[AnswerTable] = []
    for path in paths:
        written = labels or (tables[0].labels if tables else ())
        tables.append(read_answers(path, truth, {normalise(label): label for label in written}))
    return tables


def with_shares(answers: AnswerTable, words: Sequence[str]) -> AnswerTable:
    """Each speaker's answers matched to shares of labels; ValueError without probabilities of all labels.

    words : as of --shares
    """
    if answers.probabilities is None:
        raise ValueError("--shares needs a column of probabilities for each label, in each table")
    labels = tuple(answers.probabilities.columns)
    shares = shares_of(parse_shares(words), labels)
    table = answers.table.reset_index(drop=True)
    speakers = table["speaker"].tolist() if answers.has_speakers else ["all"] * len(table)
    rows = match_each_speaker(answers.probabilities.to_numpy(), speakers, shares)
    likeliest = np.array(labels, dtype=object)[rows.argmax(axis=1)]
    by = "speaker by speaker" if answers.has_speakers else "all recordings as of one speaker"
    note = (
        f"answers matched to shares of labels ({' '.join(words)}), {by}: no recording by itself can have them"
    )
    return replace(
        answers,
        table=table.assign(answer=likeliest),
        labels=order_labels([*answers.labels, *likeliest]),
        confidence=rows.max(axis=1),
        right=(likeliest == table["emotion"].to_numpy(object)).astype(bool),
        notes=[*answers.notes, note],
    )


def names_of(paths: Sequence[Path]) -> str | list[str]:
    """One path as it always was in result.json, several as a list."""
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


def score_answers(answers: AnswerTable, seed: int = 0) -> dict[str, Any]:
    """All scores of one table; without speakers intervals are from resampled utterances."""
    scores = score_table(answers.table, answers.labels, seed)
    if not answers.has_speakers:
        scores |= {"n_speakers": None, "per_speaker": {}}
    of_confidence: dict[str, Any] = {"calibration_error": None, "risk_coverage": None}
    if answers.confidence is not None:
        of_confidence = score_confidence(answers.confidence, answers.right)
    return {
        "columns": answers.columns,
        "resampled": "speaker" if answers.has_speakers else "utterance",
        "n_left_out": answers.n_left_out,
        **scores,
        **of_confidence,
        "notes": notes_on(answers),
    }


def places_of(table: Any, labels: Sequence[str], *columns: str) -> list[Any]:
    """Words of columns as places among the labels."""
    place_of = {label: place for place, label in enumerate(labels)}
    return [table[column].map(place_of).to_numpy(np.int64) for column in columns]


def notes_on(answers: AnswerTable) -> list[str]:
    """What a reader of the scores has to know of the table."""
    notes = [f"read as {', '.join(f'{kind}: {name}' for kind, name in answers.columns.items())}"]
    n = sum(answers.n_left_out.values())
    if n:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in answers.n_left_out.items())
        notes.append(f"{n:,} of {n + len(answers.table):,} rows left out ({reasons})")
    n_again = int(answers.table["utterance"].duplicated().sum())
    if n_again:
        notes.append(f"{n_again:,} rows are of an utterance that is there already; each counts")
    if not answers.has_speakers:
        notes.append(
            "no column of speakers: intervals are from resampled utterances, too narrow if one speaker has "
            "several"
        )
    if answers.confidence is not None and len(answers.table) < FEW:
        notes.append(f"ECE of fewer than {FEW} answers is mostly chance")
    return [*notes, *answers.notes]


def compare_answers(
    first: Sequence[AnswerTable],
    second: Sequence[AnswerTable],
    first_paths: Sequence[Path],
    second_paths: Sequence[Path],
    seed: int = 0,
) -> dict[str, Any]:
    """How much better the first are, each on the utterances that it and its own of the second have.

    ValueError as of `same_utterances`.
    """
    pairs = zip(first, second, zip(first_paths, second_paths, strict=True), strict=True)
    both = pd.concat([same_utterances(*pair) for pair in pairs], ignore_index=True)
    known = all(one.has_speakers or other.has_speakers for one, other in zip(first, second, strict=True))
    if not known:
        both["speaker"] = both["utterance"]
    labels = order_labels([*both["emotion"], *both["answer"], *both["other"]])
    truth, ours, theirs = places_of(both, labels, "emotion", "answer", "other")
    by = difference(truth, ours, theirs, both["speaker"].tolist(), labels, seed)
    scores = []
    for answers in (ours, theirs):
        _, confusions = count_confusions(truth, answers, ["all"] * len(truth), len(labels))
        scores.append({name: float(values[0]) for name, values in metrics(confusions).items()})
    return {
        **asdict(by),
        "interval_95": {name: bounds and list(bounds) for name, bounds in by.interval_95.items()},
        "n_speakers": by.n_speakers if known else None,
        "resampled": "speaker" if known else "utterance",
        "n_utterances": len(both),
        "n_only_first": sum(len(answers.table) for answers in first) - len(both),
        "n_only_second": sum(len(answers.table) for answers in second) - len(both),
        "first": scores[0],
        "second": scores[1],
    }


def describe(result: Mapping[str, Any]) -> list[str]:
    """A result as Markdown."""
    rows = [
        (
            label,
            f"{row['n_utterances']:,}",
            *(f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1")),
        )
        for label, row in result["per_label"].items()
    ]
    lines = [*(f"- {note}" for note in result["notes"]), ""]
    lines += [*describe_scores(result, result["resampled"]), ""]
    lines.append(table_of_rows(("label", "utterances", "precision %", "recall %", "F1 %"), rows))
    if result["calibration_error"] is not None:
        lines += ["", describe_confidence(result)]
    if "difference" in result:
        lines += ["", *describe_difference(result["difference"], result["against"])]
    return lines


def describe_difference(compared: Mapping[str, Any], against: str | Sequence[str]) -> list[str]:
    """A comparison as Markdown."""
    others = against if isinstance(against, str) else f"{', '.join(against)}, each with its own"
    rows = []
    for name in METRICS:
        interval, p = compared["interval_95"][name], compared["p"][name]
        between = f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}" if interval else "–"
        scores = (f"{100 * compared[which][name]:.1f}" for which in ("first", "second"))
        chance = "–" if p is None else f"{p:.4f}"
        rows.append((TITLES[name], *scores, f"{100 * compared['by'][name]:+.1f}", between, chance))
    names = ("score", "here %", "there %", "difference", "95 % interval", "p")
    alone = f"{compared['n_only_first']:,} only here, {compared['n_only_second']:,} only there"
    return [
        f"Against {others}, on {compared['n_utterances']:,} utterances that both answered ({alone}):",
        "",
        table_of_rows(names, rows),
        "",
        f"Intervals are from resampled {compared['resampled']}s, p from exchanging the answers to each.",
    ]


def write_result(out: Path, result: Mapping[str, Any], lines: Sequence[str]) -> None:
    """A page with pictures, and result.json."""
    out.mkdir(parents=True, exist_ok=True)
    tables = result["predictions"]
    title = f"Scores of {Path(tables).name if isinstance(tables, str) else f'{len(tables)} tables together'}"
    pictures = draw_scores(out, result, title)
    page = [f"# {title}", "", *lines, "", *(f"![{name}]({name}.png)" for name in pictures), ""]
    write_atomically(out / "README.md", "\n".join(page))
    write_json(out / RESULT, dict(result))
