"""What PyAV decodes: read whole or refused, whatever a container says; and the same everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_signal, write_table

from data_manifests import endings, read_corpus
from fins.audio import SAMPLE_RATE, AudioError, read_audio, read_blocks
from fins.containers import look_inside_decoded
from ser_heads.inference.files import find_files
from ser_heads.inference.sound import read_sound

av = pytest.importorskip("av", reason="PyAV isn't installed: it comes with the extra decoders")

SECONDS = 3
RATE = 16_000
KINDS = {
    "m4a": ("ipod", "aac", {}),
    "mp4": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),  # as browsers write it
    "m4b": ("ipod", "alac", {"movflags": "faststart"}),
    "mov": ("mov", "pcm_s16le", {}),
    "3gp": ("3gp", "aac", {}),
    "aac": ("adts", "aac", {}),
    "webm": ("webm", "libopus", {"live": "1"}),  # as browsers write it: no length
    "weba": ("webm", "libopus", {}),
    "mka": ("matroska", "aac", {}),
    "mkv": ("matroska", "flac", {}),
    "wma": ("asf", "wmav2", {}),
}


def voice(seconds: float = SECONDS) -> np.ndarray:
    """(n,) at 16 kHz: noise under 3 kHz of wandering loudness."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    smooth = np.convolve(noise, np.hanning(9) / 4.5, "same")
    time = np.arange(len(noise)) / RATE
    return (0.15 * smooth * (1.1 + np.sin(2 * np.pi * time))).clip(-1, 1).astype(np.float32)


def encode(path: Path, kind: str = "", n_channels: int = 1, seconds: float = SECONDS) -> bytes:
    form, codec, options = KINDS[kind or path.suffix[1:]]
    layout = {1: "mono", 2: "stereo"}[n_channels]
    with av.open(str(path), "w", format=form, options=dict(options)) as container:
        stream = container.add_stream(codec, rate=48_000 if codec == "libopus" else RATE)
        stream.layout, stream.bit_rate = layout, 64_000
        samples = np.repeat(voice(seconds)[None], n_channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(stream.format, layout, stream.rate, frame_size=size)
        for block in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path.read_bytes()


def likeness(signal: np.ndarray, seconds: float = SECONDS) -> float:
    """Correlation with what was encoded, at the best delay of up to 0.1 s."""
    import soxr
    from scipy.signal import correlate

    wanted = soxr.resample(voice(seconds), RATE, SAMPLE_RATE)
    n = min(len(signal), len(wanted))
    at_delays = correlate(signal[:n], wanted[:n], method="fft")[n - 2_205 : n + 2_205]
    return float(at_delays.max() / np.linalg.norm(signal[:n]) / np.linalg.norm(wanted[:n]))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_whole(tmp_path: Path, kind: str) -> None:
    encode(tmp_path / f"a.{kind}")
    signal = read_audio(tmp_path / f"a.{kind}")
    assert abs(len(signal) / SAMPLE_RATE - SECONDS) < 0.2 and likeness(signal) > 0.9
    blocks = [block for block, _ in read_blocks(tmp_path / f"a.{kind}", 0.25)]
    assert len(blocks) >= 12 and max(map(len, blocks)) <= 12_000
    np.testing.assert_array_equal(read_sound(tmp_path / f"a.{kind}"), signal)


def test_every_listed_ending_is_tried() -> None:
    assert {f".{kind}" for kind in KINDS} == set(endings.DECODED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.5, 7.0])
def test_lengths_are_counted_from_the_container(tmp_path: Path, kind: str, seconds: float) -> None:
    encode(tmp_path / f"a.{kind}", seconds=seconds)
    contents = look_inside_decoded(tmp_path / f"a.{kind}")
    assert contents is not None and contents.n_seconds is not None
    assert abs(contents.n_seconds - seconds) < contents.slack


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_read_whole_or_refused(tmp_path: Path, kind: str) -> None:
    content = encode(tmp_path / f"whole.{kind}")
    path = tmp_path / f"cut.{kind}"
    for n_bytes in range(1, len(content), len(content) // 40):
        path.write_bytes(content[:n_bytes])
        try:
            n_seconds = len(read_audio(path)) / SAMPLE_RATE
        except AudioError as error:
            assert "\n" not in str(error)
        else:
            # a cut between whole parts of streams that were never ended: what is there is read
            assert kind in ("aac", "mp4", "webm"), n_bytes
            contents = look_inside_decoded(path)
            assert contents is not None and contents.n_seconds is not None
            assert abs(n_seconds - contents.n_seconds) < contents.slack


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_end_in_a_sentence_or_in_sound_of_that_length(tmp_path: Path, kind: str) -> None:
    content = encode(tmp_path / f"whole.{kind}")
    path = tmp_path / f"changed.{kind}"
    rng = np.random.default_rng(1)
    for _ in range(30):
        changed = bytearray(content)
        place, n = int(rng.integers(len(content))), int(rng.choice([1, 4, 64, 1_000]))
        changed[place : place + n] = rng.bytes(min(n, len(content) - place))
        path.write_bytes(changed)
        try:
            n_seconds = len(read_audio(path)) / SAMPLE_RATE
        except AudioError as error:
            assert "\n" not in str(error)
        else:
            contents = look_inside_decoded(path)
            assert contents is not None and contents.n_seconds is not None
            assert abs(n_seconds - contents.n_seconds) <= contents.slack + 0.01


def test_a_decoder_that_gives_less_than_there_is_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fins import decoders

    encode(tmp_path / "a.m4a")
    decode = decoders.DecodedFile._decode
    monkeypatch.setattr(
        decoders.DecodedFile, "_decode", lambda file: (b for n, b in enumerate(decode(file)) if n < 30)
    )
    with pytest.raises(AudioError, match=r"holds 3\.\d\d s and 1\.\d\d s can be decoded: copy it again"):
        read_audio(tmp_path / "a.m4a")


def test_stereo_is_mixed_and_the_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", n_channels=2)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.m4a").read_bytes())
    signal = read_audio(tmp_path / "a.m4a")
    assert likeness(signal) > 0.9
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav"), signal)


def test_folders_tables_and_answers_take_what_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sad").mkdir()
    encode(tmp_path / "sad" / "a.m4a")
    import soundfile

    soundfile.write(tmp_path / "sad" / "b.wav", make_signal(0), SAMPLE_RATE)
    table = write_table(tmp_path, "path,emotion", "sad/a.m4a,sad", "sad/b.wav,sad")
    for there, n in ((True, 2), (False, 1)):
        monkeypatch.setattr(endings, "has_decoders", lambda there=there: there)
        assert len(read_corpus("folders", tmp_path).utterances) == n
        assert len(read_corpus("csv", table).utterances) == n
        files, notes = find_files([str(tmp_path / "sad")])
        assert len(files) == n
        assert ("fin-ser[decoders]" in " ".join(notes)) != there


def test_a_name_with_a_colon_is_a_file_and_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "10:30.m4a")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_audio("10:30.m4a"), read_audio(tmp_path / "10:30.m4a"))
