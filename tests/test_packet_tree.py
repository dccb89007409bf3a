"""Trees of wavelet packets: whole, as wide as mel bands, or the best of all for some signals."""

from __future__ import annotations

from collections.abc import Iterator

import librosa
import numpy as np
import pytest
import pywt

from fins.audio import SAMPLE_RATE
from ser_heads.layers.packet_tree import (
    best_basis,
    equal_tree,
    in_order,
    mel_tree,
    path_of,
    place_of,
)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_equal_trees_are_in_pywavelets_order_of_frequency(depth: int) -> None:
    known = pywt.WaveletPacket(np.zeros(200), "haar", maxlevel=depth).get_level(depth, "freq")
    assert equal_tree(depth) == tuple(node.path for node in known)
    assert [place_of(path) for path in equal_tree(depth)] == list(range(2**depth))


def edges_of(path: str) -> tuple[float, float]:
    """Hz, by the order of PyWavelets."""
    names = [
        node.path
        for node in pywt.WaveletPacket([0.0] * 300, "haar", maxlevel=len(path)).get_level(len(path), "freq")
    ]
    width = SAMPLE_RATE / 2 / len(names)
    return names.index(path) * width, (names.index(path) + 1) * width


@pytest.mark.parametrize("depth", [4, 7])
def test_bands_of_a_mel_tree_are_split_until_they_are_narrow(depth: int) -> None:
    """A thirty-second of all mels, by librosa's scale; what they were split from was wider."""
    leaves = mel_tree(depth)
    widest = librosa.hz_to_mel(SAMPLE_RATE / 2, htk=True) / 32
    edges = [edges_of(leaf) for leaf in leaves]
    assert [start for start, _ in edges[1:]] == [end for _, end in edges[:-1]]
    assert (edges[0][0], edges[-1][1]) == (0, SAMPLE_RATE / 2)
    for leaf, (start, end) in zip(leaves, edges, strict=True):
        width = np.diff(librosa.hz_to_mel([start, end], htk=True))[0]
        parent = np.diff(librosa.hz_to_mel(edges_of(leaf[:-1]), htk=True))[0]
        assert parent > widest and (width <= widest or len(leaf) == depth)
    assert len(mel_tree(7)) == 42 and mel_tree(1) == ("a", "d")


def all_trees(path: str, depth: int) -> Iterator[tuple[str, ...]]:
    """Below a node, itself among them but for the root."""
    if path:
        yield (path,)
    if len(path) < depth:
        for low in all_trees(path + "a", depth):
            for high in all_trees(path + "d", depth):
                yield low + high


def test_the_best_basis_is_the_best_of_all_trees() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(1500)
    tone = np.sin(2 * np.pi * 0.03 * time)
    clicks = np.where(time % 300 == 7, 5.0, 0.0)
    cases = [[rng.standard_normal(1500)], [tone], [clicks], [tone + clicks, 0.1 * tone], [np.zeros(100)]]
    chosen = set()
    for signals in cases:
        trees = list(all_trees("", 3))
        assert len(trees) == 25
        entropy = {tree: 0.0 for tree in trees}
        for signal in signals:
            known = pywt.WaveletPacket(signal, "db3", "zero", 3)
            for tree in trees:
                energy = np.concatenate([known[leaf].data for leaf in tree]) ** 2
                share = energy[energy > 0] / max((np.asarray(signal) ** 2).sum(), 1e-30)
                entropy[tree] -= (share * np.log(share)).sum()
        basis = best_basis([signal.astype(np.float32) for signal in signals], "db3", 3)
        assert basis == in_order(basis)
        of_basis = next(entropy[tree] for tree in trees if set(tree) == set(basis))
        assert of_basis == pytest.approx(min(entropy.values()), rel=1e-6)
        chosen.add(basis)
    assert len(chosen) >= 3
    assert best_basis([tone], "haar", 1) == ("a", "d")


@pytest.mark.parametrize("seed", range(5))
def test_leaves_come_in_order_however_they_are_given(seed: int) -> None:
    tree = mel_tree(5)
    shuffled = np.random.default_rng(seed).permutation(tree).tolist()
    assert in_order(shuffled) == tree
    assert path_of(3, 2) == "add"


@pytest.mark.parametrize(
    "paths", [("aa", "d"), ("a", "d", "d"), ("a", "d", "dd"), ("a",), ("aa", "ad", "a", "d")]
)
def test_what_isnt_a_tree_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="aren't all leaves of a tree, each once"):
        in_order(paths)
    for other in (("best",), ("mel", "a"), ("",)):
        with pytest.raises(ValueError, match="--tree is mel, equal, best, or leaves such as aa ad d"):
            in_order(other)
