"""Trees of wavelet packets: the bands that a signal is taken apart into, as the paths of a tree's leaves.

A path is PyWavelets': a for each low-pass from the root on, d for each high-pass. What follows a high-pass is
mirrored, so that places in frequency are a Gray code of paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fins.audio import SAMPLE_RATE

MEL_WIDTH = 1 / 32  # of all mels up to half the sample rate: a wider band is split
Leaves = tuple[str, ...]  # in the order of frequency


def equal_tree(depth: int) -> Leaves:
    """2 ** depth leaves of one width."""
    return tuple(path_of(depth, place) for place in range(2**depth))


def mel_tree(depth: int) -> Leaves:
    """Leaves that are about as wide as mel bands: narrow at the bottom, as far as the depth allows, and wide
    at the top, where coefficients follow each other faster."""
    return grow(depth, lambda level, place: mels((place + 1) / 2**level) - mels(place / 2**level) > MEL_WIDTH)


def mels(share: float) -> float:
    """Of half the sample rate, on O'Shaughnessy's scale of mels: 0 to 1."""
    return float(np.log1p(share * SAMPLE_RATE / 1400) / np.log1p(SAMPLE_RATE / 1400))


def grow(depth: int, wanted: Callable[[int, int], bool]) -> Leaves:
    """The leaves where nodes are split as long as that is wanted of (level, place in frequency)."""
    leaves, nodes = [], [(1, 1), (1, 0)]
    while nodes:
        level, place = nodes.pop()
        if level < depth and wanted(level, place):
            nodes += [(level + 1, 2 * place + 1), (level + 1, 2 * place)]
        else:
            leaves.append(path_of(level, place))
    return tuple(leaves)


def best_basis(signals: Sequence[NDArray[np.float32]], wavelet: str, depth: int) -> Leaves:
    """The tree whose coefficients say most with fewest: of all trees up to a depth the one of least entropy.

    signals : (n,) each; every one counts alike. Coifman and Wickerhauser 1992: a node is split where its two
    halves have less Σ -p ln p together, p a coefficient's share of its signal's energy.
    """
    from ser_heads.layers.wavelet_packet import WaveletPacket

    entropies = [np.zeros(2**level) for level in range(depth + 1)]
    for level in range(1, depth + 1):
        packet = WaveletPacket(wavelet, level).double().requires_grad_(False)
        for signal in signals:
            sound = torch.from_numpy(np.asarray(signal, np.float64))
            share = packet(sound[None])[0].square() / sound.square().sum().clamp_min(1e-30)
            entropies[level] += -torch.special.xlogy(share, share).sum(dim=1).numpy()
    least, split = entropies[depth], []
    for level in range(depth - 1, 0, -1):
        halves = least.reshape(-1, 2).sum(axis=1)
        split.append(halves < entropies[level])
        least = np.minimum(halves, entropies[level])
    chosen = {depth - 1 - number: wanted for number, wanted in enumerate(split)}
    return grow(depth, lambda level, place: bool(chosen[level][place]))


def path_of(level: int, place: int) -> str:
    """Of the node at a place in the order of frequency, among the 2 ** level of its level."""
    return "".join("ad"[int(bit)] for bit in format(place ^ (place >> 1), f"0{level}b"))


def place_of(path: str) -> int:
    """The place in the order of frequency, of which `path_of` is the inverse."""
    place = 0
    for step in path:
        place = 2 * place + ((step == "d") != bool(place % 2))
    return place


def in_order(paths: Sequence[str]) -> Leaves:
    """Leaves in the order of their frequency; ValueError unless they are all leaves of one tree."""
    if not all(re.fullmatch("[ad]+", path) for path in paths):
        raise ValueError(f"--tree is mel, equal, best, or leaves such as aa ad d, got {' '.join(paths)}")
    ordered = sorted(paths, key=lambda path: place_of(path) / 2 ** len(path))
    ends = [0.0, *((place_of(path) + 1) / 2 ** len(path) for path in ordered)]
    starts = [*(place_of(path) / 2 ** len(path) for path in ordered), 1.0]
    if starts != ends:
        raise ValueError(f"--tree: {' '.join(paths)} aren't all leaves of a tree, each once")
    return tuple(ordered)
