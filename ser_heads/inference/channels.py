"""Which channels of a file of any length are taken."""

from __future__ import annotations

import os

from fins.audio import read_blocks
from fins.channels import Faults, choose_channels, join, judge, moments

__all__ = ["Faults", "channels_of_file", "choose_channels"]

SCANNED = 300.0  # seconds by which channels are judged


def channels_of_file(path: str | os.PathLike[str]) -> tuple[list[int] | None, Faults]:
    """Which of a file to take the mean of, by its first five minutes, or None for all; and why not of all.

    A channel that is silent there may hold a voice later, so that only opposite phase counts.
    """
    blocks, seconds = [], 0.0
    for block, rate in read_blocks(path):
        if block.shape[1] == 1:
            return None, {}
        blocks.append(moments(block))
        seconds += len(block) / rate
        if seconds >= SCANNED:
            break
    places, faults = judge(join(blocks))
    return (places, faults) if "phase" in faults else (None, {})
