"""Builds the manifests again from facts on the original files: path, size, checksum."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from data_manifests import CORPORA, esd
from data_manifests.labels import resolve
from data_manifests.manifest import MANIFESTS, write_manifest
from data_manifests.rows import read_rows

LABELS = ("id", "speaker", "sentence", "intensity", "part")  # columns that are as a name gives them


def build_manifests(originals: Path, out: Path) -> dict[Path, int]:
    """Write every manifest that there is, and that of any other corpus whose facts lie in `originals`.

    returns : the number of rows of each file
    Raises FileNotFoundError where a folder or a table of facts is missing, ValueError where a path is no
    recording of its corpus.
    """
    if not out.is_dir():
        raise FileNotFoundError(f"{out} is no folder: create it, or choose another with --out")
    n_rows = {}
    for name in CORPORA:
        if name in MANIFESTS or (originals / f"{name}.csv").is_file():
            rows = build_manifest(name, originals)
            write_manifest(rows, out / f"{name}.csv")
            n_rows[out / f"{name}.csv"] = len(rows)
    return n_rows


def build_manifest(name: str, originals: Path) -> list[dict[str, str]]:
    """Rows of one manifest, sorted by id. Nothing is known of ESD's files but the scheme of their names."""
    parse = CORPORA[name].parse
    if parse is None:
        raise ValueError(f"the paths of {name} don't say enough for a manifest")
    table = originals / f"{name}.csv"
    facts = [{"path": path} for path in esd.all_paths()] if name == "esd" else read_facts(table)
    rows = []
    for fact in facts:
        parsed = parse(PurePosixPath(fact["path"]))
        if parsed is None or parsed.drop:
            raise ValueError(f"{fact['path']} is no {name} recording: mend {table}")
        labels = {column: getattr(parsed, column) for column in LABELS}
        rows.append({**fact, **labels, "emotion": resolve(parsed.label)[0]})
    return sorted(rows, key=lambda row: row["id"])


def read_facts(path: Path) -> list[dict[str, str]]:
    """Rows of a table of facts; FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: give the folder of the originals' facts with --originals"
        )
    table = read_rows(path)
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]
