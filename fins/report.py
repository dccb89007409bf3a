"""python -m fins.report: R² of FINs beside the published ones and in degraded recordings, with pictures."""

from __future__ import annotations

from fins.command import run_command
from fins.learning.report import FinReportConfig, report_fins
from fins.progress import TqdmWatch


def main(config: FinReportConfig) -> None:
    """Options → one call → print."""
    print(report_fins(config, TqdmWatch()), f"written to {config.out}", sep="\n\n")


if __name__ == "__main__":
    run_command(main, FinReportConfig)
