"""python -m fuzz: all parts of the suite, and their counts as a table. Exit code 1 if any case failed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz import commands
from fuzz.files import ONNX, STORES, TABLES, Cases
from fuzz.runs import Whole, make_onnx, make_whole
from fuzz.sound import SoundCases
from fuzz.watchdog import Counts, run_cases

SIZES = {
    "recordings": 10_000,
    "tables, splits, sweeps, configurations": 2_000,
    "stores, checkpoints, weights": 900,
    "ONNX files": 100,
    "odd places": 48,
    "full disks": 28,
    "read-only disks": 14,
    "two at once": 14,
    "kills": 28,
}
"""Part → how many cases it has by default."""


def judged(name: str, cases: SoundCases | Cases, n: int) -> Counts:
    """Cases in a worker, whose process the watchdog ends if need be."""
    counts = Counts(name)
    for number, verdict in run_cases(cases.work, range(n)):
        counts.add(verdict, cases.name(number))
    return counts


def parts(folder: Path, whole: Whole, share: float) -> list[tuple[str, Callable[[int], Counts]]]:
    """Each part's name, and what tries so many cases of it."""
    where = [folder / f"part{number}" for number in range(len(SIZES))]
    for place in where:
        place.mkdir()
    names = list(SIZES)
    tries = {
        "odd places": commands.try_places,
        "full disks": commands.try_disks,
        "read-only disks": commands.try_read_only,
        "two at once": commands.try_two_at_once,
        "kills": commands.try_kills,
    }
    makers: list[Callable[[int], Counts]] = [
        lambda n: judged(names[0], SoundCases.made_in(where[0]), n),
        lambda n: judged(names[1], Cases(where[1], whole, TABLES, "table"), n),
        lambda n: judged(names[2], Cases(where[2], whole, STORES, "store"), n),
        lambda n: judged(names[3], Cases(where[3], whole, [ONNX], "onnx"), n),
    ]
    for number, (name, attempt) in enumerate(tries.items(), len(makers)):
        makers.append(
            lambda n, name=name, attempt=attempt, place=where[number]: commands.count(
                name, attempt(place, whole, n)
            )
        )
    return list(zip(names, makers, strict=True))


def table(counts: Sequence[Counts], seconds: Sequence[float]) -> str:
    """As Markdown."""
    lines = ["| | tried | held | refused | failed | seconds |", "|---|--:|--:|--:|--:|--:|"]
    for one, duration in zip(counts, seconds, strict=True):
        numbers = (one.tried, one.held, one.refused, len(one.failures), round(duration))
        lines.append(f"| {one.name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of each part's cases")
    parser.add_argument("--only", nargs="*", choices=list(SIZES), help="parts, by default all")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    counts, seconds = [], []
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        (folder / "whole").mkdir()
        whole = make_whole(folder / "whole")
        commands.write_spoken(folder / "whole" / "spoken")
        if not options.only or "ONNX files" in options.only:
            make_onnx(whole)
        for part, attempt in parts(folder, whole, options.share):
            if options.only and part not in options.only:
                continue
            started = time.monotonic()
            counts.append(attempt(max(1, round(SIZES[part] * options.share))))
            seconds.append(time.monotonic() - started)
            print(f"{part}: {counts[-1].tried} tried, {len(counts[-1].failures)} failed", flush=True)
            for failure in counts[-1].failures:
                print(f"  {failure}", flush=True)
    text = table(counts, seconds)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return int(any(one.failures for one in counts))


if __name__ == "__main__":
    sys.exit(main())
