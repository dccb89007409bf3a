"""Front ends that libraries of NumPy arrays compute, one recording after the other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.audio import Signal
from ser_heads.frontends import FrameBatch, FrontEnd


class ByRecording(FrontEnd):
    """A front end that is a function of one signal, and computed on the CPU; no gradient passes it."""

    def frames_of(self, signal: Signal) -> NDArray[np.float32]:
        """(n_samples,) at 22,050 Hz → (n_frames, n_columns), at least one frame."""
        raise NotImplementedError

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        signals = waveform.detach().cpu().numpy()
        rows = [
            torch.from_numpy(self.frames_of(signal[:length]))
            for signal, length in zip(signals, lengths.tolist(), strict=True)
        ]
        n_frames = torch.tensor([len(row) for row in rows], device=waveform.device)
        return FrameBatch(nn.utils.rnn.pad_sequence(rows, batch_first=True).to(waveform.device), n_frames)
