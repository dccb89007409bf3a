"""Endings of files: what is read as sound, and what is sound that has to be converted first."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath

from data_manifests.manifest import split_segment

READ = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
    *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64"),
)
"""What `fins.audio.read_audio` reads, and therefore every adapter and command. In lower case."""

LOSSY = (".mp3", ".mp2", ".ogg", ".oga", ".opus")

CONVERTED = (
    *(".m4a", ".mp4", ".aac", ".m4b", ".mov", ".3gp", ".webm", ".mka", ".mkv", ".weba"),
    *(".wma", ".amr", ".awb", ".ape", ".wv", ".mpc", ".ac3", ".spx", ".ra", ".dsf"),
)
"""What holds sound that no decoder here reads, and ffmpeg converts."""


def is_audio(path: str) -> bool:
    """By its name: a known ending in any case, and not hidden."""
    name = PurePosixPath(path).name
    return name.lower().endswith(READ) and not name.startswith(".")


def is_lossless(path: str) -> bool:
    """By its name: sound that no codec has thinned out."""
    return not split_segment(path)[0].lower().endswith(LOSSY)


def is_convertible(path: str) -> bool:
    """By its name: sound that can't be read as it is, and not hidden."""
    name = PurePosixPath(path).name
    return name.lower().endswith(CONVERTED) and not name.startswith(".")


def how_to_convert(path: str | PurePath) -> str:
    """The command that makes a wav of it: `ffmpeg -i clip.m4a clip.wav`."""
    pure = PurePath(path)
    wav = pure.with_suffix(".wav") if pure.suffix.lower() != ".wav" else pure.with_suffix(".converted.wav")
    return f"ffmpeg -i {_quoted(str(pure))} {_quoted(str(wav))}"


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
