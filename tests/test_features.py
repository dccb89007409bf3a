"""The batched closed forms against librosa called window by window, and against values known by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fins.audio import SAMPLE_RATE, WINDOW, cut_windows, read_audio
from fins.data.synthetic.synthesiser import synthesise
from fins.features import FEATURES, STORED, Windows, compute_features, get_feature
from fins.features.chroma import chroma_filters
from fins.features.chroma_tuned import TUNINGS, find_tunings, medians
from fins.features.pitch import pitches
from fins.features.spectrum import N_MELS, mel_centres, mel_edges, mel_filters

SCALE = {"zcr": 1.0, "rms": 1.0, "chroma": 1.0, "mfcc": 100.0, "pitch": 2.0}


def tolerance(name: str, truth: np.ndarray) -> float:
    """A ten-thousandth of the feature's scale: of powers, which span many decades, each window's largest."""
    if FEATURES[name].scale == "power":
        return 1e-4 * max(float(truth.max()), 1e-12)
    return 1e-4 * (SCALE.get(name) or largest(name))


@cache
def largest(name: str) -> float:
    """Magnitude of the definition's outputs over all edge cases."""
    windows = np.concatenate(list(edge_cases().values())).astype(np.float32)
    return max(float(np.abs(FEATURES[name].oracle(window)).max()) for window in windows)


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
def test_batches_agree_with_the_definition(case: str, name: str) -> None:
    windows = edge_cases()[case].astype(np.float32)
    batch = compute_features(windows, [name])[name]
    for row, window in zip(batch, windows, strict=True):
        truth = FEATURES[name].oracle(window)
        if (case, name) == (
            "impulses",
            "chroma_tuned",
        ) and truth.any():  # of a flat spectrum roundings are the peaks
            magnitude = np.sqrt(Windows(window[None]).power)
            truth = librosa.feature.chroma_stft(S=magnitude.T, sr=SAMPLE_RATE)[:, 0]
        np.testing.assert_allclose(row, truth, rtol=0, atol=tolerance(name, truth))


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
    for name in STORED:
        truth = FEATURES[name].oracle(window)
        np.testing.assert_allclose(batch[name][0], truth, rtol=0, atol=tolerance(name, truth))


@pytest.mark.corpora
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS", "SAVEE", "ESD"])
def test_real_speech_agrees_with_librosa(corpora: Path, corpus: str) -> None:
    files = sorted((corpora / corpus).rglob("*.flac"))
    windows = np.concatenate([cut_windows(read_audio(path))[::40] for path in files[:: len(files) // 4]])
    batch = compute_features(windows)
    for name in STORED:
        truth = np.stack([FEATURES[name].oracle(window) for window in windows])
        scale = truth.std(axis=0).max()
        np.testing.assert_allclose(batch[name], truth, rtol=0, atol=1e-4 * scale)


@pytest.mark.corpora
@pytest.mark.parametrize("corpus", ["RAVDESS", "TESS", "SAVEE", "ESD"])
def test_tuned_chroma_of_speech_is_librosas_and_another_feature(corpora: Path, corpus: str) -> None:
    files = sorted((corpora / corpus).rglob("*.flac"))
    windows = np.concatenate([cut_windows(read_audio(path))[::4] for path in files[:: len(files) // 8]])
    forms = compute_features(windows, ["chroma", "chroma_tuned"])
    truth = np.stack([FEATURES["chroma_tuned"].oracle(window) for window in windows])
    apart = np.abs(forms["chroma_tuned"] - truth).max(axis=1) > 1e-4
    assert apart.mean() < 0.02  # where a rounding moves a peak over the edge of a bin of tunings
    rest = np.square(truth - forms["chroma"]).sum() / np.square(truth - truth.mean(axis=0)).sum()
    assert 1 - rest < 0.7  # R² of ours, which the published figure isn't of


@pytest.mark.parametrize("semitones", [-0.4, -0.13, 0.0, 0.21, 0.45])
def test_the_tuning_of_tones_is_found(semitones: float) -> None:
    notes = 440 * 2 ** ((np.array([-5.0, 0, 4, 7]) + semitones) / 12)
    window = np.sin(2 * np.pi * notes[:, None] * np.arange(WINDOW) / SAMPLE_RATE).sum(axis=0)
    (place,) = find_tunings(np.sqrt(Windows(window[None]).power))
    assert TUNINGS[place] == pytest.approx(semitones, abs=0.06)


def test_medians_of_rows_are_numpys() -> None:
    rng = np.random.default_rng(5)
    counts = [3, 0, 4, 1, 2, 9, 10]
    row = np.repeat(np.arange(7), counts)
    values = rng.standard_normal(len(row))
    expected = [np.median(values[row == place]) if count else 0 for place, count in enumerate(counts)]
    np.testing.assert_allclose(medians(values, row, 7), expected)


def test_a_window_counts_for_itself_whatever_stands_beside_it() -> None:
    """librosa clips mfcc 80 dB under the peak of the whole array; a batch must not."""
    rng = np.random.default_rng(1)
    quiet, loud = 1e-5 * rng.standard_normal((2, WINDOW)), rng.uniform(-1, 1, (300, WINDOW))
    together = compute_features(np.concatenate([quiet, loud]).astype(np.float32), FEATURES)
    alone = compute_features(quiet.astype(np.float32), FEATURES)
    rounding = {"mfcc": 1e-3, "pitch": 1e-6}
    for name in FEATURES:
        atol = rounding.get(name, 0)
        np.testing.assert_allclose(together[name][:2], alone[name], rtol=1e-5, atol=atol)


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
    assert tuple(values) == STORED  # as stores have them
    assert all(value.dtype == np.float32 for value in values.values())


def test_bad_windows_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, 2048\)"):
        compute_features(np.zeros((1, 1_024)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_features(np.full((1, WINDOW), np.nan))
    with pytest.raises(ValueError, match="the known ones are zcr, rms, chroma, mfcc, mel"):
        get_feature("loudness")
    with pytest.raises(ValueError, match=r"\(n, 2048\)"):
        compute_features(np.zeros((0, 1_024)))


@pytest.mark.parametrize("name", FEATURES)
def test_an_entry_says_all_of_its_feature(name: str) -> None:
    feature = FEATURES[name]
    assert feature.name == name and feature.oracle is not None
    values = compute_features(np.random.default_rng(2).normal(0, 0.1, (300, WINDOW)), [name])[name]
    assert values.shape == (300, feature.n_outputs) and values.dtype == np.float32
    if feature.scale in ("power", "amplitude"):
        assert values.min() >= 0
    elif feature.scale == "likeness":
        assert np.abs(values).max() <= 1.05
    if feature.published is not None:
        assert feature.published.sizes[-1] == feature.n_outputs


def test_what_features_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fins.features import feature as module

    calls = []
    for name in ("power_spectrum", "mel_spectrum"):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda x, name=name, plain=plain: [calls.append(name), plain(x)][1])
    compute_features(np.zeros((600, WINDOW)), FEATURES)
    assert calls == ["power_spectrum", "mel_spectrum"] * 3  # for each batch of 256
    calls.clear()
    compute_features(np.zeros((600, WINDOW)), ["zcr", "rms"])
    assert calls == []
    with pytest.raises(ValueError, match="NaN or infinite"):
        Windows(np.full((1, WINDOW), np.inf))


def test_a_closed_form_of_another_shape_is_refused() -> None:
    wrong = replace(FEATURES["rms"], n_outputs=2)
    with pytest.raises(ValueError, match=r"rms gave the shape \(3, 1\) for 3 windows: \(3, 2\) is needed"):
        wrong.compute(Windows(np.zeros((3, WINDOW))))


IMPORTS = """
import sys
import {module}
loaded = sorted(set("{heavy}".split()) & set(sys.modules))
assert not loaded, loaded
assert sys.path == before, sys.path
"""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("fins", "torch librosa pandas sklearn scipy"), ("fins.features", "torch librosa pandas sklearn")],
)
def test_imports_are_light_and_leave_the_path_alone(module: str, heavy: str) -> None:
    """Workers of `prepare` import features: with PyTorch each would take 250 MiB and two seconds."""
    code = "import sys; before = list(sys.path)" + IMPORTS.format(module=module, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bands_of_mel_are_librosas() -> None:
    bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS)
    np.testing.assert_allclose(mel_filters(), bands, rtol=1e-5, atol=1e-9)
    edges = librosa.mel_frequencies(N_MELS + 2, fmin=0, fmax=SAMPLE_RATE / 2)
    np.testing.assert_allclose(mel_edges(), edges, rtol=1e-12)


def test_bands_of_chroma_are_librosas() -> None:
    bands = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=WINDOW, tuning=0.0)
    np.testing.assert_allclose(chroma_filters(), bands, rtol=1e-5, atol=1e-7)


def test_stores_are_made_without_librosa() -> None:
    """Importing it would cost each worker of `prepare` two seconds."""
    code = "import sys, numpy; from fins.features import compute_features; "
    code += "compute_features(numpy.zeros((1, 2048), numpy.float32)); assert 'librosa' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bands_of_mel_are_centred_where_they_weigh_most() -> None:
    bins = mel_filters().argmax(axis=1) * SAMPLE_RATE / WINDOW
    np.testing.assert_allclose(mel_centres(), bins, atol=SAMPLE_RATE / WINDOW)
