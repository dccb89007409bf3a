"""R² of a FIN over windows of stores: of each part, of each corpus, and of stores that training never saw."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from fins.data.splits import PARTS
from fins.learning.r2 import R2Accumulator
from fins.learning.windows import UtteranceRef, WindowStream
from fins.networks import Fin

EVALUATION_BATCH = 256  # windows


def imitate(
    fin: Fin, stream: WindowStream, references: Sequence[UtteranceRef], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields a FIN's imitation and the truth, both (n, n_outputs) on the device, over windows in order."""
    fin.eval()
    for block in stream.blocks(stream.group(references)):
        for start in range(0, len(block), EVALUATION_BATCH):
            windows, truth = block.batch(slice(start, start + EVALUATION_BATCH), device)
            with torch.no_grad():
                imitation = fin(windows)
            yield imitation, truth


def score(
    fin: Fin, stream: WindowStream, references: Sequence[UtteranceRef], device: torch.device
) -> R2Accumulator:
    """R² of a FIN over the windows of some utterances, streamed."""
    accumulator = R2Accumulator(stream.feature.n_outputs)
    for imitation, truth in imitate(fin, stream, references, device):
        accumulator.update(truth.cpu().numpy(), imitation.cpu().numpy())
    return accumulator


def score_parts(
    fin: Fin, stream: WindowStream, parts: Mapping[str, Sequence[UtteranceRef]], device: torch.device
) -> list[dict[str, Any]]:
    """R² of each part: of each corpus in each store, and of all windows together."""
    rows: list[dict[str, Any]] = []
    for part in PARTS if stream.stores else ():
        everything = R2Accumulator(stream.feature.n_outputs)
        for (number, corpus), references in stream.by_corpus(parts[part]).items():
            accumulator = score(fin, stream, references, device)
            everything.merge(accumulator)
            rows.append(r2_row(accumulator, str(stream.stores[number].path), corpus, part))
        rows.append(r2_row(everything, "all", "all", part))
    return rows


def score_tests(fin: Fin, tests: WindowStream, device: torch.device) -> list[dict[str, Any]]:
    """R² of each corpus in the stores that training never saw."""
    return [
        r2_row(score(fin, tests, references, device), str(tests.stores[number].path), corpus, "all")
        for store in range(len(tests.stores))
        for (number, corpus), references in tests.by_corpus(tests.all_utterances(store)).items()
    ]


def r2_row(accumulator: R2Accumulator, store: str, corpus: str, part: str) -> dict[str, Any]:
    """One row of `r2` in result.json."""
    return {"store": store, "corpus": corpus, "part": part, **asdict(accumulator.result())}


def every_nth(references: Sequence[UtteranceRef], n: int) -> list[UtteranceRef]:
    """Every n-th utterance; at least one."""
    return list(references[::n])


def measure_scoring(
    fin: Fin, stream: WindowStream, references: Sequence[UtteranceRef], device: torch.device
) -> tuple[int, float]:
    """Windows that were scored, and the seconds that it took: for a second or so, after a batch that warms
    up."""
    next(imitate(fin, stream, references[:1], device))
    started, n_windows = time.monotonic(), 0
    while time.monotonic() - started < 1:
        for _, truth in imitate(fin, stream, references[:8], device):
            n_windows += len(truth)
    return n_windows, time.monotonic() - started
