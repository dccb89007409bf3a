"""A page for a browser in one file: pictures inside, no scripts, nothing to fetch, light or dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from fins.runs import write_atomically

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #8886; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left; font-weight: normal }
figure { margin: 1rem 0 }
img { max-width: 100%; height: auto; background: white; border-radius: 6px }
figcaption { opacity: .8 }
"""


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Pieces of HTML, made by the functions below, under a title of plain text; atomic."""
    page = [
        "<!doctype html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head>",
        f"<body><h1>{escape(title)}</h1>",
        *parts,
        "</body></html>",
        "",
    ]
    # readable whatever encoding the system writes in
    write_atomically(path, "\n".join(page).encode("ascii", "xmlcharrefreplace").decode())


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"])


def tabulate(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A column each, with a cell for every row that any of them has; what a column lacks is empty."""
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    lines = ['<div class="wide"><table>']
    lines.append("".join(["<tr><th></th>", *(f"<th>{escape(name)}</th>" for name in columns), "</tr>"]))
    for row in rows:
        cells = "".join(f"<td>{escape(its.get(row, ''))}</td>" for its in columns.values())
        lines.append(f"<tr><td>{escape(row)}</td>{cells}</tr>")
    return "\n".join([*lines, "</table></div>"])


def picture(path: Path, caption: str) -> str:
    """A PNG, held by the page itself, and what it shows."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
