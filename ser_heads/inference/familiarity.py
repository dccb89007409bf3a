"""How far the features of a recording lie from those that a classifier was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import Signal
from ser_heads.inference.predict import batch_of, batches_by_length, evaluating
from ser_heads.layers.frame_norm import FrameNorm
from ser_heads.layers.masked import mask_until
from ser_heads.model import SerModel

LEAST_VARIANCE = (
    0.01  # of training's, below which less isn't told apart: of what is constant, such as silence
)
FAR, FAR_OF_ONE = 0.5, 1.0
"""Distances beyond which a recording is unlike those of training: of several features together, and of one.

With the norm taken from one half of 150 clips each of RAVDESS, TESS, SAVEE and ESD, 99 of 100 of the other
half lie below .29, .24, .39 and .40; of one feature alone below .09 to .86.
"""


def distances(model: SerModel, signals: Sequence[Signal]) -> NDArray[np.float64] | None:
    """(n,) of signals at 22,050 Hz: how far each one's frames are from those of training, 0 and more.

    Both are taken as normal in each column of a feature; the distance is the divergence (Kullback and Leibler
    1951, in nats) of the recording from training, whose mean and deviation the model's norm keeps, averaged
    over the columns of each feature and then over features. None for a model that keeps no such scales.
    """
    norm = model.norm
    if not isinstance(norm, FrameNorm) or not (norm.mean.any() or (norm.deviation != 1).any()):
        return None
    distance = np.empty(len(signals))
    with evaluating(model):
        for batch in batches_by_length([len(signal) for signal in signals]):
            sound = batch_of([signals[place] for place in batch], norm.mean.device)
            frames = norm(model.frontend(*model.trim(*sound)))
            values = frames.values[..., : norm.n_features].double()
            columns = divergence(values, frames.lengths)
            means = [columns[:, part].mean(dim=1) for part in norm.features.values()]
            distance[batch] = torch.stack(means).mean(dim=0).cpu().numpy()
    return distance


def divergence(values: Tensor, lengths: Tensor) -> Tensor:
    """(batch, time, n_features) of mean 0 and deviation 1 in training → (batch, n_features) nats."""
    mask = mask_until(lengths, values.shape[1])[..., None]
    n = lengths[:, None]
    mean = (values * mask).sum(dim=1) / n
    variance = ((values - mean[:, None]).square() * mask).sum(dim=1) / n
    return (variance + mean.square() - 1 - variance.clamp_min(LEAST_VARIANCE).log()) / 2


def unlike_training(model: SerModel, signals: Sequence[Signal]) -> list[str]:
    """A sentence for each signal, empty for one that is like those of training, or if that can't be told."""
    far = distances(model, signals)
    if far is None:
        return [""] * len(signals)
    assert isinstance(model.norm, FrameNorm)
    limit = FAR if len(model.norm.features) > 1 else FAR_OF_ONE
    return [
        f"its features are unlike those of the training recordings ({distance:.2f} nats away, of which "
        f"99 in 100 lie within {limit:g})"
        if distance > limit
        else ""
        for distance in far
    ]
