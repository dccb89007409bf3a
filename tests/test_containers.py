"""Files whose header says nothing true about their length; oracles: what was written, byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_manifests import endings
from data_manifests.endings import CONVERTED, DECODED, READ
from fins.audio import SAMPLE_RATE, AudioError, decode, read_audio

RATE = 16_000
SECONDS = 4


def quiet_then_loud(rate: int = RATE, n_channels: int = 1) -> np.ndarray:
    """A tone, the first half of which an encoder of variable bitrate gives few bytes."""
    time = np.arange(SECONDS * rate) / rate
    tone = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 20)) / 10
    tone[: len(tone) // 2] /= 1_000
    return np.stack([tone] * n_channels, axis=1)


def write(path: Path, rate: int = RATE, n_channels: int = 1, **how: object) -> bytes:
    soundfile.write(path, quiet_then_loud(rate, n_channels), rate, **how)
    return path.read_bytes()


def without_xing(path: Path, rate: int = RATE, n_channels: int = 1, **how: object) -> bytes:
    """An mp3 as it is streamed: what LAME writes, without the frame that says how many follow."""
    content = write(path, rate, n_channels, format="MP3", **how)
    first, second = content.index(b"\xff"), content.index(b"LAME3")
    place = content.index(content[first : first + 2], second)  # of the next frame: the same sync and version
    assert content.find(b"Xing", first, place) > 0 or content.find(b"Info", first, place) > 0
    path.write_bytes(content[place:])
    return content[place:]


def assert_whole(path: Path, seconds: float = SECONDS, atol: float = 0.15) -> None:
    signal = read_audio(path)
    assert abs(len(signal) / SAMPLE_RATE - seconds) < atol
    assert np.abs(signal[-SAMPLE_RATE:]).max() > 0.1


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_that_doesnt_say_its_length_is_read_to_its_end(
    tmp_path: Path, mode: str, rate: int, n_channels: int
) -> None:
    how = {"bitrate_mode": mode, "compression_level": 0.6}
    write(tmp_path / "whole.mp3", rate, n_channels, **how)
    without_xing(tmp_path / "stream.mp3", rate, n_channels, **how)
    whole, _ = decode(tmp_path / "whole.mp3")
    stream, sample_rate = decode(tmp_path / "stream.mp3")
    assert sample_rate == rate and len(whole) == SECONDS * rate
    lags = range(len(stream) - len(whole) + 1)  # of the silence that encoders put before and after
    error = min(np.abs(stream[lag : lag + len(whole)] - whole).max() for lag in lags if 500 <= lag < 700)
    assert error < 1e-4


def test_an_mp3_with_a_stale_header_or_a_second_one_behind_it_is_read_to_its_end(tmp_path: Path) -> None:
    content = write(tmp_path / "a.mp3")
    (tmp_path / "two.mp3").write_bytes(content + content)
    assert_whole(tmp_path / "two.mp3", 2 * SECONDS, atol=0.3)
    stale = bytearray(content)
    place = stale.index(b"Xing") + 8
    stale[place : place + 4] = struct.pack(">I", 20)
    (tmp_path / "stale.mp3").write_bytes(stale)
    assert_whole(tmp_path / "stale.mp3")


def test_tags_around_an_mp3_are_no_sound(tmp_path: Path) -> None:
    content = without_xing(tmp_path / "a.mp3")
    before = b"ID3\x04\0\0\0\0\x02\0" + b"\xff\xfb\x90\x00" * 64
    (tmp_path / "tagged.mp3").write_bytes(before + content + b"\0" * 300 + b"TAG" + b"x" * 125)
    np.testing.assert_array_equal(read_audio(tmp_path / "tagged.mp3"), read_audio(tmp_path / "a.mp3"))


def test_an_mp3_that_is_cut_or_changes_within_is_refused(tmp_path: Path) -> None:
    content = without_xing(tmp_path / "a.mp3")
    path = tmp_path / "b.mp3"
    for rest, reason in (
        (content[:-5], "truncated"),
        (content[: len(content) // 2] + content[len(content) // 2 + 50 :], "is damaged: .* bytes between"),
        (content + without_xing(tmp_path / "c.mp3", 24_000), "changes its sample rate"),
        (content + without_xing(tmp_path / "c.mp3", RATE, 2), "changes between one and two channels"),
    ):
        path.write_bytes(rest)
        with pytest.raises(AudioError, match=reason):
            read_audio(path)


def without_size(content: bytes, size: int, ending: str) -> bytes:
    """The same file, as a pipe or a recorder leaves it that can't go back to its header."""
    mended = bytearray(content)
    if ending == "wav":
        place = content.index(b"data") + 4
        mended[place : place + 4] = struct.pack("<I", size)
    elif ending == "rf64":
        place = content.index(b"ds64") + 8
        mended[place : place + 24] = bytes(24) if size == 0 else b"\xff" * 24
    elif ending == "au":
        mended[8:12] = struct.pack(">I", size)
    elif ending == "caf":
        place = content.index(b"data") + 4
        mended[place : place + 8] = b"\xff" * 8
    elif ending == "w64":
        place = content.index(b"data\xf3") + 16
        mended[place : place + 8] = struct.pack("<Q", 24 if size == 0 else 2**63 - 1)
    elif ending == "aiff":
        place, common = content.index(b"SSND") + 4, content.index(b"COMM") + 10
        mended[place : place + 4] = mended[common : common + 4] = struct.pack(">I", size)
    return bytes(mended)


SIZES = (0, 0x7FFFF000, 0x7FFFFFDB, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ending", ["wav", "rf64", "au", "caf", "w64", "aiff"])
def test_a_size_that_was_never_filled_in_is_what_is_there(tmp_path: Path, ending: str, size: int) -> None:
    path = tmp_path / f"a.{ending}"
    content = write(path, format=ending.upper())
    whole, _ = decode(path)
    path.write_bytes(without_size(content, size, ending))
    samples, _ = decode(path)
    place = min(len(samples), len(whole))
    assert 0 <= len(samples) - len(whole) < 64  # the chunks behind an AIFF's or CAF's sound can't be told
    np.testing.assert_array_equal(samples[:place], whole[:place])


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM"])
def test_telephone_codecs_are_read(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "phone.wav"
    content = write(path, subtype=subtype)
    assert_whole(path)
    signal = read_audio(path)
    path.write_bytes(without_size(content, 0xFFFFFFFF, "wav"))
    np.testing.assert_array_equal(read_audio(path)[: len(signal)], signal)


@pytest.mark.parametrize("ending", ["wav", "rf64", "w64", "au", "caf", "aiff", "ogg", "flac"])
def test_every_cut_is_seen(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    content = write(path, format=ending.upper())
    for kept in [*range(len(content) - 40, len(content), 3), *(len(content) * k // 7 for k in range(1, 7))]:
        path.write_bytes(content[:kept])
        with pytest.raises(AudioError):
            read_audio(path)


@pytest.mark.parametrize("ending", ["wav", "rf64", "w64", "au", "caf", "aiff", "ogg", "flac"])
def test_a_second_recording_behind_the_first_is_not_lost(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    content = write(path, format=ending.upper())
    path.write_bytes(content + content)
    with pytest.raises(AudioError, match=r"behind the end|one behind another|bad 'FORM'"):
        read_audio(path)


def test_notes_behind_the_sound_of_a_wav_are_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = write(path)
    whole = read_audio(path)
    for tail in (
        b"LIST" + struct.pack("<I", 30_000) + bytes(30_000),
        b"note" + struct.pack("<I", 29_999) + b"x" * 30_000,
        bytes(30_000),
        b"ID3\x04\0\0" + b"y" * 20_000,
    ):
        path.write_bytes(content + tail)
        np.testing.assert_array_equal(read_audio(path), whole)
    path.write_bytes(content + b"\x01\x80" * 20_000)
    with pytest.raises(AudioError, match="holds 40,000 bytes behind the end"):
        read_audio(path)


@pytest.mark.parametrize("written", [0, 20_000])
def test_a_flac_that_states_too_little_is_read_to_its_end(tmp_path: Path, written: int) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(write(path))
    whole = read_audio(path)
    content[22:26] = written.to_bytes(4, "big")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path), whole)


def test_checksums_are_those_of_the_catalogue() -> None:
    """CRC-8/SMBUS and CRC-16/UMTS of "123456789"."""
    from fins.containers.streams import checksum

    assert (checksum(b"123456789", 8), checksum(b"123456789", 16)) == (0xF4, 0xFEE8)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 64044\n", "git lfs pull"),
        ("a.wav", b"/annex/objects/SHA256E-s64044--0.wav\n", "git annex get"),
        ("a.mp3", b"<!DOCTYPE html><html>not found</html>", "is a web page"),
        ("a.m4a", b"\0\0\0\x1cftypM4A \0\0\2\0", r"is m4a or mp4, .*ffmpeg -i \S+a.m4a \S+a.wav, or pip"),
        ("a.wav", b"\0\0\0\x1cftypM4A \0\0\2\0", r"ffmpeg -i \S+a.wav \S+a.converted.wav, or pip"),
        ("a.webm", b"\x1a\x45\xdf\xa3\x01\0\0\0", "is webm or Matroska"),
        ("a.aac", b"\xff\xf1\x50\x80\x02\x1f\xfc" * 5, "is AAC"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "is WMA"),
        ("a.amr", b"#!AMR\n\x3c", r"is AMR, .*\S+a.wav$"),
        ("a.ra", b"unknown", "is called .ra"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "has_decoders", lambda: False)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=sentence) as caught:
        read_audio(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_codec_that_libsndfile_lacks_is_named(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.wav"))
    place = content.index(b"fmt ") + 8
    for tag, name in ((0x45, "G.726"), (0xFF, "AAC"), (0x83, "G.729"), (0x1234, "number 0x1234")):
        content[place : place + 2] = struct.pack("<H", tag)
        (tmp_path / "b.wav").write_bytes(content)
        with pytest.raises(AudioError, match=f"a wav with the codec {name}, .*ffmpeg -i"):
            read_audio(tmp_path / "b.wav")


@pytest.mark.parametrize("wrong", [1e30, -1e5, 5_808.0, 17.0])
def test_samples_far_beyond_full_scale_are_refused(tmp_path: Path, wrong: float) -> None:
    samples = quiet_then_loud().astype("f4")
    samples[100] = wrong
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="where full scale is 1: divide them"):
        read_audio(tmp_path / "a.wav")


FORMATS = {"oga": "OGG", "opus": "OGG", "aif": "AIFF", "aifc": "AIFF", "snd": "AU", "mp2": "MP3"}


@pytest.mark.parametrize("ending", READ)
def test_whatever_is_listed_as_readable_is_read(tmp_path: Path, ending: str) -> None:
    how = {"subtype": "OPUS"} if ending == ".opus" else {}
    write(tmp_path / f"a{ending}", format=FORMATS.get(ending[1:], ending[1:].upper()), **how)
    assert_whole(tmp_path / f"a{ending}")


def test_no_ending_is_both_read_and_converted() -> None:
    assert len({*READ, *CONVERTED, *DECODED}) == len(READ) + len(CONVERTED) + len(DECODED)


def test_many_channels_are_mixed_as_they_come(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, (30 * RATE, 8))
    soundfile.write(tmp_path / "a.flac", samples, RATE, subtype="PCM_24")
    signal = read_audio(tmp_path / "a.flac")
    soundfile.write(tmp_path / "b.wav", samples.mean(axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(signal, read_audio(tmp_path / "b.wav"), atol=1e-5)
