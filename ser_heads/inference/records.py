"""Answers as rows of text: tables, CSV, JSON; written, read again, and kept while there are more to come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from fins.disk import append_line
from fins.tables import read_table
from ser_heads.inference.predict import Prediction

Format = Literal["table", "csv", "json", "jsonl"]
Record = dict[str, Any]
BEFORE, AFTER = ("file", "start", "end", "label", "confidence"), ("note", "made_by")
RECORD = (*BEFORE, "probabilities", *AFTER)
"""Keys of a record; in CSV each label has a column of its probability in their place."""


def record_of(prediction: Prediction, made_by: str) -> Record:
    """What is written of an answer; seconds and shares have six digits."""
    end = round(prediction.start + prediction.seconds, 6)
    return {
        "file": prediction.file,
        "start": round(prediction.start, 6),
        "end": end,
        "label": prediction.label,
        "confidence": round(prediction.confidence, 6),
        "probabilities": {label: round(share, 6) for label, share in prediction.probabilities.items()},
        "note": prediction.note,
        "made_by": made_by,
    }


def prediction_of(record: Record) -> Prediction:
    """The answer that `record_of` wrote."""
    kept = {name: record[name] for name in ("label", "confidence", "probabilities", "file", "start", "note")}
    return Prediction(**kept, seconds=record["end"] - record["start"])


def render(records: Sequence[Record], form: Format, labels: Sequence[str], abstain: float = 0.0) -> str:
    """The records as one text.

    abstain : confidence below which nothing is answered: the label is empty in CSV, null in JSON
    """
    rows = [
        {**record, "label": record["label"] if record["confidence"] >= abstain else None}
        for record in records
    ]
    if form == "table":
        return _as_table(rows)
    if form == "csv":
        return _as_csv(rows, labels)
    if form == "json":
        return json.dumps(rows, indent=1) + "\n"
    return "".join(json.dumps(row) + "\n" for row in rows)


def _as_table(rows: Sequence[Record]) -> str:
    cells: list[tuple[str, ...]] = [("file", "start", "end", "label", "confidence", "note")]
    for row in rows:
        times = (f"{row['start']:.2f}", f"{row['end']:.2f}")
        cells.append((row["file"], *times, row["label"] or "-", f"{row['confidence']:.3f}", row["note"]))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    numbers = (1, 2, 4)
    lines = [
        "  ".join(
            cell.rjust(widths[column]) if column in numbers else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines) + "\n"


def _as_csv(rows: Sequence[Record], labels: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(labels))
    for row in rows:
        shares = [f"{row['probabilities'][label]:.6f}" for label in labels]
        first = [row["file"], f"{row['start']:.6f}", f"{row['end']:.6f}", row["label"] or ""]
        writer.writerow([*first, f"{row['confidence']:.6f}", *shares, *(row[name] for name in AFTER)])
    return text.getvalue()


def columns_of(labels: Sequence[str]) -> list[str]:
    """Of a CSV; ValueError for a label that is called as another column is."""
    taken = {*BEFORE, *AFTER}.intersection(labels)
    if taken:
        raise ValueError(
            f"a table has a column {taken.pop()} beside its labels: choose --format json or jsonl"
        )
    return [*BEFORE, *labels, *AFTER]


def read_records(path: Path, form: Format, labels: Sequence[str]) -> list[Record]:
    """What `render` wrote, with the likeliest label where nothing was answered.

    Raises ValueError in one sentence for another file, a table, which is for reading, and other labels.
    """
    if form == "table":
        raise ValueError(
            f"{path} is there already, and a table can't be taken up: choose another --out or csv"
        )
    try:
        records = _from_csv(path, labels) if form == "csv" else _from_json(path, form)
        for record in records:
            check_record(record)
            if list(record["probabilities"]) != list(labels):
                raise ValueError("other columns")
            record["label"] = max(labels, key=record["probabilities"].__getitem__)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is there already and holds no answers in {form} with the labels {', '.join(labels)}: "
            "choose another --out"
        ) from error
    return records


def check_record(record: Any) -> None:
    """Raises ValueError, KeyError or TypeError for what is no answer."""
    if set(record) != set(RECORD):
        raise ValueError("other columns")
    shares = record["probabilities"]
    numbers = [*shares.values(), *(record[name] for name in ("start", "end", "confidence"))]
    if not all(type(number) in (int, float) and isfinite(number) for number in numbers):
        raise ValueError("no numbers")
    if not all(isinstance(record[name], str) for name in ("file", "label", "note", "made_by")):
        raise ValueError("no words")


def _from_csv(path: Path, labels: Sequence[str]) -> list[Record]:
    table = read_table(path)
    if list(table.columns) != columns_of(labels):
        raise ValueError("other columns")
    records = []
    for row in ({str(name): cell for name, cell in row.items()} for row in table.to_dict("records")):
        shares = {label: float(row.pop(label)) for label in labels}
        numbers = {name: float(row[name]) for name in ("start", "end", "confidence")}
        records.append({**row, **numbers, "probabilities": shares})
    return records


def _from_json(path: Path, form: Format) -> list[Record]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]


class AnswerJournal:
    """Answers as they come, a line a file, so that work that was stopped goes on where it was.

    path : of the file; None keeps nothing
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> dict[str, list[Record]]:
        """File → its records; a last line that isn't whole is left out."""
        if self.path is None or not self.path.is_file():
            return {}
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        try:
            lines = [json.loads(line) for line in whole.decode("utf-8").splitlines()]
            known: dict[str, list[Record]] = {line["file"]: line["records"] for line in lines}
            for record in (record for records in known.values() for record in records):
                check_record(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is damaged: delete it to start over") from error
        return known

    def add(self, file: str, records: Sequence[Record]) -> None:
        if self.path is not None:
            append_line(self.path, json.dumps({"file": file, "records": list(records)}))

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
