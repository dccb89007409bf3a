"""Decoding, resampling and cutting against soundfile's writer, sines of known pitch and librosa's framing."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from fins.audio import (
    HOP,
    SAMPLE_RATE,
    WINDOW,
    AudioError,
    count_windows,
    cut_windows,
    decode,
    quantise,
    read_audio,
)


def sine(rate: int, seconds: float = 0.5, pitch: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


FORMATS = [
    ("wav", "PCM_U8", 2e-2),
    ("wav", "PCM_16", 1e-4),
    ("wav", "PCM_24", 1e-4),
    ("wav", "PCM_32", 1e-4),
    ("wav", "FLOAT", 1e-4),
    ("wav", "DOUBLE", 1e-4),
    ("flac", "PCM_S8", 2e-2),
    ("flac", "PCM_16", 1e-4),
    ("flac", "PCM_24", 1e-4),
    ("ogg", "VORBIS", 5e-2),
    ("mp3", "MPEG_LAYER_III", 5e-2),
]


@pytest.mark.parametrize(("ending", "subtype", "tolerance"), FORMATS)
def test_every_format_gives_the_sine_that_was_written(
    tmp_path: Path, ending: str, subtype: str, tolerance: float
) -> None:
    path = tmp_path / f"tone.{ending}"
    soundfile.write(path, sine(SAMPLE_RATE), SAMPLE_RATE, subtype=subtype)
    signal = read_audio(path)
    middle = slice(2_000, 9_000)
    np.testing.assert_allclose(signal[middle], sine(SAMPLE_RATE)[middle], atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_414, 44_100, 48_000, 96_000, 192_000])
def test_every_rate_is_resampled_to_the_same_sine(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, sine(rate), rate, subtype="FLOAT")
    signal = read_audio(path)
    assert signal.dtype == np.float32
    assert abs(len(signal) - SAMPLE_RATE // 2) <= 1
    middle = slice(1_000, 10_000)
    np.testing.assert_allclose(signal[middle], sine(SAMPLE_RATE)[middle], atol=1e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right, third = (
        sine(SAMPLE_RATE, pitch=300),
        sine(SAMPLE_RATE, pitch=500),
        sine(SAMPLE_RATE, pitch=900),
    )
    path = tmp_path / "three.wav"
    soundfile.write(path, np.stack([left, right, third], axis=1), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), (left + right + third) / 3, atol=1e-6)


def whole_file(path: Path, ending: str) -> bytes:
    subtype = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(ending, "PCM_16")
    soundfile.write(path, sine(SAMPLE_RATE, seconds=2), SAMPLE_RATE, subtype=subtype)
    return path.read_bytes()


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"cut.{ending}"
    content = whole_file(path, ending)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AudioError, match="truncated"):
        read_audio(path)


def test_an_ogg_cut_within_the_header_of_a_page_is_refused(tmp_path: Path) -> None:
    content = whole_file(tmp_path / "a.ogg", "ogg")
    last = content.rfind(b"OggS")
    for kept in range(1, 8):
        (tmp_path / "cut.ogg").write_bytes(content[: last + kept])
        with pytest.raises(AudioError, match=r"truncated|no samples"):
            read_audio(tmp_path / "cut.ogg")


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_the_same_file_whole_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"whole.{ending}"
    whole_file(path, ending)
    assert len(read_audio(path)) == pytest.approx(2 * SAMPLE_RATE, abs=3_000)


def test_a_wav_from_a_pipe_with_no_stated_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    content = bytearray(whole_file(path, "wav"))
    size = content.index(b"data") + 4
    content[size : size + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == 2 * SAMPLE_RATE


def test_other_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    empty, text, header = tmp_path / "empty.wav", tmp_path / "text.wav", tmp_path / "header.wav"
    empty.write_bytes(b"")
    text.write_text("this is no audio at all, whatever its name says")
    soundfile.write(header, np.zeros(0, np.float32), SAMPLE_RATE)
    for path, reason in (
        (tmp_path / "nowhere.wav", "is missing"),
        (empty, "is empty"),
        (text, "no audio"),
        (header, "no samples"),
        (tmp_path, "is a folder: name a file in it"),
    ):
        with pytest.raises(AudioError, match=reason) as caught:
            read_audio(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_finite_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    signal = sine(SAMPLE_RATE)
    signal[777] = bad
    path = tmp_path / "bad.wav"
    soundfile.write(path, signal, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_audio(path)


@pytest.mark.parametrize("rate", [4_000, 384_000])
def test_rates_outside_the_range_are_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, sine(rate), rate)
    with pytest.raises(AudioError, match="sample rate"):
        decode(path)


def test_quantising_rounds_and_counts_what_it_clips() -> None:
    samples, clipped = quantise(np.array([0, 0.5, -1, 1, 1.5, -1.5, 1 / 32_768], np.float32))
    np.testing.assert_array_equal(samples, [0, 16_384, -32_768, 32_767, 32_767, -32_768, 1])
    assert clipped == 2


@pytest.mark.parametrize("n_samples", [1, 511, 2_047, 2_048, 2_559, 2_560, 2_561, 10_000, 22_050])
def test_windows_are_those_of_librosa(n_samples: int) -> None:
    signal = np.arange(1, n_samples + 1, dtype=np.float32)
    windows = cut_windows(signal)
    padded = np.pad(signal, (0, max(0, WINDOW - n_samples)))
    np.testing.assert_array_equal(
        windows, librosa.util.frame(padded, frame_length=WINDOW, hop_length=HOP, axis=0)
    )
    assert len(windows) == count_windows(n_samples)


@pytest.mark.parametrize("shape", [(0,), (3, 2_048)])
def test_what_is_no_signal_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a signal has one axis"):
        cut_windows(np.zeros(shape, np.float32))


def test_a_flac_that_states_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    content = bytearray(whole_file(tmp_path / "a.flac", "flac"))
    content[21] |= 0x0F  # the last 36 of 64 bits behind rate, channels and depth
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(AudioError, match="truncated") as caught:
        read_audio(tmp_path / "a.flac")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [8_000, 44_100, 44_056, 192_000])
def test_blocks_are_resampled_as_the_whole_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (100_003, 2)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", samples, rate, subtype="FLOAT")
    expected = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE, quality="HQ")
    monkeypatch.setattr("fins.audio.BLOCK_VALUES", 7_000)
    np.testing.assert_array_equal(read_audio(tmp_path / "noise.wav"), expected)


def test_a_small_file_of_much_sound_takes_little_memory(tmp_path: Path) -> None:
    """A minute of 8 channels at 192 kHz in 25 kB: 369 MB as float32."""
    with soundfile.SoundFile(tmp_path / "wide.flac", "w", 192_000, 8, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros((192_000, 8), np.int16))
    tracemalloc.start()
    try:
        assert len(read_audio(tmp_path / "wide.flac")) == 60 * SAMPLE_RATE
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()
