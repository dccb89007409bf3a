"""From a file of audio to windows: decode, mix down, resample, quantise, cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_manifests import endings
from data_manifests.endings import how_to_convert, how_to_read, is_convertible
from fins.channels import ChannelMoments, Faults, judge
from fins.containers import DECODED, Contents, MendedFile, look_inside, look_inside_decoded, name_format
from fins.decoders import DecodedFile, DecodingError, OpenSound

if TYPE_CHECKING:
    from soundfile import SoundFile

SAMPLE_RATE = 22_050  # Hz
WINDOW = 2_048  # samples, 92.9 ms
HOP = 512  # samples, 23.2 ms: neighbours overlap by three quarters
FULL_SCALE = 32_768  # of int16: amplitude 1
RATES = (8_000, 192_000)  # Hz, the lowest and the highest that are read
LOUDEST = 16.0  # amplitude from which on floating numbers can't be meant as amplitudes
TRUNCATED = "{} is truncated: it holds less than its header says; copy it again"
BLOCK_VALUES = 1 << 22  # samples of all channels that are decoded at once, at most
NO_SOUND = {  # how files start that stand in the place of a recording
    b"version https://git-lfs": "is a pointer of git-lfs, not the recording: run git lfs pull there",
    b"/annex/objects": "is a pointer of git-annex, not the recording: run git annex get there",
    b"<!doctype html": "is a web page, not a recording: download it again",
    b"<html": "is a web page, not a recording: download it again",
}

Signal = NDArray[np.float32]


class AudioError(ValueError):
    """A file that can't be used as speech; the message says why in one sentence."""


def read_audio(path: str | os.PathLike[str]) -> Signal:
    """Decode a file, mix its channels down and resample it.

    path : a file with one of the endings `data_manifests.endings.READ`, and with the extra decoders of
        `DECODED`; any number of channels; 8- to 32-bit, float, or a telephone codec; 8 to 192 kHz
    returns : (n_samples,) float32, mono at 22,050 Hz, amplitude about [-1, 1]

    Raises AudioError if the file is missing, empty, truncated, no audio, of zero length, outside 8 to
    192 kHz, holds samples that are no finite numbers or far beyond full scale, or more or fewer samples than
    its header and its decoder say. What is wrong is told in one sentence, with what to do.
    """
    return read_mixed(path)[0]


def read_mixed(path: str | os.PathLike[str]) -> tuple[Signal, Faults]:
    """The same, and which channels weren't taken and why: silent ones, and all but one that cancel others."""
    moments = ChannelMoments()
    signal = _resample_blocks(_mix_down(path, None, moments))
    places, faults = judge(moments.covariance()) if moments.n else ([0], {})
    if faults:
        signal = _resample_blocks(_mix_down(path, places, None))
    if len(signal) == 0:
        raise AudioError(f"{path} is shorter than one sample at {SAMPLE_RATE} Hz")
    return signal, faults


def _mix_down(
    path: str | os.PathLike[str], places: list[int] | None, moments: ChannelMoments | None
) -> Iterator[tuple[Signal, int]]:
    """Blocks of (n_samples,), the mean of some channels or of all, and the rate in Hz.

    moments : takes in blocks of several channels
    """
    for block, rate in read_blocks(path):
        if moments is not None and block.shape[1] > 1:
            moments.add(block)
        yield block.mean(axis=1) if places is None else block[:, places].mean(axis=1), rate


def _resample_blocks(blocks: Iterable[tuple[Signal, int]]) -> Signal:
    """The same as `resample` of all of them, to the bit, without holding them."""
    import soxr

    resampled: list[Signal] = []
    stream: soxr.ResampleStream | None = None
    for block, rate in blocks:
        if rate != SAMPLE_RATE:
            stream = stream or soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            block = stream.resample_chunk(block)
        resampled.append(block)
    if stream is not None:
        resampled.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    return np.concatenate(resampled)


def decode(path: str | os.PathLike[str]) -> tuple[Signal, int]:
    """Samples as they are in the file.

    returns : (n_samples, n_channels) float32 with full scale at 1, and the sample rate in Hz
    """
    blocks = list(read_blocks(path))
    return np.concatenate([block for block, _ in blocks]), blocks[0][1]


def read_blocks(path: str | os.PathLike[str], seconds: float = 10.0) -> Iterator[tuple[Signal, int]]:
    """Decode a file of any length block by block, so that memory stays flat.

    yields : (n_samples, n_channels) float32 as `decode` gives them, and the sample rate in Hz
    seconds : of a block; it is shorter where so many channels would take more than 16 MB
    Raises AudioError as `decode` does; for what is wrong further on, once that is reached.
    """
    path = Path(path)
    contents = check_contents(path)
    with open_audio(path, contents) as file:
        n_read, rate = 0, file.samplerate
        n = max(1, min(round(seconds * rate), BLOCK_VALUES // file.channels))
        while len(block := file.read(n, dtype="float32", always_2d=True)):
            n_read += len(block)
            _check_samples(path, block)
            yield block, rate
        if contents.n_samples is None and n_read < file.frames and file.seekable():
            raise AudioError(TRUNCATED.format(path))
    if n_read == 0:
        raise AudioError(f"{path} has a header and no samples")
    if contents.n_seconds is not None and abs(n_read / rate - contents.n_seconds) > contents.slack:
        raise AudioError(
            f"{path} holds {contents.n_seconds:.2f} s and {n_read / rate:.2f} s can be decoded: copy it "
            f"again, or convert it, {how_to_convert(path)}"
        )
    if contents.n_samples is not None and abs(n_read - contents.n_samples) > contents.tolerance:
        raise AudioError(
            f"{path} holds {contents.n_samples:,} samples and {n_read:,} can be decoded: convert it, "
            f"{how_to_convert(path)}"
        )


def check_contents(path: Path) -> Contents:
    """What a file holds, counted without decoding it; AudioError if it is missing, empty, or not whole."""
    if not path.is_file():
        if path.is_dir():
            raise AudioError(f"{path} is a folder: name a file in it")
        if path.exists():
            raise AudioError(f"{path} is no plain file: a recording is one, so copy it into one")
        raise AudioError(f"{path} is missing: check the path")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes): copy it again from its source")
    contents = look_inside(path)
    if endings.has_decoders() and not contents.form:
        contents = look_inside_decoded(path) or contents
    if contents.fault == "truncated":
        raise AudioError(TRUNCATED.format(path))
    if contents.fault:
        advice = contents.advice or f"convert it, {how_to_convert(path)}"
        raise AudioError(f"{path} {contents.fault}: {advice}")
    return contents


@contextmanager
def open_audio(path: Path, contents: Contents | None = None) -> Iterator[OpenSound]:
    """A file as soundfile opens it, or PyAV what that doesn't know; AudioError if it is missing, empty, no
    audio, cut short or at a rate that isn't read, and for what either says while it is open.

    contents : as `check_contents` gives them, to be made here by default
    """
    import soundfile

    contents = contents or check_contents(path)
    with path.open("rb") as raw:
        size = path.stat().st_size
        source = MendedFile(raw, size, contents.header, contents.start) if contents.is_mended else raw
        try:
            sound: SoundFile | DecodedFile
            if contents.n_seconds is not None:
                sound = DecodedFile(raw, contents.n_seconds)
            else:
                sound = soundfile.SoundFile(source)
            with closing(sound) as file:
                if not RATES[0] <= file.samplerate <= RATES[1]:
                    raise AudioError(
                        f"{path} has a sample rate of {file.samplerate} Hz: 8 to 192 kHz can be read"
                    )
                yield file
        except DecodingError as error:
            raise AudioError(f"{path} {error}") from error
        except soundfile.LibsndfileError as error:
            raise AudioError(explain_unreadable(path, contents, error.error_string)) from error


def explain_unreadable(path: Path, contents: Contents, error: str) -> str:
    """Why libsndfile can't read a file, in one sentence that says what to do."""
    with path.open("rb") as file:
        head = file.read(64)
    for start, sentence in NO_SOUND.items():
        if head.lstrip().lower().startswith(start):
            return f"{path} {sentence}"
    what = name_format(path)
    if not what and contents.codec:
        what = f"a {contents.form} with the codec {contents.codec}"
    if not what and is_convertible(str(path)):
        what = f"called {path.suffix}"
    if what:
        how = how_to_read(path, is_decoded=what in DECODED or None)
        return f"{path} is {what}, which isn't decoded here: convert it, {how}"
    return f"{path} is truncated or no audio ({error})"


def _check_samples(path: Path, samples: Signal) -> None:
    """AudioError for samples that are no finite numbers, or none that can be meant as amplitudes."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are NaN or infinite")
    loudest = float(np.abs(samples).max())
    if loudest > LOUDEST:
        raise AudioError(
            f"{path} holds samples up to {loudest:g}, where full scale is 1: divide them by their full scale "
            "(32,768 for 16 bits), and mend single ones that are no sound"
        )


def resample(signal: Signal, sample_rate: int) -> Signal:
    """(n_samples,) at any rate → (n_samples · 22,050 / rate,) float32 at 22,050 Hz, by soxr's HQ filter."""
    import soxr

    if sample_rate == SAMPLE_RATE:
        return signal.astype(np.float32, copy=False)
    return soxr.resample(signal.astype(np.float32, copy=False), sample_rate, SAMPLE_RATE, quality="HQ")


def quantise(signal: Signal) -> tuple[NDArray[np.int16], int]:
    """Amplitude in [-1, 1] → int16, and how many samples were beyond full scale and clipped."""
    scaled = np.rint(signal * FULL_SCALE)
    clipped = int(np.count_nonzero((scaled < -FULL_SCALE - 1) | (scaled > FULL_SCALE)))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), clipped


def count_windows(n_samples: int) -> int:
    """How many whole windows start every HOP samples; at least one, since a short signal is padded."""
    return 1 + max(0, n_samples - WINDOW) // HOP


def cut_windows(signal: NDArray) -> NDArray:
    """(n_samples,) → (n_windows, 2048), a view where possible; the tail that fills no window is left out.

    A signal shorter than one window is padded with zeros at its end.
    """
    if signal.ndim != 1 or len(signal) == 0:
        raise ValueError(f"a signal has one axis and at least one sample, got the shape {signal.shape}")
    if len(signal) < WINDOW:
        signal = np.pad(signal, (0, WINDOW - len(signal)))
    return np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
