"""The pitch of an utterance over time, for looking at corpora."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fins.audio import HOP, SAMPLE_RATE, WINDOW, Signal

F0_RANGE = (60.0, 600.0)  # Hz
FRAME = WINDOW // 2  # 1,024 samples, 46.4 ms: nearly three periods of the lowest pitch
PERIODIC = 0.7  # correlation with itself one period later that makes a frame voiced
LOUD = 30.0  # dB below the loudest frame: quieter ones aren't voiced


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
    heard = sosfiltfilt(butter(4, low, "highpass", fs=SAMPLE_RATE, output="sos"), signal.astype(np.float64))
    pitch = librosa.yin(
        heard, fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=FRAME, hop_length=HOP, center=False
    )
    frames = np.lib.stride_tricks.sliding_window_view(heard, FRAME)[::HOP]
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
