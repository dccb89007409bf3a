"""How far a recording's features are from those of training, against PyTorch's own divergence of normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_signal
from torch.distributions import Normal, kl_divergence

from fins.audio import SAMPLE_RATE, Signal, read_audio
from ser_heads.inference.familiarity import FAR, distances, unlike_training
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.layers.frame_norm import FrameNorm
from ser_heads.model import SerModel
from ser_heads.models import create, save_model

VOICES = [make_signal(number, 24_000 + 700 * number) for number in range(24)]
TONE = (0.3 * np.sin(np.arange(30_000) / 9)).astype(np.float32)


def calibrated(signals: list[Signal], **options: object) -> SerModel:
    """A classifier whose scales are those of these recordings."""
    torch.manual_seed(0)
    model = create("fin", ("a", "b"), **options).eval()
    norm = model.norm
    assert isinstance(norm, FrameNorm)
    with torch.no_grad():
        frames = [model.frontend(*model.trim(torch.from_numpy(signal)[None], None)) for signal in signals]
    norm.calibrate(frames)
    return model


@pytest.fixture(scope="module")
def model() -> SerModel:
    return calibrated(VOICES, fins=("rms", "zcr", "chroma"))


@pytest.mark.parametrize("removed", ["channel", "nothing"])
def test_a_distance_is_the_divergence_of_normals(removed: str) -> None:
    model = calibrated(VOICES, fins=("rms", "zcr", "chroma"), removed=removed)
    found = distances(model, [VOICES[5], TONE, VOICES[0]])
    assert found is not None
    for signal, distance in zip((VOICES[5], TONE, VOICES[0]), found, strict=True):
        with torch.no_grad():
            waveform = torch.from_numpy(signal)[None]
            frames = model.norm(model.frontend(*model.trim(waveform, None))).values[0].double()
        deviation = frames.std(dim=0, correction=0).clamp_min(1e-9)
        expected = kl_divergence(Normal(frames.mean(dim=0), deviation), Normal(0.0, 1.0))
        capped = (0.5 * (frames.var(dim=0, correction=0) + frames.mean(dim=0) ** 2 - 1 + np.log(100))).numpy()
        columns = np.where(deviation.numpy() ** 2 < 0.01, capped, expected.numpy())
        assert isinstance(model.norm, FrameNorm)
        means = [columns[part].mean() for part in model.norm.features.values()]
        assert distance == pytest.approx(np.mean(means), rel=1e-3)


def test_what_is_far_is_named_and_what_is_like_training_not(model: SerModel, tmp_path: Path) -> None:
    others = [make_signal(number, 30_000) for number in range(40, 60)]
    far = distances(model, others)
    assert far is not None and np.median(far) < FAR
    for distance, sentence in zip(far, unlike_training(model, others), strict=True):
        assert bool(sentence) == (distance > FAR)
    (sentence,) = unlike_training(model, [TONE])
    assert "unlike those of the training recordings" in sentence and f"lie within {FAR:g}" in sentence
    save_model(tmp_path / "w.safetensors", model)
    for name, signal in {"tone": TONE, "voice": others[int(far.argmin())], "zeros": np.zeros(30_000)}.items():
        soundfile.write(tmp_path / f"{name}.wav", signal, SAMPLE_RATE)
    options = PredictOptions(str(tmp_path / "w.safetensors"), (str(tmp_path),), doctor=True)
    notes = {Path(row["file"]).stem: row["note"] for row in predict_files(options)[0].records}
    assert "unlike those" in notes["tone"] and "unlike those" not in notes["voice"]
    assert notes["zeros"] == "there is nothing but digital silence"


def test_of_a_model_without_scales_nothing_is_told() -> None:
    torch.manual_seed(0)
    for name in ("fin", "raw_cnn"):  # never calibrated, and without a norm of frames
        assert unlike_training(create(name, ("a", "b")).eval(), [TONE]) == [""]


@pytest.mark.corpora
@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS", "SAVEE", "ESD"])
def test_real_recordings_like_those_of_training_are_not_named(corpora: Path, corpus: str) -> None:
    """At most 2 of 100 that the scales aren't from; noise and tones are named, whatever they are from."""
    files = sorted((corpora / corpus).rglob("*.flac"))
    chosen = np.random.default_rng(8).choice(len(files), min(160, len(files)), replace=False)
    speech = [read_audio(files[place]) for place in chosen]
    model = calibrated(speech[:60])
    assert sum(map(bool, unlike_training(model, speech[60:]))) <= 2
    noise = np.random.default_rng(0).standard_normal(50_000).astype(np.float32) * 0.1
    assert all(unlike_training(model, [noise, TONE]))
