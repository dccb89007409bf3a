"""Learnable wavelet packets against PyWavelets, and what learning may change."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from ser_heads.layers.packet_tree import mel_tree
from ser_heads.layers.wavelet_packet import AsymmetricThreshold, Mode, Sharing, WaveletPacket, conjugate_of


def by_pywavelets(signal: torch.Tensor, wavelet: str, depth: int, mode: str) -> np.ndarray:
    rows = []
    for row in signal.numpy():
        tree = pywt.WaveletPacket(row, wavelet, mode, depth)
        rows.append([node.data for node in tree.get_level(depth, "freq")])
    return np.array(rows)


@pytest.mark.parametrize("mode", ["zero", "constant", "symmetric", "reflect", "periodic"])
@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize(
    ("wavelet", "depth", "n_samples"),
    [("haar", 1, 64), ("db10", 5, 1000), ("sym4", 4, 333), ("coif3", 3, 200), ("db2", 7, 511), ("db6", 2, 5)],
)
def test_at_the_start_it_is_pywavelets(
    wavelet: str, depth: int, n_samples: int, sharing: Sharing, mode: Mode
) -> None:
    torch.manual_seed(0)
    signal = torch.randn(3, n_samples, dtype=torch.float64)
    packet = WaveletPacket(wavelet, depth, sharing, mode)
    bands = packet.double()(signal)
    expected = by_pywavelets(signal, wavelet, depth, mode)
    assert bands.shape == expected.shape == (3, 2**depth, packet.count_coefficients(n_samples))
    np.testing.assert_allclose(bands.detach(), expected, atol=1e-5, rtol=1e-5)


def without_padding(node: np.ndarray, wavelet: str, depth: int, mirrored: bool = False) -> list[np.ndarray]:
    """Bands by PyWavelets, at each node but for coefficients that hear what is beyond its ends."""
    if depth == 0:
        return [node]
    taps = pywt.Wavelet(wavelet).dec_len
    whole = slice(taps // 2 - 1, taps // 2 - 1 + (len(node) - taps) // 2 + 1)
    low, high = (
        without_padding(child[whole], wavelet, depth - 1, mirrored != bool(side))
        for side, child in enumerate(pywt.dwt(node, wavelet, "zero"))
    )
    return high + low if mirrored else low + high


@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize(
    ("wavelet", "depth", "n_samples"), [("db10", 5, 900), ("haar", 3, 9), ("sym4", 2, 101)]
)
def test_without_padding_kernels_stay_within_the_signal(
    wavelet: str, depth: int, n_samples: int, sharing: Sharing
) -> None:
    signal = torch.randn(2, n_samples, dtype=torch.float64)
    packet = WaveletPacket(wavelet, depth, sharing, "valid").double()
    bands = packet(signal).detach()
    expected = np.array([without_padding(row, wavelet, depth) for row in signal.numpy()])
    assert bands.shape == expected.shape == (2, 2**depth, packet.count_coefficients(n_samples))
    np.testing.assert_allclose(bands, expected, atol=1e-5, rtol=1e-5)
    least = packet.least_samples()
    assert [packet.count_coefficients(n) for n in (least - 1, least)] == [0, 1]
    assert packet(torch.zeros(1, least, dtype=torch.float64)).shape[2] == 1
    with pytest.raises(ValueError, match=f"at least {least} samples here, got {least - 1}"):
        packet(torch.zeros(1, least - 1))


@pytest.mark.parametrize("wavelet", ["bior2.4", "rbio3.3", "db4"])
def test_with_two_kernels_it_is_any_wavelet(wavelet: str) -> None:
    signal = torch.randn(2, 300, dtype=torch.float64)
    bands = WaveletPacket(wavelet, 3, mode="symmetric", conjugate=False).double()(signal)
    np.testing.assert_allclose(
        bands.detach(), by_pywavelets(signal, wavelet, 3, "symmetric"), atol=1e-5, rtol=1e-5
    )


TREES = {"mel": mel_tree(7), "one side": ("d", "aad", "ad", "aaa"), "of two levels": ("a", "da", "dd")}


@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize("tree", TREES)
def test_leaves_of_any_tree_are_pywavelets(tree: str, sharing: Sharing) -> None:
    signal = torch.randn(2, 3000, dtype=torch.float64)
    packet = WaveletPacket("sym10", sharing=sharing, leaves=TREES[tree]).double()
    n_split = len(TREES[tree]) - 1  # of a tree of two children each
    assert len(packet.kernels) == {"tree": 1, "level": packet.depth, "node": n_split}[sharing]
    levels = packet.decompose(signal)
    assert sum(bands.shape[1] for bands in levels.values()) == len(TREES[tree])
    for row in range(2):
        known = pywt.WaveletPacket(signal[row].numpy(), "sym10", "zero", packet.depth)
        for level, bands in levels.items():
            names = [node.path for node in known.get_level(level, "freq") if node.path in TREES[tree]]
            expected = np.array([known[name].data for name in names])
            assert bands[row].shape == expected.shape == (len(names), packet.count_coefficients(3000, level))
            np.testing.assert_allclose(bands[row].detach(), expected, atol=1e-5, rtol=1e-5)


def test_each_node_that_is_split_has_its_own_kernels() -> None:
    packet = WaveletPacket("db4", sharing="node", leaves=TREES["one side"])
    signal = torch.randn(1, 500)
    before = packet.decompose(signal)
    with torch.no_grad():
        packet.kernels[2] *= 2  # of node aa, whose children are the first two leaves
    after = packet.decompose(signal)
    torch.testing.assert_close(after[3], 2 * before[3])
    for level in (1, 2):
        torch.testing.assert_close(after[level], before[level], rtol=0, atol=0)
    with pytest.raises(ValueError, match="several levels have several lengths: use decompose"):
        packet(signal)


def test_the_deepest_tree() -> None:
    signal = torch.randn(1, 4096, dtype=torch.float64)
    bands = WaveletPacket("db3", 10, "node").double()(signal)
    np.testing.assert_allclose(bands.detach(), by_pywavelets(signal, "db3", 10, "zero"), atol=1e-5)


def test_bands_are_in_order_of_frequency() -> None:
    time = torch.arange(4096) / 4096
    packet = WaveletPacket("db10", 4)
    for band in range(16):
        tone = torch.sin(2 * torch.pi * (band + 0.5) * 128 * time)
        assert int(packet(tone[None]).square().sum(dim=2).argmax()) == band


@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize("conjugate", [True, False])
def test_every_parameter_learns(sharing: Sharing, conjugate: bool) -> None:
    torch.manual_seed(0)
    packet = WaveletPacket("db4", 4, sharing, "reflect", conjugate, threshold=True)
    n_kernels = {"tree": 1, "level": 4, "node": 15}[sharing]
    assert packet.kernels.shape == (n_kernels, 1 if conjugate else 2, 8)
    packet(torch.randn(2, 500)).square().sum().backward()
    for name, parameter in packet.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() == parameter.numel(), name


def test_a_signal_gets_the_same_coefficients_in_any_batch() -> None:
    packet = WaveletPacket("sym5", 5, "level", threshold=True)
    signals = torch.randn(4, 700)
    torch.testing.assert_close(packet(signals)[2:3], packet(signals[2:3]))


def test_a_threshold_lets_pass_what_is_beyond_it() -> None:
    threshold = AsymmetricThreshold(3)
    with torch.no_grad():
        threshold.above.copy_(torch.tensor([9.0, 0.5, 9.0]))
        threshold.below.copy_(torch.tensor([9.0, 1.0, 9.0]))
        threshold.steepness.fill_(200)
    values = torch.tensor([[[-2.0, -0.8, -0.3, 0.0, 0.4, 0.7, 3.0]]])
    expected = torch.tensor([[[-2.0, 0.0, 0.0, 0.0, 0.0, 0.7, 3.0]]])
    torch.testing.assert_close(threshold(values, 1), expected, atol=1e-6, rtol=0)
    x, above, below, steepness = 0.6, 0.5, 1.0, 12.0
    with torch.no_grad():
        threshold.steepness.fill_(steepness)
    by_hand = x * (1 / (1 + np.exp(-steepness * (x - above))) + 1 / (1 + np.exp(steepness * (x + below))))
    assert threshold(torch.tensor([[[x]]]), 1).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("wavelet", ["haar", "db10", "sym8", "coif2"])
def test_the_penalty_is_zero_for_orthogonal_wavelets_alone(wavelet: str) -> None:
    assert WaveletPacket(wavelet, 2).penalty().item() < 1e-10
    packet = WaveletPacket(wavelet, 2, "level", conjugate=False)
    assert packet.penalty().item() < 1e-10
    with torch.no_grad():
        packet.kernels[0, 0, 0] += 0.1
    assert packet.penalty().item() > 1e-3
    assert WaveletPacket("bior3.1", 2, conjugate=False).penalty().item() > 1e-2


def test_learning_the_penalty_away_gives_perfect_reconstruction() -> None:
    torch.manual_seed(0)
    packet = WaveletPacket("db3", 1, mode="periodic")
    with torch.no_grad():
        packet.kernels += 0.1 * torch.randn_like(packet.kernels)
    optimizer = torch.optim.Adam(packet.parameters(), lr=1e-2)
    for _ in range(500):
        optimizer.zero_grad()
        packet.penalty().backward()
        optimizer.step()
    low, high = (kernel.flip(0).tolist() for kernel in packet.pairs()[0].detach())
    learned = pywt.Wavelet("learned", filter_bank=(low, high, low[::-1], high[::-1]))
    signal = np.random.default_rng(0).standard_normal(64)
    again = pywt.idwt(*pywt.dwt(signal, learned, "periodic"), learned, "periodic")
    np.testing.assert_allclose(again, signal, atol=1e-3)


def test_the_conjugate_is_pywavelets_high_pass() -> None:
    known = pywt.Wavelet("db5")
    low = torch.tensor(known.dec_lo).flip(0)
    torch.testing.assert_close(conjugate_of(low), torch.tensor(known.dec_hi).flip(0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"depth": 0}, "1 to 10"),
        ({"depth": 11}, "1 to 10"),
        ({"wavelet": "mexh"}, "no discrete wavelet"),
        ({"wavelet": "bior2.4"}, "isn't orthogonal"),
        ({"sharing": "none"}, "sharing is one of"),
        ({"mode": "smooth"}, "mode one of"),
    ],
)
def test_what_can_not_be_is_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        WaveletPacket(**options)
    with pytest.raises(ValueError, match="n_samples"):
        WaveletPacket("haar", 1)(torch.zeros(5))
