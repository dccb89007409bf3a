"""What a front end is: waveforms → frames, each recording by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fins.audio import HOP, WINDOW


class FrameBatch(NamedTuple):
    """Frames of some recordings side by side.

    values : (batch, time, column) float32, 0 beyond each recording's end
    lengths : (batch,) int64, frames of each recording, at least 1
    """

    values: Tensor
    lengths: Tensor


class FrontEnd(nn.Module):
    """Waveforms → frames, each recording by itself; padding changes none.

    n_columns : columns of a frame
    hop, window : samples from one frame to the next, and samples that one frame needs
    keep : whether its frames are worth keeping on disk once nothing in it learns
    why_not_exported : empty, or a sentence that says why it can't be written as ONNX
    """

    n_columns: int
    hop: int = HOP
    window: int = WINDOW
    keep: bool = False
    why_not_exported: str = ""

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        """waveform : (batch, n) float32 at 22,050 Hz, zeros behind each end; lengths : (batch,) int64"""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[FrontEnd, ...]:
        """The front ends that it joins, each of which can be kept by itself; by default it alone."""
        return (self,)

    def join(self, frames: Sequence[FrameBatch]) -> FrameBatch:
        """Frames of its parts, in their order → its own."""
        return frames[0]

    def pretrained(self) -> Iterator[nn.Parameter]:
        """What is frozen in the first phase and finetuned in the second; by default nothing."""
        return iter(())

    def kernels(self) -> Iterator[nn.Parameter]:
        """What of that learns at the rate of wavelets and not at that of FINs; by default nothing."""
        return iter(())

    def band_weights(self) -> Iterator[nn.Parameter]:
        """What of FINs are weights of powers, never below 0; by default nothing."""
        return iter(())

    def learns(self) -> bool:
        """Whether anything in it learns now."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def digest(self) -> str:
        """Of its class, its options (`extra_repr`) and all its numbers: equal only where its frames are."""
        digest = hashlib.sha256(f"{type(self).__qualname__} {self.extra_repr()}".encode())
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Joined(FrontEnd):
    """Several front ends of one hop; their columns lie side by side.

    order : of the columns, where it isn't that of the parts
    """

    def __init__(self, parts: Sequence[FrontEnd], order: Sequence[int] | None = None) -> None:
        super().__init__()
        if len({(part.hop, part.window) for part in parts}) != 1:
            raise ValueError("front ends are joined where their frames are of the same samples")
        self.members = nn.ModuleList(parts)
        self.order = None if order is None else list(order)
        self.n_columns = sum(part.n_columns for part in parts)
        self.hop, self.window = parts[0].hop, parts[0].window
        self.why_not_exported = next(filter(None, (part.why_not_exported for part in parts)), "")

    @property
    def parts(self) -> tuple[FrontEnd, ...]:
        return tuple(self.members)  # type: ignore[arg-type]

    def join(self, frames: Sequence[FrameBatch]) -> FrameBatch:
        values = torch.cat([part.values for part in frames], dim=2)
        return FrameBatch(values if self.order is None else values[..., self.order], frames[0].lengths)

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        return self.join([part(waveform, lengths) for part in self.parts])

    def pretrained(self) -> Iterator[nn.Parameter]:
        for part in self.parts:
            yield from part.pretrained()

    def kernels(self) -> Iterator[nn.Parameter]:
        for part in self.parts:
            yield from part.kernels()

    def band_weights(self) -> Iterator[nn.Parameter]:
        for part in self.parts:
            yield from part.band_weights()
