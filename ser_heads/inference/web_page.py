"""A classifier as a page that runs in browsers: a folder for any server of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fins.audio import SAMPLE_RATE
from fins.channels import SILENT
from fins.leftovers import temporary_folder
from ser_heads.inference import condition, overview
from ser_heads.inference.export import compare, export_model
from ser_heads.inference.onnx_web import read_runtime
from ser_heads.inference.stream import whole_frames
from ser_heads.model import SerModel

OWN_FILES = ("index.html", "page.js", "page.css", "onnxruntime-web.LICENSE.txt")
MODEL, FACTS = "model.onnx", "model.json"


def write_page(
    model: SerModel,
    folder: Path,
    runtime: Path | None = None,
    card: Mapping[str, Any] | None = None,
    *,
    int8: bool = False,
    made: Path | None = None,
) -> float:
    """Write the page of a model, as a whole or not at all.

    folder : new or empty; runtime : see `onnx_web.read_runtime`; card : what else is known of the model;
        int8 : see `export_model`; made : its ONNX, where there is one already
    returns : the largest difference of a probability between PyTorch and the page's ONNX
    Raises ValueError in one sentence for a folder that holds anything, and as what it calls does.
    """
    check_folder(folder)
    with temporary_folder(f".{folder.name}-", folder.absolute().parent) as partial:
        page = partial / "page"
        page.mkdir()
        if made is None:
            difference = export_model(model, page / MODEL, card, int8=int8)
        else:
            shutil.copy(made, page / MODEL)
            difference = compare(model, page / MODEL)
        for name, content in read_runtime(runtime).items():
            (page / name).write_bytes(content)
        for name in OWN_FILES:
            (page / name).write_bytes((resources.files(__package__) / "page" / name).read_bytes())
        (page / FACTS).write_text(json.dumps(facts_of(model, card or {}), indent=1) + "\n", encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        shutil.move(page, folder)
    return difference


def check_folder(folder: Path) -> None:
    """ValueError for one that is no new or empty folder in a folder that is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--page {folder} is not an empty folder: give a new one")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"--page {folder} is in no folder that is there")


def facts_of(model: SerModel, card: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script has to know, as JSON: the package's own numbers, told once."""
    window, hop = whole_frames(overview.STRETCH, overview.EVERY)
    return {
        "model": model.name,
        "labels": list(model.labels),
        "sample_rate": SAMPLE_RATE,  # Hz
        "window": window,  # samples
        "hop": hop,
        "window_seconds": overview.STRETCH,
        "whole_seconds": overview.WHOLE,
        "limits": {"seconds": overview.MOST_SECONDS, "bytes": overview.MOST_BYTES},
        "condition": {
            "size": condition.SIZE,  # samples
            "step": condition.STEP,
            "digital_silence": SILENT,
            "shortest": condition.SHORTEST,
            "least_level": condition.LEAST_LEVEL,
            "most_clipped": condition.MOST_CLIPPED,
            "most_silence": condition.MOST_SILENCE,
        },
        "card": dict(card),
    }
