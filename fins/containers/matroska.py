"""Matroska and webm (RFC 9559): blocks of sound are counted, since browsers leave lengths out."""

from __future__ import annotations

import struct
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
OPUS_MILLISECONDS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4  # of a frame, RFC 6716


@dataclass
class _Track:
    number: int = 0
    kind: int = 0
    codec: str = ""
    rate: float = 8_000.0


def read_matroska(file: BinaryIO, size: int) -> Contents:
    """How long the first track of sound lasts: packets of Opus and AAC say so, of others their times do."""
    tracks: list[_Track] = []
    scale, cluster_time, n_seconds = 1_000_000, 0, 0.0  # ns, ticks, s
    times: list[int] = []
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        element, n_id = _number(head, keep_marker=True)
        n_bytes, n_size = _number(head[n_id:], keep_marker=False)
        if not n_id or not n_size:
            return Contents("webm", fault="truncated")
        place += n_id + n_size
        unknown = n_bytes == (1 << 7 * n_size) - 1
        if unknown and element not in OPENED:
            return Contents("webm", fault="has damaged blocks")
        if not unknown and place + n_bytes > size:
            return Contents("webm", fault="truncated")
        if element == TRACK:
            tracks.append(_Track())
        if element in OPENED:
            continue
        file.seek(place)
        content = file.read(min(n_bytes, 64))
        sound = next((track for track in tracks if track.kind == SOUND), None)
        if element == SCALE:
            scale = int.from_bytes(content, "big")
        elif element == TIME:
            cluster_time = int.from_bytes(content, "big")
        elif element in (NUMBER, KIND, CODEC, RATE) and tracks:
            _describe(tracks[-1], element, content)
        elif element in (SIMPLE_BLOCK, BLOCK) and sound:
            number, n_number = _number(content, keep_marker=False)
            if number == sound.number and len(content) >= n_number + 3:
                ticks = struct.unpack(">h", content[n_number : n_number + 2])[0]
                times.append(cluster_time + ticks)
                n_seconds += _seconds(content[n_number + 2 :], sound)
        place += n_bytes
    if not times:
        fault = "has no track of sound" if tracks else "truncated"
        return Contents("webm", fault=fault, advice="choose another file" if tracks else "")
    if not n_seconds:
        last = times[-1] - times[-2] if len(times) > 1 else 0
        n_seconds = (times[-1] - times[0] + last) * scale / 1e9
    return Contents("webm", n_seconds=n_seconds, slack=SLACK)


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
