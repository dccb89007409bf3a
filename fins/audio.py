"""From a file of audio to windows: decode, mix down, resample, quantise, cut."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from soundfile import SoundFile

SAMPLE_RATE = 22_050  # Hz
WINDOW = 2_048  # samples, 92.9 ms
HOP = 512  # samples, 23.2 ms: neighbours overlap by three quarters
FULL_SCALE = 32_768  # of int16: amplitude 1
RATES = (8_000, 192_000)  # Hz, the lowest and the highest that are read
TRUNCATED = "{} is truncated: it holds less than its header says; copy it again"

Signal = NDArray[np.float32]


class AudioError(ValueError):
    """A file that can't be used as speech; the message says why in one sentence."""


def read_audio(path: str | os.PathLike[str]) -> Signal:
    """Decode a file, mix its channels down and resample it.

    path : wav, flac, ogg or mp3; any number of channels; 8- to 32-bit or float; 8 to 192 kHz
    returns : (n_samples,) float32, mono at 22,050 Hz, amplitude about [-1, 1]

    Raises AudioError if the file is missing, empty, truncated, no audio, of zero length, outside 8 to
    192 kHz, or holds samples that are no finite numbers.
    """
    samples, sample_rate = decode(path)
    signal = resample(samples.mean(axis=1), sample_rate)
    if len(signal) == 0:
        raise AudioError(f"{path} is shorter than one sample at {SAMPLE_RATE} Hz")
    return signal


def decode(path: str | os.PathLike[str]) -> tuple[Signal, int]:
    """Samples as they are in the file.

    returns : (n_samples, n_channels) float32 with full scale at 1, and the sample rate in Hz
    """
    path = Path(path)
    try:
        with open_audio(path) as file:
            promised, sample_rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (ValueError, MemoryError) as error:  # of a stream, or damaged: more samples than there can be
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path} doesn't say how long it is, or says too much: write it again") from error
    _check_samples(path, samples, promised, len(samples))
    return samples, sample_rate


def read_blocks(path: str | os.PathLike[str], seconds: float = 10.0) -> Iterator[tuple[Signal, int]]:
    """Decode a file of any length block by block, so that memory stays flat.

    yields : (n_samples, n_channels) float32 as `decode` gives them, and the sample rate in Hz
    Raises AudioError as `decode` does; for what is wrong further on, once that is reached.
    """
    path = Path(path)
    with open_audio(path) as file:
        n_read = 0
        while len(block := file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)):
            n_read += len(block)
            _check_samples(path, block, 0, n_read)
            yield block, file.samplerate
        _check_samples(path, block, file.frames, n_read)


@contextmanager
def open_audio(path: Path) -> Iterator[SoundFile]:
    """A file as soundfile opens it; AudioError if it is missing, empty, no audio, cut short or at a rate that
    isn't read, and for what libsndfile says while it is open."""
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path} is missing: check the path")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes): copy it again from its source")
    try:
        with soundfile.SoundFile(path) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise AudioError(
                    f"{path} has a sample rate of {file.samplerate} Hz: 8 to 192 kHz can be read"
                )
            if _is_cut_short(path, file.extra_info):
                raise AudioError(TRUNCATED.format(path))
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} is truncated or no audio ({error.error_string})") from error


def _check_samples(path: Path, samples: Signal, promised: int, n_read: int) -> None:
    """AudioError for fewer samples than promised, none, or some that are no finite numbers."""
    if n_read < promised:
        raise AudioError(TRUNCATED.format(path))
    if n_read == 0:
        raise AudioError(f"{path} has a header and no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are NaN or infinite")


def _is_cut_short(path: Path, log: str) -> bool:
    """Whether a wav or ogg ends early; libsndfile reads both without an error.

    A wav's log then tells its data chunk's size beside what there is (all ones: a stream of unknown
    length, which is no fault); a whole ogg ends on a page that is flagged as its last (RFC 3533, section 6).
    """
    data = re.search(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if data:
        stated, present = int(data[1]), int(data[2])
        return present < stated < 0xFFFFFFF0
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, path.stat().st_size - 65_307))  # the largest page
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or not tail[page + 5] & 4


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
