"""python -m pipelines.prepare: a corpus on disk becomes a store, with every file accounted for."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fins.audio import SAMPLE_RATE, WINDOW
from fins.command import run_command
from fins.preparation import Account, Augment, Preparation, prepare_store
from fins.runs import write_json
from fins.store import library_versions
from pipelines.corpora import read_corpus
from pipelines.ledger import LedgerRow, Listing

NAMED = 10  # unreadable files that are printed; the report names all


@dataclass(frozen=True)
class PrepareConfig:
    """Cut a corpus into windows, compute their features; write a store and a report of every file."""

    corpus: str
    """ravdess, crema_d, savee, tess, esd, emodb, iemocap, synthetic, folders (one per emotion) or csv."""
    root: Path
    """The corpus's folder, or the CSV file."""
    out: Path
    """The store, an .h5 file; the report lies beside it."""
    clip: str | None = None
    """START:STOP in seconds to keep of each recording (0.6:3.1 as published); by default all of it."""
    augment: Augment = "none"
    """paper: also a noisy and a stretched copy of each, which only ever train."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    strict: bool = False
    """End with an error at the first file that can't be read, instead of counting it."""
    seed: int = 0
    """Of the augmentations' noise."""


def main(config: PrepareConfig) -> None:
    """List the corpus, prepare the store, write the report; a killed run is taken up where it ended."""
    if config.workers < 1:
        raise ValueError("--workers is at least 1")
    if config.out.suffix != ".h5":
        raise ValueError(f"--out {config.out} names a store, whose name ends in .h5")
    preparation = Preparation(parse_clip(config.clip), config.augment, config.seed)
    listing = read_corpus(config.corpus, config.root)
    print("\n".join(listing.summary()))
    config.out.parent.mkdir(parents=True, exist_ok=True)

    total = Account()
    accounts = prepare_store(config.out, listing.utterances, listing.root, preparation, config.workers)
    with tqdm(total=len(listing.utterances), unit=" files") as bar:
        for account in accounts:
            total.add(account)
            bar.update(account.n_utterances - account.n_augmented + len(account.unreadable))
            if config.strict and account.unreadable:
                accounts.close()
                raise ValueError(f"--strict: {account.unreadable[0][1]}")
    unexplained = len(listing.utterances) - (total.n_utterances - total.n_augmented) - len(total.unreadable)
    if unexplained:
        raise ValueError(f"{unexplained} files came neither into the store nor into the report")
    write_ledger(config.out.with_suffix(".ledger.csv"), listing)
    write_json(config.out.with_suffix(".report.json"), report(config, listing, total))
    print("\n".join(describe(total)))
    print(f"written to {config.out}, with its .report.json and .ledger.csv")


def parse_clip(clip: str | None) -> tuple[float, float] | None:
    """ "0.6:3.1" → (0.6, 3.1) seconds; ValueError if it is no such range."""
    if clip is None:
        return None
    try:
        start, stop = (float(number) for number in clip.split(":"))
    except ValueError:
        raise ValueError(f"--clip {clip} is no range of seconds: write START:STOP, such as 0.6:3.1") from None
    if not (start >= 0 and WINDOW / SAMPLE_RATE <= stop - start < float("inf")):
        raise ValueError(f"--clip {clip}: it starts at 0 or later and lasts for at least a window, 0.093 s")
    return start, stop


def write_ledger(path: Path, listing: Listing) -> None:
    """A line a file on disk, then a line a file that is missing."""
    names = [field.name for field in fields(LedgerRow)]
    missing = [
        LedgerRow(lost, "", "", "missing", "in the manifest and not on disk") for lost in listing.missing
    ]
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(asdict(row) for row in (*listing.ledger, *missing))
    os.replace(partial, path)


def report(config: PrepareConfig, listing: Listing, total: Account) -> dict[str, Any]:
    """Counts that add up, and names of what is missing, double or unreadable."""
    actions = [row.action for row in listing.ledger]
    return {
        "corpus": config.corpus,
        "config": {**asdict(config), "root": str(config.root), "out": str(config.out)},
        "versions": library_versions(),
        "files_found": len(listing.ledger),
        "files": {action: actions.count(action) for action in sorted(set(actions))},
        "expected": listing.expected,
        "missing": list(listing.missing),
        "duplicates": [list(group) for group in listing.duplicates],
        "store": {**asdict(total), "unreadable": [list(pair) for pair in sorted(total.unreadable)]},
        "summary": [*listing.summary(), *describe(total)],
    }


def describe(total: Account) -> list[str]:
    """What became of the sound, in lines for a person."""
    lines = [
        f"  stored: {total.n_utterances} utterances ({total.n_augmented} of them augmented copies), "
        f"{total.n_windows} windows, {total.n_seconds / 60:.1f} minutes"
    ]
    for count, what in (
        (total.n_padded, "padded with zeros, to a window or to the clip"),
        (total.n_cut, "cut to the clip"),
        (total.n_silent, "silent throughout"),
        (total.n_clipped_samples, "samples beyond full scale, clipped"),
        (total.n_tail_samples, "samples after the last whole window, left out of the features"),
        (len(total.unreadable), "files that can't be read"),
    ):
        if count:
            lines.append(f"  {count} {what}")
    unreadable = sorted(total.unreadable)
    lines += [f"    {why}" for _, why in unreadable[:NAMED]]
    if len(unreadable) > NAMED:
        lines.append(f"    and {len(unreadable) - NAMED} more, named in the report")
    return lines


if __name__ == "__main__":
    run_command(main, PrepareConfig, PrepareConfig.__doc__ or "")
