"""What a sweep may say beside the table of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Columns = dict[str, dict[str, str]]
"""A table: column → row → cell."""


@dataclass(frozen=True)
class Conclusion:
    """What a sweep says in the end.

    answers : sentences; tables : by their titles; pictures : name of a PNG in the folder → caption; facts :
    for result.json
    """

    answers: list[str]
    tables: dict[str, Columns]
    pictures: dict[str, str]
    facts: dict[str, Any]


Conclude = Callable[[Path, Sequence[Mapping[str, Any]]], Conclusion]
"""The comparison's folder and the rows of its runs → what is to be said."""
