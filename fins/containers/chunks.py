"""Containers whose header states how many bytes of sound follow: wav, RF64, AIFF, W64, CAF, AU, NIST.

A stated size is held against the bytes that are there. One that a recorder or a pipe never filled in is
replaced by what is there; one that is too large is a truncated file; sound behind the stated end is a fault.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from fins.containers.contents import Contents
from fins.containers.mpeg import read_mpeg

PLAIN = {1: "PCM", 3: "float", 6: "a-law", 7: "µ-law"}  # of wavs, codecs with bytes of each sample's own
MPEG = (0x50, 0x55)
BEHIND = "split it where a second recording starts, or write the true size into its header"
CODECS = {
    **{0x02: "Microsoft ADPCM", 0x11: "IMA ADPCM", 0x22: "TrueSpeech", 0x31: "GSM 6.10", 0x40: "G.721"},
    **{0x42: "G.723.1", 0x45: "G.726", 0x50: "MPEG layer II", 0x55: "MP3", 0x64: "G.726", 0x65: "G.722"},
    **{0x83: "G.729", 0xFF: "AAC", 0x160: "WMA", 0x161: "WMA", 0x162: "WMA", 0x706D: "AAC", 0xA106: "AAC"},
}
AIFC_BYTES = {  # of a sample, where the codec decides it; 0: as many as the bits say
    **dict.fromkeys((b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32"), 0),
    **dict.fromkeys((b"alaw", b"ALAW", b"ulaw", b"ULAW"), 1),
    **{b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8},
}
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # of a sample, by encoding
W64_CHUNK = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # behind four letters, of all but the first
NOTES = (b"LIST", b"ID3 ", b"id3 ", b"bext", b"cue ", b"iXML", b"_PMX", b"JUNK", b"junk", b"FLLR", b"PAD ")
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
Mend = Callable[[int], bytes]


def weigh(
    form: str, size: int, place: int, stated: int, block: int, mend: Mend, codec: str = "", loose: int = 0
) -> Contents:
    """What sound there is from `place` on, if `stated` bytes should be.

    block : bytes of a sample of all channels, 0 where it isn't known; loose : bytes that a tail may have
    mend : from the true number of bytes to what stands in place of the file up to `place`
    """
    present = size - place
    header, start, fault, advice = b"", 0, "", ""
    if is_placeholder(stated, present):
        stated = present - present % block if block else present
        header, start = mend(stated), place
    elif stated > present:
        fault = "truncated"
    elif present - stated > loose:
        fault = f"holds {present - stated:,} bytes behind the end of the sound that its header states"
        advice = BEHIND
    return Contents(form, stated // block if block else None, fault, advice, header, start, codec=codec)


def is_placeholder(stated: int, present: int) -> bool:
    """Whether a size was written before it was known, as by pipes and by recorders that were switched off."""
    if stated <= 0:  # as small as without the head of the chunk, too
        return present > 0
    filled = 0x7FFFF000 <= stated <= 0x80000000 or 0xFFFFF000 <= stated <= 0xFFFFFFFF or stated >= 1 << 62
    return filled and stated > present


def riff_chunks(file: BinaryIO, size: int, order: str, place: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Name, place of the content and stated size of each chunk."""
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        if not head.strip(b"\0"):
            return  # zeros, perhaps a gigabyte of them
        name, n_bytes = head[:4], int(struct.unpack(f"{order}I", head[4:])[0])
        yield name, place + 8, n_bytes
        place += 8 + n_bytes + n_bytes % 2


def read_wav(file: BinaryIO, size: int) -> Contents:
    """RIFF, RIFX, RF64 and BW64."""
    file.seek(0)
    magic = file.read(4)
    order = ">" if magic == b"RIFX" else "<"
    tag, block, per_second, long_sizes = 0, 0, 0, 0
    place = stated = 0
    for name, place, stated in riff_chunks(file, size, order):  # noqa: B007, both are of the last chunk
        file.seek(place)
        if name == b"ds64":
            long_sizes = place
        elif name == b"fmt ":
            tag, _, _, per_second, block, _ = struct.unpack(f"{order}HHIIHH", file.read(16).ljust(16, b"\0"))
            if tag == 0xFFFE:
                file.seek(place + 24)
                tag = int.from_bytes(file.read(2), "little" if order == "<" else "big")
        elif name == b"data":
            break
    else:
        return Contents("wav", None, "truncated" if tag else "")
    if long_sizes:
        file.seek(long_sizes + 8)
        stated = int.from_bytes(file.read(8), "little")
    elif stated == 0 and _is_chain(file, place, size, order):
        return Contents("wav", 0)

    if tag in MPEG and stated <= size - place:
        return replace(read_mpeg(file, place + stated, place) or Contents("mp3"), start=place)

    end = place + stated + stated % 2
    loose = size if _is_chain(file, end, size, order) else max(per_second // 10, 1)
    codec = PLAIN.get(tag) or CODECS.get(tag, f"number {tag:#x}")
    file.seek(0)
    mend = partial(_mend_wav, file.read(place), order, long_sizes, block)
    return weigh("wav", size, place, stated, block if tag in PLAIN else 0, mend, codec, loose)


def _mend_wav(head: bytes, order: str, long_sizes: int, block: int, n_bytes: int) -> bytes:
    """All before the sound, with the true sizes; long_sizes : where those of 64 bits stand, or 0."""
    mended = bytearray(head)
    if long_sizes:
        mended[4:8] = mended[-4:] = b"\xff" * 4
        sizes = (len(head) - 8 + n_bytes, n_bytes, n_bytes // max(block, 1))
        mended[long_sizes : long_sizes + 24] = struct.pack("<3Q", *sizes)
        return bytes(mended)
    n_bytes = min(n_bytes, 0xFFFFFFFF - len(head))  # what is above 4 GiB is missed when samples are counted
    mended[4:8] = struct.pack(f"{order}I", len(head) - 8 + n_bytes)
    mended[-4:] = struct.pack(f"{order}I", n_bytes)
    return bytes(mended)


def _is_chain(file: BinaryIO, place: int, size: int, order: str) -> bool:
    """Whether nothing but whole chunks, notes, tags or zeros follows; a second recording is no such thing."""
    if place >= size:
        return True
    file.seek(place)
    rest = file.read(1 << 16)
    if rest.startswith((*TAGS, *NOTES)) or (len(rest) == size - place and not rest.strip(b"\0")):
        return True
    end = place
    for name, start, n_bytes in riff_chunks(file, size, order, place):
        if name in (b"RIFF", b"RIFX", b"RF64", b"data") or not re.fullmatch(rb"[ -~]{4}", name):
            return False
        end = start + n_bytes
    return end > place and end <= size <= end + 1


def read_aiff(file: BinaryIO, size: int) -> Contents:
    """AIFF and AIFF-C."""
    common, sound = (0, b""), (0, -1)  # of each chunk, where its content starts, and that content or its size
    for name, place, stated in riff_chunks(file, size, ">"):
        if name == b"COMM":
            file.seek(place)
            common = place, file.read(min(stated, 22)).ljust(22, b"\0")
        elif name == b"SSND":
            sound = place + 8, stated - 8
    if not common[1] or sound[1] == -1:
        return Contents("aiff", None, "truncated")
    n_channels, n_samples, bits = struct.unpack(">hIh", common[1][:8])
    width = AIFC_BYTES.get(common[1][18:22].replace(b"\0" * 4, b"NONE"), -1) or (bits + 7) // 8
    block = max(width, 0) * max(n_channels, 0)
    place, stated = sound
    if n_samples * block > size - place and is_placeholder(stated + 8, size - place):
        stated += 8  # it isn't counted in a size that isn't known

    def mend(n_bytes: int) -> bytes:
        file.seek(0)
        head = bytearray(file.read(place))
        head[4:8] = struct.pack(">I", min(place - 8 + n_bytes, 0xFFFFFFFF))
        head[place - 12 : place - 8] = struct.pack(">I", min(n_bytes + 8, 0xFFFFFFFF))
        head[common[0] + 2 : common[0] + 6] = struct.pack(">I", min(n_bytes // max(block, 1), 0xFFFFFFFF))
        return bytes(head)

    if stated == 0 and n_samples == 0 and _is_chain(file, place, size, ">"):
        return Contents("aiff", 0)
    contents = weigh("aiff", size, place, stated, block, mend, loose=size)
    if block and not contents.is_mended and n_samples > (size - place) // block:
        return Contents("aiff", n_samples, "truncated")
    return contents


def read_w64(file: BinaryIO, size: int) -> Contents:
    """Sony's W64: sizes of 64 bits, which count the 24 bytes of their own chunk's head."""
    place, block = 40, 0
    while place + 24 <= size:
        file.seek(place)
        head = file.read(24)
        stated = int.from_bytes(head[16:], "little")
        if head[4:16] != W64_CHUNK:
            return Contents("w64", None, "truncated" if block else "")
        if head[:4] == b"fmt ":
            tag, _, _, _, block, _ = struct.unpack("<HHIIHH", file.read(16).ljust(16, b"\0"))
            block = block if tag in PLAIN or tag == 0xFFFE else 0
        if head[:4] == b"data":
            break
        place += max(24, stated + -stated % 8)
    else:
        return Contents("w64", None, "truncated")

    def mend(n_bytes: int) -> bytes:
        file.seek(0)
        head = bytearray(file.read(place + 24))
        head[16:24] = struct.pack("<Q", place + 24 + n_bytes)
        head[place + 16 : place + 24] = struct.pack("<Q", n_bytes + 24)
        return bytes(head)

    loose = 8 if _is_second(file, size, place + stated, b"riff") else size
    return weigh("w64", size, place + 24, stated - 24, block, mend, loose=loose)


def read_caf(file: BinaryIO, size: int) -> Contents:
    """Apple's CAF: a size of -1 says that the sound goes on to the end of the file."""
    place, block = 8, 0
    while place + 12 <= size:
        file.seek(place)
        name, stated = struct.unpack(">4sq", file.read(12))
        if name == b"desc":
            codec, _, packet, samples = struct.unpack(">4sIII", file.read(24).ljust(24, b"\0")[8:])
            block = packet if codec in (b"lpcm", b"alaw", b"ulaw") and samples == 1 else 0
        if name == b"data":
            break
        place += 12 + max(0, stated)
    else:
        return Contents("caf", None, "truncated")

    def mend(n_bytes: int) -> bytes:
        file.seek(0)
        return file.read(place + 4) + struct.pack(">q", n_bytes + 4) + bytes(4)

    loose = 8 if _is_second(file, size, place + 12 + stated, b"caff") else size
    return weigh("caf", size, place + 16, -1 if stated < 0 else stated - 4, block, mend, loose=loose)


def read_au(file: BinaryIO, size: int) -> Contents:
    """Sun's AU, of either byte order."""
    file.seek(0)
    head = file.read(24)
    order = "<" if head[:4] == b"dns." else ">"
    if len(head) < 24:
        return Contents("au", None, "truncated")
    place, stated, encoding, rate, n_channels = struct.unpack(f"{order}5I", head[4:])
    block = AU_BYTES.get(encoding, 0) * n_channels

    def mend(n_bytes: int) -> bytes:
        file.seek(0)
        start = bytearray(file.read(place))
        start[8:12] = struct.pack(f"{order}I", min(n_bytes, 0xFFFFFFFE))
        return bytes(start)

    if not 24 <= place <= size:
        return Contents("au", None, "truncated")
    return weigh("au", size, place, stated, block, mend, loose=max(rate * block // 10, 1))


def read_nist(file: BinaryIO, size: int) -> Contents:
    """NIST SPHERE: a header in words."""
    file.seek(0)
    words = file.read(1_024)
    if b"embedded-shorten" in words:
        return Contents("NIST SPHERE", None, "is compressed by shorten, which isn't read")
    numbers = {
        name: int(value)
        for name, value in re.findall(rb"(sample_count|channel_count|sample_n_bytes) -i (\d{1,12})\b", words)
    }
    place = int(words[8:16]) if words[8:16].strip().isdigit() else 1_024
    block = numbers.get(b"channel_count", 1) * numbers.get(b"sample_n_bytes", 0)
    n_samples = numbers.get(b"sample_count", 0)
    fault = "truncated" if n_samples * block > size - place else ""
    return Contents("NIST SPHERE", n_samples if block else None, fault)


def _is_second(file: BinaryIO, size: int, place: int, magic: bytes) -> bool:
    """Whether another file of the kind follows."""
    if not 0 <= place < size:
        return False
    file.seek(place)
    return magic in file.read(32)
