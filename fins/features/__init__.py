"""The closed forms that FINs imitate: one file a feature, each a function of one window alone, in batches.

Another library, called window by window, is the definition (`Feature.oracle`); the batches agree with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fins.audio import WINDOW
from fins.features import chroma, chroma_tuned, mel, mfcc, pitch, rms, zcr
from fins.features.feature import Feature, PublishedFin, Windows, check_shape
from fins.features.own import own_feature
from fins.features.spectrum import Floats

__all__ = [
    "FEATURES",
    "STORED",
    "Feature",
    "Floats",
    "PublishedFin",
    "Windows",
    "compute_feature",
    "compute_features",
    "fingerprint",
    "get_feature",
]

FEATURES = {
    "zcr": zcr.FEATURE,
    "rms": rms.FEATURE,
    "chroma": chroma.FEATURE,
    "mfcc": mfcc.FEATURE,
    "mel": mel.FEATURE,
    "pitch": pitch.FEATURE,
    "chroma_tuned": chroma_tuned.FEATURE,
}
"""Name → all that is known of a feature. One that is added here is computed, imitated and tested."""
STORED = tuple(name for name, feature in FEATURES.items() if feature.in_stores)
"""Names of the features that stores hold, in the order of their columns."""

BATCH = 256  # windows at once: their spectra stay in the cache


@cache
def get_feature(name: str) -> Feature:
    """The feature of that name, or a user's own closed form as `package.module:function`.

    Such a function takes (n, 2048) float32 and gives (n,) or (n, n_outputs), each row from its window alone.
    Raises ValueError for an unknown name, and for a function that can't be imported or gives something else.
    """
    if name in FEATURES:
        return FEATURES[name]
    if ":" in name:
        return own_feature(name)
    raise ValueError(
        f"there is no feature {name!r}: the known ones are {', '.join(FEATURES)}; "
        "your own is given as package.module:function"
    )


def compute_feature(feature: Feature, windows: NDArray) -> Floats:
    """(n, 2048) → (n, n_outputs) of one feature; errors as of `compute_features`."""
    return compute_features(windows, [feature.name])[feature.name]


def compute_features(windows: NDArray, names: Iterable[str] = STORED) -> dict[str, Floats]:
    """Several features of the same windows; what they share is computed once.

    windows : (n, 2048), amplitude in [-1, 1]; any real dtype, taken as float32
    returns : name → (n, n_outputs) float32, in the feature's own unit

    Raises ValueError for another shape, an unknown name, windows that hold NaN or infinity, and if a user's
    own closed form fails.
    """
    features = [get_feature(name) for name in names]
    check_shape(windows)
    results = {feature.name: np.empty((len(windows), feature.n_outputs), np.float32) for feature in features}
    for start in range(0, len(windows), BATCH):
        batch = Windows(windows[start : start + BATCH])
        for feature in features:
            results[feature.name][start : start + BATCH] = feature.compute(batch)
    return results


def fingerprint(feature: Feature) -> str:
    """Changes when a closed form does; empty for those in stores, which change with the stores' schema."""
    if feature.in_stores:
        return ""
    probe = np.random.default_rng(1).normal(0, 0.1, (4, WINDOW)).astype(np.float32)
    return ", ".join(f"{value:.4g}" for value in compute_feature(feature, probe).flat)[:200]
