"""Scores of a table of answers, whoever made it, and how much better one table is than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from data_manifests.labels import normalise, order_labels
from fins.documents import table_of_rows
from fins.runs import RESULT, write_atomically, write_json
from ser_heads.evaluation.calibration import FEW
from ser_heads.evaluation.foreign import AnswerTable, read_answers, same_utterances
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


@dataclass(frozen=True)
class ScoreOptions:
    """Judge answers, whoever made them: UAR, WA, F1, precision, with 95 % intervals from resampled speakers,
    and ECE where probabilities are there.

    A table is a CSV with commas, semicolons or tabs, and a header in any case. Truth: emotion, truth, y_true,
    target. Answer: answer, prediction, y_pred. Label is whichever of the two is missing. If they are there:
    speaker, utterance or file, corpus, confidence, and a column of probabilities for each label. The answers
    of pipelines.predict are such a table, once --truth says what is true.
    """

    predictions: Annotated[Path, tyro.conf.Positional]
    """The table, or the folder of a run or evaluation."""
    against: Path | None = None
    """Another table, to compare with on the utterances that both have."""
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
    answers = read_answers(options.predictions, options.truth)
    result = {"predictions": str(options.predictions), "seed": options.seed}
    result |= score_answers(answers, options.seed)
    if options.against is not None:
        spelling = {normalise(label): label for label in answers.labels}
        others = read_answers(options.against, options.truth, spelling)
        result["against"] = str(options.against)
        result["difference"] = compare_answers(
            answers, others, (options.predictions, options.against), options.seed
        )
    lines = describe(result)
    if options.out is not None:
        write_result(options.out, result, lines)
    return result, lines


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
    first: AnswerTable, second: AnswerTable, paths: Sequence[Path], seed: int = 0
) -> dict[str, Any]:
    """How much better the first is on the utterances that both have.

    ValueError as of `same_utterances`.
    """
    both = same_utterances(first, second, paths)
    labels = order_labels([*both["emotion"], *both["answer"], *both["other"]])
    truth, ours, theirs = places_of(both, labels, "emotion", "answer", "other")
    by = difference(truth, ours, theirs, both["speaker"].tolist(), labels, seed)
    scores = []
    for answers in (ours, theirs):
        _, confusions = count_confusions(truth, answers, ["all"] * len(truth), len(labels))
        scores.append({name: float(values[0]) for name, values in metrics(confusions).items()})
    known = first.has_speakers or second.has_speakers
    return {
        **asdict(by),
        "interval_95": {name: bounds and list(bounds) for name, bounds in by.interval_95.items()},
        "n_speakers": by.n_speakers if known else None,
        "resampled": "speaker" if known else "utterance",
        "n_utterances": len(both),
        "n_only_first": len(first.table) - len(both),
        "n_only_second": len(second.table) - len(both),
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
        lines += ["", *describe_difference(result["difference"], str(result["against"]))]
    return lines


def describe_difference(compared: Mapping[str, Any], against: str) -> list[str]:
    """A comparison as Markdown."""
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
        f"Against {against}, on {compared['n_utterances']:,} utterances that both answered ({alone}):",
        "",
        table_of_rows(names, rows),
        "",
        f"Intervals are from resampled {compared['resampled']}s, p from exchanging the answers to each.",
    ]


def write_result(out: Path, result: Mapping[str, Any], lines: Sequence[str]) -> None:
    """A page with pictures, and result.json."""
    out.mkdir(parents=True, exist_ok=True)
    title = f"Scores of {Path(result['predictions']).name}"
    pictures = draw_scores(out, result, title)
    page = [f"# {title}", "", *lines, "", *(f"![{name}]({name}.png)" for name in pictures), ""]
    write_atomically(out / "README.md", "\n".join(page))
    write_json(out / RESULT, dict(result))
