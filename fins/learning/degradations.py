"""What recordings go through before a FIN sees them, and R² against the closed form of the same windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fins.audio import SAMPLE_RATE, Signal, cut_windows, quantise
from fins.data.store import Store, to_amplitude
from fins.features import Feature, compute_feature
from fins.learning.r2 import R2Accumulator
from fins.networks import Fin

Condition = Callable[[Signal, Generator], Signal]
AS_RECORDED = "as recorded"
SYNTHETIC = "synthetic"
BATCH = 1024  # windows


def _noise(snr: float) -> Condition:
    def add(signal: Signal, rng: Generator) -> Signal:
        level = np.sqrt(np.mean(np.square(signal))) * 10 ** (-snr / 20)
        return signal + level * rng.standard_normal(len(signal)).astype(np.float32)

    return add


def _gain(decibel: float) -> Condition:
    return lambda signal, rng: signal * np.float32(10 ** (decibel / 20))


def _made_at(sample_rate: int) -> Condition:
    def pass_through(signal: Signal, rng: Generator) -> Signal:
        import soxr

        return soxr.resample(soxr.resample(signal, SAMPLE_RATE, sample_rate), sample_rate, SAMPLE_RATE)

    return pass_through


def _clip(signal: Signal, rng: Generator) -> Signal:
    limit = np.float32(0.2) * np.abs(signal).max()
    return signal.clip(-limit, limit)


def _telephone(signal: Signal, rng: Generator) -> Signal:
    from scipy.signal import butter, sosfilt

    band = butter(8, (300, 3400), "bandpass", fs=SAMPLE_RATE, output="sos")
    return sosfilt(band, signal).astype(np.float32)


def _silence(signal: Signal, rng: Generator) -> Signal:
    """Digital silence in the middle half."""
    signal = signal.copy()
    signal[len(signal) // 4 : len(signal) * 3 // 4] = 0
    return signal


CONDITIONS: dict[str, Condition] = {
    AS_RECORDED: lambda signal, rng: signal,
    "noise, 20 dB": _noise(20),
    "noise, 10 dB": _noise(10),
    "noise, 0 dB": _noise(0),
    "gain +20 dB": _gain(20),
    "gain -20 dB": _gain(-20),
    "clipped at a fifth of the peak": _clip,
    "telephone band, 300 to 3400 Hz": _telephone,
    "made at 8 kHz": _made_at(8_000),
    "made at 16 kHz": _made_at(16_000),
    "digital silence for half of it": _silence,
}
"""Name → (signal, random generator) → signal. What is beyond full scale is clipped, as a 16-bit file does."""


def degrade(signal: Signal, condition: str, rng: Generator) -> Signal:
    """(n,) → the same under one of the `CONDITIONS`, as a 16-bit file keeps it."""
    return to_amplitude(quantise(CONDITIONS[condition](signal, rng))[0])


def check_condition(condition: str) -> None:
    """ValueError for one that isn't there."""
    if condition not in CONDITIONS:
        known = "; ".join(CONDITIONS)
        raise ValueError(f"there is no condition {condition!r}: the known ones are {known}")


def evaluate(fin: Fin, windows: NDArray) -> NDArray:
    """(n, 2048) → (n, n_outputs): what a FIN on the CPU makes of some windows, without gradients."""
    with torch.no_grad():
        # copied, since windows cut from a recording may be a view that isn't to be written
        return fin(torch.from_numpy(np.array(windows))).numpy()


@cache
def synthetic_clips() -> tuple[Signal, ...]:
    """64 clips of the made corpus: each of its voices in each emotion; they need no data."""
    from fins.data.synthetic.synthesiser import ACTED, SPEAKERS, synthesise

    return tuple(
        synthesise(speaker, emotion, 1 + (speaker + number) % 8, take=1)
        for speaker in range(1, len(SPEAKERS) + 1)
        for number, emotion in enumerate(ACTED)
    )


def store_clips(store: Store, most: int | None = None) -> Iterable[Signal]:
    """The original utterances of a store as signals, at most so many, evenly spread."""
    rows = np.flatnonzero(store.utterances["augmented_from"] == "")
    if most is not None and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return (to_amplitude(store.signal(int(row))) for row in rows)


def score_clips(
    fin: Fin, feature: Feature, clips: Iterable[Signal], condition: str = AS_RECORDED
) -> R2Accumulator:
    """R² of a FIN on the CPU over all windows of some clips under one of the `CONDITIONS`.

    Each clip is degraded as a whole and kept in 16 bits; the same clip is degraded alike for every FIN.
    """
    accumulator = R2Accumulator(feature.n_outputs)
    # numpy's threads and torch's wait for each other in a loop: with both, this takes three times as long
    with threadpool_limits(1, "blas"):
        for number, clip in enumerate(clips):
            windows = cut_windows(degrade(clip, condition, np.random.default_rng(number)))
            for start in range(0, len(windows), BATCH):
                batch = windows[start : start + BATCH]
                accumulator.update(compute_feature(feature, batch), evaluate(fin, batch))
    return accumulator
