"""CSV tables, read strictly: every row whole, every line accounted for; nothing is guessed or skipped."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 200_000_000  # of a table: a million recordings with long names
CELLS = {
    mark: re.compile(rf'(?:"([^"]*(?:""[^"]*)*)"|([^"{mark}\r\n]*))({mark}|\r\n|\n|\r|\Z)') for mark in ",;\t"
}
LINE_END = re.compile(r"\r\n|\n|\r")


class TableError(ValueError):
    """A file that is no whole CSV table; the message says what is wrong with it, and in which line."""


@dataclass(frozen=True)
class TableRows:
    """A table as texts.

    header : names of its columns; rows : their cells; lines : of the file, from 1, in which each row begins
    """

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]


def read_rows(path: Path, ragged: bool = False, marks: Sequence[str] = (",",)) -> TableRows:
    """A CSV in UTF-8 with a header: "NA", "0011" and an empty cell stay what they are.

    ragged : rows of another length than the header, which empty lines are too, are given as they are, to be
        counted by who reads them; by default they are an error
    marks : what may stand between cells; the first that the header has does
    Raises FileNotFoundError, and TableError in one sentence for what is no plain file, is too large, isn't
    UTF-8, or has a NUL, two columns of one name, a row of another length, or a quote that isn't closed,
    stands where none may or takes other rows into its cell.
    """
    text = read_text(path)
    header = LINE_END.split(text, maxsplit=1)[0]
    mark = next((mark for mark in marks if mark in header), marks[0])
    return parse_rows(text, str(path), ragged, mark)


def read_text(path: Path, errors: str = "strict") -> str:
    """Of a table, without a byte order mark; errors as of `read_rows`.

    errors : what becomes of bytes that are no UTF-8, as `open` has it
    """
    status = path.stat()  # of what a link leads to
    if not stat.S_ISREG(status.st_mode):
        raise TableError(f"{path} is no plain file: a table is one, so copy it into one")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)  # it may grow meanwhile
    if len(content) > MOST_BYTES:
        raise TableError(f"{path} is larger than {MOST_BYTES // 10**6} MB, the most that a table may be")
    try:
        text = content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = content.count(10, 0, error.start) + 1
        raise TableError(
            f"{path}, line {line}: it is no CSV in UTF-8: save it as comma-separated UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"{path} is damaged: line {line} has a NUL, which no text has")
    return text


def parse_rows(text: str, name: str, ragged: bool = False, mark: str = ",") -> TableRows:
    """The rows of a text; `name` is what errors call it. Errors as of `read_rows`."""
    rows: list[list[str]] = []
    lines: list[int] = []
    position, line = 0, 1
    if '"' not in text:  # then every line is a row
        texts = LINE_END.split(text)
        rows = [one.split(mark) if one else [] for one in (texts if texts[-1] else texts[:-1])]
        lines = list(range(1, len(rows) + 1))
        position = len(text)
    while position < len(text):
        cells, position, n_lines = _read_row(text, position, name, line, mark)
        if n_lines > 1 and _takes_rows(cells, len(rows[0]) if rows else len(cells), mark):
            raise TableError(f"{name} is damaged: a quote in line {line} takes other rows into its cell")
        rows.append(cells)
        lines.append(line)
        line += n_lines
    if not rows:
        raise TableError(f"{name} is empty")
    header, *rows = rows
    if len(set(header)) < len(header):
        raise TableError(f"{name} has two columns of one name: {_twice(header)!r}")
    if not ragged:
        for number, row in zip(lines[1:], rows, strict=True):
            if len(row) != len(header):
                raise TableError(
                    f"{name} is damaged: line {number} has {len(row)} cells, the header {len(header)}"
                )
    return TableRows(tuple(header), rows, lines[1:])


def _read_row(text: str, position: int, name: str, line: int, mark: str) -> tuple[list[str], int, int]:
    """Cells, where the next row begins, and how many lines these are; an empty line has no cells."""
    cells: list[str] = []
    n_lines = 1
    while True:
        match = CELLS[mark].match(text, position)
        if match is None:
            raise TableError(f"{name} is damaged: a quote in line {line} isn't doubled or isn't closed")
        quoted, plain, separator = match.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        if quoted is not None:
            n_lines += len(LINE_END.findall(quoted))
        position = match.end()
        if separator != mark:
            return [] if cells == [""] and quoted is None else cells, position, n_lines


def _takes_rows(cells: list[str], n_columns: int, mark: str) -> bool:
    """Whether the lines inside a cell, with what stands around it, are as long as rows of the table."""
    if n_columns < 2:
        return False
    for place, cell in enumerate(cells):
        first, *others = LINE_END.split(cell)
        if others:
            counts = [1 + inner.count(mark) for inner in (first, *others)]
            counts[0] += place
            counts[-1] += len(cells) - place - 1
            if min(counts) >= n_columns:
                return True
    return False


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
