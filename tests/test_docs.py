"""What README.md and the pages of docs say: code runs, links lead somewhere, tables are true."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
from code_blocks import ROOT, Block, blocks_of, check_options, run_to_its_end, shortened
from conftest import make_signal
from markdown_it import MarkdownIt

import ser_heads
from data_manifests.labels import EMOTIONS
from fins.audio import SAMPLE_RATE
from fins.data.protocols import PROTOCOLS
from ser_heads.experiments.config import DEFAULT_MODEL
from ser_heads.experiments.sweeps import SHIPPED as SWEEPS
from ser_heads.models import MODELS, create

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "data_manifests/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
BLOCKS = {page: blocks_of(page) for page in PAGES}
RUN = [
    page for page in PAGES if page != "CONTRIBUTING.md" and any(b.language != "text" for b in BLOCKS[page])
]
DIRECTIVES = ("{toctree}", "{include}", "{eval-rst}")
OTHER_COMMANDS = {"pip", "ray"}
LABELS = ("bored", "stressed", "relaxed")


def is_code(block: Block) -> bool:
    return block.language in ("python", "sh")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    for block in BLOCKS[page]:
        assert is_code(block) or block.language.startswith(("text", *DIRECTIVES)), block.place
        assert is_code(block) or not block.not_run, f"{block.place} isn't run anyway"


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "sh" for b in BLOCKS[page])])
def test_commands_take_the_options_that_pages_give(
    page: str, own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    for block in BLOCKS[page]:
        if block.file and not block.entry_of and "/" not in block.file:
            (own_files / block.file).write_text(block.text)
        for program, *words in block.commands() if block.language == "sh" else []:
            if program == "make":
                assert words[0] in targets, block.place
            elif program not in OTHER_COMMANDS:
                assert (program, words[0]) == ("python", "-m"), block.place
                if page != "CONTRIBUTING.md":  # whose commands are of what is added there
                    check_options(words[1], words[2:], monkeypatch)


@pytest.mark.parametrize("page", [page for page in RUN if any(map(is_code, BLOCKS[page]))])
def test_code_runs(page: str, own_files: Path, prepares_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    few_epochs = replace(MODELS[DEFAULT_MODEL].recipe, frozen_epochs=2, finetuned_epochs=1)
    monkeypatch.setattr(ser_heads, "fit", partial(ser_heads.fit, recipe=few_epochs))
    names: dict[str, object] = {"__name__": "page"}
    n_run = 0
    for block in filter(is_code, BLOCKS[page]):
        if block.file:
            (own_files / block.file).write_text(block.text, encoding="utf-8")
            for name, function in runpy.run_path(block.file).items():
                if name in ("runs", "default", "space"):  # of sweeps and of search spaces
                    assert function(), block.place
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, ROOT / page, "exec"), names)
        elif not block.not_run:
            for program, *words in block.commands():
                if program == "python":
                    run_to_its_end(words[1], shortened(words[1], words[2:]), monkeypatch)
        n_run += not block.not_run
    if n_run == 0:
        pytest.skip(f"{page}: {BLOCKS[page][0].not_run}")


@pytest.fixture
def own_files(
    tmp_path: Path, small_store: Path, other_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder with what pages take for granted: made stores under other names, recordings by label."""
    (tmp_path / "stores").mkdir()
    for name, store in {"mine": small_store, "ravdess": small_store, "savee": small_store}.items():
        shutil.copy(store, tmp_path / "stores" / f"{name}.h5")
    shutil.copy(other_store, tmp_path / "stores" / "esd.h5")
    rows = ["path,emotion,speaker"]
    for number in range(24):
        label, speaker = LABELS[number % 3], ("anna", "ben", "cleo", "dan")[number // 3 % 4]
        path = f"{label}/{speaker}/{number:02d}.wav"
        (tmp_path / "recordings" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "recordings" / path, make_signal(number), SAMPLE_RATE)
        rows.append(f"{path},{label},{speaker}")
    (tmp_path / "recordings" / "table.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for token in MarkdownIt().enable("table").parse((ROOT / page).read_text(encoding="utf-8")):
        for child in token.children or []:
            target = str(child.attrs.get("href") or child.attrs.get("src") or "").split("#")[0]
            if target and "://" not in target:
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 150


def rows_of(page: str, header: str) -> list[list[str]]:
    """Cells of the table whose first column is called so."""
    lines = (ROOT / page).read_text(encoding="utf-8").split("\n")
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def flags_of(options: type) -> set[str]:
    """Of a model's own options; those of a group are told by its name."""
    flags = set()
    for field in fields(options):
        value = getattr(options(), field.name)
        inner = [f".{part.name}" for part in fields(value)] if is_dataclass(value) else [""]
        flags |= {f"--{field.name.replace('_', '-')}{name}" for name in inner}
    return flags


def test_the_table_of_models_is_true() -> None:
    rows = {
        name.strip("`"): (about, own, size)
        for name, about, own, size in rows_of("docs/models.md", "`--model`")
    }
    assert list(rows) == list(MODELS)
    for name, (_, own, size) in rows.items():
        assert set(re.findall(r"--[\w.-]+", own)) == flags_of(MODELS[name].options), name
        if MODELS[name].fit is None:
            assert size == f"{create(name, EMOTIONS).n_parameters():,}", name
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert all(entry.source in text for entry in MODELS.values())
    assert f"The default is `{DEFAULT_MODEL}`" in text


def test_the_tables_of_protocols_and_sweeps_are_whole() -> None:
    protocols = [row[0].split("`")[1] for row in rows_of("docs/protocols.md", "`--protocol`")]
    assert set(protocols) == {*PROTOCOLS, "module:function"}
    promises = {row[0].split("`")[1]: row[2] for row in rows_of("docs/protocols.md", "`--protocol`")}
    for name, protocol in PROTOCOLS.items():
        assert promises[name].startswith(", ".join(protocol.never_shares) or "nothing"), name
    assert [row[0].strip("`") for row in rows_of("docs/models.md", "sweep")] == list(SWEEPS)


def test_the_map_names_what_is_there() -> None:
    tree = BLOCKS["docs/map.md"][0].text
    folders: list[str] = []
    named: set[str] = set()
    for line in tree.rstrip("\n").split("\n"):
        depth = (len(line) - len(line.lstrip())) // 2
        column = re.split(r"\s{2,}", line.strip())[0]
        if column.endswith("/"):
            folders = [*folders[:depth], column]
            named.add("".join(folders))
        else:
            named |= {"".join(folders[:depth]) + word for word in column.split() if word != "…"}
    missing = [name for name in named if not list(ROOT.glob(name.rstrip("/")))]
    assert not missing
    inside = {
        f"{path.relative_to(ROOT).as_posix()}/"
        for package in ("data_manifests", "fins", "ser_heads", "pipelines")
        for path in [ROOT / package, *(ROOT / package).rglob("*/")]
        if list(path.glob("*.py"))
    }
    assert inside <= named


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    """docs/conf.py."""
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_public_name_that_no_page_describes_is_named(conf: ModuleType) -> None:
    missing = conf.undocumented(set())
    for name in ("fins.load", "fins.Frames", "ser_heads.create", "ser_heads.fit", "fins.features.FEATURES"):
        assert f"{name} is on no page" in missing
    assert "fins.load is on no page" not in conf.undocumented({"fins.load"})


def test_docstrings_become_lists(conf: ModuleType) -> None:
    lines = [
        "What it *is*.",
        "",
        "one, two : (n,) of `three`;",
        "    and more",
        "Raises ValueError.",
        "",
        "End_",
    ]
    assert conf.as_restructured_text(lines) == [
        *("What it \\*is\\*.", ""),
        *("* **one, two**: (n,) of ``three``; and more", ""),
        *("Raises ValueError.", "", "End\\_", ""),
    ]
