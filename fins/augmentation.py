"""The two published augmentations of training clips (facts: the FIN publication's preprocessing)."""

from __future__ import annotations

import zlib

import numpy as np

from fins.audio import SAMPLE_RATE, Signal

NOISE = 0.035  # the noise's deviation is at most this share of the signal's largest sample
RATE = 0.8  # of the stretched clip: it lasts 1.25 times as long
SEMITONES = 0.7  # by which the stretched clip is shifted up


def add_noise(signal: Signal, rng: np.random.Generator) -> Signal:
    """White noise of deviation 0.035 · U(0, 1) · max(signal) on (n_samples,)."""
    deviation = NOISE * rng.uniform() * signal.max()
    return signal + np.float32(deviation) * rng.standard_normal(len(signal), dtype=np.float32)


def stretch(signal: Signal) -> Signal:
    """Slowed to 0.8 of its rate, then shifted up by 0.7 semitones: (n_samples,) → (1.25 · n_samples,)."""
    import librosa

    slowed = librosa.effects.time_stretch(signal, rate=RATE)
    return librosa.effects.pitch_shift(slowed, sr=SAMPLE_RATE, n_steps=SEMITONES)


def paper_augmentations(signal: Signal, utterance_id: str, seed: int) -> dict[str, Signal]:
    """Name → augmented copy; the noise depends on the seed and the utterance, not on the order of work."""
    rng = np.random.default_rng([seed, zlib.crc32(utterance_id.encode())])
    return {"noise": add_noise(signal, rng), "stretch": stretch(signal)}
