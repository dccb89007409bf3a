"""Energies of wavelet packets: PyWavelets' at the start, alignment with the FINs' frames, and what learns."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from fins.audio import HOP, SAMPLE_RATE, WINDOW, count_windows
from ser_heads.frontends.wavelet_packets import RelativeThreshold, WaveletFrontEnd
from ser_heads.layers.packet_tree import Leaves, equal_tree, mel_tree
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket

SECONDS = [0.1, 0.5, 3.0]
TREES: dict[str, Leaves] = {
    "mel": mel_tree(7),
    "equal": equal_tree(4),
    "halves": ("a", "d"),
    "uneven": ("aaaaaaa", "aaaaaad", "aaaaad", "aaaad", "aaad", "aad", "ad", "d"),
}


def frontend_of(tree: str = "mel", wavelet: str = "sym10", sharing: Sharing = "tree") -> WaveletFrontEnd:
    return WaveletFrontEnd(wavelet, TREES[tree], sharing)


def moved(frontend: WaveletFrontEnd) -> WaveletFrontEnd:
    """With kernels and thresholds as if it had learned."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in frontend.parameters():
            parameter += 0.1 * torch.rand(parameter.shape, generator=generator)
    return frontend


def speech(seconds: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise at several levels, padded with zeros to the longest."""
    generator = torch.Generator().manual_seed(seed)
    n_samples = torch.tensor([max(WINDOW, round(SAMPLE_RATE * each)) for each in seconds])
    signal = torch.randn(len(seconds), int(n_samples.max()), generator=generator)
    signal *= torch.logspace(-2, -0.5, len(seconds))[:, None]
    return signal * (torch.arange(signal.shape[1]) < n_samples[:, None]), n_samples


def energies(frontend: WaveletFrontEnd, signal: Tensor, n_samples: Tensor) -> Tensor:
    """(batch, time, slot, band)."""
    with torch.no_grad():
        return frontend(signal, n_samples).values.unflatten(2, (4, frontend.n_bands))


@pytest.mark.parametrize("wavelet", ["sym10", "haar", "db4"])
@pytest.mark.parametrize("tree", TREES)
def test_at_the_start_energies_are_those_of_pywavelets(tree: str, wavelet: str) -> None:
    """Of each slot of 128 samples around a frame's centre, of the coefficients nearest to its own."""
    frontend = frontend_of(tree, wavelet)
    signal, n_samples = speech([0.5])
    values = energies(frontend, signal, n_samples)[0]
    taps = pywt.Wavelet(wavelet).dec_len
    known = pywt.WaveletPacket(signal[0].double().numpy(), wavelet, "zero", 7)
    for band, leaf in enumerate(TREES[tree]):
        power, step = known[leaf].data ** 2, 2 ** len(leaf)
        # a kernel hears what is left of its last sample, and its middle is (taps - 1) / 2 before it
        places = step * np.arange(len(power)) - (step - 1) * ((taps - 1) / 2 - 1)
        for frame in range(values.shape[0]):
            for slot in range(4):
                centre = HOP * frame + WINDOW / 2 + 128 * (slot - 1.5)
                n = max(8, 128 // step)
                start = np.abs(np.convolve(places, np.ones(n) / n, "valid") - centre).argmin()
                expected = power[start : start + n].mean()
                assert float(values[frame, slot, band]) == pytest.approx(expected, rel=1e-4), (leaf, frame)


@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize("tree", TREES)
def test_padding_changes_nothing(tree: str, sharing: Sharing) -> None:
    frontend = moved(frontend_of(tree, sharing=sharing))
    signal, n_samples = speech([*SECONDS, 20.0])
    with torch.no_grad():
        together = frontend(signal, n_samples)
        for row, n in enumerate(n_samples.tolist()):
            alone = frontend(signal[[row], :n], n_samples[[row]])
            n_frames = int(alone.lengths)
            assert together.lengths[row] == n_frames == count_windows(n) == alone.values.shape[1]
            torch.testing.assert_close(together.values[[row], :n_frames], alone.values, atol=1e-7, rtol=1e-4)
            assert together.values[row, n_frames:].count_nonzero() == 0


def test_what_is_beyond_the_end_is_ignored() -> None:
    frontend = moved(frontend_of())
    signal, n_samples = speech(SECONDS)
    noisy = torch.where(signal == 0, 5.0, signal)
    longer = torch.nn.functional.pad(noisy, (0, 7000), value=-3)
    first, second = (energies(frontend, each, n_samples) for each in (signal, longer))
    torch.testing.assert_close(first, second[:, : first.shape[1]], atol=1e-7, rtol=1e-4)
    assert second[:, first.shape[1] :].count_nonzero() == 0


@pytest.mark.parametrize("tree", ["mel", "uneven"])
def test_a_click_is_in_the_slot_that_it_is_in(tree: str) -> None:
    """Of the highest band, whose coefficients follow each other fastest."""
    frontend = frontend_of(tree)
    samples = torch.arange(3001, 40_000, 777)
    clicks = torch.nn.functional.one_hot(samples, 44_100).float()
    values = energies(frontend, clicks, torch.full((len(samples),), 44_100))
    loudest = values.flatten(1, 2)[..., -1].argmax(dim=1)
    centres = WINDOW / 2 - 1.5 * 128 + 128 * loudest
    assert (centres - samples).abs().max() <= 64 + 24  # half a slot, and what symlets are late


@pytest.mark.parametrize(("wavelet", "worst"), [("sym10", 24), ("db10", 211)])
def test_the_delay_is_that_of_the_wavelet(wavelet: str, worst: float) -> None:
    """Where an impulse's energy is in each band: of a symlet near one place, of db10 far apart."""
    frontend, packet, sample = frontend_of(wavelet=wavelet), WaveletPacket(wavelet, 5), 5000
    impulses = torch.eye(32, 10_000).roll(sample, dims=1)  # at each place within a coefficient
    energy = packet(impulses).detach().square().sum(dim=0)  # (band, coefficient)
    place = (energy * torch.arange(energy.shape[1])).sum(dim=1) / energy.sum(dim=1)
    lateness = frontend.delay(5) + 32 * place - (sample + 15.5)
    assert abs(float(lateness.mean())) < 2
    assert float(lateness.abs().max()) == pytest.approx(worst, abs=1)


def test_frames_are_those_of_the_fins() -> None:
    n_samples = torch.tensor([1, 2047, 2048, 2559, 2560, 2561, 22_050])
    frames = frontend_of("equal")(torch.randn(7, 22_050), n_samples)
    assert frames.lengths.tolist() == [count_windows(n) for n in n_samples.tolist()]
    assert frames.values.shape == (7, count_windows(22_050), 4 * 16)


def test_all_energy_of_a_recording_is_in_its_bands() -> None:
    """A mean of squares weighs as a mean power of samples does: of white noise all bands have the same."""
    signal = 0.1 * torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    values = energies(frontend_of(), signal, torch.tensor([200_000]))
    torch.testing.assert_close(values.mean(dim=(0, 1, 2)), torch.full((42,), 0.01), atol=0, rtol=0.1)


@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
@pytest.mark.parametrize("silent", [False, True])
def test_every_parameter_learns(sharing: Sharing, silent: bool) -> None:
    frontend = frontend_of("uneven", sharing=sharing)
    signal, n_samples = speech([0.1, 0.3])
    values = frontend(0 * signal if silent else signal, n_samples).values
    levels = (values + 1e-10).log10()
    levels.mul(torch.randn(levels.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert {*map(id, frontend.pretrained())} == {*map(id, frontend.kernels())}
    assert {*map(id, frontend.pretrained())} == {*map(id, frontend.parameters())}
    for name, parameter in frontend.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert silent or parameter.grad.count_nonzero() == parameter.numel(), name


def test_kernels_learn_end_to_end_and_the_penalty_holds_them() -> None:
    """Energies by kernels that no wavelet has are learned by one that starts as a wavelet."""
    target, signal = frontend_of("equal", "sym4"), speech([0.3, 0.4])
    with torch.no_grad():
        target.packet.kernels += 0.1 * torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0))
    wanted = (target(*signal).values.detach() + 1e-10).log10()
    left, stray = {}, {}
    for penalty in (0.0, 10.0):
        frontend = frontend_of("equal", "sym4")
        optimizer = torch.optim.Adam(frontend.packet.parameters(), lr=3e-3)
        losses = []
        for _ in range(60):
            loss = ((frontend(*signal).values + 1e-10).log10() - wanted).square().mean()
            optimizer.zero_grad()
            (loss + penalty * frontend.packet.penalty()).backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        left[penalty] = losses[-1] / losses[0]
        stray[penalty] = float(frontend.packet.penalty().detach())
    assert left[0.0] < 0.1 and left[10.0] < 1
    assert stray[10.0] < 0.1 * stray[0.0]


def test_thresholds_start_where_all_passes_and_are_relative_to_a_bands_own_level() -> None:
    threshold = RelativeThreshold(5)
    values = torch.randn(2, 2, 400) * torch.tensor([1e-3, 10.0])[:, None]
    lengths = torch.tensor([400, 400])
    torch.testing.assert_close(threshold(values, lengths, [1, 3]), values, rtol=1e-6, atol=0)
    above, below = 0.7, 1.1
    with torch.no_grad():
        threshold.above[3], threshold.below[3] = above, below
    passed = threshold(values, lengths, [1, 3])
    torch.testing.assert_close(passed[:, 0], values[:, 0], rtol=1e-6, atol=0)
    x = values[:, 1].double().numpy()
    relative = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    share = 1 / (1 + np.exp(-10 * (relative - above))) + 1 / (1 + np.exp(10 * (relative + below)))
    np.testing.assert_allclose(passed[:, 1].detach(), x * share, rtol=1e-4, atol=1e-9)
    padded = torch.nn.functional.pad(values, (0, 300))
    torch.testing.assert_close(threshold(padded, lengths, [1, 3])[..., :400], passed)
    louder = threshold(7 * values, lengths, [1, 3])
    torch.testing.assert_close(louder, 7 * passed, rtol=1e-5, atol=1e-6)


def test_thresholds_stay_at_or_above_zero() -> None:
    threshold = RelativeThreshold(2)
    with torch.no_grad():
        threshold.above.copy_(torch.tensor([-0.5, 0.2]))
    threshold.constrain()
    assert threshold.above.tolist() == pytest.approx([0.0, 0.2])


def test_the_penalty_is_the_packets() -> None:
    """Trainers sum the penalty of each module that has one: there is one."""
    frontend = frontend_of("equal")
    assert [module for module in frontend.modules() if hasattr(module, "penalty")] == [frontend.packet]
    assert frontend.packet.penalty().item() < 1e-10
    with torch.no_grad():
        frontend.packet.kernels += 0.1
    assert frontend.packet.penalty().item() > 1e-3


def test_mixed_precision_blurs_nothing() -> None:
    frontend, (signal, n_samples) = frontend_of(), speech([0.3])
    expected = energies(frontend, signal, n_samples)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(energies(frontend, signal, n_samples), expected, rtol=0, atol=0)


def test_another_tree_or_other_kernels_are_kept_apart() -> None:
    digests = {frontend_of(tree, wavelet).digest() for tree in TREES for wavelet in ("sym10", "db10")}
    digests.add(moved(frontend_of()).digest())
    assert len(digests) == 2 * len(TREES) + 1 and frontend_of().digest() in digests


def test_a_tree_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match="is 1 to 7"):
        WaveletFrontEnd("haar", equal_tree(8))
