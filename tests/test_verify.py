"""Changed bits in the files of runs, and the command that looks for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_command_lines import Ended, run  # noqa: F401

from fins.data.verification import verify
from fins.digests import DIGESTS, changed_files, check_digest
from fins.runs import finish_run, start_run
from fins.tensors import load_tensors, save_tensors


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run of three files."""
    folder = tmp_path / "run"
    folder.mkdir()
    start_run(folder, {"seed": 0})
    save_tensors(folder / "weights.safetensors", {"a": torch.arange(1_000.0)}, {})
    (folder / "checkpoint.safetensors").write_bytes(b"removed later")
    finish_run(folder, {"uar": 0.5})
    (folder / "checkpoint.safetensors").unlink()
    return folder


def test_every_changed_bit_of_a_run_is_noticed(made: Path) -> None:
    assert set(json.loads((made / DIGESTS).read_text())["sha256"]) == {
        *("config.json", "weights.safetensors", "result.json")
    }
    assert changed_files(made) == []
    rng = np.random.default_rng(0)
    for path in sorted(made.iterdir()):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 40):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            (verified,) = verify((made,))
            assert verified.faults, (path, place)
            if path.suffix == ".safetensors":
                with pytest.raises(ValueError, match=r"isn't what its run wrote|is truncated"):
                    load_tensors(path)
        path.write_bytes(whole)
    (made / "config.json").unlink()
    assert changed_files(made) == ["config.json is missing"]


def test_files_without_a_digest_are_read(made: Path) -> None:
    (made / "notes.txt").write_text("one's own")
    check_digest(made / "notes.txt")
    (made / DIGESTS).unlink()
    (made / "weights.safetensors").write_bytes(b"")
    check_digest(made / "weights.safetensors")
    (verified,) = verify((made,))
    assert verified.describe().endswith("carries no checksums, since an earlier version wrote it")


def test_a_run_that_begins_again_has_no_digests(made: Path) -> None:
    start_run(made, {"seed": 1})
    assert {path.name for path in made.iterdir()} == {"config.json", "weights.safetensors"}
    with pytest.raises(ValueError, match="holds a run that hasn't ended"):
        list(verify((made,)))


def test_the_command_names_what_differs(
    made: Path,
    small_store: Path,
    tmp_path: Path,
    run: Callable[..., Ended],  # noqa: F811
) -> None:
    store = Path(shutil.copy(small_store, tmp_path / "store.h5"))
    ended = run("pipelines.verify", store, made)
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1] == f"{made}: 3 files are what was written"
    content = bytearray(store.read_bytes())
    content[len(content) // 2] ^= 1
    store.write_bytes(content)
    (made / "result.json").write_text("{}")
    ended = run("pipelines.verify", store, made)
    assert ended.code == 2 and ended.stderr == "error: 2 of what was looked at isn't what was written\n"
    first, second = ended.stdout.splitlines()
    assert first.startswith(f"{store}: ") and first.endswith(" isn't what was written")
    assert second == f"{made}: result.json has changed"
    for wrong, reason in ((tmp_path / "gone.h5", "is missing"), (tmp_path / "empty", "holds no run")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert reason in run("pipelines.verify", wrong).stderr
