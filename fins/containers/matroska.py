"""Matroska and webm (RFC 9559): blocks of sound are counted, since browsers leave lengths out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fins.containers.contents import Contents

SEGMENT, INFO, TRACKS, TRACK, AUDIO, CLUSTER, GROUP = (
    *(0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE1),
    *(0x1F43B675, 0xA0),
)
OPENED = (SEGMENT, INFO, TRACKS, TRACK, AUDIO, CLUSTER, GROUP)  # elements whose inside is looked at
SCALE, NUMBER, KIND, CODEC, RATE, TIME, SIMPLE_BLOCK, BLOCK = (
    *(0x2AD7B1, 0xD7, 0x83, 0x86, 0xB5),
    *(0xE7, 0xA3, 0xA1),
)
SOUND = 2  # kind of a track
SLACK = 0.2  # s
FIRST_BYTES = 64  # of an element, which are enough
OPUS_MILLISECONDS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4  # of a frame, RFC 6716


@dataclass
class _Track:
    number: int = 0
    kind: int = 0
    codec: str = ""
    rate: float = 8_000.0


def read_matroska(file: BinaryIO, size: int) -> Contents:
    """How long the first track of sound lasts: packets of Opus and AAC say so, of others their times do."""
    sounds = _Sounds()
    for element, content in _elements(file, size):
        if content is None:
            return Contents("webm", fault="truncated")
        sounds.take(element, content)
    if not sounds.times:
        fault = "has no track of sound" if sounds.tracks else "truncated"
        return Contents("webm", fault=fault, advice="choose another file" if sounds.tracks else "")
    return Contents("webm", n_seconds=sounds.duration(), slack=SLACK)


def _elements(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes | None]]:
    """(id, first bytes) of each element, of opened ones none; None in their place where the file ends."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        element, n_id = _number(head, keep_marker=True)
        n_bytes, n_size = _number(head[n_id:], keep_marker=False)
        place += n_id + n_size
        unknown = n_bytes == (1 << 7 * n_size) - 1 and element in OPENED  # while it was being recorded
        if not n_id or not n_size or (place + n_bytes > size and not unknown):
            yield element, None
            return
        if element in OPENED:
            yield element, b""
            continue
        file.seek(place)
        yield element, file.read(min(n_bytes, FIRST_BYTES))
        place += n_bytes


class _Sounds:
    """What the elements of a file tell of its first track of sound."""

    def __init__(self) -> None:
        self.tracks: list[_Track] = []
        self.scale, self.cluster_time, self.n_seconds = 1_000_000, 0, 0.0  # ns, ticks, s
        self.times: list[int] = []

    def take(self, element: int, content: bytes) -> None:
        if element == TRACK:
            self.tracks.append(_Track())
        elif element == SCALE:
            self.scale = int.from_bytes(content, "big")
        elif element == TIME:
            self.cluster_time = int.from_bytes(content, "big")
        elif element in (NUMBER, KIND, CODEC, RATE) and self.tracks:
            _describe(self.tracks[-1], element, content)
        elif element in (SIMPLE_BLOCK, BLOCK):
            self.take_block(content)

    def take_block(self, content: bytes) -> None:
        sound = next((track for track in self.tracks if track.kind == SOUND), None)
        number, n_number = _number(content, keep_marker=False)
        if sound is not None and number == sound.number and len(content) >= n_number + 3:
            ticks = struct.unpack(">h", content[n_number : n_number + 2])[0]
            self.times.append(self.cluster_time + ticks)
            self.n_seconds += _seconds(content[n_number + 2 :], sound)

    def duration(self) -> float:
        """Seconds, by the packets or from the first block to the end of the last."""
        last = self.times[-1] - self.times[-2] if len(self.times) > 1 else 0
        return self.n_seconds or (self.times[-1] - self.times[0] + last) * self.scale / 1e9


def _number(content: bytes, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length, and how many bytes it takes; 0 where there is none."""
    if not content or not content[0]:
        return 0, 0
    n = 9 - content[0].bit_length()
    if len(content) < n:
        return 0, 0
    value = int.from_bytes(content[:n], "big")
    return (value if keep_marker else value & (1 << 7 * n) - 1), n


def _describe(track: _Track, element: int, content: bytes) -> None:
    if element == NUMBER:
        track.number = int.from_bytes(content, "big")
    elif element == KIND:
        track.kind = int.from_bytes(content, "big")
    elif element == CODEC:
        track.codec = content.rstrip(b"\0").decode("ascii", "replace")
    elif len(content) in (4, 8):
        track.rate = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]


def _seconds(block: bytes, track: _Track) -> float:
    """Of the packets of a block, from its flags on; 0 where packets don't say how long they last."""
    is_laced = bool(block[0] >> 1 & 3)
    n_packets = 1 + block[1] if is_laced and len(block) > 1 else 1
    if track.codec.startswith("A_AAC") and track.rate > 0:
        return n_packets * 1_024 / track.rate
    if track.codec != "A_OPUS" or is_laced or len(block) < 2:
        return 0.0
    n_frames = {0: 1, 1: 2, 2: 2}.get(block[1] & 3, block[2] & 63 if len(block) > 2 else 0)
    return n_frames * OPUS_MILLISECONDS[block[1] >> 3] / 1_000
