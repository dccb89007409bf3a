"""python -m pipelines.manifests: rebuild data_manifests from facts on the corpora's original files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fins.command import run_command
from pipelines.corpus_names import (
    ESD_EMOTIONS,
    ESD_SENTENCES,
    Parser,
    parse_crema_d,
    parse_esd,
    parse_ravdess,
    parse_savee,
    parse_tess,
)
from pipelines.ledger import resolve, write_manifest

PARSERS: dict[str, Parser] = {
    "ravdess": parse_ravdess,
    "crema_d": parse_crema_d,
    "savee": parse_savee,
    "tess": parse_tess,
    "esd": parse_esd,
}


@dataclass(frozen=True)
class ManifestsConfig:
    """Where the facts are and where the manifests go."""

    originals: Path
    """Folder with crema_d.csv, ravdess.csv, savee.csv, tess.csv: path, size, SHA-256 of each original."""
    out: Path = Path("data_manifests")
    """Folder for the manifests; it must exist."""


def build_manifest(name: str, originals: Path) -> list[dict[str, str]]:
    """Rows of one manifest, sorted by id. Nothing is known of ESD's files but the scheme of their names."""
    facts = list_esd() if name == "esd" else read_facts(originals / f"{name}.csv")
    rows = []
    for fact in facts:
        clip = PARSERS[name](PurePosixPath(fact["path"]))
        if clip is None or clip.drop:
            raise ValueError(f"{fact['path']} is no {name} recording: mend {originals / f'{name}.csv'}")
        labels = {"id": clip.id, "speaker": clip.speaker, "emotion": resolve(clip.label)[0]}
        rows.append(
            {**fact, **labels, "sentence": clip.sentence, "intensity": clip.intensity, "part": clip.part}
        )
    return sorted(rows, key=lambda row: row["id"])


def read_facts(path: Path) -> list[dict[str, str]]:
    """Rows of a table of facts; FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: give the folder of the originals' facts with --originals"
        )
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def list_esd() -> list[dict[str, str]]:
    """The 35,000 paths of ESD without folders for its parts: 20 speakers, 5 emotions, 350 sentences."""
    return [
        {"path": f"{speaker:04d}/{emotion}/{speaker:04d}_{first + sentence:06d}.wav"}
        for speaker in range(1, 21)
        for emotion, first in zip(ESD_EMOTIONS, range(1, 1751, ESD_SENTENCES), strict=True)
        for sentence in range(ESD_SENTENCES)
    ]


def main(config: ManifestsConfig) -> None:
    """Write every manifest and say how many rows each has."""
    if not config.out.is_dir():
        raise FileNotFoundError(f"{config.out} is no folder: create it, or choose another with --out")
    for name in PARSERS:
        rows = build_manifest(name, config.originals)
        write_manifest(rows, config.out / f"{name}.csv")
        print(f"{config.out / f'{name}.csv'}: {len(rows)} rows")


if __name__ == "__main__":
    run_command(main, ManifestsConfig, ManifestsConfig.__doc__ or "")
