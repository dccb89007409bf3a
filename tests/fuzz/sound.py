"""Damaged recordings: each is read with what its header and its bytes say of its length, or refused."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fins.audio import LOUDEST, SAMPLE_RATE, read_mixed
from fuzz.mutations import Rng, damage_bytes
from fuzz.watchdog import Fault, Verdict, judge

RATE = 16_000  # Hz
SECONDS = 0.5
SEED = 20_261_126
FORMS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "gsm.wav": ("WAV", "GSM610"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
}
"""Ending → container and codec, as soundfile writes them."""
CHANNELS = {"wav": (b"fmt ", 10, "<H"), "aiff": (b"COMM", 8, ">H"), "au": (b".snd", 20, ">I")}
CHANNELS |= {"w64": (b"fmt ", 26, "<H"), "rf64": (b"fmt ", 10, "<H"), "caf": (b"desc", 36, ">I")}
"""Ending → mark, how many bytes from it the number of channels is, and its form."""
SAMPLES = {"wav": (b"data", 4, "<I"), "aiff": (b"COMM", 10, ">I"), "au": (b".snd", 8, ">I")}
SAMPLES |= {"w64": (b"data", 16, "<Q"), "rf64": (b"ds64", 16, "<Q"), "caf": (b"data", 4, ">Q")}
SAMPLES |= {"flac": (b"fLaC", 22, ">I"), "mp3": (b"Info", 8, ">I"), "ogg": (b"OggS", 6, "<Q")}
"""The same of the count of samples, of frames, or of bytes."""
CLAIMS = (0, 1, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
OF_PAYLOAD = ("bits", "zeroed page", "noise")
"""Damages that leave each byte's place: behind the header they change no length."""


def voice(seconds: float = SECONDS, seed: int = 0) -> np.ndarray:
    """(n,) a buzz with noise, at 16 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * (120 + 20 * seed) * k * time + k) / k for k in range(1, 15))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return 0.1 * tone * (1 + np.sin(6 * np.pi * time)) / 2 + 0.003 * noise


def write_sounds(folder: Path) -> dict[str, Path]:
    """A whole file of each form; those that this libsndfile doesn't write are left out."""
    paths = {}
    for place, (ending, (container, codec)) in enumerate(FORMS.items()):
        if soundfile.check_format(container, codec):
            paths[ending] = folder / f"whole.{ending}"
            sound = voice(seed=place)
            if place % 2 and codec != "GSM610":
                sound = np.stack([sound, 0.7 * sound + 0.01 * voice(seed=99)], axis=1)
            soundfile.write(paths[ending], sound, RATE, format=container, subtype=codec)
    return paths


def claim(content: bytes, ending: str, rng: Rng) -> tuple[bytes, str]:
    """A count of channels or samples in the header that can't be."""
    ending = ending.removeprefix("float.").removeprefix("gsm.").replace("opus", "ogg")
    fields = SAMPLES if ending not in CHANNELS or rng.random() < 0.5 else CHANNELS
    mark, offset, form = fields[ending]
    place = content.find(mark)
    if place < 0:
        return damage_bytes(content, rng)
    damaged = bytearray(content)
    number = CLAIMS[rng.integers(len(CLAIMS))] % 256 ** struct.calcsize(form)
    struct.pack_into(form, damaged, place + offset, number)
    return bytes(damaged), "channels" if fields is CHANNELS else "samples"


@dataclass(frozen=True)
class SoundCases:
    """Numbered damages of whole files; `folder` is where each is written."""

    folder: Path
    whole: dict[str, Path]
    lengths: dict[str, int]

    @classmethod
    def made_in(cls, folder: Path) -> SoundCases:
        whole = write_sounds(folder)
        return cls(folder, whole, {ending: len(read_mixed(path)[0]) for ending, path in whole.items()})

    def damaged(self, number: int) -> tuple[str, bytes, str]:
        """Ending, content and what was done: the same for the same number."""
        rng = np.random.default_rng([SEED, number])
        ending = list(self.whole)[number % len(self.whole)]
        content = self.whole[ending].read_bytes()
        if rng.random() < 0.15:
            return ending, *claim(content, ending, rng)
        return ending, *damage_bytes(content, rng)

    def name(self, number: int) -> str:
        ending, _, damage = self.damaged(number)
        return f"sound {number}, {ending}, {damage}"

    def work(self, number: int) -> Verdict:
        """Read one."""
        ending, content, damage = self.damaged(number)
        path = self.folder / f"case-{os.getpid()}.{ending}"
        path.write_bytes(content)
        verdict = judge(lambda: self.check(path, ending, content, damage), path.name)
        path.unlink()
        return verdict

    def check(self, path: Path, ending: str, content: bytes, damage: str) -> None:
        """Raises Fault for a wrong answer."""
        signal, _ = read_mixed(path)
        if signal.dtype != np.float32 or signal.ndim != 1 or not np.isfinite(signal).all():
            raise Fault("samples that are no finite numbers")
        if np.abs(signal).max() > 2 * LOUDEST:
            raise Fault(f"samples up to {np.abs(signal).max():g}")
        whole = self.whole[ending].read_bytes()
        first = next(
            (place for place, pair in enumerate(zip(content, whole, strict=False)) if pair[0] != pair[1]),
            len(whole),
        )
        is_payload = damage in OF_PAYLOAD and first > max(64, len(whole) // 3)
        if damage == "cut" or is_payload:
            difference = len(signal) - self.lengths[ending]
            if abs(difference) > 4:
                raise Fault(f"{difference / SAMPLE_RATE:+.3f} s read without a word")
