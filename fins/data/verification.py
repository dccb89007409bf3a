"""Whether stores and runs are what was written, by their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fins.data.store import Store, StoreError
from fins.digests import DIGESTS, changed_files, read_digests
from fins.runs import CONFIG, RESULT, tidy_run

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what isn't as it was written.

    n : datasets of a store or files of a run; faults : one in words for each; 0 and none without checksums
    """

    path: Path
    kind: str
    n: int
    faults: tuple[str, ...] = ()

    def describe(self) -> str:
        """A line for a person."""
        if self.kind == UNFINISHED:
            return f"{self.path}: a run that hasn't ended, with nothing to compare it with"
        if self.faults:
            return f"{self.path}: {'; '.join(self.faults)}"
        if self.n == 0:
            return f"{self.path}: carries no checksums, since an earlier version wrote it"
        return f"{self.path}: {self.n} {self.kind} are what was written"


def verify(paths: tuple[Path, ...]) -> Iterator[Verified]:
    """Each store, and each store and run inside a folder; all of their bytes are read.

    Raises ValueError for what is neither.
    """
    for path in paths:
        if not path.is_dir():
            yield verify_store(path)
            continue
        stores = sorted(file for file in path.rglob("*.h5") if not file.parent.name.endswith(".h5.parts"))
        yield from map(verify_store, stores)
        yield from verify_runs(path, may_be_none=bool(stores))


def verify_store(path: Path) -> Verified:
    """A store that can't be opened has that as its fault; a missing one is a StoreError."""
    if not path.is_file():
        raise StoreError(f"{path} is missing: give stores, or folders of runs")
    try:
        with Store(path) as store:
            names = store.damaged()
            n = len(store.datasets) if store.has_checksums or names else 0
    except StoreError as error:
        return Verified(path, "datasets", 1, (str(error),))
    return Verified(path, "datasets", n, tuple(f"{name} isn't what was written" for name in names))


def verify_runs(folder: Path, may_be_none: bool) -> Iterator[Verified]:
    """A run, an evaluation, a comparison: each folder in which a result lies; runs without one are named."""
    results = sorted({path.parent for name in (RESULT, DIGESTS) for path in folder.rglob(name)})
    begun = sorted({path.parent for path in folder.rglob(CONFIG)} - set(results))
    for run in results:
        tidy_run(run)
    if not (results or may_be_none) and begun in ([], [folder]):
        ended = "holds a run that hasn't ended" if (folder / CONFIG).exists() else "holds no run"
        raise ValueError(f"{folder} {ended}: give stores, or folders of finished runs")
    for run in begun:
        yield Verified(run, UNFINISHED, 0)
    for run in results:
        try:
            yield Verified(run, "files", len(read_digests(run)), tuple(changed_files(run)))
        except ValueError as error:
            yield Verified(run, "files", 1, (str(error),))
