"""Text that stays text, against an HTML parser; pages that are one file; pictures of R² near 1."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fins.documents import Markdown, as_text, page, table, table_of_rows
from fins.figures import label_r2, new_figure, nines, nines_text, save_figure, short_names
from fins.progress import SILENT, TqdmWatch


class Reader(HTMLParser):
    """What a browser shows: the text of each element by its tag, and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, text: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += text


def read(markdown: str, folder: Path) -> Reader:
    reader = Reader()
    reader.feed(page(markdown, "a title", folder))
    return reader


NASTY = [
    *(
        "# a",
        "a #",
        "- a",
        "+ a",
        "1. a",
        "1) a",
        "12.",
        "> a",
        "---",
        "===",
        "~~~",
        "***",
        "`a`",
        "a|b",
        "a\\|b",
    ),
    *("<b>a</b>", "&lt;", "[a](b)", "![a](b)", "*a*", "_a_", "__a__", "a_b_c", "http://a.b", "<http://a.b>"),
    *(
        "\\",
        "a\\",
        "|",
        "\\|",
        "    a",
        "a  \n b",
        "R² ≥ 0.9",
        "-1.5",
        "-",
        "#",
        "a]",
        "* * *",
        "_ _ _",
        "\\#",
    ),
]
texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.sampled_from(" #-+>=~`*_|\\[]()!<>&;:.1a\"'\n²"), max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(first=texts, second=texts)
def test_text_stays_text_wherever_it_stands(first: str, second: str) -> None:
    shown = [" ".join(text.split()) for text in (first, second)]
    markdown = "\n".join(
        [
            *(f"## {as_text(first)}", "", f"- {as_text(first)}", f"- {as_text(second)}", ""),
            *(as_text(second), "", table_of_rows((first, second), [(second, first)])),
        ]
    )
    reader = read(markdown, Path())
    assert {"html", "head", "meta", "title", "style", "body", "h2", "ul", "li", "p"} >= set(reader.tags) - {
        *("table", "thead", "tbody", "tr", "th", "td", "div")
    }
    assert reader.texts["h2"] == shown[:1]
    assert [text.strip() for text in reader.texts["li"]] == shown
    assert reader.texts.get("p", [""]) == shown[1:]
    assert reader.texts["th"] == shown and reader.texts["td"] == shown[::-1]


def test_a_table_of_columns_has_a_row_for_each_that_any_of_them_has() -> None:
    text = table({"x": {"first": "1", "second": "a|b"}, "y": {"third": Markdown("*2*")}})
    assert text.splitlines() == [
        "| | x | y |",
        "|---|--:|--:|",
        "| first | 1 | |",
        r"| second | a\|b | |",
        "| third | | *2* |",
    ]
    with pytest.raises(ValueError, match="has 2 cells, got 1"):
        table_of_rows(("a", "b"), [("c",)])


def test_a_page_is_one_file_in_ascii_and_the_same_each_time(tmp_path: Path) -> None:
    figure, axis = new_figure(2, 1)
    axis.plot([0, 1])
    save_figure(figure, tmp_path / "a picture.png")
    text = '# R² of <FINs>\n\n![what it\\[s\\] "shows"](a%20picture.png)\n\n<script>alert(1)</script>\n'
    content = page(text, "R² & more", tmp_path)
    assert content.isascii() and content == page(text, "R² & more", tmp_path)
    assert content.count("data:image/png;base64,") == 1 and "a%20picture" not in content
    reader = read(text, tmp_path)
    assert reader.texts["figcaption"] == ['what it[s] "shows"'] and reader.texts["h1"] == ["R² of <FINs>"]
    assert "script" not in reader.tags and "<title>R&#178; &amp; more</title>" in content
    (tmp_path / "a picture.png").unlink()
    with pytest.raises(ValueError, match=r"a picture\.png is missing"):
        page(text, "", tmp_path)


def test_nines_count_how_near_one_an_r2_is() -> None:
    np.testing.assert_allclose(nines([0, 0.9, 0.99, 1 - 1e-6, -9]), [0, 1, 2, 6, -1], atol=1e-9)
    assert nines(1.0) == 14 and nines(-1e6) == -2 and np.isnan(nines([None])).all()
    assert [nines_text(n) for n in (-1, 0, 1, 3, 6)] == ["-9", "0", "0.9", "0.999", "1 - 1e-6"]


@pytest.mark.parametrize("along", ["x", "y"])
@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.95, 0.5], ["0", "0.5", "0.9"]),
        ([0.9995, None, -0.5], ["0", "0.9", "0.99", "0.999"]),
        ([1 - 1e-12, 0.3], ["0", "1 - 1e-6", "1 - 1e-12"]),
        ([-20.0, 0.4], ["-9", "0", "0.9"]),
        ([None], ["0", "0.5", "0.9"]),
    ],
)
def test_the_axis_of_r2_is_one_of_its_distance_from_one(
    along: str, values: list[float | None], ticks: list[str]
) -> None:
    figure, axis = new_figure(3, 2)
    label_r2(axis, values, along)  # type: ignore[arg-type]
    labels = getattr(axis, f"get_{along}ticklabels")()
    assert {label.get_text() for label in labels} >= set(ticks) and len(labels) <= 8
    low, high = getattr(axis, f"get_{along}lim")()
    shown = nines([value for value in values if value is not None])
    assert (low <= shown).all() and (shown <= high).all()
    figure.canvas.draw()


def test_a_silent_watch_says_nothing_and_a_shown_one_keeps_notes_apart_from_bars(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for watch in (SILENT, TqdmWatch()):
        with watch.bar(20_000, "windows", "training") as bar:
            bar.update(5_000)
            watch.note("half of it")
            bar.describe("still training")
    shown = capsys.readouterr()
    assert shown.out == "half of it\n"
    assert "training" in shown.err and "20.0k" in shown.err


def test_pictures_name_runs_by_what_tells_them_apart() -> None:
    assert short_names(["mfcc", "/home/anna/runs/tuned"]) == {
        "mfcc": "mfcc",
        "/home/anna/runs/tuned": "tuned",
    }
    paths = ["runs/one/fold-1", "runs/two/fold-1", "runs/two/fold-2"]
    assert list(short_names(paths).values()) == ["one/fold-1", "two/fold-1", "two/fold-2"]
    assert short_names(["a", "a"]) == {"a": "a"} and short_names([]) == {}
