"""What is wrong with a recording: each measure on sound made to have it, and all of them on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, Signal, quantise, read_audio
from fins.learning.degradations import CONDITIONS
from ser_heads.inference.condition import Condition, examine
from ser_heads.inference.files import PredictOptions, predict_files
from ser_heads.models import create, save_model

NAMED = {
    "noise, 20 dB": "noise",
    "noise, 10 dB": "noise",
    "noise, 0 dB": "noise",
    "clipped at a fifth of the peak": "clipping",
    "telephone band, 300 to 3400 Hz": "band",
    "made at 8 kHz": "band",
    "made at 16 kHz": "band",
    "digital silence for half of it": "silence",
}
"""Degradation → the fault that it makes, whatever the recording was before."""


def bursts(seconds: float = 3.0, top: float = 11_025.0) -> Signal:
    """Noise up to so many Hz at an amplitude of about .1, four times a second; between, a hundredth of it."""
    n = round(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(0).standard_normal(n)
    gated = noise * np.where(np.arange(n) / SAMPLE_RATE % 0.25 < 0.12, 1.0, 1e-2)
    hertz = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    shaped = np.fft.irfft(np.fft.rfft(gated) * (hertz < top) / (1 + hertz / 2_000), n)
    return (0.1 * shaped / shaped.std()).astype(np.float32)


def faults(signal: NDArray[np.floating]) -> set[str]:
    return set(examine(signal.astype(np.float32)).faults())


def test_sound_without_a_fault_has_none() -> None:
    assert examine(bursts()).faults() == {}


@pytest.mark.parametrize("snr", [0.0, 10.0, 20.0])
def test_noise_is_measured_in_decibels(snr: float) -> None:
    signal = bursts()
    noise = np.random.default_rng(1).standard_normal(len(signal)) * signal.std() * 10 ** (-snr / 20)
    measured = examine((signal + noise).astype(np.float32))
    both = 10 * np.log10(1 + 10 ** (snr / 10))  # power with noise over noise, which may be taken as more
    assert both - 6 < measured.snr < both + 1 and set(measured.faults()) == {"noise"}


@pytest.mark.parametrize("top", [3_400.0, 5_100.0, 8_000.0])
def test_the_highest_frequency_is_found(top: float) -> None:
    measured = examine(bursts(top=top))
    assert abs(measured.top - top) <= 500 and set(measured.faults()) == {"band"}


def test_clipped_samples_are_counted() -> None:
    signal = bursts()
    limit = np.quantile(np.abs(signal), 0.95)
    measured = examine(signal.clip(-limit, limit))
    at_limit = np.abs(signal) >= limit
    runs = np.convolve(at_limit, np.ones(3), "same") == 3  # with both neighbours
    assert measured.clipped == pytest.approx(runs.mean(), rel=0.1) and "clipping" in measured.faults()
    assert examine(signal).clipped == 0


def test_level_length_silence_and_offset() -> None:
    signal = bursts()
    assert faults(signal * 0.01) == {"level"}
    assert examine(signal * 0.01).level == pytest.approx(examine(signal).level - 40, abs=0.01)
    assert "length" in faults(signal[: SAMPLE_RATE // 4]) and "length" not in faults(signal)
    assert examine(signal).seconds == 3
    half = signal.copy()
    half[len(half) // 4 : len(half) * 3 // 4] = 0
    assert "silence" in faults(half) and examine(half).silence == pytest.approx(0.5, abs=0.03)
    assert faults(signal + 0.1 * signal.std()) == {"offset"}
    assert examine(signal + np.float32(0.1) * signal.std()).offset == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("n", [1, 100, 30_000])
def test_silence_is_one_fault(n: int) -> None:
    assert faults(np.zeros(n)) == {"silence"}


@pytest.mark.parametrize("signal", [np.ones(1), np.ones(50_000), np.full(3, -1.0)])
def test_whatever_it_is_is_measured(signal: NDArray[np.float64]) -> None:
    measured = examine(signal.astype(np.float32))
    assert isinstance(measured, Condition) and all("\n" not in text for text in measured.faults().values())


@pytest.mark.corpora
@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS"])
def test_faults_of_degraded_speech_are_named_and_none_of_clean(corpora: Path, corpus: str) -> None:
    """In 95 of 100 cases. SAVEE has an offset and ESD ends at 8 kHz: they aren't clean to begin with."""
    files = sorted((corpora / corpus).rglob("*.flac"))
    chosen = np.random.default_rng(2).choice(len(files), 100, replace=False)
    speech = [read_audio(files[place]) for place in chosen]
    assert sum(not examine(signal).faults() for signal in speech) >= 95
    for degradation, fault in NAMED.items():
        named = 0
        for number, signal in enumerate(speech):
            degraded = CONDITIONS[degradation](signal, np.random.default_rng(number))
            named += fault in faults(quantise(degraded)[0] / 32_768)
        assert named >= 95, degradation


def test_the_command_tells_faults_in_the_notes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(tmp_path / "w.safetensors", create("fin", ("a", "b"), fins=("rms",)))
    soundfile.write(tmp_path / "1.wav", bursts(), SAMPLE_RATE)
    soundfile.write(tmp_path / "2.wav", bursts(top=3_400) * 0.01, SAMPLE_RATE)
    soundfile.write(tmp_path / "3.wav", np.zeros(3_000), SAMPLE_RATE)
    options = PredictOptions(str(tmp_path / "w.safetensors"), (str(tmp_path),), doctor=True)
    notes = [record["note"] for record in predict_files(options)[0].records]
    assert notes[0] == "" and "quiet" in notes[1] and "nothing above 3.5 kHz" in notes[1]
    assert notes[2] == "there is nothing but digital silence"
    with pytest.raises(ValueError, match="leave --timeline out"):
        PredictOptions("w", ("x",), doctor=True, timeline=True)
