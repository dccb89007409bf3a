"""python -m pipelines.export: a classifier as one ONNX file, waveform in, probabilities out, or a page."""

from __future__ import annotations

from fins.command import run_command
from fins.progress import TqdmWatch
from ser_heads.inference.export import ExportOptions, export


def main(options: ExportOptions) -> None:
    """One file, or a page of several."""
    print(export(options, TqdmWatch()))


if __name__ == "__main__":
    run_command(main, ExportOptions)
