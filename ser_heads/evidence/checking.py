"""Whether README.md and docs say what the runs of results/ give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fins.runs import write_atomically
from ser_heads.evidence.entries import read_checked, read_entry
from ser_heads.evidence.leaderboard import leaderboard
from ser_heads.evidence.pages import CITED, Quotes, compare_page

MOST_BYTES = 10_000_000
RESULTS, LEADERBOARD = Path("results"), Path("docs", "leaderboard.md")


@dataclass(frozen=True)
class Checked:
    """differences : a sentence each; summary : what was looked at, a line each"""

    differences: list[str]
    summary: list[str]


def check_results(root: Path) -> Checked:
    """Score every entry again, and compare each number of README.md and docs with what it names.

    root : folder of README.md, docs and results
    Raises OSError where these aren't.
    """
    folders = folders_of(root)
    checked = [read_checked(folder) for folder in folders]
    faults = [fault for _, sentences in checked for fault in sentences]
    n_bytes = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
    if n_bytes > MOST_BYTES:
        faults.append(f"{root / RESULTS} holds {n_bytes / 1e6:.1f} MB: {MOST_BYTES / 1e6:.0f} at most")
    if faults:  # nothing can be told of pages by entries that aren't whole
        return Checked(faults, [])
    entries = [entry for entry, _ in checked if entry is not None]
    scores = {entry.name: entry.scores() for entry in entries}
    quotes = Quotes()
    for page in pages_of(root):
        name = page.relative_to(root).as_posix()
        compare_page(name, page.read_text(encoding="utf-8"), scores, quotes)
    made = root / LEADERBOARD
    if not made.is_file() or made.read_text(encoding="utf-8") != leaderboard(entries, scores):
        quotes.differences.append(
            f"{LEADERBOARD.as_posix()} isn't what results/ gives: python -m pipelines.results table writes it"
        )
    return Checked(quotes.differences, summarise(len(entries), n_bytes, quotes))


def folders_of(root: Path) -> list[Path]:
    """Of all entries."""
    return sorted(path for path in (root / RESULTS).iterdir() if path.is_dir())


def pages_of(root: Path) -> list[Path]:
    """README.md and docs, but for the page that is made."""
    return [root / "README.md", *sorted(set((root / "docs").glob("*.md")) - {root / LEADERBOARD})]


def write_leaderboard(root: Path) -> Path:
    """docs/leaderboard.md of what results/ holds; returns its path."""
    page = root / LEADERBOARD
    entries = [read_entry(folder) for folder in folders_of(root)]
    write_atomically(page, leaderboard(entries, {entry.name: entry.scores() for entry in entries}))
    return page


def summarise(n_entries: int, n_bytes: int, quotes: Quotes) -> list[str]:
    """What was looked at, and what no run stands for."""
    counts = dict(quotes.counts)
    n_kept, n_cards, n_cited = (counts.pop(kind, 0) for kind in ("results", "cards", CITED))
    lines = [
        f"{n_entries} runs in results/ ({n_bytes / 1e6:.1f} MB), all scored again from their predictions",
        f"numbers of pages: {n_kept} are of these runs, {n_cards} of the cards of FINs, {n_cited} are cited",
    ]
    if n := sum(counts.values()):
        lines.append(f"{n} numbers aren't certified:")
    return lines + [f"  {n} in {where}" for where, n in counts.items() if n]
