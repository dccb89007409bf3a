"""What files of audio hold by their own bytes: no decoder's word on their length is believed.

`look_inside` counts what is there, says what is wrong with it, and how a decoder has to be shown a file whose
header states a wrong length. `name_format` knows files that can't be decoded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from fins.containers.asf import read_asf
from fins.containers.boxes import read_boxes
from fins.containers.chunks import read_aiff, read_au, read_caf, read_nist, read_w64, read_wav
from fins.containers.contents import Contents, MendedFile
from fins.containers.matroska import read_matroska
from fins.containers.mpeg import read_adts, read_mpeg, size_of_id3
from fins.containers.streams import read_flac, read_ogg

__all__ = ["Contents", "MendedFile", "look_inside", "look_inside_decoded", "name_format"]

UNKNOWN = Contents("")
MP4, MATROSKA, ASF, AAC = "m4a or mp4", "webm or Matroska", "WMA or another ASF", "AAC"
FORMATS = {
    **{b"\x1a\x45\xdf\xa3": MATROSKA, b"\x30\x26\xb2\x75": ASF},
    **{b"#!AMR": "AMR", b"ADIF": "AAC", b"MAC ": "Monkey's Audio", b"wvpk": "WavPack", b"MPCK": "Musepack"},
    **{b"MP+": "Musepack", b"\x0b\x77": "AC-3", b".RMF": "RealMedia", b".ra\xfd": "RealAudio"},
    **{b"DSD ": "DSD", b"FLV": "Flash video", b"\0\0\1\xba": "MPEG video"},
}


def look_inside(path: Path) -> Contents:
    """Count what a file holds; `Contents("")` where its kind has no count of its own."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return read_wav(file, size)
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return read_aiff(file, size)
        readers = {
            b"riff": read_w64,
            b"caff": read_caf,
            b".snd": read_au,
            b"dns.": read_au,
            b"OggS": read_ogg,
        }
        if head[:4] in readers:
            return readers[head[:4]](file, size)
        if head[:7] == b"NIST_1A":
            return read_nist(file, size)
        start = behind_tags(file, size)
        file.seek(start)
        if file.read(4) == b"fLaC":
            return read_flac(file, size, start)
        file.seek(start)
        if start or file.read(2) >= b"\xff\xe0":
            return read_mpeg(file, size, start) or UNKNOWN
    return UNKNOWN


DECODED = (MP4, MATROSKA, ASF, AAC)  # what is counted here, and decoded where PyAV is installed


def look_inside_decoded(path: Path) -> Contents | None:
    """The same of what PyAV decodes; None for what is none of that."""
    form = name_format(path)
    size = path.stat().st_size
    if form not in DECODED:
        return None
    with path.open("rb") as file:
        if form == AAC:
            return read_adts(file, size, behind_tags(file, size))
        return {MP4: read_boxes, MATROSKA: read_matroska, ASF: read_asf}[form](file, size)


def behind_tags(file: BinaryIO, size: int) -> int:
    """Where the ID3v2 tags at the start of a file end."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        place += size_of_id3(head)
    return min(place, size)


def name_format(path: Path) -> str:
    """What a file that no decoder here reads is, by its first bytes; empty if that isn't known."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"ID3"):
        with path.open("rb") as file:
            file.seek(behind_tags(file, path.stat().st_size))
            head = file.read(64)
    if head[4:8] == b"ftyp":
        return MP4
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return AAC
    names = [name for magic, name in FORMATS.items() if head.startswith(magic)]
    return names[0] if names else ""
