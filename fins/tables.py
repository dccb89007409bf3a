"""CSV tables: texts as they are, every row whole; nothing is guessed, skipped or filled in."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data_manifests.rows import TableError, read_rows
from fins.disk import replacing

__all__ = ["TableError", "read_table", "write_table"]


def read_table(path: Path) -> pd.DataFrame:
    """A CSV in UTF-8 with a header, as texts; errors, in one sentence, as of `data_manifests.rows.read_rows`,
    by which every table is read."""
    table = read_rows(path)
    return pd.DataFrame(table.rows, columns=list(table.header), dtype=object)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Atomic; texts that hold a comma, a quote or a line break are quoted."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table.to_csv(file, index=False, lineterminator="\r\n")
