"""Boxes of ISO/IEC 14496-12 (m4a, mp4, mov, 3gp): the tables of the track of sound say how long it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fins.containers.contents import Contents

MOST_BYTES = 1 << 28  # of the tables
SLACK = 0.2  # s: what an encoder puts before and behind the sound, and decoders may leave in


@dataclass
class Track:
    """Of sound: its number, ticks a second, how many of them its samples last, what is shown, default."""

    number: int = 0
    timescale: int = 0
    ticks: int = 0
    shown: float | None = None
    default: int = 0


def read_boxes(file: BinaryIO, size: int) -> Contents:
    """How long the first track of sound lasts, by the durations of its samples, one by one.

    Where an edit list shows less of it, that is its length. A file whose boxes end behind its end is
    truncated, and so is one without tables.
    """
    place, tables, fragments = 0, b"", []
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        n_bytes, kind = struct.unpack(">I4s", head[:8])
        if n_bytes == 1 and len(head) == 16:
            n_bytes = struct.unpack(">Q", head[8:])[0]
        n_bytes = n_bytes or size - place  # 0: up to the end
        if n_bytes < 8 or place + n_bytes > size:
            return Contents("mp4", fault="truncated")
        if kind in (b"moov", b"moof") and n_bytes <= MOST_BYTES:
            file.seek(place + 8)
            content = file.read(n_bytes - 8)
            tables = content if kind == b"moov" else tables
            fragments += [content] if kind == b"moof" else []
        place += n_bytes
    try:
        track = track_of(tables) if tables else None
        ticks = sum(ticks_of_fragment(fragment, track) for fragment in fragments) if track else 0
    except (struct.error, ZeroDivisionError, IndexError):
        return Contents("mp4", fault="has damaged tables")
    if not tables:
        return Contents("mp4", fault="truncated")
    if track is None:
        return Contents("mp4", fault="has no track of sound", advice="choose another file")
    n_seconds = (track.ticks + ticks) / track.timescale
    if track.shown and not ticks:
        n_seconds = min(n_seconds, track.shown)
    return Contents("mp4", n_seconds=n_seconds, slack=SLACK)


def boxes_in(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each box."""
    place = 0
    while place + 8 <= len(content):
        n_bytes, kind = struct.unpack(">I4s", content[place : place + 8])
        start = place + 8
        if n_bytes == 1:
            n_bytes = struct.unpack(">Q", content[start : start + 8])[0]
            start += 8
        n_bytes = n_bytes or len(content) - place
        if n_bytes < 8:
            return
        yield kind, content[start : place + n_bytes]
        place += n_bytes


def inside(content: bytes, *path: bytes) -> bytes:
    """What the first box of such a path holds; nothing where there is none."""
    for kind in path:
        content = next((inner for name, inner in boxes_in(content) if name == kind), b"")
    return content


def track_of(tables: bytes) -> Track | None:
    """The first track of sound."""
    movie = inside(tables, b"mvhd")
    movie_timescale = struct.unpack(">I", movie[20:24] if movie[:1] == b"\1" else movie[12:16])[0]
    for kind, trak in boxes_in(tables):
        if kind != b"trak" or inside(trak, b"mdia", b"hdlr")[8:12] != b"soun":
            continue
        header, media = inside(trak, b"tkhd"), inside(trak, b"mdia", b"mdhd")
        number = struct.unpack(">I", header[20:24] if header[:1] == b"\1" else header[12:16])[0]
        timescale = struct.unpack(">I", media[20:24] if media[:1] == b"\1" else media[12:16])[0]
        if not timescale:
            raise struct.error("no timescale")
        durations = inside(trak, b"mdia", b"minf", b"stbl", b"stts")
        n = struct.unpack(">I", durations[4:8])[0]
        pairs = struct.iter_unpack(">II", durations[8 : 8 + 8 * n])
        ticks = sum(count * delta for count, delta in pairs)
        shown = shown_ticks(inside(trak, b"edts", b"elst"))
        default = 0
        for name, extends in boxes_in(inside(tables, b"mvex")):
            if name == b"trex" and struct.unpack(">I", extends[4:8])[0] == number:
                default = struct.unpack(">I", extends[12:16])[0]
        return Track(number, timescale, ticks, shown / movie_timescale if shown else None, default)
    return None


def shown_ticks(edits: bytes) -> int:
    """Of the movie's timescale, by an edit list; 0 where there is none."""
    if not edits:
        return 0
    layout = ">QqI" if edits[:1] == b"\1" else ">IiI"
    n, size = struct.unpack(">I", edits[4:8])[0], struct.calcsize(layout)
    entries = struct.iter_unpack(layout, edits[8 : 8 + n * size])
    return sum(duration for duration, start, _ in entries if start >= 0)


def ticks_of_fragment(fragment: bytes, track: Track) -> int:
    """Of the track's timescale, of a movie fragment."""
    ticks = 0
    for kind, traf in boxes_in(fragment):
        header = inside(traf, b"tfhd")
        if kind != b"traf" or struct.unpack(">I", header[4:8])[0] != track.number:
            continue
        flags = int.from_bytes(header[1:4], "big")
        place = 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1)
        default = struct.unpack(">I", header[place : place + 4])[0] if flags & 8 else track.default
        for name, run in boxes_in(traf):
            if name == b"trun":
                ticks += ticks_of_run(run, default)
    return ticks


def ticks_of_run(run: bytes, default: int) -> int:
    """Of the samples of a run, which have durations of their own or the default."""
    flags, n = int.from_bytes(run[1:4], "big"), struct.unpack(">I", run[4:8])[0]
    if not flags & 0x100:
        return n * default
    start = 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
    step = 4 * sum(flags >> bit & 1 for bit in (8, 9, 10, 11))
    return sum(struct.unpack(">I", run[start + step * i :][:4])[0] for i in range(n))
