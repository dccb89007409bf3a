"""A tree of one's own, with a folder for each label."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from data_manifests.manifest import UNKNOWN
from data_manifests.reading import PARTS, Corpus, Named, ParsedName, Resolver, parse_files


def read_folders(root: Path, resolver: Resolver, follow: bool = False) -> Named:
    """Every file; one without a label has as unknown words its folders that hold no labelled file."""
    names = parse_files(root, partial(parse_folders, resolver=resolver), follow)
    known = {folder for path, parsed in names if parsed.id for folder in PurePosixPath(path).parts[:-1]}
    return [
        (path, replace(parsed, unknown=tuple(word for word in parsed.unknown if word not in known)))
        for path, parsed in names
    ]


def parse_folders(path: PurePosixPath, resolver: Resolver) -> ParsedName | None:
    """Any tree with folders named after labels: the nearest is the label, the nearest other the speaker.

    A folder named after a part (`train`, `val`, `test`) is the part and never a speaker.
    """
    folders = path.parts[-2::-1]  # nearest first
    labels = [folder for folder in folders if resolver(folder)[0]]
    others = [folder for folder in folders if folder not in labels]
    speakers = [folder for folder in others if folder.lower() not in PARTS]
    parts = [PARTS[folder.lower()] for folder in others if folder.lower() in PARTS]
    if not labels:
        drop = f"none of its folders is a label: {'/'.join(reversed(folders)) or 'it is in none'}"
        return ParsedName(drop=drop, unknown=tuple(dict.fromkeys(speakers)))
    return ParsedName(
        id=path.with_suffix("").as_posix(),
        speaker=speakers[0] if speakers else UNKNOWN,
        label=labels[0],
        part=parts[0] if parts else "",
    )


CORPUS = Corpus("angry/any_name.wav", read=read_folders)
