"""Changed bits in the files of runs, and the command that looks for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from test_command_lines import Ended, run  # noqa: F401

from fins.data.verification import verify
from fins.digests import DIGESTS, changed_files, check_digest
from fins.runs import CHECKPOINT, finish_run, start_run
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
                with pytest.raises(ValueError, match=r"isn't what was written|is truncated"):
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


def test_stores_and_unfinished_runs_beside_others_are_looked_at(
    made: Path, small_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copy(small_store, tmp_path / "store.h5"))
    (tmp_path / "later").mkdir()
    start_run(tmp_path / "later", {"seed": 0})
    assert [verified.path for verified in verify((tmp_path,))] == [store, tmp_path / "later", made]
    content = bytearray(store.read_bytes())
    content[len(content) // 2] ^= 1
    store.write_bytes(content)
    first, second, third = verify((tmp_path,))
    assert len(first.faults) == 1 and first.faults[0].endswith("isn't what was written")
    assert second.describe().endswith("a run that hasn't ended, with nothing to compare it with")
    assert not second.faults and not third.faults
    shutil.rmtree(made)
    assert len(list(verify((tmp_path,)))) == 2
    shutil.rmtree(tmp_path / "later")
    assert len(list(verify((tmp_path,)))) == 1


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


def test_every_changed_byte_of_a_state_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    tensors = {"a.b": torch.arange(40.0), "c": torch.tensor(3), "d": torch.zeros(0, 2, dtype=torch.bfloat16)}
    save_tensors(path, tensors, {"loss": float("inf"), "history": [1, 2]})
    read, header = load_tensors(path)
    assert header == {"loss": float("inf"), "history": [1, 2]}
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            again, known = load_tensors(path)
        except ValueError as error:
            assert "isn't what was written" in str(error) or "is truncated or was not written" in str(error)
        else:  # a space of JSON became another one, or the like: nothing that is read
            assert known == header and again.keys() == tensors.keys()
            assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "w", {"header": json.dumps({"seed": 1})})
    tensors, header = load_tensors(tmp_path / "w")
    assert header == {"seed": 1} and tensors["a"].tolist() == [1, 1]


def test_changed_bits_of_kept_frames_are_noticed(tmp_path: Path) -> None:
    from ser_heads.training.cache import SegmentFolder

    folder = SegmentFolder(tmp_path / "a.frames-1")
    frames = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    with folder.segment(16) as add:
        add(3, 0, frames)
    np.testing.assert_array_equal(folder.read(3, 0), frames)
    folder.close()
    (segment,) = folder.path.iterdir()
    with h5py.File(segment) as file:
        assert file["index"].fletcher32
        place = file["frames"].id.get_chunk_info(2).byte_offset
    content = bytearray(segment.read_bytes())
    content[place + 77] ^= 4
    segment.write_bytes(content)
    again = SegmentFolder(folder.path)
    with pytest.raises(ValueError, match=r"a\.frames-1 was damaged and is removed: the same command makes"):
        again.read(3, 0)
    assert not folder.path.exists()
