"""python -m pipelines.manifests: rebuild data_manifests from facts on the corpora's original files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_manifests.originals import build_manifests
from fins.command import run_command


@dataclass(frozen=True)
class ManifestsConfig:
    """Where the facts are and where the manifests go."""

    originals: Path
    """Folder with crema_d.csv, ravdess.csv, savee.csv, tess.csv: path, size, SHA-256 of each original."""
    out: Path = Path("data_manifests")
    """Folder for the manifests; it must exist."""


def main(config: ManifestsConfig) -> None:
    """Write every manifest and say how many rows each has."""
    for path, n_rows in build_manifests(config.originals, config.out).items():
        print(f"{path}: {n_rows} rows")


if __name__ == "__main__":
    run_command(main, ManifestsConfig)
