"""How files are damaged: as disks, transfers, editors and strangers do it. All by a seeded generator."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
PAGE = 4_096  # bytes
NUMBERS = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
"""That headers claim where something else belongs."""
CELLS = (
    *("", " ", "nan", "-1", "0", "1e999", "9" * 400, "x" * 300, "é" * 200, "\U0001f600", "a\0b", "'", '"'),
    *('"a', 'a"b', '"a\nb"', '"a,b\nc,d,e,f,g"', "=1+1", "..", ".", "/", "../../etc/passwd", "/etc/passwd"),
    *("/dev/zero", "C:\\sound\\a.wav", "~", "%s%n", "train", "angry", "\udc80", "\u202e", ";;;", "\t", "\r"),
)
"""That tables hold where something else belongs."""
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", "x" * 300, "../..", "/etc/passwd"),
    *("train", [], {}, [[]], [None], {"": None}, {"a": []}, [1, "a"]),
)
"""That JSON holds where something else belongs."""


def _stretch(content: bytearray, rng: Rng, most: int = PAGE) -> slice:
    length = int(rng.integers(1, max(2, min(most, len(content)))))
    start = int(rng.integers(0, max(1, len(content) - length)))
    return slice(start, start + length)


def flip_bits(content: bytearray, rng: Rng) -> None:
    """One to eight bits."""
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        content[place] ^= 1 << int(rng.integers(8))


def cut(content: bytearray, rng: Rng) -> None:
    """The end is missing, or as often but a little of it."""
    most = len(content) if rng.random() < 0.5 else min(len(content), 300)
    del content[len(content) - int(rng.integers(1, most + 1)) :]


def zero_page(content: bytearray, rng: Rng) -> None:
    place = _stretch(content, rng)
    content[place] = bytes(place.stop - place.start)


def double_block(content: bytearray, rng: Rng) -> None:
    place = _stretch(content, rng)
    content[place.start : place.start] = content[place]


def drop_block(content: bytearray, rng: Rng) -> None:
    del content[_stretch(content, rng)]


def fill_with_noise(content: bytearray, rng: Rng) -> None:
    place = _stretch(content, rng)
    content[place] = rng.bytes(place.stop - place.start)


def put_number(content: bytearray, rng: Rng) -> None:
    """A number in the first bytes, where headers are, in either order."""
    size = int(rng.choice([1, 2, 4, 8]))
    place = int(rng.integers(0, max(1, min(256, len(content) - size))))
    number = int(NUMBERS[rng.integers(len(NUMBERS))]) % 256**size
    content[place : place + size] = number.to_bytes(size, "little" if rng.random() < 0.5 else "big")


BYTES: dict[str, Callable[[bytearray, Rng], None]] = {
    "bits": flip_bits,
    "cut": cut,
    "zeroed page": zero_page,
    "doubled block": double_block,
    "lost block": drop_block,
    "noise": fill_with_noise,
    "header": put_number,
}
"""Name of a damage → what does it to a file's bytes."""


def damage_bytes(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """Another content, and what was done to it."""
    damaged = bytearray(content)
    name = str(rng.choice(list(BYTES)))
    BYTES[name](damaged, rng)
    return bytes(damaged), name


def damage_table(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """Cells, rows and columns of a CSV without quotes; a third of the time its bytes."""
    kind = str(rng.choice(["bytes", "bytes", "cell", "cell", "row", "column"]))
    if kind == "bytes":
        return damage_bytes(content, rng)
    rows = [line.split(",") for line in content.decode().splitlines()]
    place = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[0])))
    if kind == "cell":
        rows[place][column] = CELLS[rng.integers(len(CELLS))]
    elif kind == "row":
        change = int(rng.integers(5))
        if change == 0:
            rows.insert(place, list(rows[place]))
        elif change == 1:
            del rows[place]
        elif change == 2:
            rows[place].append(CELLS[rng.integers(len(CELLS))])
        elif change == 3:
            del rows[place][column]
        else:
            rows[place : place + 1] = [rows[place][:column], rows[place][column:]]
    elif rng.random() < 0.5:
        rows[0][column] = rows[0][int(rng.integers(len(rows[0])))]
    else:
        rows = [[*row[:column], *row[column + 1 :]] for row in rows]
    text = "\n".join(",".join(row) for row in rows) + "\n"
    return text.encode("utf-8", "surrogateescape"), kind


def damage_json(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """A value, a key or an entry somewhere in it; a third of the time its bytes."""
    kind = str(rng.choice(["bytes", "value", "value", "key"]))
    if kind == "bytes":
        return damage_bytes(content, rng)
    holder: dict[str, Any] = {"": json.loads(content)}
    node: Any = holder
    key: Any = ""
    while isinstance(node[key], dict | list) and node[key] and (node is holder or rng.random() < 0.8):
        node = node[key]
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
    if kind == "value" or isinstance(node, list) or node is holder:
        node[key] = VALUES[rng.integers(len(VALUES))]
    else:
        value = node.pop(key)
        if rng.random() < 0.5:
            node[f"{key}?"] = value
    return json.dumps(holder[""]).encode(), kind


def damage_lines(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """Of a file with JSON in each line, one line; or its bytes."""
    lines = content.splitlines()
    place = int(rng.integers(len(lines)))
    if rng.random() < 0.5:
        return damage_bytes(content, rng)
    lines[place], kind = damage_json(lines[place], rng)
    return b"\n".join(lines) + b"\n", kind


def damage_script(content: bytes, rng: Rng) -> tuple[bytes, str]:
    """Words, numbers and lines of a small Python file; a quarter of the time its bytes."""
    kind = str(rng.choice(["bytes", "word", "number", "line"]))
    if kind == "bytes":
        return damage_bytes(content, rng)
    text = content.decode()
    if kind == "line":
        lines = text.splitlines()
        place = int(rng.integers(len(lines)))
        lines[place : place + 1] = [] if rng.random() < 0.5 else [lines[place]] * 2
        return ("\n".join(lines) + "\n").encode(), kind
    pattern = r"\d+(?:\.\d+)?" if kind == "number" else r"[A-Za-z_]\w*"
    words = list(re.finditer(pattern, text))
    word = words[rng.integers(len(words))]
    values = ("-1", "0", "1e999", "10**30", "None", "'x'", "[]", "True", "float('nan')", "{}", "runs", "()")
    other = values[rng.integers(len(values))]
    return (text[: word.start()] + other + text[word.end() :]).encode(), kind
