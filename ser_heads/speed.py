"""How long a classifier takes to answer."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.base import UtteranceModel, spread_over
from ser_heads.data import UtteranceTable
from ser_heads.training import Feed

TIMED = 8  # utterances


class Afresh(UtteranceTable):
    """A table whose copies are the recordings themselves: what models hear of copies is always computed."""

    def copy(self, utterance: int, number: int) -> Signal:
        return super().copy(utterance, 0)


def real_time_factor(model: UtteranceModel, table: UtteranceTable, utterances: NDArray[np.int64]) -> float:
    """Seconds to answer by seconds of recording, one utterance at a time on one core; the median of a few.

    Reading the recording counts; what a model hears of it is computed, whatever is kept of that. The
    model is on the CPU afterwards.
    """
    fresh = Afresh([store.path for store in table.stores], table.trimmed)
    feed, n_threads = Feed(model.cpu().eval(), fresh), torch.get_num_threads()
    make = getattr(feed.inputs, "make", None)  # where inputs are kept, what they are made by
    if make is not None:
        feed.inputs = lambda utterance, copy: make(fresh.copy(utterance, copy))
    chosen = spread_over(utterances, TIMED)[:TIMED]
    factors = []
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"), torch.no_grad():
            for utterance in [chosen[0], *chosen]:  # the first one warms up
                start = time.perf_counter()
                model(feed.batch([utterance], [1]))
                seconds = fresh.columns["n_samples"][utterance] / SAMPLE_RATE
                factors.append((time.perf_counter() - start) / seconds)
    finally:
        torch.set_num_threads(n_threads)
        fresh.close()
    return float(np.median(factors[1:]))
