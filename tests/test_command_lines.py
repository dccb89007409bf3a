"""The command lines as a user meets them: exit codes, errors of one sentence, kills that lose nothing."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import warm
from code_blocks import run_module
from safetensors.numpy import load_file

from fins.data.synthetic.synthesiser import write_corpus
from pipelines.cli import COMMANDS


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`python -m module arguments` in this process."""

    def call(module: str, *arguments: object) -> Ended:
        code = 0
        try:
            run_module(module, [str(argument) for argument in arguments], monkeypatch)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("module", "arguments", "reason"),
    [
        ("pipelines.prepare", ("--corpus", "ravdess", "--root", "nowhere", "--out", "a.h5"), "nowhere"),
        ("pipelines.prepare", ("--corpus", "radves", "--root", ".", "--out", "a.h5"), "ravdess"),
        ("fins.train", ("--feature", "rms", "--topology", "paper"), "--store"),
        ("fins.train", ("--feature", "rms", "--store", "nowhere.h5"), "is missing"),
        ("fins.report", ("nowhere",), "is missing"),
        ("pipelines.synthesise", ("--out", "a", "--n-speakers", "0"), "n_speakers"),
        ("pipelines.train", ("--model", "fin"), "--store"),
        ("pipelines.train", ("--store", "nowhere.h5"), "is missing"),
        ("pipelines.evaluate", ("fin",), "is no folder"),
        ("pipelines.score", ("nowhere.csv",), "nowhere.csv: No such file"),
        ("pipelines.score", (__file__,), "is damaged: a quote in line"),
        ("pipelines.crossval", ("--model", "fin"), "--store"),
        ("pipelines.audit", (), "--store"),
        ("pipelines.report", ("nowhere",), "is missing"),
        ("pipelines.verify", (), "give stores"),
        ("pipelines.verify", ("nowhere",), "is missing"),
        ("pipelines.compare", ("small",), "--store"),
        ("pipelines.tune", ("fin",), "--store"),
        ("pipelines.tune", ("fim", "--store", "nowhere.h5"), "fin, wavelet_packet_net"),
        (
            "pipelines.compare",
            ("smal", "--store", "nowhere.h5"),
            "imitated, leak_price, small",
        ),
        ("pipelines.explore", ("--store", "nowhere.h5"), "is missing"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Ended],
    module: str,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(module, *arguments)
    assert result.code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert reason in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module",
    [
        "fins.train",
        "fins.report",
        "pipelines.prepare",
        "pipelines.synthesise",
        "pipelines.train",
        "pipelines.evaluate",
        "pipelines.score",
        "pipelines.crossval",
        "pipelines.audit",
        "pipelines.report",
        "pipelines.compare",
        "pipelines.tune",
        "pipelines.explore",
        "pipelines.verify",
    ],
)
def test_help_tells_units_and_defaults(run: Callable[..., Ended], module: str) -> None:
    result = run(module, "--help")
    assert result.code == 0 and "default" in result.stdout
    assert run(module, "--no-such-option").code == 2


def test_a_process_ends_as_a_call_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.train", "--store", "nowhere.h5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_importing_fins_is_light() -> None:
    heavy = "{'torch', 'librosa', 'h5py', 'pandas', 'matplotlib', 'sklearn', 'numpy'}"
    code = f"import sys, fins; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 synthetic utterances of four speakers."""
    root = tmp_path_factory.mktemp("made") / "corpus"
    write_corpus(root, n_speakers=4, n_sentences=2, n_takes=1)
    return root


@pytest.fixture(scope="module")
def prepared(made: Path) -> tuple[Path, float]:
    """Its store, and the seconds that making it took."""
    out = made.parent / "whole.h5"
    return out, seconds_of(*prepare_command(made, out))


def prepare_command(root: Path, out: Path) -> tuple[object, ...]:
    # one after another, so that some kills leave whole parts
    options = ("--corpus", "synthetic", "--root", root, "--out", out, "--workers", 1)
    return "-m", "pipelines.prepare", *options


def seconds_of(*command: object) -> float:
    """That a command takes."""
    warm.run("-c", "")  # the process that all others are forked from
    start = time.monotonic()
    ended = warm.run(*command)
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - start


@pytest.fixture(params=[2, pytest.param(10, marks=pytest.mark.slow)])
def n_kills(request: pytest.FixtureRequest) -> int:
    """How often a command is killed: a few times by default, ten with the slow tests."""
    return int(request.param)


def kill_at_random(
    command: Sequence[object],
    seconds: float,
    n_kills: int,
    whole: Callable[[], None],
    again: Callable[[], None],
) -> None:
    """Kill a command so many times, at random points of the time that it takes, starting it again each time.

    When it ends before its kill, its result is checked by `whole` and cleared by `again`.
    """
    rng = np.random.default_rng(0)
    kills = 0
    while kills < n_kills:
        process = warm.Command(*command)
        if process.kill_after(rng.uniform(0.1, 1.0) * seconds):
            kills += 1
            continue
        ended = process.end()
        assert ended.returncode == 0, ended.stderr
        whole()
        again()
    ended = warm.run(*command)
    assert ended.returncode == 0, ended.stderr
    whole()


def test_killing_prepare_at_random_points_loses_nothing(
    made: Path, prepared: tuple[Path, float], tmp_path: Path, n_kills: int
) -> None:
    expected, seconds = prepared
    out = tmp_path / "killed.h5"

    def whole() -> None:
        names: list[str] = []
        with h5py.File(expected) as one, h5py.File(out) as other:
            one.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            for name in names:
                np.testing.assert_array_equal(one[name][:], other[name][:])
        assert len(names) > 20

    kill_at_random(prepare_command(made, out), seconds, n_kills, whole, again=out.unlink)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"killed.h5", "killed.report.json", "killed.ledger.csv"}


FIN_RUN = ("fins.train", "--feature", "rms", "--topology", "paper", "--epochs", 12)
CLASSIFIER_RUN = (
    *("pipelines.train", "--model", "fin", "--fins", "rms", "chroma", "--copies", 1),
    *("--frozen-epochs", 6, "--finetuned-epochs", 4),
)


@pytest.mark.parametrize("arguments", [FIN_RUN, pytest.param(CLASSIFIER_RUN, marks=pytest.mark.slow)])
def test_killing_training_at_random_points_loses_nothing(
    prepared: tuple[Path, float], tmp_path: Path, n_kills: int, arguments: tuple[object, ...]
) -> None:
    store, _ = prepared
    expected, out = tmp_path / "expected", tmp_path / "killed"
    module, *options = arguments

    def train(folder: Path) -> tuple[object, ...]:
        return "-m", module, *options, "--store", store, "--out", folder

    def history(folder: Path) -> list[dict[str, str]]:
        with (folder / "history.csv").open() as file:
            return [{**row, "seconds": ""} for row in csv.DictReader(file)]

    def whole() -> None:
        assert history(out) == history(expected)
        first, second = (load_file(folder / "weights.safetensors") for folder in (expected, out))
        for name, tensor in first.items():
            np.testing.assert_array_equal(second[name], tensor)

    seconds = seconds_of(*train(expected))
    kill_at_random(train(out), seconds, n_kills, whole, again=lambda: shutil.rmtree(out))
    assert len(history(expected)) > 5


def test_every_verb_of_fin_ser_is_a_command() -> None:
    assert all(importlib.util.find_spec(module) for module in COMMANDS.values())
    folder = Path(__file__).parents[1] / "pipelines"
    modules = {f"pipelines.{path.stem}" for path in folder.glob("*.py")} - {
        "pipelines.__init__",
        "pipelines.cli",
    }
    assert {*modules, "fins.train", "fins.report"} == set(COMMANDS.values())
    command = [sys.executable, "-m", "pipelines.cli", "synthesise", "--no-such-option"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and "no-such-option" in run.stderr and "Traceback" not in run.stderr


def test_an_unknown_verb_lists_the_known_ones() -> None:
    for words, code in ((["fin-ser", "trian"], 2), (["fin-ser"], 0)):
        run = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv = {words}; from pipelines.cli import main; main()"],
            capture_output=True,
            text=True,
        )
        assert run.returncode == code and "prepare" in run.stdout + run.stderr
