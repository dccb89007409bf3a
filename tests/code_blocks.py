"""The code blocks of the pages that users read, and how they are run."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from fins import command
from ser_heads.experiments import config

ROOT = Path(__file__).parents[1]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FILE = re.compile(r"# ([\w/]+\.py)(?:, above (\w+) and in it)?\n")
SHORT = {
    "pipelines.synthesise": ["--n-speakers", "4", "--n-sentences", "2", "--n-takes", "1"],
    "pipelines.prepare": ["--workers", "1"],
    "pipelines.explore": ["--sample", "2"],
    "pipelines.train": ["--frozen-epochs", "1", "--finetuned-epochs", "0", "--copies", "0"],
    "fins.train": ["--epochs", "1"],
}
"""Command → options that make it short, where a page doesn't give them."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it begins, its language, its text, and why it isn't run, or empty."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The path that its first line names, or empty."""
        named = FILE.match(self.text)
        return named[1] if named else ""

    @property
    def entry_of(self) -> str:
        """The dictionary that its last line goes into, or empty."""
        named = FILE.match(self.text)
        return (named[2] or "") if named else ""

    def commands(self) -> list[list[str]]:
        """The words of each line of a shell block; comments are left out, \\ joins lines."""
        lines = self.text.replace("\\\n", " ").split("\n")
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks_of(page: str) -> list[Block]:
    """All of a page's, in their order; a comment before a block says why it isn't run."""
    blocks = []
    reason = ""
    for token in MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = NOT_RUN.fullmatch(token.content.strip())
            reason = comment[1] if comment else ""
        elif token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            blocks.append(Block(page, line, token.info.strip(), token.content, reason))
            reason = ""
        elif token.type.endswith("_open"):
            reason = ""
    return blocks


def shortened(module: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, with the options that make the command short, but for those that are given."""
    extra: list[str] = []
    options = SHORT.get(module, [])
    for flag, value in zip(options[::2], options[1::2], strict=True):
        if flag not in arguments:
            extra += [flag, value]
    return [*arguments, *extra]


def run_module(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m module arguments` in this process; raises SystemExit where that would end it."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    path = list(sys.path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the module may have been imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.path[:] = path


def run_to_its_end(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `run_module`; fails where it ends with another code than 0."""
    try:
        run_module(module, arguments, monkeypatch)
    except SystemExit as ended:
        assert not ended.code, f"python -m {module} {shlex.join(arguments)} ended with {ended.code}"


def check_options(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That a command takes these arguments; nothing is run."""

    def read_only(main: object, config: type) -> None:
        command.read_options(config)

    def read_composed(main: object, about: str, own: type | None = None) -> None:
        config.read_command_line(about, own)

    with monkeypatch.context() as patched:
        patched.setattr(command, "run_command", read_only)
        patched.setattr(config, "run_composed", read_composed)
        run_to_its_end(module, arguments, monkeypatch)
