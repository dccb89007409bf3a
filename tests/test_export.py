"""ONNX: what onnxruntime answers is what PyTorch answers, for any batch and length."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_blocks import run_to_its_end
from conftest import make_signal
from numpy.typing import NDArray
from sklearn.metrics import recall_score
from torch import Tensor, nn

from data_manifests.labels import EMOTIONS
from fins.audio import SAMPLE_RATE, read_audio
from fins.data.table import UtteranceTable
from ser_heads.inference import export as module
from ser_heads.inference.export import ExportedGru, ExportOptions, export, export_model
from ser_heads.inference.int8 import round_tensor
from ser_heads.inference.predict import probabilities_of
from ser_heads.model import SerModel
from ser_heads.models import MODELS, create, save_model

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("onnxscript", reason="needs the extra `export`")

LABELS = ("bored", "stressed", "relaxed")
EVERY_FIN = {"fins": ("mel", "rms", "zcr", "chroma", "mfcc")}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "raw_cnn": ("raw_cnn", {}),
    "fin of two": ("fin", {"fins": ("rms", "pitch")}),
    "fin": ("fin", {}),
    "wavelet": ("wavelet", {}),
    "wavelet, any tree": ("wavelet", {"tree": ("a", "dd", "da"), "sharing": "node"}),
    "fin_wavelet": ("fin_wavelet", {}),
    "feature_cnn": ("feature_cnn", EVERY_FIN),
    "cnn_transformer": ("cnn_transformer", {}),
}
QUICK = ("raw_cnn",)
TRAINED_FOR = 8  # steps of batch norm


def made(name: str) -> SerModel:
    """With random weights, norms that have met some sound, and answers that differ by recording."""
    torch.manual_seed(0)
    model, options = CASES[name]
    classifier = create(model, LABELS, **options).train()
    for layer in classifier.modules():
        if hasattr(layer, "momentum"):
            layer.momentum = 0.5
    with torch.no_grad():
        for seed in range(TRAINED_FOR):
            classifier(torch.from_numpy(np.stack([make_signal(4 * seed + i, 12_000) for i in range(4)])))
        logits = classifier.eval()(torch.from_numpy(np.stack([make_signal(i, 12_000) for i in range(16)])))
        last = [layer for layer in classifier.head.modules() if isinstance(layer, nn.Linear)][-1]
        spread = logits.std(dim=0).mean()
        last.weight.div_(spread)
        last.bias.sub_(logits.mean(dim=0)).div_(spread)
    classifier.temperature.fill_(0.7)
    classifier.abstention.fill_(0.25)
    return classifier


def by_onnx(path: Path, signals: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path))
    lengths = np.array([len(signal) for signal in signals])
    waveform = np.full((len(signals), lengths.max()), 7.0, np.float32)  # what is behind an end is ignored
    for row, signal in zip(waveform, signals, strict=True):
        row[: len(signal)] = signal
    return session.run(None, {"waveform": waveform, "lengths": lengths})[0]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_onnxruntime_answers_as_pytorch_does(name: str, tmp_path: Path) -> None:
    model = made(name)
    path = tmp_path / "model.onnx"
    export_model(model, path, {"uar": 0.5})
    proto = onnx.load(path)
    assert {(opset.domain, opset.version >= 17) for opset in proto.opset_import} == {("", True)}
    assert {node.domain for node in proto.graph.node} == {""} and not proto.functions
    metadata = {row.key: row.value for row in proto.metadata_props}
    assert metadata["model"] == model.name and metadata["sample_rate"] == "22050"
    assert float(metadata["abstention"]) == float(model.abstention) > 0
    assert json.loads(metadata["labels"]) == list(LABELS) and json.loads(metadata["card"]) == {"uar": 0.5}
    spread = []
    for sizes in (
        (1,),
        (2_047,),
        (2_048,),
        (44_100, 9_999),
        (2_560, 30_001, 500, 70_000, 22_050),
        (600_001,),
    ):
        signals = [make_signal(seed, size) for seed, size in enumerate(sizes)]
        expected = probabilities_of(model, signals)
        np.testing.assert_allclose(by_onnx(path, signals), expected, atol=5e-5)
        spread.append(expected)
    assert np.ptp(np.concatenate(spread), axis=0).max() > 0.01  # else anything would agree


@pytest.mark.corpora
def test_real_recordings_of_any_length_are_answered_alike(corpora: Path, tmp_path: Path) -> None:
    model = made("fin of two")
    path = tmp_path / "model.onnx"
    export_model(model, path)
    files = [
        *sorted(corpora.glob("SAVEE/**/*.flac"))[::100],
        *sorted(corpora.glob("RAVDESS/**/*.flac"))[::400],
    ]
    assert len(files) >= 5
    speech = [read_audio(file) for file in files]
    signals = [*speech, speech[0][:2_205], np.concatenate(speech)[: 30 * SAMPLE_RATE]]
    for signal in signals:
        np.testing.assert_allclose(by_onnx(path, [signal]), probabilities_of(model, [signal]), atol=1e-4)


@pytest.mark.parametrize(("n_inputs", "n_hidden"), [(3, 5), (32, 16)])
def test_a_gru_in_the_order_of_onnx_is_the_gru(n_inputs: int, n_hidden: int) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(n_inputs, n_hidden)
    sequence = torch.randn(7, 2, n_inputs)
    torch.testing.assert_close(ExportedGru(gru)(sequence)[0], gru(sequence)[0])
    torch.library.opcheck(torch.ops.fin_ser.gru, (sequence, *ExportedGru(gru).buffers()))


class Energy(nn.Module):
    def forward(self, waveform: Tensor) -> Tensor:
        return waveform.square().sum(dim=1)


def test_sums_over_half_a_minute_are_exact(tmp_path: Path) -> None:
    waveform = np.random.default_rng(0).standard_normal((1, 660_000)).astype(np.float32)
    path = str(tmp_path / "energy.onnx")
    with module.quiet():
        torch.onnx.export(
            Energy(),
            (torch.from_numpy(waveform),),
            path,
            dynamo=True,
            opset_version=module.OPSET,
            input_names=["waveform"],
            custom_translation_table=module.translations(),
            verbose=False,
        )
    energy = onnxruntime.InferenceSession(path).run(None, {"waveform": waveform})[0]
    np.testing.assert_allclose(energy, np.square(waveform.astype(np.float64)).sum(axis=1), rtol=1e-6)


def test_models_that_cant_be_exported_say_why(tmp_path: Path) -> None:
    refused = [name for name in MODELS if create(name, LABELS).frontend.why_not_exported]
    assert {"cnn_lstm_1d", "spectral_svm", "feature_cnn"} <= set(refused)
    for name in refused:
        with pytest.raises(ValueError, match=f"^{name} can't be exported: ") as caught:
            export_model(create(name, LABELS), tmp_path / "model.onnx")
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_isnt_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = made("raw_cnn"), made("raw_cnn")
    with torch.no_grad():
        other.head.logits.bias.add_(torch.tensor([0.01, 0, 0]))  # type: ignore[union-attr]
    proto = module.translate(other)
    monkeypatch.setattr(module, "translate", lambda model: proto)
    with pytest.raises(ValueError, match="differs from PyTorch"):
        export_model(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEEDED", ("onnx", "no_such_library"))
    with pytest.raises(ValueError, match=r"needs no_such_library: pip install 'fin-ser\[export\]'"):
        export_model(create("raw_cnn", LABELS), tmp_path / "model.onnx")


def test_the_command_writes_a_file_with_the_card_and_tells_what_eight_bits_cost(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = create("raw_cnn", EMOTIONS).eval()
    save_model(tmp_path / "weights.safetensors", model, card={"data": "made"})
    out = tmp_path / "a.onnx"
    arguments = [str(tmp_path), "--out", str(out), "--int8", "--store", str(small_store)]
    run_to_its_end("pipelines.export", arguments, monkeypatch)
    written, told = capsys.readouterr().out.splitlines()
    assert written.startswith(f"raw_cnn for {', '.join(EMOTIONS)} written to {out}")
    proto = onnx.load(out)
    assert json.loads({row.key: row.value for row in proto.metadata_props}["card"]) == {"data": "made"}
    assert {node.domain for node in proto.graph.node} == {""}
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert kinds["model.head.layers.31.weight.int8"] == onnx.TensorProto.INT8
    assert "model.head.layers.31.weight" not in kinds
    with UtteranceTable((small_store,)) as table:
        signals = [table.signal(place) for place in range(len(table.rows))]
        truth = table.rows["emotion"].map(EMOTIONS.index)
    uars = [
        100 * recall_score(truth, answer(signals).argmax(axis=1), average="macro")
        for answer in (partial(probabilities_of, model), partial(by_onnx, out))
    ]
    assert f"on 64 recordings: UAR {uars[0]:.1f} % by PyTorch, {uars[1]:.1f} % by the file" in told


@pytest.mark.parametrize("shape", [(6, 4), (1, 9, 5), (3, 4, 5)])
def test_eight_bits_are_a_step_of_each_slice_at_most_half_off(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    axis = shape.index(max(shape[:2]))
    weights *= np.logspace(-4, 4, shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    weights[(slice(None),) * axis + (0,)] = 0
    rounded, scale = round_tensor(weights, axis)
    per_slice = np.moveaxis(weights, axis, 0).reshape(shape[axis], -1)
    np.testing.assert_allclose(scale[1:], np.abs(per_slice[1:]).max(axis=1) / 127, rtol=1e-6)
    again = np.moveaxis(rounded.astype(np.float64), axis, 0).reshape(shape[axis], -1) * scale[:, None]
    assert (np.abs(again - per_slice) <= 0.5001 * scale[:, None]).all() and rounded.dtype == np.int8


def test_what_cant_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file in a folder that is there"):
        ExportOptions("fin", tmp_path / "no" / "where.onnx")
    with pytest.raises(ValueError, match="there is no classifier nowhere"):
        export(ExportOptions("nowhere", tmp_path / "a.onnx"))
