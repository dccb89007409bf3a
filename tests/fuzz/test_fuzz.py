"""A short slice of the suite; `make torture` runs all of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fins.audio import AudioError, read_audio
from fins.data.table import UtteranceTable
from fins.networks import SHIPPED as FINS
from fins.networks import load_fin, save_fin
from fins.runs import read_json, start_run
from fuzz.files import STORES, TABLES, Cases
from fuzz.mutations import BYTES, damage_bytes
from fuzz.runs import JOURNAL, Whole, make_whole
from fuzz.sound import RATE, SoundCases, voice
from fuzz.watchdog import Counts, Fault, Verdict, judge, run_cases
from ser_heads.evaluation.drift import DriftOptions, report_drift
from ser_heads.evaluation.foreign import read_answers
from ser_heads.evaluation.predictions import read_result
from ser_heads.experiments.search.trials import Journal
from ser_heads.experiments.sweeps import read_sweep
from ser_heads.inference.int8 import Session
from ser_heads.inference.records import AnswerJournal
from ser_heads.models import load, save_model


def counted(cases: SoundCases | Cases, numbers: range) -> Counts:
    counts = Counts("")
    for number, verdict in run_cases(cases.work, numbers):
        counts.add(verdict, cases.name(number))
    return counts


def test_damaged_recordings_are_read_or_refused(tmp_path: Path) -> None:
    counts = counted(SoundCases.made_in(tmp_path), range(360))
    assert counts.failures == []
    assert counts.held > 60 and counts.refused > 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return make_whole(tmp_path_factory.mktemp("whole"))


def test_damaged_files_are_read_or_refused(whole: Whole, tmp_path: Path) -> None:
    for title, targets in (("table", TABLES), ("store", STORES)):
        counts = counted(Cases(tmp_path, whole, targets, title), range(6 * len(targets)))
        assert counts.failures == []
        assert counts.refused > 10
        # nearly each byte of a store and of weights is under a checksum
        assert counts.held > 2 or title == "store"


def test_the_watchdog_sees_hangs_crashes_and_memory() -> None:
    def work(number: int) -> Verdict:
        if number == 1:
            time.sleep(60)
        if number == 2:
            os.kill(os.getpid(), 9)
        if number == 3:
            return judge(lambda: bytearray(1 << 28))
        return judge(lambda: None)

    verdicts = dict(run_cases(work, range(5), seconds=0.5, memory=1 << 26))
    assert [verdicts[number].kind for number in range(5)] == ["held", "failed", "failed", "failed", "held"]
    assert verdicts[1].words == "it hung" and verdicts[2].words == "its process ended by signal 9"
    assert verdicts[3].words.startswith("MemoryError")


def test_only_one_plain_sentence_refuses() -> None:
    def fail(error: Exception) -> Verdict:
        def call() -> None:
            raise error

        return judge(call, "a.wav")

    assert fail(ValueError("a.wav is empty: copy it again")).kind == "refused"
    assert fail(FileNotFoundError(2, "No such file", "a.wav")).kind == "refused"
    for error in (ValueError("it is empty"), ValueError(""), KeyError("a.wav"), Fault("a.wav")):
        assert fail(error).kind == "failed"
    assert fail(UnicodeDecodeError("utf-8", b"a.wav", 0, 1, "a.wav")).kind == "failed"


def test_damage_is_the_same_for_the_same_seed() -> None:
    content = bytes(range(256)) * 20
    kinds = set()
    for seed in range(60):
        first, second = (damage_bytes(content, np.random.default_rng(seed)) for _ in range(2))
        assert first == second
        kinds.add(first[1])
    assert kinds == set(BYTES)


def test_an_mp3_whose_last_frame_is_no_frame_is_truncated(tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "a.mp3"
    soundfile.write(path, voice(), RATE)
    n_samples = len(read_audio(path))
    content = path.read_bytes()
    place = content.rindex(b"\xff\xf3")
    for behind in (bytes(len(content) - place), b"\x55" * (len(content) - place)):
        path.write_bytes(content[:place] + behind)
        with pytest.raises(AudioError, match=r"a\.mp3"):
            read_audio(path)
    path.write_bytes(content + b"TAG" + bytes(125))
    assert len(read_audio(path)) == n_samples


@pytest.mark.parametrize(
    "line",
    [
        *(
            '{"trial": 0, "at": []}',
            '{"at": 1.0}',
            '{"trial": 0}',
            '{"trial": {}, "at": 1.0}',
            "[]",
            "\udcff",
        ),
        *('{"trial": 0, "epoch": 1, "at": 1.0}', '{"trial": 0, "ended": 3, "at": 1.0}', "{"),
    ],
)
def test_a_damaged_journal_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f"{JOURNAL}{line}\n", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"journal\.jsonl is damaged"):
        Journal(path)


def test_weights_that_are_no_numbers_are_refused(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = load(whole.folder / "run0")
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    next(tensor for tensor in tensors.values() if tensor.is_floating_point()).view(-1)[0] = torch.inf
    save_model(path, model, tensors)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged: .* NaN or infinite"):
        load(path)
    fin = load_fin(FINS["rms"])
    next(fin.parameters()).data.view(-1)[0] = torch.nan
    save_fin(path, fin)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged: .* NaN or infinite"):
        load_fin(path)


def test_a_damaged_result_or_script_is_named(tmp_path: Path) -> None:
    start_run(tmp_path, {"seed": 0})
    (tmp_path / "result.json").write_text('{"uar": NaN}')
    with pytest.raises(ValueError, match=r"result\.json is no JSON"):
        read_json(tmp_path / "result.json")
    whole = {"model": [], "parameters": 1, "protocol": "", "parts": {}, "labels": [], "uar": 0.5}
    (tmp_path / "result.json").write_text(json.dumps({**whole, "n_utterances": 3}))
    with pytest.raises(ValueError, match=r"result\.json is damaged: its model is none"):
        read_result(tmp_path)
    (tmp_path / "sweep.py").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"sweep\.py is no text in UTF-8"):
        read_sweep(str(tmp_path / "sweep.py"))


def test_a_link_to_itself_is_missing(tmp_path: Path) -> None:
    loop = tmp_path / "loop.h5"
    loop.symlink_to(loop)
    with pytest.raises(ValueError, match=r"loop\.h5 is missing"):
        UtteranceTable([loop])
    with pytest.raises(OSError, match="Too many levels"):
        report_drift(DriftOptions((loop,), out=tmp_path / "out"))


def test_answers_and_configurations_are_plain_files(tmp_path: Path) -> None:
    for name in ("answers.csv", "config.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"answers\.csv is no plain file"):
        read_answers(tmp_path / "answers.csv")
    with pytest.raises(ValueError, match=r"config\.json is no plain file"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    "line", [b"\xff", b"{}", b'{"file": "a.wav", "records": [{}]}', b'{"file": 1, "records": 2}']
)
def test_damaged_unfinished_answers_are_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl.unfinished"
    path.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"a\.jsonl\.unfinished is damaged"):
        AnswerJournal(path).read()


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a" + bytes(100))
    with pytest.raises(ValueError, match=r"model\.onnx is no whole ONNX file"):
        Session(tmp_path / "model.onnx")
