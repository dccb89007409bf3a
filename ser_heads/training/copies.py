"""Copies of recordings as the published CNN-LSTM trains on them: changed in one way each, the last in all."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

from fins.audio import SAMPLE_RATE, Signal

Copying = Literal["voices", "apart"]
WHITE = 0.035  # of the largest sample, the most that the deviation of white noise is drawn
SEMITONES = 2.0  # up or down, at most
PACE = 1.25  # faster or slower, at most
N_WAYS = 5
APART = (WHITE, SEMITONES, PACE)  # what tells these copies from other ones


def change_apart(signal: Signal, name: str, copy: int) -> Signal:
    """(n,) → copy 1 with white noise, 2 at another pitch, 3 at another pace, 4 shifted in a circle, 5 all of
    these in this order; 6 is as 1 with other draws, and so on. Copy 0 is the signal itself.

    Which one depends on the recording's name and the copy's number alone. What publications leave open, how
    much, is this package's choice.
    """
    if copy == 0:
        return signal
    rng = np.random.default_rng([zlib.crc32(name.encode()), copy, N_WAYS])
    ways = (whiten, repitch, repace, shift)
    way = (copy - 1) % N_WAYS
    for change in ways if way == len(ways) else ways[way : way + 1]:
        signal = change(signal, rng)
    return signal


def whiten(signal: Signal, rng: np.random.Generator) -> Signal:
    """With noise of a deviation of up to WHITE of the largest sample, within [-1, 1]."""
    deviation = WHITE * rng.random() * np.abs(signal).max()
    noisy = signal + deviation * rng.standard_normal(len(signal))
    return np.clip(noisy, -1, 1).astype(np.float32)


def repitch(signal: Signal, rng: np.random.Generator) -> Signal:
    """Higher or lower by up to SEMITONES, as long as before."""
    import librosa

    n_steps = rng.uniform(-SEMITONES, SEMITONES)
    return np.clip(librosa.effects.pitch_shift(signal, sr=SAMPLE_RATE, n_steps=n_steps), -1, 1)


def repace(signal: Signal, rng: np.random.Generator) -> Signal:
    """Shorter or longer by up to PACE, at the same pitch."""
    import librosa

    return np.clip(librosa.effects.time_stretch(signal, rate=PACE ** rng.uniform(-1, 1)), -1, 1)


def shift(signal: Signal, rng: np.random.Generator) -> Signal:
    """What leaves at the end comes back at the start."""
    return np.roll(signal, int(rng.integers(1, max(2, len(signal)))))
