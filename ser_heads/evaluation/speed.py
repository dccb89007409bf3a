"""How long a classifier takes to answer."""

from __future__ import annotations

import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from fins.audio import SAMPLE_RATE
from ser_heads.model import SerModel
from ser_heads.training.datasets import SpeechDataset, read_item

TIMED = 8  # recordings


def real_time_factor(model: SerModel, dataset: SpeechDataset) -> float:
    """Seconds to answer by seconds of recording, one recording at a time on one core; the median of a few.

    Reading the recording counts; nothing is taken from a cache. The model is on the CPU afterwards, in
    evaluation mode.
    """
    model.cpu().eval()
    places = list(range(0, len(dataset), max(1, len(dataset) // TIMED)))[:TIMED]
    factors, n_threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"), torch.no_grad():
            for place in [places[0], *places]:  # the first one warms up
                start = time.perf_counter()
                signal, _ = read_item(dataset, place)
                model(torch.from_numpy(np.array(signal))[None])
                factors.append((time.perf_counter() - start) / (len(signal) / SAMPLE_RATE))
    finally:
        torch.set_num_threads(n_threads)
    return float(np.median(factors[1:]))
