"""CSV tables: texts as they are, every row whole; nothing is guessed, skipped or filled in."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pandas as pd


class TableError(ValueError):
    """A file that is no whole CSV table; the message says what is wrong with it."""


def read_table(path: Path) -> pd.DataFrame:
    """A CSV in UTF-8 with a header, as texts: "NA", "0011" and an empty cell stay what they are.

    Raises FileNotFoundError, and TableError if it isn't UTF-8, if a quote isn't closed or stands where none
    may, if a row has another length than the header (so has an empty line), or if a column is there twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is no CSV in UTF-8") from error
    except csv.Error as error:
        raise TableError(f"{path} is damaged ({error})") from error
    except ValueError as error:
        raise TableError(f"{path} is empty") from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise TableError(
                f"{path} is damaged: row {number} has {len(row)} cells, the header {len(header)}"
            )
        for cell in row:
            if '"' in cell and '"{}"'.format(cell.replace('"', '""')) not in text:
                raise TableError(f"{path} is damaged: a quote in row {number} isn't doubled")
    if len(set(header)) < len(header):
        raise TableError(f"{path} has two columns of one name")
    return pd.DataFrame(rows, columns=header, dtype=object)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Atomic; texts that hold a comma, a quote or a line break are quoted."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        table.to_csv(file, index=False, lineterminator="\r\n")
    os.replace(partial, path)
