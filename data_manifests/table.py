"""A CSV of one's own, with a row for each recording or for each stretch of one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from data_manifests.endings import how_to_read, is_audio, is_convertible
from data_manifests.manifest import UNKNOWN, segment_path
from data_manifests.reading import PARTS, Corpus, Named, ParsedName, Resolver
from data_manifests.rows import TableError, read_rows
from data_manifests.walking import LEAVES, leads_out

COLUMNS = ("path", "emotion", "id", "speaker", "sentence", "intensity", "part", "start", "end")
MARKS = (",", ";", "\t")  # between cells: the first that the header has
LONGEST = 1_000  # characters of a cell: texts of a store are all as long as the longest
ALSO = {"file": "path"}  # as audformat and nkululeko call it
TIME = re.compile(r"(?:(\d+) days? )?(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)")
MOST_DIGITS = 40  # of a time
Rows = list[tuple[int, list[str]]]  # the number of the line, and its cells


def read_table(table: Path, resolver: Resolver, follow: bool = False) -> Named:
    """Rows of a CSV file with columns path (or file), emotion and optionally id, speaker, sentence,
    intensity, part, start, end; capitals in their names don't matter, and semicolons or tabs may divide them.

    Paths are relative to the CSV's folder, or absolute and inside it. start and end, in seconds or as
    audformat writes times, make a row an utterance of its own. A row that can't be used is dropped with its
    line number, and so are all rows of a recording that has two labels.
    follow : also links that lead out of the table's folder
    Raises ValueError where the file is no such table, or names a column twice.
    """
    header, rows = read_own_rows(table)
    columns = [ALSO.get(name, name) if ALSO.get(name) not in header else name for name in header]
    if lacking := [column for column in ("path", "emotion") if column not in columns]:
        raise ValueError(
            f"{table} lacks the columns {', '.join(lacking)}: its first line must name path and emotion, "
            f"and names {', '.join(header) or 'nothing'}"
        )
    names = []
    for line, row in rows:
        cells = {
            column: cell.strip() for column, cell in zip_longest(columns, row[: len(columns)], fillvalue="")
        }
        path, parsed = read_row(line, cells, table, resolver, follow)
        if len(row) != len(columns):
            parsed = replace(parsed, drop=parsed.drop or explain_length(len(row), len(columns), line))
        names.append((path, parsed))
    lines = [line for line, _ in rows]
    return sorted(drop_contradictions(names, lines, resolver), key=lambda pair: pair[0])


def read_own_rows(table: Path) -> tuple[list[str], Rows]:
    """Names of the columns, in lower case, and the rows; ValueError for what can't be read as a table."""
    try:
        rows = read_rows(table, ragged=True, marks=MARKS)
    except TableError as error:
        raise ValueError(f"the table can't be read: {error}") from error
    header = [name.strip().lower() for name in rows.header]
    if double := sorted({name for name in header if name and header.count(name) > 1}):
        raise ValueError(f"{table} has several columns called {', '.join(double)}: leave one of each")
    return header, [(line, row) for line, row in zip(rows.lines, rows.rows, strict=True) if row]


def describe_table(table: Path) -> tuple[str, ...]:
    """Which of its columns aren't used, in lines for a person."""
    others = [column for column in read_own_rows(table)[0] if column and column not in (*COLUMNS, *ALSO)]
    return (f"columns that aren't used: {', '.join(others)}",) if others else ()


def explain_length(n_cells: int, n_columns: int, line: int) -> str:
    """Why a row of another length than the header can't be used: which cell is which isn't known."""
    if n_cells > n_columns:
        return f"more cells than columns, texts with commas need quotes: line {line}"
    return f"fewer cells than columns: line {line}"


def read_row(
    line: int, row: Mapping[str, str], table: Path, resolver: Resolver, follow: bool = False
) -> tuple[str, ParsedName]:
    """Path of one row, and what it says; `line` is the row's number in the file, counting the header."""
    path = relative_path(row["path"], table.parent)
    part = row.get("part", "")
    outside = path.startswith(("/", "../")) or path == ".."
    here = not path or _is_file(table.parent / path)
    leads = here and not outside and not follow and leads_out(table.parent, path)
    file_fault = _fault_of_file(path, here, outside, leads)
    start, end = (read_time(row.get(column, "")) for column in ("start", "end"))
    drop, unknown = "", ""
    if not path:
        drop = f"no path: line {line}"
    elif file_fault:
        drop = f"{file_fault}: line {line} has {path}"
    elif is_convertible(path):
        drop = f"{PurePosixPath(path).suffix[1:]} isn't decoded here: line {line}, {how_to_read(path)}"
    elif not resolver(row["emotion"])[0]:
        drop, unknown = f"unknown emotion {row['emotion']!r}: line {line}", row["emotion"]
    elif max(map(len, row.values())) > LONGEST:
        drop = f"a cell of more than {LONGEST:,} characters: line {line}"
    elif part and part.lower() not in PARTS:
        drop = f"unknown part {part!r}: line {line}"
    elif start == -1 or end == -1 or (end is not None and end <= (start or 0)):
        drop = f"start and end are no stretch of seconds: line {line}"
    else:
        path = segment_path(path, start, end)
    return path, ParsedName(
        id=row.get("id") or stem_of(path),
        speaker=row.get("speaker") or UNKNOWN,
        label=row["emotion"],
        sentence=row.get("sentence", ""),
        intensity=row.get("intensity", ""),
        part=PARTS.get(part.lower(), ""),
        drop=drop,
        here=here,
        outside=outside or leads,
        unknown=(unknown,) if unknown else (),
    )


def _fault_of_file(path: str, here: bool, outside: bool, leads: bool) -> str:
    """Why a path names no file that can be used; whether it is on disk, outside, or leads there by a link."""
    if outside:
        return "outside the folder of the table"
    if not PurePosixPath(path).name:
        return "no name of a file"
    if not here:
        return "not on disk"
    if leads:
        return LEAVES
    return "" if is_audio(path) or is_convertible(path) else "not audio"


def relative_path(text: str, folder: Path) -> str:
    """A path as the ledger has it, relative to the table's folder where it lies in it; empty for none."""
    if "\\" in text and not _is_file(folder / text):
        text = text.replace("\\", "/")  # as Windows writes it
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))  # ü, or u and two dots
    written = (way for way in (text, composed, apart) if _is_file(folder / way.partition("#t=")[0]))
    text = next(written, text)
    if os.path.isabs(text):
        for root, inside in ((folder.absolute(), text), (folder.resolve(), os.path.realpath(text))):
            relative = os.path.relpath(inside, root)
            if not relative.startswith(".."):
                text = relative
                break
    return PurePosixPath(os.path.normpath(text)).as_posix() if text else ""


def stem_of(path: str) -> str:
    """The path without its ending; with its stretch, if it has one."""
    file, mark, stretch = path.partition("#t=")
    pure = PurePosixPath(file)
    return (pure.with_suffix("").as_posix() if pure.name else file) + mark + stretch


def read_time(text: str) -> float | None:
    """Seconds; None if none are given, -1 for what is no time. Audformat writes `0 days 00:00:01.5`."""
    if text.lower() in ("", "nat", "nan"):
        return None
    parts = TIME.fullmatch(text)
    if parts is None or len(text) > MOST_DIGITS:
        return -1
    days, hours, minutes = (int(part or 0) for part in parts.groups()[:3])
    return ((days * 24 + hours) * 60 + minutes) * 60 + float(parts[4].replace(",", "."))


def drop_contradictions(names: Named, lines: Sequence[int], resolver: Resolver) -> Named:
    """The rows, where those that give one recording two labels are dropped, and later ones that repeat it."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for place, (path, parsed) in enumerate(names):
        if not parsed.drop:
            rows_of[path].append(place)
    judged = list(names)
    for path, places in rows_of.items():
        labels = [resolver(names[place][1].label)[0] for place in places]
        drop = f"same clip as another file: {path}"
        if len(set(labels)) > 1:
            words = [f"{label} (line {lines[place]})" for label, place in zip(labels, places, strict=True)]
            drop = f"several labels for one recording: {path} is {' and '.join(words)}"
        for place in places[len(set(labels)) == 1 :]:
            judged[place] = path, replace(names[place][1], drop=drop)
    return judged


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


CORPUS = Corpus("a line such as clips/001.wav,angry", read=read_table, is_table=True, describe=describe_table)
