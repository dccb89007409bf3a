"""A FIN over waveforms: frame by frame what it says of every window."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional

from fins.audio import HOP, WINDOW
from fins.networks import Fin, load_fin
from fins.networks.fin import refuse_other_types


class Frames(nn.Module):
    """(batch, n_samples) at 22,050 Hz → (batch, n_outputs, n_frames), a frame each 512 samples (23.2 ms).

    fin : a FIN, or what `fins.load` takes. It is trained with what follows it; `requires_grad_(False)`
        freezes it.

    A frame is the FIN's imitation of the 2,048 samples that begin with it, in the feature's own unit; the
    tail that fills no window is left out, and a shorter signal is padded with zeros to one window.
    """

    def __init__(self, fin: Fin | str | os.PathLike[str]) -> None:
        super().__init__()
        self.fin = fin if isinstance(fin, Fin) else load_fin(fin)

    @property
    def n_outputs(self) -> int:
        """Of the feature, in each frame."""
        assert self.fin.config.n_outputs is not None
        return self.fin.config.n_outputs

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The same in any batch; always in float32, since half of its digits would drown quiet bands.

        waveform : (batch, n_samples) float32, amplitude in [-1, 1]
        lengths : (batch,) samples of each, 1 to n_samples; by default all. What is behind a waveform's end
            isn't looked at, and frames behind it are 0.

        Raises ValueError for another shape, a length out of range, or weights of another type than float32.
        """
        refuse_other_types(self.fin)
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(
                "waveforms have the shape (batch, n_samples) and at least one sample, "
                f"got {tuple(waveform.shape)}"
            )
        if lengths is not None:
            _check_lengths(waveform, lengths)
            within = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
            waveform = torch.where(within, waveform, 0)
        if waveform.shape[1] < WINDOW:
            waveform = functional.pad(waveform, (0, WINDOW - waveform.shape[1]))
        windows = waveform.unfold(1, WINDOW, HOP)  # (batch, frame, 2048), a view
        with torch.autocast(waveform.device.type, enabled=False):
            frames = self.fin(windows.flatten(0, 1).float())  # (batch · frame, output)
        frames = frames.unflatten(0, windows.shape[:2]).transpose(1, 2)
        if lengths is None:
            return frames
        n_frames = (lengths - WINDOW).clamp_min(0) // HOP + 1
        within = torch.arange(frames.shape[2], device=frames.device) < n_frames[:, None]
        return torch.where(within[:, None], frames, 0)


def _check_lengths(waveform: Tensor, lengths: Tensor) -> None:
    if lengths.shape != waveform.shape[:1]:
        raise ValueError(f"there is one length a waveform, got the shape {tuple(lengths.shape)}")
    if torch.compiler.is_compiling():
        return  # an exported network can't look at numbers
    if lengths.numel() and not 1 <= int(lengths.min()) <= int(lengths.max()) <= waveform.shape[1]:
        raise ValueError(f"lengths are 1 to {waveform.shape[1]} samples: give each waveform's own")
