"""What may be wrong with a recording, so that an answer about it isn't taken for one about a voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE, Signal
from fins.channels import SILENT

Powers = NDArray[np.float64]
SIZE, STEP = 1_024, 512  # samples of a window, 46 ms, and from one to the next
SPEECH = (300.0, 3_400.0)  # Hz, where speech is loudest
BANDS = 500.0  # Hz, width of the bands among which the highest that holds anything is looked for
EMPTY = -42.0  # dB of such a band against those of speech: there is nothing
NARROW = 9_000.0  # Hz; what ends below lacks what tells fricatives apart
QUIETEST = 0.1  # share of windows: of each frequency, what the quietest have is noise
NOISE_SHARE = -np.log(1 - QUIETEST)  # of noise's mean power that its quietest tenth stays below
SHORTEST, LEAST_LEVEL = 0.5, -50.0  # seconds; dB below full scale of the loudest twentieth
MOST_CLIPPED, MOST_SILENCE, MOST_OFFSET = 0.005, 0.45, 0.05  # shares of samples, of time, of the deviation
LEAST_SNR = 25.0  # dB
FAINTEST = 1e-12  # power, far below that of a step of 16 bits
FLAT = -5.0  # dB of a spectrum's geometric mean below its arithmetic: what is above is like noise


@dataclass(frozen=True)
class Condition:
    """What was measured of a recording.

    seconds : how long it is; level : dB below full scale of its loudest twentieth
    clipped : share of samples in runs of three and more at its largest amplitude
    snr : dB of its power above steady, noise-like sound; infinite if there is none
    top : Hz, the highest frequency that holds anything
    silence : share of its time that is digital silence; offset : its mean over its deviation
    """

    seconds: float
    level: float
    clipped: float
    snr: float
    top: float
    silence: float
    offset: float

    def faults(self) -> dict[str, str]:
        """Name of a fault → a sentence with what was measured; empty for a recording without any."""
        if self.silence == 1:
            return {"silence": "there is nothing but digital silence"}
        faults = {
            "length": (self.seconds < SHORTEST, f"it is {self.seconds:.2f} s long, hardly a word"),
            "level": (self.level < LEAST_LEVEL, f"it is quiet: its loudest parts are at {self.level:.0f} dB"),
            "clipping": (self.clipped > MOST_CLIPPED, f"{self.clipped:.1%} of its samples are clipped"),
            "noise": (self.snr < LEAST_SNR, f"steady noise is {self.snr:.0f} dB below its speech"),
            "band": (self.top < NARROW, f"there is nothing above {self.top / 1000:.1f} kHz"),
            "silence": (self.silence > MOST_SILENCE, f"{self.silence:.0%} of it are digital silence"),
            "offset": (
                self.offset > MOST_OFFSET,
                f"its mean is {self.offset:.0%} of its deviation away from 0",
            ),
        }
        return {name: sentence for name, (is_so, sentence) in faults.items() if is_so}


def examine(signal: Signal) -> Condition:
    """Measure (n_samples,) at 22,050 Hz, amplitude about [-1, 1]."""
    samples = signal.astype(np.float64)
    padded = np.pad(samples, (0, max(0, SIZE - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::STEP]
    level = np.sqrt(np.square(windows).mean(axis=1))
    deviation = samples.std()
    silent = level < SILENT
    spectra = np.abs(np.fft.rfft(windows[level > 0] * np.hanning(SIZE))) ** 2
    return Condition(
        seconds=len(samples) / SAMPLE_RATE,
        level=20 * float(np.log10(max(np.quantile(level, 0.95), 1e-9))),
        clipped=share_clipped(samples),
        snr=signal_to_noise(spectra),
        top=highest_frequency(spectra),
        silence=float(silent.mean()),
        offset=float(abs(samples.mean()) / deviation) if deviation > 0 else 0.0,
    )


def share_clipped(samples: NDArray[np.float64]) -> float:
    """Share of samples that lie, with both neighbours, at the largest amplitude."""
    at_peak = np.abs(samples) >= 0.999 * np.abs(samples).max()
    return float((at_peak[2:] & at_peak[1:-1] & at_peak[:-2]).sum() / len(samples)) if samples.any() else 0.0


def signal_to_noise(spectra: Powers) -> float:
    """dB of (window, frequency) powers above their noise; infinite where what is quiet isn't like noise.

    Of each frequency the quietest tenth of the windows tells how strong noise can be at most.
    """
    if len(spectra) == 0:
        return np.inf
    bins = slice(*(round(hertz * SIZE / SAMPLE_RATE) for hertz in (SPEECH[0], 10_500.0)))
    noise = np.quantile(spectra, QUIETEST, axis=0)[bins] / NOISE_SHARE + FAINTEST
    flatness = 10 * np.log10(np.exp(np.log(noise).mean()) / noise.mean())
    if flatness < FLAT:
        return np.inf
    return float(10 * np.log10((spectra.mean() + FAINTEST) / noise.mean()))


def highest_frequency(spectra: Powers) -> float:
    """Hz of the upper end of the highest band that isn't empty beside those of speech."""
    if len(spectra) == 0:
        return 0.0
    hertz = np.fft.rfftfreq(SIZE, 1 / SAMPLE_RATE)
    power = spectra.mean(axis=0)
    speech = power[(hertz >= SPEECH[0]) & (hertz < SPEECH[1])].mean()
    ends = np.arange(BANDS, SAMPLE_RATE / 2, BANDS)
    bands = np.array([power[(hertz >= end - BANDS) & (hertz < end)].mean() for end in ends])
    return float(ends[bands > speech * 10 ** (EMPTY / 10)].max(initial=0.0))
