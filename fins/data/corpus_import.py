"""A corpus on disk becomes a store, with every file accounted for."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from data_manifests import CORPORA, read_corpus
from data_manifests.labels import EMOTIONS, is_label, parse_labels
from data_manifests.ledger import LedgerRow, Listing
from fins.audio import SAMPLE_RATE, WINDOW
from fins.data.account import Augment, Preparation, PreparationCounts
from fins.data.preparation import prepare_store
from fins.data.store import FOLDER_DIGEST
from fins.disk import replacing
from fins.progress import SILENT, Watch
from fins.runs import library_versions, write_json

OWN = ("folders", "csv")  # kinds of corpora that anybody may have
NAMED = 10  # unreadable files that are printed; the report names all


@dataclass(frozen=True)
class PrepareOptions:
    """Cut a corpus into windows, compute their features; write a store and a report of every file."""

    corpus: Annotated[str, tyro.conf.arg(help=f"{', '.join(CORPORA)}; folders: one for each label.")]
    root: Path
    """The corpus's folder, or the CSV file."""
    out: Path
    """The store, an .h5 file; the report lies beside it."""
    labels: tuple[str, ...] = EMOTIONS
    """The words that are labels (bored stressed relaxed); others are left out and counted. A pair such as
    joyful=happy says that a word means a label; pairs alone are added to the default."""
    clip: str | None = None
    """START:STOP in seconds to keep of each recording (0.6:3.1 as published); by default all of it."""
    augment: Augment = "none"
    """paper: also a noisy and a stretched copy of each, which only ever train."""
    workers: int = os.cpu_count() or 1
    """Processes."""
    follow_links: bool = False
    """Also read what links lead to outside of the root; otherwise each such link is left out and counted."""
    strict: bool = False
    """End with an error at the first file that can't be read, instead of counting it."""
    seed: int = 0
    """Of the augmentations' noise."""
    name: str | None = None
    """What the corpus is called; by default as --corpus, and folders and csv as the folder that they are in.
    Speakers of different corpora are different people."""
    add: bool = False
    """Take up recordings that the store lacks, and keep those that it holds."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError("--workers is at least 1")
        if self.name is not None and not is_label(self.name):
            raise ValueError(f"--name {self.name!r} is no name: it has letters or digits, no comma, no slash")
        if self.name in CORPORA and self.name != self.corpus:
            raise ValueError(f"--name {self.name} is a known corpus, and this one is {self.corpus}")
        if self.out.suffix != ".h5":
            raise ValueError(f"--out {self.out} names a store, whose name ends in .h5")


def import_corpus(options: PrepareOptions, watch: Watch = SILENT) -> list[str]:
    """List the corpus, prepare the store, write the report; a killed import is taken up where it ended.

    Returns what became of the sound, in lines for a person; what is listed is told to the watch before.
    """
    preparation = Preparation(parse_clip(options.clip), options.augment, options.seed)
    labels = parse_labels(options.labels)
    listing = read_corpus(options.corpus, options.root, *labels, follow_links=options.follow_links)
    listing = listing.named(options.name or default_name(options))
    watch.note("\n".join(listing.summary()))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    total = prepare_listing(options, listing, preparation, watch)
    n_stored = total.n_utterances - total.n_augmented - len(total.gone)
    unexplained = len(listing.utterances) - n_stored - len(total.unreadable)
    if unexplained:
        raise ValueError(f"{unexplained} files came neither into the store nor into the report")
    listing = listing.with_copies(total.replaced).without(total.unreadable)
    write_ledger(options.out.with_suffix(".ledger.csv"), listing)
    write_json(options.out.with_suffix(".report.json"), report_of(options, listing, total))
    return [*describe_counts(total), *listing.left_out()]


def default_name(options: PrepareOptions) -> str:
    """What a corpus is called where no --name says it: one's own as its folder, if that can be a name."""
    if options.corpus not in OWN:
        return options.corpus
    root = options.root.resolve()
    name = root.name if root.is_dir() else root.parent.name
    return name if is_label(name) and name not in CORPORA else options.corpus


def folder_digest(options: PrepareOptions) -> str:
    """What tells folders of one name apart, of a corpus that is called as its folder; else empty."""
    if options.name is not None or options.corpus not in OWN:
        return ""
    root = options.root.resolve()
    return hashlib.sha256(os.fsencode(root if root.is_dir() else root.parent)).hexdigest()


def prepare_listing(
    options: PrepareOptions, listing: Listing, preparation: Preparation, watch: Watch
) -> PreparationCounts:
    """The store, and what became of the files."""
    total = PreparationCounts()
    counts = prepare_store(
        options.out,
        listing.utterances,
        listing.root,
        preparation,
        options.workers,
        listing.copies,
        {FOLDER_DIGEST: folder_digest(options)},
        options.add,
    )
    with watch.bar(len(listing.utterances), "files") as bar:
        for count in counts:
            total.add(count)
            bar.update(count.n_utterances - count.n_augmented + len(count.unreadable))
            if options.strict and count.unreadable:
                counts.close()
                raise ValueError(f"--strict: {count.unreadable[0][1]}")
    return total


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
    with (
        replacing(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(asdict(row) for row in (*listing.ledger, *missing))


def report_of(options: PrepareOptions, listing: Listing, total: PreparationCounts) -> dict[str, Any]:
    """Counts that add up, and names of what is missing, double or unreadable."""
    actions = [row.action for row in listing.ledger]
    return {
        "corpus": options.corpus,
        "config": {**asdict(options), "root": str(options.root), "out": str(options.out)},
        "versions": library_versions(),
        "files_found": len(listing.ledger),
        "files": {action: actions.count(action) for action in sorted(set(actions))},
        "labels": list(listing.labels),
        "unknown_words": dict(listing.unknown),
        "expected": listing.expected,
        "missing": list(listing.missing),
        "name": options.name or default_name(options),
        "duplicates": [list(group) for group in listing.duplicates],
        "store": {**asdict(total), "unreadable": [list(pair) for pair in sorted(total.unreadable)]},
        "summary": [*listing.summary(), *describe_counts(total), *listing.left_out()],
    }


def describe_counts(total: PreparationCounts) -> list[str]:
    """What became of the sound, in lines for a person."""
    lines = [
        f"  stored: {total.n_utterances} utterances ({total.n_augmented} of them augmented copies), "
        f"{total.n_windows} windows, {total.n_seconds / 60:.1f} minutes"
    ]
    if total.n_before:
        added = total.n_utterances - total.n_before
        lines.append(f"  added: {added} utterances to the {total.n_before} that the store held")
    if total.gone:
        lines.append(f"  {len(total.gone)} recordings of the store are no longer in the corpus; they stay")
        lines += name_some(total.gone)
    for count, what in (
        (total.n_padded, "padded with zeros, to a window or to the clip"),
        (total.n_cut, "cut to the clip"),
        (total.n_silent, "silent throughout"),
        (total.n_clipped_samples, f"samples beyond full scale, clipped, in {len(total.clipped)} recordings"),
        (total.n_tail_samples, "samples after the last whole window, left out of the features"),
        (len(total.unreadable), "files that can't be read"),
    ):
        if count:
            lines.append(f"  {count} {what}")
    lines += name_some(why for _, why in sorted(total.unreadable))
    if total.replaced:
        lines.append(f"  {len(total.replaced)} files that can't be read, another copy in their place")
        lines += name_some(f"{copy} for {path}: {why}" for path, copy, why in sorted(total.replaced))
    if total.channels:
        lines.append(f"  {len(total.channels)} recordings with channels that weren't taken")
        lines += name_some(f"{path}: {why}" for path, why in sorted(total.channels))
    if total.clipped:
        lines.append("  beyond full scale:")
        most = sorted(total.clipped, key=lambda pair: (-pair[1], pair[0]))
        lines += name_some(f"{path}: {count} samples" for path, count in most)
    return lines


def name_some(sentences: Iterable[str]) -> list[str]:
    """The first of some lines, and how many more there are."""
    every = list(sentences)
    more = [f"    and {len(every) - NAMED} more, named in the report"] if len(every) > NAMED else []
    return [*(f"    {sentence}" for sentence in every[:NAMED]), *more]
