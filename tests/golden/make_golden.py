"""python tests/golden/make_golden.py: write golden.json, what test_golden.py holds the code against.

It was run once, before the package was rebuilt, and is kept to show where the numbers come from. To run it
again makes whatever the code gives now the measure: only where a change of numbers is meant, and then it is
said in the changelog.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_golden import (
    GOLDEN,
    MODELS,
    divisions,
    foldings,
    histories,
    make_store,
    measure_logits,
)

from fins.runs import library_versions

DIGITS = 7


def rounded(value: Any) -> Any:
    """Numbers of seven significant digits, in whatever they lie."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return value


def measure_histories() -> dict[str, Any]:
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "made.h5")
        for number, (name, (options, make)) in enumerate(histories().items()):
            free = Path(folder) / f"{number}"
            free.mkdir()
            start = time.monotonic()
            rows[name] = {"options": options, "rows": rounded(make(store, free))}
            print(f"{name}: {time.monotonic() - start:.1f} s")
    return rows


def as_text(sections: dict[str, dict[str, Any]]) -> str:
    """JSON with a line for each case."""
    blocks = []
    for section, cases in sections.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
        blocks.append(f"{json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    torch.set_num_threads(1)
    sections = {
        "made_with": {**library_versions(), "instructions": torch.backends.cpu.get_cpu_capability()},
        "logits": {model: measure_logits(model) for model in MODELS},
        "divisions": {name: make() for name, make in divisions().items()},
        "folds": {name: make() for name, make in foldings().items()},
        "histories": measure_histories(),
    }
    GOLDEN.write_text(as_text(sections))
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
