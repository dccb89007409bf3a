"""What a user has of a recording, a file or an array with its rate, as a model wants it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fins.audio import (
    LOUDEST,
    RATES,
    SAMPLE_RATE,
    AudioError,
    Signal,
    open_audio,
    read_blocks,
    read_mixed,
    resample,
)
from fins.channels import ChannelMoments, Faults, choose_channels, judge

MOST_CHANNELS = 8  # of an array's two axes, the one that may count channels
SCANNED = 300.0  # seconds by which the channels of a file of any length are judged
LONGEST = 300.0  # seconds that are answered as one recording
HALF = {"uint8": 128.0, "int8": 128.0, "int16": 32_768.0, "int32": 2_147_483_648.0}  # amplitude 1


def read_sound(source: Any, sampling_rate: float | None = None) -> Signal:
    """A recording at the rate of the models.

    source : path of a file, as `fins.audio.read_audio` takes it; or an array, NumPy's or torch's, of
        (n_samples,), (n_samples, n_channels) or (n_channels, n_samples), at most 8 channels; floating numbers
        are amplitudes in about [-1, 1], integers of 8, 16 and 32 bits are what they are in files
    sampling_rate : Hz, of arrays alone
    returns : (n_samples,) float32 at 22,050 Hz, the mean of its channels, but for those that are silent or
        cancel each other

    Raises ValueError in one sentence for anything else, and for more than five minutes.
    """
    return read_channels(source, sampling_rate)[0]


def read_channels(source: Any, sampling_rate: float | None = None) -> tuple[Signal, Faults]:
    """The same, and which channels weren't taken, and why."""
    if not isinstance(source, str | os.PathLike):
        return _read_array(source, sampling_rate)
    if sampling_rate is not None:
        raise ValueError("a file has its own sample rate: leave sampling_rate out")
    with open_audio(Path(source)) as file:
        _check_length(file.frames / file.samplerate, os.fspath(source))
    return read_mixed(source)


def _read_array(source: Any, sampling_rate: float | None) -> tuple[Signal, Faults]:
    samples = as_array(source, "a recording is the path of a file or an array with sampling_rate")
    if sampling_rate is None:
        raise ValueError("an array doesn't say its sample rate: give sampling_rate in Hz")
    rate = check_rate(sampling_rate)
    if samples.ndim == 2:
        samples = samples.T if _has_channels_first(samples.shape) else samples
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise ValueError(
            f"an array has the shape (n_samples,), (n_samples, n_channels) or (n_channels, n_samples), got "
            f"{samples.shape}"
        )
    _check_length(len(samples) / rate, "the array")
    mixed, faults = mix_down(amplitudes_of(samples))
    signal = resample(mixed, rate)
    if len(signal) == 0:
        raise ValueError(f"the array is shorter than one sample at {SAMPLE_RATE} Hz")
    return signal, faults


def as_array(source: Any, what: str) -> NDArray[Any]:
    """Of NumPy's, torch's, or whatever else says that it is an array; ValueError for what doesn't."""
    if hasattr(source, "cpu"):  # a tensor, which may know of gradients
        source = source.detach().cpu()
    if not hasattr(source, "__array__"):
        raise ValueError(f"{what}, got {type(source).__name__}")
    return np.asarray(source)


def check_rate(sampling_rate: float) -> int:
    """In Hz; ValueError for what is no whole number from 8 to 192 kHz."""
    try:
        rate = int(sampling_rate)
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if rate != sampling_rate or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(
            f"sampling_rate is a whole number of Hz from 8,000 to 192,000, got {sampling_rate!r}"
        )
    return rate


def mix_down(amplitudes: NDArray[Any]) -> tuple[Signal, Faults]:
    """(n_samples,) or (n_samples, n_channels) → (n_samples,) float32, and why it isn't the mean of all."""
    if amplitudes.ndim == 1 or amplitudes.shape[1] == 1:
        return amplitudes.reshape(-1).astype(np.float32, copy=False), {}
    places, faults = choose_channels(amplitudes)
    return mean_of(amplitudes if len(places) == amplitudes.shape[1] else amplitudes[:, places]), faults


def mean_of(amplitudes: NDArray[Any]) -> Signal:
    """(n_samples,) or (n_samples, n_channels) → (n_samples,) float32."""
    mixed = amplitudes.mean(axis=1) if amplitudes.ndim == 2 else amplitudes
    return mixed.astype(np.float32)


def amplitudes_of(samples: NDArray[Any]) -> NDArray[Any]:
    """Of (n_samples,) or (n_samples, n_channels) of any type, full scale at 1.

    Raises ValueError for a type that has no amplitude, and for numbers that are none.
    """
    name = samples.dtype.name
    if name in HALF:
        middle = HALF[name] if name == "uint8" else 0.0
        amplitudes = (samples.astype(np.float64) - middle) / HALF[name]
    elif samples.dtype.kind == "f":
        amplitudes = samples
    else:
        raise ValueError(f"samples are floating numbers or integers of 8, 16 or 32 bits, got {name}")
    if not np.isfinite(amplitudes).all():
        raise ValueError("the array holds samples that are NaN or infinite")
    if name not in HALF and samples.size and (loudest := float(np.abs(samples).max())) > LOUDEST:
        raise ValueError(
            f"floating samples are amplitudes in about [-1, 1], the largest here is {loudest:g}: divide them "
            "by full scale (32,768 for 16 bits)"
        )
    return amplitudes


def _has_channels_first(shape: tuple[int, ...]) -> bool:
    """Which axis of two counts channels; ValueError where either could, or neither."""
    first, second = (1 <= size <= MOST_CHANNELS for size in shape)
    if first != second:
        return first
    if 1 in shape:
        return shape[0] == 1
    raise ValueError(
        f"which axis of an array of the shape {shape} counts its channels can't be told: at most "
        f"{MOST_CHANNELS} are taken, and more samples than that; give one channel"
    )


def _check_length(seconds: float, what: str) -> None:
    if seconds > LONGEST:
        raise AudioError(
            f"{what} is {seconds:,.0f} s long, more than one answer can be for: use timeline, which answers "
            "every second"
        )


def channels_of_file(path: str | os.PathLike[str]) -> tuple[list[int] | None, Faults]:
    """Which of a file to take the mean of, by its first five minutes, or None for all; and why not of all.

    A channel that is silent there may hold a voice later, so that only opposite phase counts.
    """
    moments, seconds = ChannelMoments(), 0.0
    for block, rate in read_blocks(path):
        if block.shape[1] == 1:
            return None, {}
        moments.add(block)
        seconds += len(block) / rate
        if seconds >= SCANNED:
            break
    places, faults = judge(moments.covariance())
    return (places, faults) if "phase" in faults else (None, {})
