"""ASF (WMA): a header that says how many packets there are and how long they play, then the packets."""

from __future__ import annotations

import struct
import uuid
from typing import BinaryIO

from fins.containers.contents import Contents

PROPERTIES = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
DATA = uuid.UUID("75b22636-668e-11cf-a6d9-00aa0062ce6c").bytes_le
HEADER_BYTES, DATA_BYTES = 30, 50  # of the two objects, before what they hold
LIVE = 1  # flag: written while it was recorded, so that nothing is known of its length
SLACK = 0.3  # s


def read_asf(file: BinaryIO, size: int) -> Contents:
    """The play time of the header, once all packets that it counts are there."""
    place, end_of_header = HEADER_BYTES, struct.unpack("<Q", file.read(24)[16:].ljust(8, b"\0"))[0]
    properties: tuple[int, ...] = ()
    while place + 24 <= size:
        file.seek(place)
        head = file.read(104)
        n_bytes = struct.unpack("<Q", head[16:24])[0]
        if head[:16] == PROPERTIES and len(head) == 104:
            # packets, play time (100 ns), time of sending, preroll (ms), flags, sizes of packets
            properties = struct.unpack("<QQQQIII", head[56:100])
        if head[:16] == DATA or n_bytes < 24:
            break
        place += n_bytes
    if not properties or place < end_of_header or head[:16] != DATA:
        return Contents("wma", fault="truncated")
    n_packets, duration, _, preroll, flags, packet, _ = properties
    if flags & LIVE or not duration:
        return Contents("wma", fault="doesn't say how long it is")
    if (size - place - DATA_BYTES) < n_packets * packet:
        return Contents("wma", fault="truncated")
    return Contents("wma", n_seconds=duration / 1e7 - preroll / 1e3, slack=SLACK)
