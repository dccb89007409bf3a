"""What the benchmarks share: the machine in words, and two sides timed in turn in one run."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def machine() -> str:
    """Processor, cores and versions, as they stand beside every figure."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}"


def rate(work: Callable[[], int]) -> float:
    """Units a second of one call, which returns how many it did."""
    start = time.perf_counter()
    units = work()
    return units / (time.perf_counter() - start)


def compare(
    name: str, unit: str, ours: Callable[[], int], peer: Callable[[], int], peer_name: str, rounds: int = 3
) -> float:
    """Time both in turn, print medians and the ratio; the first round of each warms up and doesn't count."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for number in range(rounds + 1):
        for side, work in (("ours", ours), ("peer", peer)):
            measured = rate(work)
            if number:
                rates[side].append(measured)
    our_rate, peer_rate = (statistics.median(rates[side]) for side in ("ours", "peer"))
    ratios = [a / b for a, b in zip(rates["ours"], rates["peer"], strict=True)]
    print(
        f"{name}: {our_rate:,.0f} {unit}/s; {peer_name}: {peer_rate:,.0f} {unit}/s; "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {rounds} rounds)",
        flush=True,
    )
    return statistics.median(ratios)
