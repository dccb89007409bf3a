"""Disks that are full and commands that are killed: one sentence that names the file, nothing half made."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import warm
from conftest import make_recordings
from test_tune import asked, config_of, needs_ray

from data_manifests import read_corpus
from data_manifests.reading import UNFINISHED
from fins.data.store import write_store
from fins.data.synthetic.synthesiser import write_corpus
from fins.disk import NO_ROOM, append_line, naming, replacing, says_full
from fins.progress import SILENT
from fins.tensors import save_tensors
from ser_heads.experiments.search import search
from ser_heads.experiments.search.trials import Journal, train_trial


def run_limited(limit: int, module: str, *arguments: object) -> warm.Ended:
    """The limit is of this process and of its workers: to them, the disk is full then."""
    return warm.run("-m", module, *arguments, limit=limit)


def one_sentence(ended: warm.Ended, file: str) -> None:
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == 2, ended.stderr
    assert lines[-1].startswith("error: ") and file in lines[-1] and lines[-1].endswith(NO_ROOM), ended.stderr
    assert "Traceback" not in ended.stderr and "buf =" not in ended.stderr


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "corpus"
    write_corpus(folder, n_speakers=3, n_sentences=2, n_takes=1)
    return folder


# a worker's part, what it tells of it, the joined store, the ledger
@pytest.mark.parametrize(("limit", "file"), [(200, ".parts"), (20_000, ".parts"), (3_000_000, "made.h5")])
def test_prepare_on_a_full_disk(corpus: Path, tmp_path: Path, limit: int, file: str) -> None:
    arguments = ("--corpus", "synthetic", "--root", corpus, "--out", tmp_path / "made.h5", "--workers", 1)
    one_sentence(run_limited(limit, "pipelines.prepare", *arguments), file)
    assert not (tmp_path / "made.h5").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_synthesise_on_a_full_disk_goes_on_once_there_is_room(corpus: Path, tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "again", "--n-speakers", 3, "--n-sentences", 2, "--n-takes", 1)
    one_sentence(run_limited(65_000, "pipelines.synthesise", *arguments), ".wav")
    with pytest.raises(ValueError, match=r"again is an unfinished corpus: .* given again, ends it"):
        read_corpus("synthetic", tmp_path / "again")
    assert run_limited(10**9, "pipelines.synthesise", *arguments).returncode == 0
    assert tree(tmp_path / "again") == tree(corpus)


@pytest.mark.parametrize("limit", [300, 4_000, 60_000])
def test_train_on_a_full_disk(small_store: Path, tmp_path: Path, limit: int) -> None:
    store = Path(tmp_path / "own.h5")
    store.write_bytes(small_store.read_bytes())
    out = tmp_path / "run"
    arguments = ("--model", "feature_cnn", "--store", store, "--frozen-epochs", 1, "--finetuned-epochs", 0)
    one_sentence(run_limited(limit, "pipelines.train", *arguments, "--out", out), str(tmp_path))
    assert not list(tmp_path.rglob("*.partial")) and not (out / "result.json").exists()


def test_output_that_can_not_be_written(corpus: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pipelines.audit", "--manifest", str(corpus.parent / "m.csv")]
        (corpus.parent / "m.csv").write_text("utterance,speaker,emotion,part\na,b,sad,train\n")
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr == f"error: the output can't be written: {NO_ROOM}\n"


def test_writers_name_the_file_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte can be written: the system says so wherever a file is put in its place."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    for write in (
        lambda path: write_store(path, make_recordings(1)),
        lambda path: save_tensors(path, {"a": torch.zeros(3)}, {}),
    ):
        with pytest.raises(OSError, match=NO_ROOM) as raised:
            write(tmp_path / "file")
        assert raised.value.filename == str(tmp_path / "file") and raised.value.errno == errno.ENOSPC
        assert not list(tmp_path.iterdir())


def test_errors_of_the_disk_are_told_from_others(tmp_path: Path) -> None:
    for error in (ValueError("errno = 28"), KeyError("x"), RuntimeError("a bug")):
        with pytest.raises(type(error)), naming(tmp_path):
            raise error
    for text in ("write failed: errno = 28, buf = 0x7f", "I/O error: No space left (os error 28)"):
        with pytest.raises(OSError, match=NO_ROOM), naming(tmp_path):
            raise RuntimeError(text)
        assert says_full(text)
    with pytest.raises(PermissionError, match=r"denied.*other"), naming(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "other")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append_line(path, "first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"no room.*journal.jsonl"):
            append_line(path, "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "first\n"
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_a_trial_without_room_has_not_failed(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, NO_ROOM, "checkpoint")

    monkeypatch.setattr("ser_heads.experiments.search.trials.start_trainer", refuse)
    rows: list[dict[str, object]] = []
    train_trial(config_of(small_store), tmp_path / "c.safetensors", rows.append, torch.device("cpu"))
    assert rows == [{"full": f"checkpoint: {NO_ROOM}"}]
    journal = Journal(tmp_path / "journal.jsonl")
    why = "OSError: [Errno 28] No space left on device"  # as versions before wrote it
    journal.write(1, {"ended": "failed", "why": why})
    journal.write(2, {"ended": "failed", "why": "it diverged"})
    again = Journal(tmp_path / "journal.jsonl")
    assert (again.record(1).ended, again.record(2).ended) == ("", "failed")


@needs_ray
def test_a_search_without_room_has_no_failed_trial(tmp_path: Path) -> None:
    from ser_heads.experiments.search.asha import Asha, JournalCallback

    journal = Journal(tmp_path / "journal.jsonl")
    trial = SimpleNamespace(config={"number": 3}, get_error=lambda: "OSError: [Errno 28] No space\n")
    asha = Asha(journal, 4, 1, 2)
    assert asha.on_trial_result(None, trial, {"full": "c: no room"}) == "STOP"
    JournalCallback(journal, None).on_trial_error(0, [], trial)
    assert journal.full == "c: no room" and not journal.lines and not journal.record(3).ended


def test_a_killed_synthesis_is_no_corpus_and_goes_on(corpus: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Bar:
        n = 0

        def update(self, n: int = 1) -> None:
            self.n += n
            if self.n == 5:
                raise Killed

    class Watch(type(SILENT)):  # type: ignore[misc]
        def bar(self, *arguments: object) -> object:
            from contextlib import nullcontext

            return nullcontext(Bar())

    sizes = {"n_speakers": 3, "n_sentences": 2, "n_takes": 1}
    folder = tmp_path / "again"
    with pytest.raises(Killed):
        write_corpus(folder, **sizes, watch=Watch())
    (folder / "s01" / "s01_sad_01_1.wav.partial").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    assert len(before) == 5
    for root in (folder, folder / "s01", tmp_path):
        for name in ("synthetic", "folders"):
            with pytest.raises(ValueError, match="again is an unfinished corpus"):
                read_corpus(name, root)
    with pytest.raises(ValueError, match=r"an unfinished corpus of n_speakers 3, .*: give these"):
        write_corpus(folder, n_speakers=2)
    write_corpus(folder, **sizes)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not (folder / UNFINISHED).exists()
    assert tree(folder) == tree(corpus)
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        write_corpus(folder, **sizes)


FULL_FOR_TRIALS = """
import resource, sys
if any("default_worker" in word for word in sys.orig_argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""


@pytest.mark.slow
@needs_ray
def test_a_search_goes_on_once_there_is_room(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(tmp_path, small_store)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FULL_FOR_TRIALS)
    with monkeypatch.context() as patched:
        patched.setenv(
            "PYTHONPATH", os.pathsep.join((str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")))
        )
        with pytest.raises(OSError, match=rf"checkpoint.safetensors: {NO_ROOM}"):
            search(options)
    assert not (tmp_path / "out" / "result.json").exists()
    journal = Journal(tmp_path / "out" / "journal.jsonl")
    assert not any(record.ended for record in journal.trials.values())
    result = search(options).result
    assert result["n_failed"] == 0 and all(trial["epochs"] for trial in result["trials"])
