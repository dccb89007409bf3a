"""Peak memory of preparing and of training, for a corpus and for one twice as large.

Real corpora: --root names the folder with RAVDESS, TESS, SAVEE and ESD; by default one is synthesised.
The figure is the largest sum of resident memory over the command and its workers, sampled ten times a second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from common import machine

from fins.data.synthetic.synthesiser import write_corpus

REAL = {"ravdess": "RAVDESS", "tess": "TESS", "savee": "SAVEE", "esd": "ESD"}


@dataclass(frozen=True)
class BenchmarkConfig:
    """Where the real corpora are."""

    root: Path | None = None


def main(config: BenchmarkConfig) -> None:
    """Print the peaks."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        if config.root:
            roots = {name: config.root / place for name, place in REAL.items()}
        else:
            write_corpus(base / "one", n_speakers=4, n_sentences=4, n_takes=2)
            write_corpus(base / "two", n_speakers=8, n_sentences=4, n_takes=2)
            roots = {"one": base / "one", "two": base / "two"}
        stores = []
        for name, root in roots.items():
            stores.append(base / f"{name}.h5")
            corpus = name if config.root else "synthetic"
            measure(
                f"preparing {name}",
                "pipelines.prepare",
                "--corpus",
                corpus,
                "--root",
                root,
                "--out",
                stores[-1],
            )
        # the mel stack's activations are the largest, and scoring it on all real windows takes minutes
        for feature, windows in (("rms", 60_000), *([] if config.root else [("mel", 2_000)])):
            for used in (stores[:1], stores) if config.root else ([stores[0]], [stores[1]]):
                names = ", ".join(store.stem for store in used)
                options = [
                    "--feature",
                    feature,
                    "--topology",
                    "paper",
                    "--store",
                    *used,
                    "--epochs",
                    1,
                    "--epoch-windows",
                    windows,
                ]
                out = base / f"{feature}-{len(used)}-{used[-1].stem}"
                measure(
                    f"training {feature} on {names}",
                    "fins.train",
                    *options,
                    "--minutes",
                    8,
                    "--out",
                    out,
                )


def measure(what: str, module: str, *arguments: object) -> None:
    """Run a command and print the peak of its whole tree."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: run it to see why")
    print(f"{what}: peak {peak / 2**20:,.0f} MiB", flush=True)


def resident(pid: int) -> int:
    """Bytes of a process and its children; shared pages count once a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
