"""python -m fins.train: learn a closed form from noise or fit a FIN to windows; score it; write a folder."""

from __future__ import annotations

from fins.command import choose_device, run_command
from fins.learning.run import FinRunConfig, train_fin
from fins.learning.run_page import describe_scores, describe_stages
from fins.progress import TqdmWatch


def main(config: FinRunConfig) -> None:
    """Options → one call → print."""
    result = train_fin(config, TqdmWatch(), choose_device())
    if result.stages:
        print(describe_stages(result.stages), end="\n\n")
    print(f"{result.feature}, {result.topology}: {result.parameters:,} parameters", end="\n\n")
    print(describe_scores(result.r2), f"written to {config.folder}", sep="\n")


if __name__ == "__main__":
    run_command(main, FinRunConfig)
