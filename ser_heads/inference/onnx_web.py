"""onnxruntime-web, which runs ONNX in browsers: three files of its npm package, from there or from a copy."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"  # 33 MB
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""All that a page needs that computes on the processor: 14 MB of them, 4 MB as servers compress them."""

TIMEOUT = 60.0  # seconds without an answer
ELSEWHERE = f"get it by npm pack onnxruntime-web@{VERSION} and name its file with --runtime"


def read_runtime(source: Path | None = None) -> dict[str, bytes]:
    """Name → content of each of FILES.

    source : the package of npm, as a .tgz or as its unpacked folder, or a folder that has the files itself,
        as a page's; by default the pinned version is downloaded and its checksum compared
    Raises ValueError in one sentence if that doesn't hold the files, or can't be downloaded.
    """
    if source is None:
        return from_archive(download(), ADDRESS)
    if source.is_dir():
        return from_folder(source)
    if not source.is_file():
        raise ValueError(
            f"--runtime {source} is missing: give the package of onnxruntime-web, or leave it out"
        )
    return from_archive(source.read_bytes(), str(source))


def download() -> bytes:
    """The package of npm, compared with its checksum."""
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT) as response:
            archive: bytes = response.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"{ADDRESS} couldn't be downloaded ({reason}): {ELSEWHERE}") from error
    return checked(archive)


def checked(archive: bytes) -> bytes:
    """The same bytes; ValueError if they aren't those of the pinned version."""
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != SHA512:
        raise ValueError(f"what came from {ADDRESS} isn't the package of the pinned version: {ELSEWHERE}")
    return archive


def from_folder(folder: Path) -> dict[str, bytes]:
    """From an unpacked package or from a folder that has the files itself."""
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if all((place / name).is_file() for name in FILES):
            return {name: (place / name).read_bytes() for name in FILES}
    raise ValueError(f"{folder} doesn't hold {', '.join(FILES)}: {ELSEWHERE}")


def from_archive(archive: bytes, name: str) -> dict[str, bytes]:
    """From a package as npm packs it."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
            for member in package:
                folder, _, file = member.name.rpartition("/")
                if folder == "package/dist" and file in FILES and (content := package.extractfile(member)):
                    files[file] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{name} is no whole package of npm: {ELSEWHERE}") from error
    if len(files) < len(FILES):
        raise ValueError(f"{name} doesn't hold {', '.join(FILES)}: {ELSEWHERE}")
    return files
