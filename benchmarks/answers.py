"""What a user waits for: loading a classifier, an answer while sound comes in, an hour of audio.

--model names a run, a weights file, or a classifier that comes with the package.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import tyro
from common import machine

import ser_heads
from fins.learning.degradations import synthetic_clips
from ser_heads.model import SerModel

HOUR, RATE, CHANNELS = 3_600, 44_100, 2
LOADING = """
import time, torch
start = time.perf_counter()
import ser_heads
ser_heads.load({!r})
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is asked."""

    model: str = "fin"
    hop: float = 1.0
    """Seconds from one answer to the next."""


def main(config: BenchmarkConfig) -> None:
    """Print each figure in turn."""
    torch.set_num_threads(1)
    print(machine(), "; 1 thread", sep="")
    command = [sys.executable, "-c", LOADING.format(config.model)]
    seconds = [float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for _ in range(5)]
    print(f"loading {config.model}, after `import torch`: {np.median(seconds):.2f} s")
    model = ser_heads.load(config.model)
    speech = np.concatenate(synthetic_clips())
    stream_of_a_minute(model, speech, config.hop)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.wav"
        write_an_hour(path, speech)
        idle = peak_mib()
        start = time.perf_counter()
        rows = len(model.timeline(path, hop=config.hop))
        spent = time.perf_counter() - start
    print(
        f"an hour of {RATE / 1000} kHz stereo: {rows:,} answers in {spent:.0f} s, "
        f"{spent / HOUR:.4f} of its time, {peak_mib() - idle:.0f} MiB above idle"
    )


def stream_of_a_minute(model: SerModel, speech: np.ndarray, hop: float) -> None:
    """Print how long a push of a tenth of a second takes."""
    stream = model.stream(sampling_rate=16_000, hop=hop)
    spent = []
    for chunk in np.resize(speech, (600, 1_600)):
        start = time.perf_counter()
        stream.push(chunk)
        spent.append(1_000 * (time.perf_counter() - start))
    slow, slowest = np.percentile(spent, 95), max(spent)
    print(f"a push of .1 s: 95 % within {slow:.0f} ms, the slowest {slowest:.0f} ms, for a hop of {hop} s")


def write_an_hour(path: Path, speech: np.ndarray) -> None:
    """Made speech as 16-bit wav, a minute at a time."""
    minute = np.resize(speech, 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, CHANNELS, "PCM_16") as file:
        for _ in range(HOUR // 60):
            file.write(np.stack([minute, 0.5 * minute], axis=1))


def peak_mib() -> float:
    """Of this process's resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
