"""What a user should know of the weights of one FIN, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fins.documents import table_of_rows
from fins.learning.report import r2_cell
from fins.learning.run_page import describe_scores, describe_stages


def fin_card(
    name: str,
    result: Mapping[str, Any],
    versions: Mapping[str, str],
    degraded: Sequence[Mapping[str, Any]],
    most: int,
) -> str:
    """The card of a FIN that was learned from noise.

    result : as result.json has it; degraded : rows of `score_conditions`, of at most so many clips a corpus
    """
    stores = list(dict.fromkeys(row["store"] for row in degraded))
    conditions = list(dict.fromkeys(row["condition"] for row in degraded))
    cells = {(row["store"], row["condition"]): r2_cell(row) for row in degraded}
    rows = [(condition, *(cells[store, condition] for store in stores)) for condition in conditions]
    return "\n\n".join(
        [
            f"# {name}",
            f'`fins.load("{name}")`: (batch, 2048) samples at 22,050 Hz → {result["feature"]}, in its own '
            f"unit. {result['parameters']:,} parameters, all trainable; "
            f"{result['multiply_adds_per_window']:,} multiply-adds a window.",
            f"Learned from random weights (seed {result['seed']}) and noise alone, stage by stage, in "
            f"{result['seconds']:.0f} s on a CPU. No recording was used, so no corpus's licence attaches: "
            "the weights are under the package's own.",
            f"    python -m fins.train --feature {result['feature']} --topology {result['topology']} "
            f"--seed {result['seed']}",
            describe_stages(result["stages"]),
            "R² against the closed form, on all windows, silence included:",
            describe_scores(result["r2"]),
            f"R² uniform (variance-weighted) under conditions, at most {most} clips a corpus:",
            table_of_rows(("condition", *stores), rows),
            f"Made with {', '.join(f'{library} {version}' for library, version in versions.items())}.\n",
        ]
    )
