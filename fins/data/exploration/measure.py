"""What is measured of each utterance: length, level, offset, pitch, spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fins.audio import FULL_SCALE, HOP, SAMPLE_RATE, WINDOW, Signal
from fins.data.table import UtteranceTable, trim
from fins.progress import SILENT, Watch

F0_RANGE = (60.0, 600.0)  # Hz
FRAME = WINDOW // 2  # 1,024 samples, 46.4 ms: nearly three periods of the lowest pitch
PERIODIC = 0.7  # correlation with itself one period later that makes a frame voiced
LOUD = 30.0  # dB below the loudest frame: quieter ones aren't voiced
VOICED_FRAMES = 5  # fewer, 0.1 s, tell no pitch
NUMBERS = ("seconds", "heard", "level", "offset", "silent_windows", "full_scale", "f0", "f0_range", "voiced")


@dataclass(frozen=True)
class Measurements:
    """Originals of a table, and what is measured of each.

    rows : those of the table, by their places in it, with NUMBERS as further columns, NaN where there is none
        seconds : as stored; heard : seconds without quiet ends
        level : without quiet ends, RMS around its mean, dB, 0 at full scale
        offset : size of that mean, as a share of the RMS around 0
        silent_windows : of zeros alone; full_scale : samples there, of either sign
        f0 : Hz, median of voiced frames; f0_range : semitones, from their 10th to their 90th percentile
        voiced : share of the frames; these three only of those that were looked at closely
    spectrum : corpus → (n_mels,) mel power, summed over windows of those that were looked at closely
    n_copies : corpus → augmented copies, which are left out
    """

    rows: pd.DataFrame
    spectrum: dict[str, NDArray[np.float64]]
    n_copies: dict[str, int]


def measure_utterances(table: UtteranceTable, sample: int, seed: int, watch: Watch = SILENT) -> Measurements:
    """What is cheap, of every original; pitch and spectrum, of `sample` of each corpus and emotion.

    seed : of their draw
    One utterance is held in memory at a time. Raises ValueError if there is none.
    """
    original = table.rows["augmented_from"] == ""
    rows = table.rows[original].copy()
    if rows.empty:
        raise ValueError("the stores hold no utterances: make them again with python -m pipelines.prepare")
    numbers = {name: np.full(len(rows), np.nan) for name in NUMBERS}
    spectrum: dict[str, NDArray[np.float64]] = {}
    closely = draw_sample(rows, sample, seed)
    with watch.bar(len(rows), "utterances") as bar:
        for number, (place, corpus) in enumerate(zip(rows.index, rows["corpus"], strict=True)):
            signal = table.signal(place)
            trimmed = trim(signal)
            measured = {
                "seconds": len(signal) / SAMPLE_RATE,
                "heard": len(trimmed) / SAMPLE_RATE,
                **level_of(trimmed),
                "silent_windows": float((table.stored_features(place, ["rms"]) == 0).sum()),
                "full_scale": float((np.abs(signal) >= (FULL_SCALE - 1) / FULL_SCALE).sum()),
            }
            if place in closely:
                measured |= pitch_of(trimmed)
                power = table.stored_features(place, ["mel"]).sum(axis=0, dtype=np.float64)
                spectrum[corpus] = spectrum.get(corpus, 0) + power
            for name, value in measured.items():
                numbers[name][number] = value
            bar.update()
    n_copies = table.rows[~original].groupby("corpus").size().to_dict()
    spectrum = dict(sorted(spectrum.items()))
    return Measurements(rows.assign(**numbers), spectrum, {c: int(n_copies.get(c, 0)) for c in spectrum})


def draw_sample(rows: pd.DataFrame, most: int, seed: int) -> set[int]:
    """Places of at most so many of each corpus and emotion; what one of them gets depends on no other."""
    groups = rows.groupby(["corpus", "emotion"], sort=False).indices.values()
    drawn = (np.random.default_rng(seed).permutation(members)[:most] for members in groups)
    return {int(place) for places in drawn for place in rows.index[places]}


def level_of(signal: Signal) -> dict[str, float]:
    """level and offset, as in `Measurements`; a constant has no level, silence neither."""
    samples = signal.astype(np.float64)
    offset, power, variance = samples.mean(), np.square(samples).mean(), samples.var()
    return {
        "level": 10 * np.log10(variance) if variance > 0 else np.nan,
        "offset": abs(offset) / np.sqrt(power) if power > 0 else np.nan,
    }


def pitch_of(signal: Signal) -> dict[str, float]:
    """f0, f0_range and voiced, as in `Measurements`; of fewer than 5 voiced frames no pitch is told."""
    pitch = track_pitch(signal)
    voiced = pitch[~np.isnan(pitch)]
    measured = {"voiced": len(voiced) / len(pitch)}
    if len(voiced) >= VOICED_FRAMES:
        low, middle, high = np.percentile(voiced, [10, 50, 90])
        measured |= {"f0": middle, "f0_range": 12 * np.log2(high / low)}
    return measured


def track_pitch(signal: Signal) -> NDArray[np.float64]:
    """Fundamental frequency, 60 to 600 Hz, of frames that start every 512 samples.

    signal : (n_samples,), at least 2048
    returns : (n_frames,) Hz, NaN where a frame isn't voiced

    librosa's YIN (de Cheveigné and Kawahara 2002) after a high-pass filter: rumble and offsets correlate with
    themselves at any period. YIN answers for every frame; voiced are those that repeat after its period and
    aren't far below the loudest.
    """
    import librosa
    from scipy.signal import butter, sosfiltfilt

    low, high = F0_RANGE
    high_pass = butter(4, low, "highpass", fs=SAMPLE_RATE, output="sos")
    filtered = sosfiltfilt(high_pass, signal.astype(np.float64))
    pitch = librosa.yin(
        filtered, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=FRAME, hop_length=HOP, center=False
    )
    frames = np.lib.stride_tricks.sliding_window_view(filtered, FRAME)[::HOP]
    power = np.square(frames).mean(axis=1)
    voiced = (power > 0) & (power >= power.max() * 10 ** (-LOUD / 10))
    voiced &= periodicity(frames, np.rint(SAMPLE_RATE / pitch).astype(np.int64)) >= PERIODIC
    return np.where(voiced, pitch, np.nan)


def periodicity(frames: NDArray[np.float64], periods: NDArray[np.int64]) -> NDArray[np.float64]:
    """Correlation of frames with themselves one period later, -1 to 1; 0 for a frame of zeros.

    frames : (n_frames, n_samples); periods : (n_frames,) samples
    """
    later_places = np.arange(frames.shape[1]) + periods[:, None]
    inside = later_places < frames.shape[1]
    now = np.where(inside, frames, 0)
    later = np.where(inside, np.take_along_axis(frames, later_places * inside, axis=1), 0)
    lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(later, axis=1)
    return (now * later).sum(axis=1) / np.where(lengths > 0, lengths, 1)
