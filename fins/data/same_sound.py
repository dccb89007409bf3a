"""Recordings that are one and the same sound, though their files differ in level, noise, ends or coding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, Signal
from fins.data.store import Store

EDGES = np.linspace(8, 90, 34).round().astype(int)  # of 33 bands, in mel bands: 200 to 3,900 Hz
QUIET = 25.0  # dB under the loudest frame: quieter ends are cut off
STEPS = 24  # of time, to which an utterance is squeezed to find its like
ALIKE = 0.7  # cosine from which two squeezed utterances are listened to
RATE = 5_512.5  # Hz, at which they are
SAME = 0.7  # correlation of waveforms, at the best delay, from which it is the same sound
BLOCK = 1024  # utterances that are compared with all others at once

Fingerprint = NDArray[np.float32]


def fingerprint(mel: NDArray[np.float32]) -> Fingerprint | None:
    """Of an utterance's (n_windows, 128) mel powers: its spectrum in 24 steps, (792,) of length 1; None for
    silence and for what doesn't change."""
    power = np.add.reduceat(mel[:, : EDGES[-1]], EDGES[:-1], axis=1)
    total = power.sum(axis=1)
    if not total.max(initial=0) > 0:
        return None
    audible = np.flatnonzero(total >= total.max() * 10 ** (-QUIET / 10))
    power = power[audible[0] : audible[-1] + 1]
    # what is far below the loudest is noise, which is another one in another coding
    level = 10 * np.log10(np.maximum(power, power.max() * 1e-4))
    places = np.linspace(0, len(level) - 1, STEPS)
    before = places.astype(int).clip(max=max(0, len(level) - 2))
    after = (before + 1).clip(max=len(level) - 1)
    share = (places - before)[:, None]
    squeezed = level[before] * (1 - share) + level[after] * share
    squeezed = (squeezed - squeezed.mean(axis=0)).ravel()
    length = float(np.linalg.norm(squeezed))
    return (squeezed / length).astype(np.float32) if length > 1e-3 else None


def fingerprints(stores: Sequence[Store]) -> Iterator[Fingerprint | None]:
    """Of the utterances of stores, in their order, from the mel powers that they hold."""
    for store in stores:
        for row in range(store.n_utterances):
            windows = store.window_slice(row)
            yield fingerprint(store.labels("mel", windows.start, windows.stop))


def correlation(first: Signal, second: Signal) -> float:
    """0 to 1: of two waveforms under 2.7 kHz, as one best lies on the other."""
    import soxr
    from scipy.signal import correlate

    one, other = (soxr.resample(signal, SAMPLE_RATE, RATE, quality="MQ") for signal in (first, second))
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.abs(correlate(one, other, method="fft")).max()) / length if length > 0 else 0.0


def find_alike(
    prints: Sequence[Fingerprint | None], signal: Callable[[int], Signal]
) -> list[tuple[int, int]]:
    """Pairs of utterances that are the same sound, (earlier, later), sorted.

    signal : of an utterance, asked for where two fingerprints are alike
    """
    known = np.array([place for place, entry in enumerate(prints) if entry is not None], dtype=int)
    pairs = []
    table = np.array([entry for entry in prints if entry is not None])
    for start in range(0, len(known), BLOCK):
        alike = np.triu(table[start : start + BLOCK] @ table[start:].T >= ALIKE, 1)
        for row, column in zip(*np.nonzero(alike), strict=True):
            first, second = int(known[start + row]), int(known[start + column])
            if correlation(signal(first), signal(second)) >= SAME:
                pairs.append((first, second))
    return sorted(pairs)
