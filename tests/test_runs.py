"""The folder of a run: what it holds, in which format, who works in it, and what is left when that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fins.runs import CONFIG, RESULT, find_run, locked, read_config, start_run, write_json


def test_a_run_is_found_as_it_was_left(tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = {"seed": 0, "minutes": 1.0, "stores": ("a.h5",)}
    assert find_run(out, config, ()) == "new"
    out.mkdir()
    start_run(out, config)
    assert json.loads((out / CONFIG).read_text())["format"] == 2
    assert read_config(out) == {"seed": 0, "minutes": 1.0, "stores": ["a.h5"]}
    assert find_run(out, config, ()) == "unfinished"
    write_json(out / RESULT, {})
    assert find_run(out, config, ()) == "finished"
    assert find_run(out, {**config, "minutes": 2.0}, ("minutes",)) == "unfinished"
    with pytest.raises(ValueError, match=r"minutes 1\.0 there, 2\.0 here"):
        find_run(out, {**config, "minutes": 2.0}, ())


def test_a_key_that_one_of_both_lacks_counts_as_none(tmp_path: Path) -> None:
    start_run(tmp_path, {"seed": 0, "depth": 3})
    write_json(tmp_path / RESULT, {})
    with pytest.raises(ValueError, match="depth 3 there, None here"):
        find_run(tmp_path, {"seed": 0}, ())
    assert find_run(tmp_path, {"seed": 0, "depth": 3, "split_seed": None}, ()) == "finished"


def test_a_classifier_of_format_1_is_told_and_a_fin_of_it_stays(tmp_path: Path) -> None:
    old, fin, later = (tmp_path / name for name in ("old", "fin", "later"))
    for folder in (old, fin, later):
        folder.mkdir()
    write_json(old / CONFIG, {"config": {"model": "fin", "seed": 0}})
    write_json(fin / CONFIG, {"config": {"feature": "rms", "topology": "paper", "closed_form": "librosa"}})
    write_json(later / CONFIG, {"format": 3, "config": {"model": "fin", "seed": 0}})
    reason = (
        "old was written by version 0.1, whose classifiers this version can't read: make it again by the "
        r"command in its README\.md; its stores stay as they are"
    )
    with pytest.raises(ValueError, match=reason):
        find_run(old, {"model": "fin", "seed": 0}, ())
    with pytest.raises(ValueError, match=reason):
        read_config(old)
    assert read_config(fin)["feature"] == "rms"
    with pytest.raises(ValueError, match="later version"):
        read_config(later)
    write_json(old / CONFIG, {"config": None})
    with pytest.raises(ValueError, match="no configuration of a run"):
        read_config(old)


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    with pytest.raises(ValueError, match="too few"), locked(out):
        raise ValueError("too few")
    assert not (tmp_path / "runs").exists()
    with locked(out):
        (out / "a").touch()
    with pytest.raises(ValueError, match="too few"), locked(out):
        raise ValueError("too few")
    assert (out / "a").exists()
    (tmp_path / "own").mkdir()
    with locked(tmp_path / "own"):
        pass
    assert (tmp_path / "own").exists()  # who made it may want it


def test_a_folder_is_one_process_s(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = f"from fins.runs import locked; from pathlib import Path\nwith locked(Path({str(out)!r})): pass"
    with locked(out):
        with pytest.raises(ValueError, match="another process is at work"), locked(out):
            pass
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process is at work" in other.stderr and out.exists()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not out.exists()


PARENT = """
import multiprocessing, sys, time
from fins.processes import end_with_parent

def work(path):
    end_with_parent()
    for number in range(200):
        open(path, "w").write(str(number))
        time.sleep(0.05)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work, args=sys.argv[1:]).start()
    time.sleep(10)
"""


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    script, beats = tmp_path / "parent.py", tmp_path / "beats"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, script, beats], env=environment)
    for _ in range(400):
        if beats.exists():
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    time.sleep(2)  # on a busy machine
    last = beats.read_text()
    time.sleep(0.5)
    assert beats.read_text() == last
