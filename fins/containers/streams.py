"""FLAC and Ogg: their last frame or page tells how long they are, whatever stands at their start."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import BinaryIO

from fins.containers.contents import Contents

SEVERAL = "holds several recordings, one behind another"
BEGINNING = b"fLaC\0\0\0\x22"
LARGEST_PAGE = 65_307  # bytes, RFC 3533
TAIL = 1 << 18  # bytes in which the last frame of a FLAC is looked for, if its header doesn't say how large
MOST_HEADERS = 16  # that are no frame's, in the last frame
SIZES = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}


def read_flac(file: BinaryIO, size: int, start: int) -> Contents:
    """The number of samples by the last frame, which carries its own number and a checksum (RFC 9639)."""
    file.seek(start)
    head = file.read(42)
    if len(head) < 42:
        return Contents("flac", None, "truncated")
    information = head[8:42]
    block_size, largest = struct.unpack(">H", information[:2])[0], int.from_bytes(information[7:10], "big")
    stated = int.from_bytes(information[13:18], "big") & (1 << 36) - 1
    if has_second_flac(file, start + 42):
        return Contents("flac", None, SEVERAL, "split it where the second starts")
    counted = last_sample(file, size, block_size, largest)
    if counted is None:
        return Contents("flac", None, "" if stated else "truncated")
    if stated == counted:
        return Contents("flac", counted)
    if stated > counted:
        return Contents("flac", counted, "truncated")
    mended = int.from_bytes(information[13:18], "big") - stated + counted
    return Contents("flac", counted, header=head[:21] + mended.to_bytes(5, "big"), start=start + 26)


def has_second_flac(file: BinaryIO, place: int) -> bool:
    """Whether the start of another FLAC stands further on: none of the decoder's business, but lost sound."""
    file.seek(place)
    before = b""
    while block := file.read(1 << 20):
        if BEGINNING in before + block:
            return True
        before = block[-len(BEGINNING) :]
    return False


def last_sample(file: BinaryIO, size: int, block_size: int, largest: int) -> int | None:
    """Where the last frame ends, in samples; None if the file doesn't end with a whole frame."""
    tail = min(size, largest + 256 if largest else TAIL)
    file.seek(size - tail)
    content = file.read(tail)
    if content[-128:-125] == b"TAG":
        content = content[:-128]
    place = content.rfind(b"\xff")
    n_headers = 0
    while place >= 0 and n_headers < MOST_HEADERS:
        end = frame_end(content[place : place + 16], block_size)
        n_headers += end is not None
        if end is not None and checksum(content[place:], 16) == 0:
            return end
        place = content.rfind(b"\xff", 0, place)
    return None


def frame_end(head: bytes, block_size: int) -> int | None:
    """The sample at which a frame ends, by its header; None if it is no header.

    block_size : of all frames but the last, where frames carry numbers instead of samples
    """
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0:
        return None
    ones = 8 - (~head[4] & 0xFF).bit_length()  # of the number, coded as UTF-8 codes signs
    n_bytes = max(1, ones)
    if ones == 1 or ones > 7:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 4 + n_bytes]:
        number = number << 6 | byte & 0x3F
    place = 4 + n_bytes
    code, rate = head[2] >> 4, head[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    n_samples = 1 + int.from_bytes(head[place : place + extra], "big") if extra else SIZES[code]
    place += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(head) or checksum(head[: place + 1], 8) != 0:
        return None
    return (number if head[1] & 1 else number * block_size) + n_samples


@lru_cache
def _table(n_bits: int) -> tuple[int, ...]:
    polynomial, mask, top = {8: 0x07, 16: 0x8005}[n_bits], (1 << n_bits) - 1, 1 << (n_bits - 1)
    rows = []
    for byte in range(256):
        row = byte << (n_bits - 8)
        for _ in range(8):
            row = (row << 1 ^ polynomial if row & top else row << 1) & mask
        rows.append(row)
    return tuple(rows)


def checksum(content: bytes, n_bits: int) -> int:
    """FLAC's CRC of 8 or 16 bits; 0 over what ends with its own."""
    table, mask, shift = _table(n_bits), (1 << n_bits) - 1, n_bits - 8
    remainder = 0
    for byte in content:
        remainder = (remainder << 8 & mask) ^ table[(remainder >> shift) ^ byte]
    return remainder


def read_ogg(file: BinaryIO, size: int) -> Contents:
    """Walk from page to page: the last one is whole and flagged as such, none is missing, one stream only."""
    place, last_flags, n_beginnings = 0, 0, 0
    numbers: dict[int, int] = {}
    while place < size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS":
            file.seek(place)
            rest = file.read(LARGEST_PAGE)
            tagged = rest.startswith((b"TAG", b"ID3")) or not rest.strip(b"\0")
            fault = "truncated" if len(head) < 4 and b"OggS".startswith(head) else ""
            damaged = "" if tagged else f"is damaged: there is no page at byte {place}"
            return Contents("ogg", None, fault or damaged or ("" if last_flags & 4 else "truncated"))
        if len(head) < 27:
            return Contents("ogg", None, "truncated")
        last_flags, serial, number, n_parts = head[5], *struct.unpack("<II", head[14:22]), head[26]
        lengths = file.read(n_parts)
        place += 27 + n_parts + sum(lengths)
        if len(lengths) < n_parts or place > size:
            return Contents("ogg", None, "truncated")
        if last_flags & 2:
            n_beginnings += 1
        elif number != numbers.get(serial, -2) + 1:
            return Contents("ogg", None, f"is damaged: it lacks pages before byte {place}")
        numbers[serial] = number
    if n_beginnings > 1:
        return Contents("ogg", None, SEVERAL, "split it where the second starts")
    return Contents("ogg", None, "" if last_flags & 4 else "truncated")
