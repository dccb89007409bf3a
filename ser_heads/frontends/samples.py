"""Samples themselves as frames of one column: the first seconds, or all of them at another rate."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.frontends import FrameBatch, FrontEnd
from ser_heads.frontends.by_recording import ByRecording
from ser_heads.layers.masked import mask_until


class FirstSamples(FrontEnd):
    """The first n samples of each recording: (batch, n, 1), zeros behind a shorter one.

    lengths of its frames : samples of each recording among them
    """

    n_columns, hop, window = 1, 1, 1

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def extra_repr(self) -> str:
        return str(self.n)

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        steps = torch.arange(self.n, device=waveform.device)  # no slice: a graph can't hold one of any length
        samples = waveform[:, steps.clamp_max(waveform.shape[1] - 1)] * mask_until(lengths, self.n)
        return FrameBatch(samples[..., None], lengths.clamp_max(self.n))


class Resampled(ByRecording):
    """Samples of each recording at another rate in Hz, by soxr: (batch, time, 1)."""

    n_columns, hop, window = 1, 1, 1
    why_not_exported = "Recordings are resampled by soxr, which no graph holds."

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def extra_repr(self) -> str:
        return f"{self.rate} Hz, soxr {version('soxr')}"

    def frames_of(self, signal: Signal) -> NDArray[np.float32]:
        import soxr

        return soxr.resample(signal, SAMPLE_RATE, self.rate)[:, None]
