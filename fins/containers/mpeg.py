"""MPEG audio (mp3, mp2): its frames are counted, since only a header that many leave out tells how many.

Sizes of frames are by ISO/IEC 11172-3 and 13818-3; the Xing header is what LAME and its readers agreed upon.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from fins.containers.contents import Contents

BITRATES = {  # kbit/s, by MPEG-1 or later, and layer
    (1, 1): tuple(range(32, 449, 32)),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz
DELAY = 529  # samples that the decoder leaves out at the start where a Xing header is
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # how what may follow the last frame starts
NEAR = 1 << 16  # bytes in which the first frame, or the next one after a gap, is looked for


@dataclass(frozen=True)
class FrameHeader:
    """The four bytes before each frame.

    kind : version, layer and sample rate, the same for all frames of a file
    n_bytes : of the frame with its header; 0 where it has a bitrate of its own
    """

    kind: tuple[int, int, int]
    n_channels: int
    n_samples: int
    n_bytes: int
    word: int


def parse_frame(content: bytes) -> FrameHeader | None:
    """A header at the start of some bytes, or None."""
    word = int.from_bytes(content[:4], "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    bitrate, rate = word >> 12 & 15, word >> 10 & 3
    if len(content) < 4 or word >> 21 != 0x7FF or version == 1 or layer == 4 or bitrate == 15 or rate == 3:
        return None
    generation = 1 if version == 3 else 2
    sample_rate = RATES[version][rate]
    n_samples = {1: 384, 2: 1_152, 3: 1_152 if generation == 1 else 576}[layer]
    n_bytes = 0
    if bitrate:
        bits = 1_000 * BITRATES[generation, layer][bitrate - 1]
        slot = 4 if layer == 1 else 1  # bytes that padding adds
        n_bytes = (n_samples // 8 // slot * bits // sample_rate + (word >> 9 & 1)) * slot
    n_channels = 1 if word >> 6 & 3 == 3 else 2
    return FrameHeader((version, layer, sample_rate), n_channels, n_samples, n_bytes, word)


def read_mpeg(file: BinaryIO, size: int, start: int) -> Contents | None:
    """Count the frames from `start`, the end of leading tags; None if there are none.

    size : where they end. Where no header tells the decoder their number, or a wrong one does, the contents
    get one that tells it.
    """
    scan = FrameScan(file, size)
    first = scan.find(start)
    if first is None:
        return None
    header = scan.header(first)
    assert header is not None
    fault = scan.count(first, header)
    stated, trimmed = _read_info(scan.read(first, 192), header)
    n_frames = scan.n_frames - (stated is not None)
    if not fault and stated is not None and n_frames < stated - (0 if scan.ends_in_no_sound() else 1):
        fault = "truncated"
    n_samples = n_frames * header.n_samples
    if fault or header.kind[1] != 3:
        return Contents("mp3", n_samples, fault, tolerance=2 * header.n_samples)
    if stated is not None and abs(n_frames - stated) <= 1:
        return Contents("mp3", n_samples - trimmed, tolerance=2 * header.n_samples)
    behind = first + header.n_bytes if stated is not None else first
    return Contents("mp3", n_samples - DELAY, header=make_info(header, n_frames), start=behind)


def make_info(header: FrameHeader, n_frames: int) -> bytes:
    """A frame without sound that tells how many follow, as LAME writes it ("Xing")."""
    word = header.word & ~(0xF << 12 | 1 << 9) | 8 << 12 | 1 << 16  # 64 or 112 kbit/s, unpadded, no checksum
    frame = parse_frame(word.to_bytes(4, "big"))
    assert frame is not None
    head = word.to_bytes(4, "big") + bytes(_side(frame)) + b"Xing" + struct.pack(">II", 1, n_frames)
    return head + bytes(frame.n_bytes - len(head))


def _side(header: FrameHeader) -> int:
    """Bytes of side information behind the header of a layer III frame."""
    mono = header.n_channels == 1
    return (17 if mono else 32) if header.kind[0] == 3 else (9 if mono else 17)


def _read_info(frame: bytes, header: FrameHeader) -> tuple[int | None, int]:
    """How many frames a Xing, Info or VBRI header states (None: there is no such header; 0: it doesn't say),
    and how many samples at both ends are of the encoder's making."""
    for place in (4 + _side(header), 6 + _side(header)):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            flags, n_frames = struct.unpack(">II", frame[place + 4 : place + 12].ljust(8, b"\0"))
            ends = int.from_bytes(frame[place + 141 : place + 144], "big")
            known = frame[place + 120 : place + 124] in (b"LAME", b"Lavf", b"Lavc")
            return (n_frames if flags & 1 else 0), (ends >> 12) + (ends & 0xFFF) if known else DELAY
    if frame[36:40] == b"VBRI":
        return 0, 0  # this decoder doesn't read it
    return None, 0


class FrameScan:
    """A walk from frame to frame by their headers, decoding none."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.n_frames, self.end = 0, 0  # of the last frame

    def read(self, place: int, n_bytes: int) -> bytes:
        self.file.seek(place)
        return self.file.read(n_bytes)

    def header(self, place: int) -> FrameHeader | None:
        return parse_frame(self.read(place, 4))

    def find(self, start: int, kind: tuple[int, int, int] | None = None) -> int | None:
        """Where the next frame starts: one that ends at another of its kind, at a tag or with the file."""
        content = self.read(start, NEAR)
        place = content.find(b"\xff")
        while place >= 0:
            header = parse_frame(content[place : place + 4])
            if header and kind in (None, header.kind) and self._is_followed(start + place, header):
                return start + place
            place = content.find(b"\xff", place + 1)
        return None

    def _is_followed(self, place: int, header: FrameHeader) -> bool:
        if header.n_bytes == 0:
            return place == 0
        end = place + header.n_bytes
        after = self.header(end)
        return end == self.size or self.tag(end) > 0 or (after is not None and after.kind == header.kind)

    def count(self, place: int, first: FrameHeader) -> str:
        """Count the frames from the first on; returns why they can't be read whole, or nothing."""
        if first.n_bytes == 0:
            return "has a free bitrate, whose frames can't be counted"
        while place < self.size:
            header = self.header(place)
            if header is not None and header.kind == first.kind and header.n_bytes:
                if header.n_channels != first.n_channels:
                    return "changes between one and two channels within"
                place += header.n_bytes
                self.n_frames += 1
                if place > self.size:
                    return "truncated"
                self.end = place
            elif n_bytes := self.tag(place):
                place += n_bytes
            else:
                following = self.find(place)
                if following is None:
                    return self._judge_end(place)
                other = self.header(following)
                if other is not None and other.kind != first.kind:
                    return "changes its sample rate or its kind of mp3 within"
                return f"is damaged: {following - place} bytes between its frames are no sound"
        return ""

    def tag(self, place: int) -> int:
        """Bytes of a tag that starts here, or of zeros, or none."""
        content = self.read(place, 32)
        if content[:3] == b"ID3" and len(content) >= 10:
            return size_of_id3(content)
        if content[:3] == b"TAG":
            return 128
        if content[:8] == b"APETAGEX":
            n_bytes, _, flags = struct.unpack("<III", content[12:24].ljust(12, b"\0"))
            return int(n_bytes) + (32 if flags & 1 << 29 else 0)
        if content[:11] == b"LYRICSBEGIN":
            return max(0, self.read(place, 1 << 20).find(b"LYRICS200") + 9)
        zeros = self.read(place, NEAR)
        return len(zeros) - len(zeros.lstrip(b"\0"))

    def ends_in_no_sound(self) -> bool:
        """Whether behind the last frame there is something else than a tag, such as what was a frame."""
        behind = self.read(self.end, 8) if self.end < self.size else b""
        return bool(behind) and not behind.startswith(TAGS)

    def _judge_end(self, place: int) -> str:
        """Of what is behind the last frame and is no frame."""
        rest = self.size - place
        if rest < 4 and self.read(place, 1) == b"\xff":
            return "truncated"
        return f"is damaged: its last {rest} bytes are no sound" if rest > NEAR // 64 else ""


def size_of_id3(content: bytes) -> int:
    """Bytes of an ID3v2 tag, by the ten that it starts with."""
    n_bytes = 0
    for byte in content[6:10]:
        n_bytes = n_bytes << 7 | byte & 0x7F
    return n_bytes + 10 + (10 if content[5] & 0x10 else 0)


ADTS_RATES = (
    *(96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050),
    *(16_000, 12_000, 11_025, 8_000, 7_350),
)
AAC_FRAME, AAC_SLACK = 1_024, 0.2  # samples of a block; s, what decoders add or leave out at its ends


def read_adts(file: BinaryIO, size: int, start: int) -> Contents:
    """AAC without a container (ISO/IEC 13818-7, ADTS): each frame says how large it is, and its rate."""
    place, n_seconds = start, 0.0
    file.seek(start)
    while len(head := file.read(7)) == 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        n_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        rate = head[2] >> 2 & 15
        if n_bytes < 7 or rate >= len(ADTS_RATES):
            return Contents("aac", fault="truncated")
        n_seconds += AAC_FRAME * (1 + (head[6] & 3)) / ADTS_RATES[rate]
        place += n_bytes
        file.seek(place)
    is_whole = place == size or (head[:3] == b"TAG" and place + 128 == size)
    fault = "" if is_whole and n_seconds else "truncated"
    return Contents("aac", fault=fault, n_seconds=n_seconds, slack=AAC_SLACK)
