"""What killed commands leave is removed by the next that sees it, and nothing that another one is writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import make_recordings

from fins.data.store import Store, write_store
from fins.data.verification import verify
from fins.hdf5 import NewHdf5File
from fins.leftovers import MARKER, fcntl, remove_abandoned, temporary_folder
from fins.processes import NUMBERED, SEMAPHORES, name_semaphores
from fins.runs import CHECKPOINT, finish_run, locked, read_config, start_run
from fins.tensors import save_tensors

pytestmark = pytest.mark.skipif(fcntl is None, reason="this system has no locks that end with a process")


def killed(code: str, *arguments: object) -> None:
    """Run code that says a line and waits; kill it then, with its workers."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


HALF_STORE = """
import sys, time; from pathlib import Path; from fins.hdf5 import NewHdf5File; from fins.disk import replacing
with NewHdf5File(Path(sys.argv[1])) as file, replacing(Path(sys.argv[2])) as partial:
    partial.write_text("half"); print("here", flush=True); time.sleep(60)
"""


def test_unfinished_files_beside_a_store_are_removed_once_nobody_writes_them(tmp_path: Path) -> None:
    store, ledger = tmp_path / "a.h5", tmp_path / "a.ledger.csv"
    killed(HALF_STORE, store, ledger)
    left = {"a.h5.partial", "a.ledger.csv.partial"}
    assert {path.name for path in tmp_path.iterdir()} == left
    (tmp_path / "own.partial").touch()
    write_store(tmp_path / "b.h5", make_recordings(1))
    os.rename(tmp_path / "b.h5", store)
    with pytest.raises(KeyError), NewHdf5File(tmp_path / "a.h5"), Store(store):
        assert (tmp_path / "a.h5.partial").exists()  # it is being written
        raise KeyError
    killed(HALF_STORE, store, ledger)
    Store(store).close()
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5", "own.partial"}


def test_a_store_is_readable_in_the_moment_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, read = os.replace, []

    def replace_and_read(source: Path, target: Path) -> None:
        replace(source, target)
        read.append(Store(target).n_utterances)

    monkeypatch.setattr(os, "replace", replace_and_read)
    write_store(tmp_path / "a.h5", make_recordings(2))
    assert read == [2]


def test_tensors_are_held_until_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def look_and_replace(source: Path, target: Path) -> None:
        remove_abandoned([source])
        replace(source, target)

    monkeypatch.setattr(os, "replace", look_and_replace)
    save_tensors(tmp_path / "weights.safetensors", {"a": torch.ones(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


WRITER = """
import sys, time; from pathlib import Path; from fins.disk import replacing
for number in range(40):
    with replacing(Path(sys.argv[1])) as partial:
        with partial.open("w") as file:
            for _ in range(1000): file.write(sys.argv[2])
"""


def test_two_that_write_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "file"
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert path.read_text() in ("a" * 1_000, "b" * 1_000)
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_what_a_kill_left_in_a_run_is_removed(tmp_path: Path) -> None:
    classifier, fin = tmp_path / "classifier", tmp_path / "fin"
    for run, config in ((classifier, {"model": "fin"}), (fin, {"closed_form": "librosa"})):
        run.mkdir()
        start_run(run, config)
        (run / CHECKPOINT).write_bytes(b"a state")
        (run / "README.md.partial").write_text("half")
        read_config(run)
        assert (run / CHECKPOINT).exists() and not (run / "README.md.partial").exists()
        finish_run(run, {})
    with locked(classifier):
        read_config(classifier)
        assert (classifier / CHECKPOINT).exists()  # another process is at work there
    list(verify((tmp_path,)))
    assert not (classifier / CHECKPOINT).exists()
    assert (fin / CHECKPOINT).exists()  # longer training goes on from it


FOLDER = """
import sys, time; from pathlib import Path; from fins.leftovers import temporary_folder
with temporary_folder("ser-", Path(sys.argv[1])) as folder:
    (folder / "sockets").mkdir(); print(folder, flush=True); time.sleep(60)
"""


def test_temporary_folders_of_killed_commands_are_removed(tmp_path: Path) -> None:
    (tmp_path / "ser-own").mkdir()  # somebody's own
    killed(FOLDER, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    with temporary_folder("ser-", tmp_path) as folder, temporary_folder("ser-", tmp_path) as other:
        assert {path.name for path in tmp_path.iterdir()} == {"ser-own", folder.name, other.name}
        assert (folder / MARKER).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ser-own"]


SEMAPHORE = """
import multiprocessing, sys, time; from fins.processes import name_semaphores
name_semaphores()
lock = multiprocessing.get_context("spawn").Lock(); print("here", flush=True); time.sleep(60)
"""


@pytest.mark.skipif(not SEMAPHORES.is_dir(), reason="this system shows no semaphores")
def test_semaphores_of_killed_commands_are_removed() -> None:
    others = SEMAPHORES / "sem.ser-1-4194305-of-another-container"  # a number that no process can have here
    others.touch()
    command = [sys.executable, "-c", SEMAPHORE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline()
    try:
        name_semaphores()
        assert len(list(SEMAPHORES.glob(f"sem.ser-*-{process.pid}-*"))) == 1  # it is running
        assert others.exists()
    finally:
        others.unlink(missing_ok=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = SEMAPHORES / f"sem.ser-{NUMBERED.stat().st_ino}-{process.pid}-left"
    left.touch()  # as where nothing of the killed command is there to remove it
    name_semaphores()
    assert not left.exists()


SESSION = """
import time; from ser_heads.experiments.cluster import ray_session
with ray_session(n_cpus=1):
    time.sleep(3); print("here", flush=True); time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system shows no processes")
def test_processes_of_a_killed_search_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ser_heads.experiments.cluster import end_processes, processes_in

    parent = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # short: for sockets
    monkeypatch.setenv("TMPDIR", str(parent))
    process = subprocess.Popen([sys.executable, "-c", SESSION], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    (folder,) = parent.iterdir()
    reader = subprocess.Popen(
        ["tail", "-f", *folder.glob("session_latest/logs/*.log")], stdout=subprocess.DEVNULL
    )
    process.kill()  # alone: its Ray goes on
    process.wait()
    try:
        assert processes_in(folder)
        with temporary_folder("ser-", parent, end_processes):
            assert not folder.exists() and not processes_in(folder)
        assert reader.poll() is None  # somebody's own
    finally:
        reader.kill()
        reader.wait()
        parent.rmdir()
