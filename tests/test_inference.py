"""What a user asks of a model: one answer, several, a table of them, a vector; and answers over time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import torch
from conftest import make_signal
from numpy.typing import NDArray
from torch import nn

from fins.audio import HOP, SAMPLE_RATE, WINDOW, AudioError, read_audio, read_blocks
from fins.command import OF_TRAINING
from ser_heads.inference.predict import BATCH, Prediction, batches_by_length, predict_each
from ser_heads.inference.stream import Stream, whole_frames
from ser_heads.model import SerModel
from ser_heads.models import MODELS, create, save_model

LABELS = ("bored", "stressed", "relaxed")
WITHOUT_VECTOR = MODELS.keys() - {"fin", "wavelet", "fin_wavelet", "feature_cnn"}


@pytest.fixture(scope="module")
def model() -> SerModel:
    """With random weights, whose norms have met some sound, and answers that differ."""
    torch.manual_seed(0)
    made = create("fin", LABELS, fins=("rms", "zcr"))
    with torch.no_grad():
        for seed in range(30):
            made.train()(torch.from_numpy(np.stack([make_signal(seed + i, 9_000) for i in range(4)])))
    made.temperature.fill_(1.5)
    return made.eval()


def shares_of(model: SerModel, signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_labels,): what the answer is by definition."""
    with torch.no_grad():
        logits = model(torch.from_numpy(signal)[None])[0].double().numpy() / float(model.temperature)
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def write(path: Path, samples: NDArray[Any], rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def shares(prediction: Prediction) -> list[float]:
    return list(prediction.probabilities.values())


def test_an_answer_is_softmax_over_temperature(model: SerModel, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", make_signal(0, 44_100), 44_100)
    prediction = model.predict(path)
    assert isinstance(prediction, Prediction)
    expected = shares_of(model, read_audio(path))
    assert list(prediction.probabilities) == list(LABELS)
    np.testing.assert_allclose(shares(prediction), expected, atol=1e-6)
    assert prediction.label == LABELS[expected.argmax()] and prediction.confidence == max(shares(prediction))
    assert (prediction.file, prediction.seconds, prediction.note) == (str(path), 1.0, "")


def test_a_list_is_answered_in_its_order_whatever_the_lengths(model: SerModel, tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(3_000, 40_000, BATCH + 5)
    signals = [make_signal(seed, int(n)) for seed, n in enumerate(lengths)]
    predictions = model.predict(signals, SAMPLE_RATE)
    assert isinstance(predictions, list)
    expected = [shares_of(model, signal) for signal in signals]
    np.testing.assert_allclose([shares(row) for row in predictions], expected, atol=1e-5)
    assert model.predict([]) == []
    files = [write(tmp_path / f"{place}.wav", signals[place]) for place in (1, 0)]
    assert [row.file for row in predict_each(model, files)] == [str(path) for path in files]
    with pytest.raises(AudioError, match=r"gone.wav is missing"):
        model.predict([files[0], tmp_path / "gone.wav"])


def test_batches_hold_every_place_once_and_little_padding() -> None:
    lengths = [100 * SAMPLE_RATE, *range(1, 100), 100 * SAMPLE_RATE]
    batches = list(batches_by_length(lengths))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) <= BATCH for batch in batches)
    assert [0] in batches and [100] in batches  # so long that no two go together


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_rates_types_and_channels_give_the_answer_of_the_sound(model: SerModel, rate: int) -> None:
    wave = soxr.resample(make_signal(3, 30_000), SAMPLE_RATE, rate)
    whole = np.rint(wave * 32_767).astype(np.int16)
    expected = shares_of(model, soxr.resample(whole / np.float32(32_768), rate, SAMPLE_RATE, quality="HQ"))
    both = np.stack([whole, whole], axis=1)
    wide = (whole.astype(np.int32) << 16, whole.astype(np.float64) / 32_768, torch.from_numpy(whole))
    for array in (whole, both, both.T, whole[:, None], whole[None], *wide):
        prediction = predict_each(model, [array], rate)[0]
        np.testing.assert_allclose(shares(prediction), expected, atol=1e-4)
    one_sided = np.stack([whole / 16_384, 0 * whole], axis=1)  # mixed down, not summed
    np.testing.assert_allclose(shares(predict_each(model, [one_sided], rate)[0]), expected, atol=1e-4)
    eight = np.clip((whole >> 8) + 128, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(
        shares(predict_each(model, [eight], rate)[0]),
        shares(predict_each(model, [(whole >> 8) / 128], rate)[0]),
        atol=1e-6,
    )


def test_what_says_little_is_answered_with_a_note(model: SerModel) -> None:
    short = predict_each(model, [make_signal(0, 220)], SAMPLE_RATE)[0]
    assert "shorter than a window of 93 ms" in short.note and short.seconds == pytest.approx(
        220 / SAMPLE_RATE
    )
    silence = predict_each(model, [np.zeros(22_050, np.int16)], SAMPLE_RATE)[0]
    assert "digital silence" in silence.note and np.isfinite(shares(silence)).all()


@pytest.mark.parametrize(
    ("source", "rate", "reason"),
    [
        (np.zeros(3_000), None, "give sampling_rate"),
        (np.zeros(3_000), 7_999, "from 8,000 to 192,000"),
        (np.zeros(3_000), 44_100.5, "whole number of Hz"),
        (np.zeros(3_000), "44100", "whole number of Hz"),
        (np.zeros(0), 16_000, "has the shape"),
        (np.zeros((2, 2, 3_000)), 16_000, "has the shape"),
        (np.zeros((30, 3_000)), 16_000, "counts its channels"),
        (np.zeros((2, 2)), 16_000, "counts its channels"),
        (np.array([0.0, np.nan]), 16_000, "NaN or infinite"),
        (np.array([0.0, np.inf]), 16_000, "NaN or infinite"),
        (np.full(3_000, 2_000.0), 16_000, "divide them by full scale"),
        (np.zeros(3_000, complex), 16_000, "floating numbers or integers"),
        (np.zeros(3_000, np.int64), 16_000, "floating numbers or integers"),
        (np.zeros(301 * 8_000, np.int16), 8_000, "use timeline"),
        (0.5, 16_000, "is the path of a file or an array"),
        (None, None, "is the path of a file or an array"),
        ([0.1, 0.2], 16_000, "is the path of a file or an array"),
        ("nowhere.wav", None, "is missing"),
        ("nowhere.wav", 16_000, "leave sampling_rate out"),
    ],
)
def test_what_cant_be_answered_is_refused_in_one_sentence(
    model: SerModel, source: Any, rate: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        model.predict(source, rate)
    assert "\n" not in str(caught.value)


def test_an_open_file_is_no_recording_and_of_none_there_is_no_vector(model: SerModel) -> None:
    with (
        open(os.devnull, "rb", buffering=0) as opened,
        pytest.raises(ValueError, match="path of a file or an array"),
    ):
        model.predict(opened)
    with pytest.raises(ValueError, match="nothing to embed"):
        model.embed([])


@pytest.mark.parametrize("name", ["fin", "raw_cnn"])
def test_a_model_of_another_type_is_refused_in_one_sentence(name: str) -> None:
    half = create(name, LABELS).half()
    with pytest.raises(ValueError, match=r"compute in float32, and here is torch\.float16"):
        half.predict(make_signal(0), SAMPLE_RATE)


def test_answers_are_restricted_only_if_asked_and_say_so(model: SerModel) -> None:
    signal = make_signal(4)
    every = shares_of(model, signal)
    prediction = model.predict(signal, SAMPLE_RATE, labels=["relaxed", "bored"])
    assert isinstance(prediction, Prediction)
    assert list(prediction.probabilities) == ["bored", "relaxed"]  # in the model's order
    np.testing.assert_allclose(shares(prediction), every[[0, 2]] / every[[0, 2]].sum(), atol=1e-6)
    assert "restricted to bored, relaxed" in prediction.note
    for labels, reason in (
        (["bored", "angry"], "can't answer 'angry'"),
        (["bored", "bored"], "two labels or more"),
        ("bored", "a list of words"),
    ):
        with pytest.raises(ValueError, match=reason):
            model.predict(signal, SAMPLE_RATE, labels)


def test_a_table_has_the_index_of_audformat(model: SerModel) -> None:
    signal = make_signal(5, 16_000)
    table = model.predict_signal(signal, 16_000)
    assert table.index.names == ["file", "start", "end"]
    assert [str(kind) for kind in table.index.dtypes] == ["string", "timedelta64[ns]", "timedelta64[ns]"]
    assert table.index[0] == ("", pd.Timedelta(0), pd.Timedelta(seconds=1))
    assert list(table.columns) == ["label", "confidence", *LABELS]
    prediction = predict_each(model, [signal], 16_000)[0]
    assert table.iloc[0].tolist() == [prediction.label, prediction.confidence, *shares(prediction)]
    restricted = model.predict_signal(signal, 16_000, labels=["bored", "stressed"], file="x.wav")
    assert list(restricted.columns) == ["label", "confidence", "bored", "stressed"]
    assert restricted.index[0][0] == "x.wav"


def test_a_vector_is_what_the_logits_are_made_of(model: SerModel) -> None:
    signals = [make_signal(6, 20_000), make_signal(7, 9_000)]
    vectors = model.embed(signals, SAMPLE_RATE)
    assert isinstance(model.head.logits, nn.Module)
    for signal, vector in zip(signals, vectors, strict=True):
        np.testing.assert_allclose(model.embed(signal, SAMPLE_RATE), vector, atol=1e-4)
        with torch.no_grad():
            logits = model.head.logits(torch.from_numpy(vector)[None])
            torch.testing.assert_close(logits, model(torch.from_numpy(signal)[None]), atol=1e-3, rtol=1e-3)


def test_models_without_a_vector_say_so() -> None:
    with pytest.raises(ValueError, match="raw_cnn has no vector"):
        create("raw_cnn", LABELS).embed(make_signal(0), SAMPLE_RATE)
    assert {name for name in MODELS if not hasattr(create(name, LABELS).head, "embed")} == WITHOUT_VECTOR


def test_a_model_that_is_being_trained_answers_as_it_will_and_goes_on() -> None:
    torch.manual_seed(1)
    made = create("fin", LABELS, fins=("rms",)).train()
    made.frontend.eval()  # frozen
    before = [module.training for module in made.modules()]
    first, second = (predict_each(made, [make_signal(0)], SAMPLE_RATE)[0] for _ in range(2))
    assert first == second
    assert [module.training for module in made.modules()] == before
    np.testing.assert_allclose(shares(first), shares_of(made.eval(), make_signal(0)), atol=1e-6)


# over time


def in_chunks(size: int) -> Callable[[NDArray[Any]], list[NDArray[Any]]]:
    return lambda samples: [samples[start : start + size] for start in range(0, len(samples), size)]


@pytest.mark.parametrize("rate", [8_000, SAMPLE_RATE, 48_000])
def test_chunks_of_any_size_give_the_answers_of_each_stretch(
    model: SerModel, tmp_path: Path, rate: int
) -> None:
    """The oracle: stretches cut by hand out of the whole sound, each answered by itself."""
    samples = soxr.resample(make_signal(8, 5 * SAMPLE_RATE + 77), SAMPLE_RATE, rate)
    path = write(tmp_path / "long.wav", np.stack([samples, 0.5 * samples], axis=1), rate)
    signal = read_audio(path)
    window, hop = whole_frames(1.0, 0.4)
    starts = [*range(0, len(signal) - window + 1, hop)]
    starts.append(starts[-1] + hop)  # what is left
    expected = [shares_of(model, signal[start : start + window]) for start in starts]

    table = model.timeline(path, window=1.0, hop=0.4)
    np.testing.assert_allclose(table[list(LABELS)], expected, atol=1e-5)
    np.testing.assert_allclose(
        table.index.get_level_values("start") / pd.Timedelta(seconds=1),
        np.array(starts) / SAMPLE_RATE,
        atol=1e-8,
    )
    ends = table.index.get_level_values("end") / pd.Timedelta(seconds=1)
    assert ends[-1] == pytest.approx(len(signal) / SAMPLE_RATE, abs=1e-8)
    assert set(table.index.get_level_values("file")) == {str(path)}

    both = soundfile.read(path, dtype="float32")[0]
    for chunks in (in_chunks(1_111)(both), in_chunks(rate)(both), [both, both[:0]]):
        stream = model.stream(rate, window=1.0, hop=0.4)
        rows = [row for chunk in chunks for row in stream.push(chunk)] + stream.close()
        np.testing.assert_allclose([shares(row) for row in rows], expected, atol=1e-5)
        assert [row.start for row in rows] == [start / SAMPLE_RATE for start in starts]


def test_an_answer_comes_as_soon_as_its_stretch_is_whole(model: SerModel) -> None:
    stream = Stream(model, SAMPLE_RATE, window=0.5, hop=0.25)
    signal = make_signal(9, stream.window + stream.hop)
    assert stream.push(signal[: stream.window - 1]) == []
    assert [row.start for row in stream.push(signal[stream.window - 1 : stream.window])] == [0.0]
    assert [row.start for row in stream.push(signal[stream.window :])] == [stream.hop / SAMPLE_RATE]
    assert stream.close() == []  # all was answered
    with pytest.raises(ValueError, match="closed"):
        stream.push(signal)
    assert len(stream.waiting) <= stream.window


def test_stretches_further_apart_than_they_are_long(model: SerModel) -> None:
    signal = make_signal(10, 3 * SAMPLE_RATE - 1_000)
    window, hop = whole_frames(0.2, 1.0)
    stream = Stream(model, SAMPLE_RATE, window=0.2, hop=1.0)
    rows = [row for chunk in in_chunks(3_000)(signal) for row in stream.push(chunk)] + stream.close()
    assert [row.start for row in rows] == [start / SAMPLE_RATE for start in (0, hop, 2 * hop)]
    expected = [shares_of(model, signal[start : start + window]) for start in (0, hop, 2 * hop)]
    np.testing.assert_allclose([shares(row) for row in rows], expected, atol=1e-5)


def test_a_recording_shorter_than_the_window_has_one_answer(model: SerModel, tmp_path: Path) -> None:
    path = write(tmp_path / "short.wav", make_signal(11, 20_000))
    table = model.timeline(path)
    prediction = model.predict(path)
    assert isinstance(prediction, Prediction)
    assert len(table) == 1 and table.iloc[0]["label"] == prediction.label
    np.testing.assert_allclose(table.iloc[0][list(LABELS)].astype(float), shares(prediction), atol=1e-6)


def test_quiet_ends_are_cut_off_unless_asked(model: SerModel) -> None:
    signal = np.concatenate([np.zeros(22_050, np.float32), make_signal(12, 22_050)])
    trimmed, whole = (
        Stream(model, SAMPLE_RATE, window=3, trim=trim, labels=LABELS[:2]) for trim in (True, False)
    )
    rows = []
    for stream in (trimmed, whole):
        stream.push(signal)
        rows += stream.close()
    assert abs(rows[0].confidence - rows[1].confidence) > 1e-4
    frames = model.norm(model.frontend(torch.from_numpy(signal)[None], torch.tensor([len(signal)])))
    with torch.no_grad():
        logits = model.head(frames)[0, :2] / model.temperature
    np.testing.assert_allclose(shares(rows[1]), logits.softmax(0), atol=1e-5)
    assert "restricted" in rows[0].note


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sampling_rate": 100}, "from 8,000 to 192,000"),
        ({"window": 0.0}, "window is a time above 0"),
        ({"hop": -1.0}, "hop is a time above 0"),
        ({"hop": float("nan")}, "hop is a time above 0"),
        ({"labels": ["angry", "bored"]}, "can't answer 'angry'"),
    ],
)
def test_a_stream_that_cant_be_is_refused(model: SerModel, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Stream(model, **{"sampling_rate": 16_000, **options})


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (np.zeros((2, 1_000), np.float32), "a chunk has the shape"),
        (np.array([np.nan]), "NaN or infinite"),
        ([0.0, 0.0], "a chunk is an array, got list"),
    ],
)
def test_a_chunk_that_is_none_is_refused(model: SerModel, chunk: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Stream(model, 16_000).push(chunk)


def test_times_are_taken_to_whole_frames() -> None:
    window, hop = whole_frames(3.0, 1.0)
    assert (window - WINDOW) % HOP == 0 and hop % HOP == 0
    assert abs(window - 3 * SAMPLE_RATE) <= HOP / 2 and abs(hop - SAMPLE_RATE) <= HOP / 2
    assert whole_frames(0.001, 0.001) == (WINDOW, HOP)


def test_blocks_of_a_file_are_the_file(tmp_path: Path) -> None:
    samples = np.stack([make_signal(13, 50_000), make_signal(14, 50_000)], axis=1)
    path = write(tmp_path / "blocks.wav", samples, 16_000)
    blocks = list(read_blocks(path, 0.7))
    assert {rate for _, rate in blocks} == {16_000} and len(blocks) == 5
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), samples)
    data = path.read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    samples[-1] = np.nan
    write(tmp_path / "nan.wav", samples, 16_000)
    write(tmp_path / "none.wav", samples[:0], 16_000)
    for name, reason in (("cut", "truncated"), ("nan", "NaN"), ("none", "no samples"), ("gone", "missing")):
        with pytest.raises(AudioError, match=reason):
            list(read_blocks(tmp_path / f"{name}.wav", 0.7))


@pytest.mark.slow
def test_memory_is_flat_however_long_a_file_is(tmp_path: Path) -> None:
    """An hour is 318 MB of float32 at 22,050 Hz; what its timeline takes beside the model stays far below."""
    with soundfile.SoundFile(tmp_path / "hour.flac", "w", 16_000, 1, "PCM_16") as file:
        for seed in range(60):
            file.write(make_signal(seed, 60 * 16_000))
    code = (
        "import sys, resource; from ser_heads import create;"
        "model = create('fin', ['a', 'b'], fins=('rms',)).eval();"
        "import pandas, soxr, soundfile, numpy;"
        "model.predict(numpy.zeros(3 * 22050), 22050);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "rows = len(model.timeline(sys.argv[1], hop=3.0));"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "hour.flac")], capture_output=True, text=True, check=True
    )
    rows, kib = map(int, run.stdout.split())
    assert rows == pytest.approx(1_200, abs=4)
    assert kib < 100 * 1024


def run_without_extras(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A Python in which the libraries of training aren't installed."""
    missing = f"import sys\nsys.modules.update(dict.fromkeys({OF_TRAINING!r}))\n"
    (folder / "sitecustomize.py").write_text(missing)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_answers_take_no_library_of_training(tmp_path: Path) -> None:
    save_model(tmp_path / "fin.safetensors", create("fin", LABELS))
    soundfile.write(tmp_path / "a.wav", make_signal(0, 60_000), SAMPLE_RATE)
    code = "import sys, ser_heads; model = ser_heads.load('fin.safetensors'); model.predict('a.wav');"
    code += "print('pandas' in sys.modules); model.timeline('a.wav'); model.stream(sampling_rate=16_000);"
    run = run_without_extras(tmp_path, "-c", code)
    assert run.returncode == 0 and run.stdout == "False\n", run.stderr
    run = run_without_extras(tmp_path, "-m", "pipelines.predict", "fin.safetensors", "a.wav", "--doctor")
    assert run.returncode == 0 and "a.wav" in run.stdout, run.stderr


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.train",
        pytest.param("fins.train", marks=pytest.mark.slow),
        "pipelines.prepare",
        pytest.param("pipelines.evaluate", marks=pytest.mark.slow),
    ],
)
def test_what_is_missing_for_training_is_told_in_a_sentence(module: str, tmp_path: Path) -> None:
    words = (
        ("-c", "from pipelines.cli import main; main()", "train") if module == "fin-ser" else ("-m", module)
    )
    run = run_without_extras(tmp_path, *words, "--help")
    assert run.returncode == 2 and "fin-ser[train]" in run.stderr and run.stderr.count("\n") == 1
