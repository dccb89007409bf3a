"""What libsndfile doesn't decode, by PyAV where it is installed: AAC, WMA, Opus in webm, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

FULL_SCALES = {"s16": 2.0**15, "s32": 2.0**31, "u8": 2.0**7}  # of integers


class DecodingError(ValueError):
    """A file that PyAV can't decode; the message is the end of a sentence that starts with its name."""


class OpenSound(Protocol):
    """A file of sound that is open for reading, as soundfile's and PyAV's are."""

    samplerate: int
    channels: int
    frames: int
    """In each channel, as far as that is known."""

    def read(self, frames: int, dtype: str, always_2d: bool) -> NDArray[np.float32]:
        """(at most `frames`, n_channels) float32; none at the end."""

    def seekable(self) -> bool:
        """Whether `frames` can be believed."""


class DecodedFile:
    """The first track of sound of a file, decoded as it is read.

    file : open for reading; PyAV would take a name such as 10:30.m4a for an address
    n_seconds : that it lasts, as its container counts it
    Raises DecodingError for what can't be decoded.
    """

    def __init__(self, file: BinaryIO, n_seconds: float) -> None:
        import av

        self._failures: type[Exception] = av.error.FFmpegError
        self._rest: list[NDArray[np.float32]] = []
        try:
            self._container: Any = av.open(file)
            if not self._container.streams.audio:
                raise DecodingError("has no track of sound: choose another file")
            self._blocks = self._decode()
            first = next(self._blocks, None)
        except self._failures as error:
            raise DecodingError(f"is damaged, or of a codec that isn't known ({error})") from error
        if first is None:
            raise DecodingError("has a header and no samples")
        self._rest.append(first)
        self.channels = first.shape[1]
        self.frames = round(n_seconds * self.samplerate)

    def _decode(self) -> Iterator[NDArray[np.float32]]:
        """(n, n_channels) of each packet's sound; DecodingError where rate or channels change."""
        form: tuple[int, int] | None = None
        for frame in self._container.decode(self._container.streams.audio[0]):
            samples = as_amplitudes(frame.to_ndarray(), frame.format.name, len(frame.layout.channels))
            if form not in (None, (frame.sample_rate, samples.shape[1])):
                raise DecodingError("changes its sample rate or its channels: split it there")
            form = frame.sample_rate, samples.shape[1]
            self.samplerate = int(frame.sample_rate)
            yield samples

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> NDArray[np.float32]:
        """(at most `frames`, n_channels) float32; none at the end. DecodingError for what is damaged."""
        n = sum(map(len, self._rest))
        try:
            while n < frames and (block := next(self._blocks, None)) is not None:
                self._rest.append(block)
                n += len(block)
        except self._failures as error:
            raise DecodingError(f"is damaged ({error}): copy it again") from error
        if not self._rest:
            return np.empty((0, 1), np.float32)
        whole = np.concatenate(self._rest)
        self._rest = [whole[frames:]] if len(whole) > frames else []
        return whole[:frames]

    def seekable(self) -> bool:
        """False: how long it is, only its container tells."""
        return False

    def close(self) -> None:
        self._container.close()


def as_amplitudes(samples: NDArray[Any], form: str, n_channels: int) -> NDArray[np.float32]:
    """Samples as FFmpeg has them → (n, n_channels) float32, full scale at 1.

    samples : (n_channels, n) of a planar format, such as "s16p"; else (1, n · n_channels)
    """
    columns = samples.T if form.endswith("p") else samples.reshape(-1, n_channels)
    scale = FULL_SCALES.get(form.removesuffix("p"))
    if scale is None:
        return columns.astype(np.float32)
    offset = scale if form.startswith("u8") else 0.0
    return ((columns.astype(np.float64) - offset) / scale).astype(np.float32)
