"""Channels that cancel or are silent: named, and answers are those to a recording of one channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_signal
from numpy.typing import NDArray

from fins import channels
from fins.audio import SAMPLE_RATE, quantise, read_audio
from fins.channels import choose_channels, covariance
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.inference.predict import predict_each
from ser_heads.inference.sound import read_channels, read_sound
from ser_heads.inference.stream import predict_along
from ser_heads.model import SerModel
from ser_heads.models import create, save_model

VOICE = make_signal(0, 40_000).astype(np.float64)
NOISE = np.random.default_rng(0).standard_normal(40_000) * VOICE.std()


@pytest.fixture(scope="module")
def model() -> SerModel:
    torch.manual_seed(0)
    return create("fin", ("a", "b"), fins=("rms", "zcr")).eval()


def stereo(*columns: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("wanted", [-1.0, -0.95, -0.85, -0.3, 0.0, 0.5, 1.0])
def test_opposite_phase_is_told_by_correlation(wanted: float) -> None:
    other = wanted * VOICE + np.sqrt(1 - wanted**2) * NOISE
    correlation = np.corrcoef(VOICE, other)[0, 1]
    places, faults = choose_channels(stereo(VOICE, other))
    assert set(faults) == ({"phase"} if correlation < -0.9 else set())
    assert len(places) == (1 if correlation < -0.9 else 2)
    if faults:
        assert f"(correlation {correlation:.2f})" in faults["phase"]


def test_covariance_is_numpys_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(1).normal((0, 2, -1), 1, (1_000, 3))
    blocks = np.array_split(samples, 7)
    np.testing.assert_allclose(covariance(blocks), np.cov(samples.T, bias=True), atol=1e-12)
    monkeypatch.setattr(channels, "BLOCK", 300)
    assert choose_channels(stereo(VOICE, -VOICE))[0] == [0]


@pytest.mark.parametrize(
    ("columns", "kept", "names", "words"),
    [
        ((VOICE, -VOICE), VOICE, {"phase"}, "only channel 1 was used"),
        ((-0.4 * VOICE, VOICE), VOICE, {"phase"}, "only channel 2 was used"),
        ((VOICE + 0.02, 0.02 - VOICE), VOICE + 0.02, {"phase"}, "opposite phase"),  # an offset is no likeness
        ((VOICE, 0 * VOICE), VOICE, {"channel"}, "channel 2 is silent, so only the other"),
        ((0.005 * NOISE, VOICE), VOICE, {"channel"}, "channel 1 is silent"),
        ((0 * VOICE, 0.1 + 0 * VOICE, VOICE), VOICE, {"channel"}, "of 3 channels 1 and 2 are silent"),
        ((VOICE, 0 * VOICE, -VOICE), VOICE, {"channel", "phase"}, "channel"),
        ((VOICE, 0.02 * NOISE), (VOICE + 0.02 * NOISE) / 2, set(), ""),
        ((VOICE, NOISE), (VOICE + NOISE) / 2, set(), ""),
        ((0 * VOICE, 0 * VOICE), 0 * VOICE, set(), ""),
        ((VOICE,), VOICE, set(), ""),
    ],
)
def test_the_channels_that_are_used(
    columns: tuple[NDArray, ...], kept: NDArray, names: set[str], words: str, tmp_path: Path
) -> None:
    samples = stereo(*columns)
    signal, faults = read_channels(samples, SAMPLE_RATE)
    np.testing.assert_allclose(signal, kept, atol=1e-6)
    assert set(faults) == names and words in " ".join(faults.values())
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), kept, atol=1e-6)
    integers = (samples * 32_767).round().astype(np.int16)
    np.testing.assert_allclose(read_sound(integers, SAMPLE_RATE), kept, atol=1e-4)


def test_answers_are_those_of_one_channel_and_say_so(model: SerModel, tmp_path: Path) -> None:
    for name, samples in {
        "one": VOICE,
        "both": stereo(VOICE, -VOICE),
        "half": stereo(VOICE, 0 * VOICE),
    }.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    one, both, half = predict_each(model, [tmp_path / f"{name}.wav" for name in ("one", "both", "half")])
    assert both.probabilities == pytest.approx(one.probabilities, abs=1e-5) and one.note == ""
    assert half.probabilities == pytest.approx(one.probabilities, abs=1e-5)
    assert "opposite phase" in both.note and half.note == "channel 2 is silent, so only the other was used"
    save_model(tmp_path / "w.safetensors", model)
    for doctor in (False, True):
        options = PredictOptions(str(tmp_path / "w.safetensors"), (str(tmp_path),), doctor=doctor)
        notes = {Path(row["file"]).stem: row["note"] for row in predict_files(options)[0].records}
        assert "opposite phase" in notes["both"] and "silent" in notes["half"] and "phase" not in notes["one"]


def test_a_timeline_takes_one_of_channels_that_cancel(model: SerModel, tmp_path: Path) -> None:
    late = np.where(np.arange(40_000) < 30_000, 0, VOICE)  # silent so far, but no less a voice
    for name, samples in {"one": VOICE, "both": stereo(VOICE, -VOICE), "late": stereo(NOISE, late)}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    one, both, late_rows = (
        predict_along(model, tmp_path / f"{name}.wav", 0.5, 0.25) for name in ("one", "both", "late")
    )
    assert len(one) == len(both) > 4
    for row, other in zip(one, both, strict=True):
        assert other.probabilities == pytest.approx(row.probabilities, abs=1e-5)
        assert "opposite phase" in other.note and row.note == ""
    soundfile.write(tmp_path / "mean.wav", (NOISE + late) / 2, SAMPLE_RATE, subtype="FLOAT")
    for row, other in zip(predict_along(model, tmp_path / "mean.wav", 0.5, 0.25), late_rows, strict=True):
        assert other.probabilities == pytest.approx(row.probabilities, abs=1e-4) and other.note == ""
    soundfile.write(tmp_path / "half.wav", stereo(VOICE, 0 * VOICE), SAMPLE_RATE, subtype="FLOAT")
    assert {row.note for row in predict_along(model, tmp_path / "half.wav", 0.5, 0.25)} == {""}


@pytest.mark.corpora
@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS"])
def test_channels_of_real_speech(corpora: Path, corpus: str) -> None:
    """Opposite phase with noise 20 dB below in each channel, a silent channel, and two that are no fault."""
    files = sorted((corpora / corpus).rglob("*.flac"))
    rng = np.random.default_rng(3)
    named = {"phase": 0, "channel": 0, "none": 0}
    for place in rng.choice(len(files), 100, replace=False):
        speech = read_audio(files[place]).astype(np.float64)
        noise = rng.standard_normal((len(speech), 2)) * speech.std() * 0.1
        opposite, pair = (np.stack([speech, sign * np.roll(speech, 3)], axis=1) for sign in (0, 1))
        opposite[:, 1] = -speech
        one = np.stack([speech, 0 * speech], axis=1)
        cases = {"phase": opposite + noise, "channel": one, "none": pair + noise}
        for name, samples in cases.items():
            _, faults = choose_channels(quantise(samples.astype(np.float32))[0] / 32_768)
            named[name] += set(faults) == (set() if name == "none" else {name})
    assert min(named.values()) >= 95, named
