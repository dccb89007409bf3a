"""One text, shown twice: Markdown for README.md, and of the same Markdown a page for a browser.

A page is one file: pictures inside, no scripts, nothing to fetch, light or dark.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

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
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid #8886; border-radius: 6px }
figure { margin: 1rem 0 }
img { max-width: 100%; height: auto; background: white; border-radius: 6px }
figcaption { opacity: .8 }
"""


class Markdown(str):
    """Text that is Markdown already: a table takes it as it is."""


def as_text(text: str) -> str:
    """One line of Markdown that shows a text as it is, wherever it stands: in a cell, a heading, a list."""
    if isinstance(text, Markdown):
        return text
    line = " ".join(text.split())
    line = re.sub(r"([\\|*`\[\]])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)  # inside a word it is no emphasis
    line = re.sub(r"~(?=~)|(?<=~)~", r"\\~", line)  # struck out, on some sites
    line = re.sub(r"#(?=#*$)", r"\\#", line)  # at the end of a heading these are cut off
    line = re.sub(r"^(#{1,6}|[-+]|\d{1,9}(?=[.)](?:\s|$)))(?=\s|$|[.)])", _escape_start, line)
    return re.sub(r"^([=>]|-(?=-))", r"\\\1", line)


def _escape_start(match: re.Match[str]) -> str:
    """What would begin a heading or a list."""
    return f"{match[1]}\\" if match[1].isdigit() else f"\\{match[1]}"


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A Markdown table with a column for each name and a row for each that any column has.

    columns : name → row → cell, all of them text that stays text; what a column lacks is empty
    """
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    return table_of_rows(
        ("", *columns), [(row, *(cells.get(row, "") for cells in columns.values())) for row in rows]
    )


def table_of_rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of rows; the first column is aligned left, the others right.

    names : of the columns; rows : a cell for each, all of them text that stays text
    Raises ValueError for a row of another length.
    """
    lines = [_line(names), "|---|" + "--:|" * (len(names) - 1)]
    for row in rows:
        if len(row) != len(names):
            raise ValueError(f"a row of this table has {len(names)} cells, got {len(row)}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "".join(f"| {text} " if text else "| " for text in map(as_text, cells)) + "|"


def page(markdown: str, title: str, folder: Path) -> str:
    """A whole HTML page of a text: the same bytes for the same text, in ASCII, whatever reads it.

    markdown : as README.md has it, with tables; HTML in it is shown as text
    title : of the window, plain text
    folder : where the pictures lie that the text shows, PNGs, which become part of the page
    Raises ValueError for a picture that isn't there.
    """
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML

    def image(
        renderer: RendererHTML, tokens: Sequence[Token], number: int, options: OptionsDict, env: EnvType
    ) -> str:
        token = tokens[number]
        caption = escape(renderer.renderInlineAsText(token.children or [], options, env))
        source = embed(folder / unquote(str(token.attrs["src"])))
        return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("image", image)
    reader.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    body = re.sub(r"<p>((?:<figure>.*?</figure>\s*)+)</p>", r"\1", reader.render(markdown))
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head>",
        f"<body>{body}</body></html>",
        "",
    ]
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode()


def embed(picture: Path) -> str:
    """A PNG as a data URI; ValueError if it is missing."""
    if picture.suffix != ".png" or not picture.is_file():
        raise ValueError(f"the picture {picture} is missing: make its folder again")
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
