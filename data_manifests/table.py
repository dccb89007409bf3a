"""A CSV of one's own, with a row for each recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from data_manifests.reading import PARTS, Corpus, Named, ParsedName, Resolver, is_audio
from data_manifests.rows import TableError, read_rows


def read_table(table: Path, resolver: Resolver) -> Named:
    """Rows of a CSV file with columns path, emotion and optionally id, speaker, sentence, intensity, part.

    Paths are relative to the CSV's folder. A row that can't be used is dropped with its line number.
    Raises ValueError where the file is no such table.
    """
    try:
        rows = read_rows(table, ragged=True)
    except TableError as error:
        raise ValueError(f"the table can't be read: {error}") from error
    columns = rows.header
    if lacking := [column for column in ("path", "emotion") if column not in columns]:
        raise ValueError(
            f"{table} lacks the columns {', '.join(lacking)}: its first line must name path and emotion, "
            f"and names {', '.join(columns) or 'nothing'}"
        )
    names = []
    for line, row in zip(rows.lines, rows.rows, strict=True):
        if not row:  # an empty line
            continue
        cells = {
            column: cell.strip() for column, cell in zip_longest(columns, row[: len(columns)], fillvalue="")
        }
        path, parsed = read_row(line, cells, table, resolver)
        if len(row) != len(columns):
            parsed = replace(parsed, drop=parsed.drop or explain_length(len(row), len(columns), line))
        names.append((path, parsed))
    return sorted(names, key=lambda pair: pair[0])


def is_there(path: Path) -> bool:
    """Whether a path leads to a file; one that no file can have, being too long, leads to none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def without_ending(path: str) -> str:
    """Of a path; empty where it names no file."""
    pure = PurePosixPath(path)
    return pure.with_suffix("").as_posix() if pure.name else ""


def explain_length(n_cells: int, n_columns: int, line: int) -> str:
    """Why a row of another length than the header can't be used: which cell is which isn't known."""
    if n_cells > n_columns:
        return f"more cells than columns, texts with commas need quotes: line {line}"
    return f"fewer cells than columns: line {line}"


def read_row(line: int, row: Mapping[str, str], table: Path, resolver: Resolver) -> tuple[str, ParsedName]:
    """Path of one row, and what it says; `line` is the row's number in the file, counting the header."""
    path = PurePosixPath(os.path.normpath(row["path"])).as_posix() if row["path"] else ""
    part = row.get("part", "")
    here = not path or is_there(table.parent / path)
    drop, unknown = "", ""
    if not path:
        drop = f"no path: line {line}"
    elif path.startswith(("/", "../")) or path == "..":
        drop = f"outside the folder of the table: line {line} has {path}"
    elif not PurePosixPath(path).name:
        drop = f"no name of a file: line {line} has {path}"
    elif not here:
        drop = f"not on disk: line {line} has {path}"
    elif not is_audio(path):
        drop = f"not audio: line {line} has {path}"
    elif not resolver(row["emotion"])[0]:
        drop, unknown = f"unknown emotion {row['emotion']!r}: line {line}", row["emotion"]
    elif part and part.lower() not in PARTS:
        drop = f"unknown part {part!r}: line {line}"
    return path, ParsedName(
        id=row.get("id") or without_ending(path),
        speaker=row.get("speaker") or "unknown",
        label=row["emotion"],
        sentence=row.get("sentence", ""),
        intensity=row.get("intensity", ""),
        part=PARTS.get(part.lower(), ""),
        drop=drop,
        here=here,
        unknown=(unknown,) if unknown else (),
    )


CORPUS = Corpus("a line such as clips/001.wav,angry", read=read_table, is_table=True)
