"""Recordings divided as their corpus says: by the parts that its folders, names or table give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from fins.data.copies import by_name, keys_of, recordings_of
from fins.data.splits import UNUSED

if TYPE_CHECKING:
    from fins.data.protocols import Division

VALIDATING = 0.1  # of the training speakers, or recordings, where no part validates


def divide_as_marked(originals: pd.DataFrame, rng: Generator, division: Division) -> NDArray[np.object_]:
    """The corpus's own parts; a recording without one is unused.

    Where no recording validates, a tenth of the training speakers does; of fewer than three speakers a tenth
    of the training recordings. Raises ValueError for a corpus without parts, and if nothing trains or tests.
    """
    parts = originals["part"].to_numpy(dtype=object)
    marked = set(originals["corpus"][parts != ""])
    if bare := sorted(set(originals["corpus"]) - marked):
        raise ValueError(
            f"the protocol own needs parts, and {', '.join(bare)} has none: name folders train, validation "
            "and test, or give the table a column part"
        )
    lacking = [part for part in ("train", "test") if not (parts == part).any()]
    if lacking:
        raise ValueError(f"no recording has the part {' or '.join(lacking)} of its own: use another protocol")
    parts = np.where(parts == "", UNUSED, parts)
    if not (parts == "validation").any():
        parts[_some_of(originals, np.flatnonzero(parts == "train"), rng)] = "validation"
    return parts


def _some_of(originals: pd.DataFrame, training: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    """Which of the training recordings validate."""
    rows = originals.iloc[training]
    keys = keys_of(rows, "corpus", "speaker")
    if len(set(keys)) < 3:
        keys = recordings_of(rows)
    units = by_name(keys)
    chosen = {units[place] for place in rng.permutation(len(units))[: max(1, round(VALIDATING * len(units)))]}
    return training[np.array([key in chosen for key in keys], dtype=bool)]
