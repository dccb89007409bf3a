"""Recordings for trying a classifier out, made by the project's own synthesiser: nobody speaks in them."""

from __future__ import annotations

import numpy as np

from fins.audio import Signal

EXAMPLES: dict[str, tuple[int, tuple[str, ...], float]] = {
    "calm, then angry": (1, ("calm", "calm", "angry", "angry"), 1.0),
    "sad, then happy": (2, ("sad", "sad", "happy", "happy"), 1.0),
    "fear": (4, ("fear", "fear"), 1.0),
    "surprise, much too loud": (3, ("surprise", "surprise"), 12.0),
}
"""Name → a voice of the synthesiser, the emotions of its sentences, and by what it is amplified; above full
scale it is clipped."""


def example_sound(name: str) -> Signal:
    """(n_samples,) at 22,050 Hz in [-1, 1], the same at each call; KeyError for an unknown name."""
    from fins.data.synthetic.synthesiser import synthesise

    speaker, emotions, gain = EXAMPLES[name]
    sentences = [synthesise(speaker, emotion, number, 1) for number, emotion in enumerate(emotions, 1)]
    return np.clip(gain * np.concatenate(sentences), -1, 1)
