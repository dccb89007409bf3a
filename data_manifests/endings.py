"""Endings of files: what is read as sound, and what is sound that has to be converted first."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import PurePath, PurePosixPath

from data_manifests.manifest import split_segment

READ = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"),
)
"""What `fins.audio.read_audio` reads, and therefore every adapter and command. In lower case."""

DECODED = (".m4a", ".mp4", ".m4b", ".mov", ".3gp", ".aac", ".webm", ".weba", ".mka", ".mkv", ".wma")
"""What it reads besides where PyAV is installed (the extra decoders), and has to be converted elsewhere."""

LOSSY = (".mp3", ".mp2", ".ogg", ".oga", ".opus", *DECODED)

CONVERTED = (".amr", ".awb", ".ape", ".wv", ".mpc", ".ac3", ".spx", ".ra", ".dsf")
"""What holds sound that is read nowhere, and that ffmpeg converts."""

EXTRA = 'pip install "fin-ser[decoders]"'


@lru_cache(maxsize=1)
def has_decoders() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def is_audio(path: str) -> bool:
    """By its name: a known ending in any case, and not hidden."""
    name = PurePosixPath(path).name
    endings = (*READ, *DECODED) if has_decoders() else READ
    return name.lower().endswith(endings) and not name.startswith(".")


def is_lossless(path: str) -> bool:
    """By its name: sound that no codec has thinned out."""
    return not split_segment(path)[0].lower().endswith(LOSSY)


def is_convertible(path: str) -> bool:
    """By its name: sound that can't be read as it is, and not hidden."""
    name = PurePosixPath(path).name
    ending = name.lower().endswith((*CONVERTED, *DECODED))
    return ending and not is_audio(path) and not name.startswith(".")


def how_to_convert(path: str | PurePath) -> str:
    """The command that makes a wav of it: `ffmpeg -i clip.m4a clip.wav`."""
    pure = PurePath(path)
    wav = pure.with_suffix(".wav") if pure.suffix.lower() != ".wav" else pure.with_suffix(".converted.wav")
    return f"ffmpeg -i {_quoted(str(pure))} {_quoted(str(wav))}"


def how_to_read(path: str | PurePath, is_decoded: bool | None = None) -> str:
    """The same, or what to install, where that would do.

    is_decoded : whether PyAV reads it; by default by its ending
    """
    decoded = str(path).lower().endswith(DECODED) if is_decoded is None else is_decoded
    return how_to_convert(path) + (f", or {EXTRA}" if decoded and not has_decoders() else "")


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
