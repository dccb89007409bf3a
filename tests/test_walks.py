"""A feature, a corpus, a model and a protocol are added by the words of CONTRIBUTING.md, and used by command.

The code is that of the page: each block that names a file is written into a copy of the packages, the last
line of one that names a dictionary goes into it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile
import warm
from code_blocks import ROOT, Block, blocks_of, shortened
from conftest import make_signal

from fins.audio import SAMPLE_RATE

PACKAGES = ("data_manifests", "fins", "ser_heads", "pipelines")
BLOCKS = blocks_of("CONTRIBUTING.md")


class House:
    """A copy of the packages, and a folder in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.packages, self.here, self.printed = folder / "packages", folder / "here", ""
        self.here.mkdir()
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, self.packages / package, ignore=ignored)

    def build(self, heading: str) -> list[list[str]]:
        """Do what a section of the page says; its commands are returned, to be run."""
        commands = []
        for block in section(heading):
            if block.language == "sh":
                commands += block.commands()
            elif block.entry_of:
                self.enter(block.file, block.entry_of, block.text)
            elif block.file:
                assert not (self.packages / block.file).exists(), block.place
                (self.packages / block.file).write_text(block.text, encoding="utf-8")
        assert commands
        return commands

    def enter(self, file: str, dictionary: str, text: str) -> None:
        """What is above the last line goes above the dictionary, the last line into it."""
        above, entry = text.rstrip("\n").rsplit("\n", 1)
        path = self.packages / file
        code = path.read_text(encoding="utf-8")
        start = re.search(rf"^{dictionary}\b[^=\n]*= {{\n", code, re.M)
        assert start is not None, f"{file} has no {dictionary}"
        code = f"{code[: start.start()]}{above}\n\n{start[0]}    {entry}\n{code[start.end() :]}"
        path.write_text(code, encoding="utf-8")

    def run(self, *words: str) -> str:
        """`python words`, with these packages before any others; what it printed."""
        done = warm.run(*words, folder=self.here, packages=self.packages)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_short(self, words: list[str]) -> str:
        """A command of the page."""
        program, flag, module, *arguments = words
        assert (program, flag) == ("python", "-m")
        return self.run("-m", module, *shortened(module, arguments))


def section(heading: str) -> list[Block]:
    """The blocks under a heading of the page."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n")
    start = lines.index(f"## {heading}") + 1
    headings = [number for number, line in enumerate(lines, 1) if line.startswith("## ")]
    end = min((number for number in headings if number > start), default=len(lines))
    return [block for block in BLOCKS if start < block.line < end]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """With the corpus added, and its store made by the page's command."""
    house = House(tmp_path_factory.mktemp("house"))
    corpus = house.here / "MEADOW"
    corpus.mkdir()
    for number in range(48):
        name = f"m{number // 12:02d}-{('angry', 'happy', 'sad')[number % 3]}-{number // 3 % 4}.wav"
        soundfile.write(corpus / name, make_signal(number), SAMPLE_RATE)
    (commands,) = house.build("Add a corpus")
    house.printed = house.run_short(commands)
    return house


def test_a_corpus(house: House) -> None:
    assert "48 utterances" in house.printed
    assert (house.here / "stores" / "meadow.h5").is_file()


def test_a_feature(house: House) -> None:
    (command,) = house.build("Add a feature")
    assert "centroid, compact" in house.run_short(command)
    house.run(
        "-c",
        "import numpy as np; from fins.features import compute_features, get_feature\n"
        "windows = np.random.default_rng(0).normal(0, 0.1, (3, 2048)).astype(np.float32)\n"
        "windows[1] = 0\n"
        "truth = [get_feature('centroid').oracle(window) for window in windows]\n"
        "values = compute_features(windows, ['centroid'])['centroid']\n"
        "np.testing.assert_allclose(values, truth, rtol=1e-4, atol=1e-2)",
    )


def test_a_model(house: House) -> None:
    (command,) = house.build("Add a model")
    assert "UAR" in house.run_short(command)
    refused = warm.run(*command[1:], "--depth", "3", folder=house.here, packages=house.packages)
    house.run(
        "-c",
        "import ser_heads, torch\n"
        "model = ser_heads.create('tiny_cnn', labels=['bored', 'stressed', 'relaxed'], n_channels=4)\n"
        "assert model(torch.zeros(2, 30000)).shape == (2, 3)",
    )
    assert refused.returncode == 2
    assert "tiny_cnn has no option --depth: its own are --n-channels" in refused.stderr


def test_a_protocol(house: House) -> None:
    audit, train = house.build("Add a protocol")
    assert "| sentences of the test part in other parts | 0 |" in house.run_short(audit)
    assert "UAR" in house.run_short(train)  # which refuses a split that breaks its protocol's promise
