"""The batched closed forms against librosa called window by window, and against values known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import pitch_by_delays
from hypothesis import given, settings
from hypothesis import strategies as st

from fins.audio import SAMPLE_RATE, WINDOW, cut_windows, read_audio
from fins.features import (
    FEATURES,
    compute_features,
    get_feature,
    librosa_feature,
    mel_centres,
    mel_filters,
    pitches,
)
from fins.synthetic import synthesise

# of each feature's scale: 1e-4, as the closed forms promise
SCALE = {"zcr": 1.0, "rms": 1.0, "chroma": 1.0, "mfcc": 100.0}


def tolerance(name: str, truth: np.ndarray) -> float:
    """For mel, whose power spans many decades, the scale is each window's largest band."""
    return 1e-4 * (max(float(truth.max()), 1e-12) if name == "mel" else SCALE[name])


def edge_cases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(WINDOW)
    speech = cut_windows(synthesise(1, "happy", 1, 1))
    impulse = np.zeros((4, WINDOW))
    impulse[range(4), [0, 1, 1_000, WINDOW - 1]] = [1, 1, -0.5, 1]
    tone = np.sin(2 * np.pi * 440 * np.arange(WINDOW) / SAMPLE_RATE)
    return {
        "speech": speech[:: max(1, len(speech) // 12)],
        "silence": np.zeros((1, WINDOW)),
        "half silent": np.where(np.arange(WINDOW) < 1_000, 0, noise)[None],
        "clipped": np.clip(5 * noise, -1, 1)[None],
        "clipped speech": np.clip(20 * speech[len(speech) // 2 :][:3], -1, 1),
        "tiny": 1e-7 * noise[None],
        "tinier than a zero": 1e-11 * noise[None],
        "tiny speech": 1e-7 * speech[len(speech) // 2 :][:3],
        "impulses": impulse,
        "constant": np.full((1, WINDOW), 0.25),
        "alternating": np.tile([0.5, -0.5], WINDOW // 2)[None],
        "tone": tone[None],
        "tone and its echo 90 dB down": (tone + 3e-5 * np.roll(noise, 3))[None],
        "negative zero": np.tile([-0.0, 0.0, 1e-11, -1e-11], WINDOW // 4)[None],
    }


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("case", edge_cases())
def test_batches_agree_with_librosa(case: str, name: str) -> None:
    windows = edge_cases()[case].astype(np.float32)
    batch = compute_features(windows, [name])[name]
    for row, window in zip(batch, windows, strict=True):
        truth = librosa_feature(window, name)
        np.testing.assert_allclose(row, truth, rtol=0, atol=tolerance(name, truth))


@pytest.mark.parametrize("case", edge_cases())
def test_pitch_is_the_likeness_to_oneself_a_period_later(case: str) -> None:
    windows = edge_cases()[case].astype(np.float32)
    values = compute_features(windows, ["pitch"])["pitch"]
    assert values.shape == (len(windows), 96) and values.dtype == np.float32
    np.testing.assert_allclose(values, pitch_by_delays(windows), rtol=0, atol=2e-4)


@pytest.mark.parametrize("hertz", [75.0, 120.0, 220.0, 470.0])
def test_pitch_is_highest_where_a_voice_is(hertz: float) -> None:
    time = np.arange(WINDOW) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * hertz * n * time + n) / n for n in range(1, 12))
    (likeness,) = compute_features(0.1 * voice[None], ["pitch"])["pitch"]
    near = np.abs(np.log2(pitches() / hertz)) < 0.6 / 12
    assert likeness[near].max() > 0.97 and likeness.max() < 1.05
    assert abs(12 * np.log2(pitches()[(likeness > 0.97).nonzero()[0].max()] / hertz)) < 0.6
    assert likeness[np.abs(np.log2(pitches() / hertz * np.sqrt(2))) < 0.1].max(initial=-1) < 0.7


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-7, 0), density=st.floats(0.001, 1))
def test_sparse_noise_of_any_level_agrees_with_librosa(seed: int, exponent: float, density: float) -> None:
    rng = np.random.default_rng(seed)
    window = (10**exponent * rng.standard_normal(WINDOW) * (rng.uniform(size=WINDOW) < density)).astype(
        np.float32
    )
    batch = compute_features(window[None])
    for name in FEATURES:
        truth = librosa_feature(window, name)
        np.testing.assert_allclose(batch[name][0], truth, rtol=0, atol=tolerance(name, truth))


@pytest.mark.corpora
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS", "SAVEE", "ESD"])
def test_real_speech_agrees_with_librosa(corpora: Path, corpus: str) -> None:
    files = sorted((corpora / corpus).rglob("*.flac"))
    windows = np.concatenate([cut_windows(read_audio(path))[::40] for path in files[:: len(files) // 4]])
    batch = compute_features(windows)
    for name in FEATURES:
        truth = np.stack([librosa_feature(window, name) for window in windows])
        scale = truth.std(axis=0).max()
        np.testing.assert_allclose(batch[name], truth, rtol=0, atol=1e-4 * scale)


def test_a_window_counts_for_itself_whatever_stands_beside_it() -> None:
    """librosa clips mfcc 80 dB under the peak of the whole array; a batch must not."""
    rng = np.random.default_rng(1)
    quiet, loud = 1e-5 * rng.standard_normal((2, WINDOW)), rng.uniform(-1, 1, (300, WINDOW))
    together = compute_features(np.concatenate([quiet, loud]).astype(np.float32))
    alone = compute_features(quiet.astype(np.float32))
    for name in FEATURES:
        np.testing.assert_allclose(together[name][:2], alone[name], rtol=1e-5, atol=1e-3 * (name == "mfcc"))


def test_values_known_by_hand() -> None:
    square = np.ones(WINDOW)
    square[::8] = -1
    silence = np.zeros(WINDOW)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(WINDOW) / SAMPLE_RATE)
    values = compute_features(np.stack([square, silence, tone]))
    np.testing.assert_allclose(values["zcr"][:2, 0], [2 / 8, 0], atol=1 / WINDOW)
    np.testing.assert_allclose(values["zcr"][2, 0], 2 * 440 / SAMPLE_RATE, atol=1 / WINDOW)
    np.testing.assert_allclose(values["rms"][:, 0], [1, 0, 0.5 / np.sqrt(2)], atol=2e-3)
    np.testing.assert_allclose(values["mfcc"][1], [-100 * np.sqrt(128), *[0] * 19], atol=1e-2)
    assert not values["chroma"][1].any() and not values["mel"][1].any()
    assert values["chroma"][2].argmax() == 9  # A, counted from C


def test_rows_and_units_are_as_the_table_says() -> None:
    values = compute_features(np.zeros((3, WINDOW)))
    assert {name: value.shape for name, value in values.items()} == {
        "zcr": (3, 1),
        "rms": (3, 1),
        "chroma": (3, 12),
        "mfcc": (3, 20),
        "mel": (3, 128),
    }
    assert sum(feature.n_outputs for feature in FEATURES.values()) == 162
    assert all(value.dtype == np.float32 for value in values.values())


def test_bad_windows_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, 2048\)"):
        compute_features(np.zeros((1, 1_024)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_features(np.full((1, WINDOW), np.nan))
    with pytest.raises(ValueError, match="the known ones are zcr, rms, chroma, mfcc, mel"):
        get_feature("loudness")


def test_bands_of_mel_are_centred_where_they_weigh_most() -> None:
    bins = mel_filters().argmax(axis=1) * SAMPLE_RATE / WINDOW
    np.testing.assert_allclose(mel_centres(), bins, atol=SAMPLE_RATE / WINDOW)
