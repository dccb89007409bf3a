"""What a file of audio holds by its own bytes, and a view of it with sizes that are true."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Contents:
    """What a file holds, counted without decoding it.

    form : such as "mp3"
    n_samples : in each channel; None where only a decoder can tell
    fault : why it can't be read whole: "truncated", or the end of a sentence that starts with its name
    advice : what to do about a fault, where it isn't to convert the file
    header, start : bytes that the decoder is shown in place of the first `start` of the file, where those
        state a wrong size or none
    tolerance : samples in each channel by which a decoder may give fewer
    codec : of the samples, where it has a name that users know
    n_seconds, slack : how long it is, give or take what a decoder may add or leave out at its ends, where
        samples can't be counted before it is decoded
    """

    form: str
    n_samples: int | None = None
    fault: str = ""
    advice: str = ""
    header: bytes = b""
    start: int = 0
    tolerance: int = 0
    codec: str = ""
    n_seconds: float | None = None
    slack: float = 0.0

    @property
    def is_mended(self) -> bool:
        """Whether the decoder is shown other bytes than the file's."""
        return bool(self.header or self.start)


class MendedFile(io.RawIOBase):
    """A file that starts with other bytes, for reading; it closes the file with itself."""

    def __init__(self, file: BinaryIO, size: int, header: bytes, start: int) -> None:
        self._source, self._header, self._start = file, header, start
        self._size = len(header) + size - start
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, self._size))
        return self._place

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # any buffer of bytes
        view = memoryview(buffer).cast("B")
        block = self._header[self._place : self._place + len(view)]
        if not block:
            self._source.seek(self._start + self._place - len(self._header))
            block = self._source.read(len(view))
        view[: len(block)] = block
        self._place += len(block)
        return len(block)

    def close(self) -> None:
        self._source.close()
        super().close()
