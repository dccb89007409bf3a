"""The front end of wavelet packets: padding, alignment with the FINs' frames, and what learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fins.audio import HOP, SAMPLE_RATE, WINDOW, count_windows
from ser_heads.frontends.wavelet_packets import WaveletConfig, WaveletFrontEnd, standardise
from ser_heads.layers.wavelet_packet import Sharing, WaveletPacket

SMALL = {"channels": (4, 6), "n_hidden": 4, "n_features": 8, "n_summary": 5}
SECONDS = [0.1, 0.5, 3.0]


def frontend_of(**options: object) -> WaveletFrontEnd:
    torch.manual_seed(0)
    return WaveletFrontEnd(WaveletConfig(**(SMALL | options)))


def speech(seconds: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise at several levels, padded with zeros to the longest."""
    generator = torch.Generator().manual_seed(seed)
    n_samples = torch.tensor([round(SAMPLE_RATE * each) for each in seconds])
    signal = torch.randn(len(seconds), int(n_samples.max()), generator=generator)
    signal *= torch.logspace(-2, -0.5, len(seconds))[:, None]
    return signal * (torch.arange(signal.shape[1]) < n_samples[:, None]), n_samples


def assert_same_alone(frontend: WaveletFrontEnd, signal: Tensor, n_samples: Tensor) -> None:
    with torch.no_grad():
        together = frontend.eval()(signal, n_samples)
        for row, n in enumerate(n_samples.tolist()):
            alone = frontend(signal[[row], :n], n_samples[[row]])
            n_frames = int(alone.lengths)
            assert together.lengths[row] == n_frames == count_windows(n) == alone.values.shape[1]
            tolerance = {"atol": 1e-5, "rtol": 1e-5}
            torch.testing.assert_close(together.values[[row], :n_frames], alone.values, **tolerance)
            torch.testing.assert_close(together.summary[[row]], alone.summary, **tolerance)
            assert together.values[row, n_frames:].count_nonzero() == 0


@pytest.mark.parametrize("share_bands", [True, False])
@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
def test_padding_changes_nothing(sharing: Sharing, share_bands: bool) -> None:
    frontend = frontend_of(depth=4, sharing=sharing, share_bands=share_bands)
    assert_same_alone(frontend, *speech(SECONDS))


def test_padding_to_a_minute_changes_nothing() -> None:
    assert_same_alone(frontend_of(n_layers=2), *speech([*SECONDS, 60.0]))


def test_at_its_default_size_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    assert_same_alone(WaveletFrontEnd(WaveletConfig()), *speech(SECONDS))


def test_what_is_beyond_the_end_is_ignored() -> None:
    frontend = frontend_of(depth=3).eval()
    signal, n_samples = speech(SECONDS)
    noisy = torch.where(signal == 0, 5.0, signal)
    longer = torch.nn.functional.pad(noisy, (0, 7000), value=-3)
    for first, second in zip(
        outputs(frontend, signal, n_samples), outputs(frontend, longer, n_samples), strict=True
    ):
        torch.testing.assert_close(first, second[:, : first.shape[1]], atol=1e-6, rtol=1e-6)


def outputs(frontend: WaveletFrontEnd, signal: Tensor, n_samples: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, time, n_features) and (batch, n_summary)."""
    with torch.no_grad():
        values, _, summary = frontend(signal, n_samples)
    return values, summary


@pytest.mark.parametrize("depth", [1, 2, 7, 10])
def test_any_depth_takes_the_shortest_signals(depth: int) -> None:
    frontend = frontend_of(depth=depth, channels=(2, 3), n_hidden=2)
    assert_same_alone(frontend, *speech([0.1, 1 / SAMPLE_RATE, 0.3]))


@pytest.mark.parametrize("share_bands", [True, False])
@pytest.mark.parametrize("silent", [False, True])
def test_every_parameter_learns(share_bands: bool, silent: bool) -> None:
    frontend = frontend_of(depth=3, sharing="node", share_bands=share_bands, n_layers=2)
    signal, n_samples = speech([0.1, 0.3])
    output = frontend(0 * signal if silent else signal, n_samples)
    torch.manual_seed(1)
    loss = sum((part * torch.randn_like(part)).sum() for part in (output.values, output.summary))
    (loss + frontend.packet.penalty()).backward()
    assert output.values.isfinite().all() and output.summary.isfinite().all()
    for name, parameter in frontend.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert silent or parameter.grad.count_nonzero() > 0, name


def test_silence_has_a_finite_gradient() -> None:
    signal = torch.zeros(2, 3000, requires_grad=True)
    output = frontend_of(depth=3)(signal, torch.tensor([3000, 2500]))
    (output.values.sum() + output.summary.sum()).backward()
    assert signal.grad is not None and signal.grad.isfinite().all()


def test_the_level_is_standardised() -> None:
    signal, n_samples = speech(SECONDS)
    level = standardise(signal, n_samples).double()
    for row, n in zip(level, n_samples.tolist(), strict=True):
        assert float(row[:n].square().mean()) == pytest.approx(1, rel=1e-5)
    faint = standardise(torch.full((1, 100), 1e-6), torch.tensor([100]))
    torch.testing.assert_close(faint, torch.full((1, 100), 1e-2))
    frontend = frontend_of(depth=3).eval()
    for first, second in zip(
        outputs(frontend, signal, n_samples), outputs(frontend, 0.25 * signal, n_samples), strict=True
    ):
        torch.testing.assert_close(first, second)


def test_evaluation_is_deterministic_and_training_drops_out() -> None:
    frontend, given = frontend_of(depth=3), speech(SECONDS)
    first, second = outputs(frontend, *given)[0], outputs(frontend, *given)[0]
    assert not torch.allclose(first, second)
    frontend.eval()
    torch.testing.assert_close(outputs(frontend, *given)[0], outputs(frontend, *given)[0], rtol=0, atol=0)


def test_one_network_for_all_bands_is_as_many_with_the_same_weights() -> None:
    shared, single = frontend_of(depth=3).eval(), frontend_of(depth=3, share_bands=False).eval()
    state = shared.state_dict()
    for band in range(1, 8):
        for name, value in shared.networks[0].state_dict().items():
            state[f"networks.{band}.{name}"] = value
    single.load_state_dict(state)
    given = speech(SECONDS)
    for one, many in zip(outputs(shared, *given), outputs(single, *given), strict=True):
        torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        next(single.networks[5].parameters()).mul_(-1)
    assert not torch.allclose(outputs(shared, *given)[0], outputs(single, *given)[0])


def test_a_bands_weight_is_its_part_in_both_results() -> None:
    frontend, given = frontend_of(depth=2).eval(), speech([0.5])
    biases = frontend.mix.bias.detach(), frontend.summarise.bias.detach()

    def parts(weights: Tensor) -> list[Tensor]:
        with torch.no_grad():
            frontend.band_weights.copy_(weights)
        sequence, summary = outputs(frontend, *given)
        return [part - bias for part, bias in zip((sequence, summary.atanh()), biases, strict=True)]

    weights = torch.tensor([0.5, -1.0, 2.0, 0.0])
    singles = [parts(one) for one in torch.eye(4)]
    for which, both in enumerate(parts(weights)):
        expected = sum(weight * single[which] for weight, single in zip(weights, singles, strict=True))
        torch.testing.assert_close(both, expected, atol=1e-6, rtol=1e-5)


def test_a_layer_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    frontend, given = frontend_of(depth=3).eval(), speech(SECONDS)
    whole = outputs(frontend, *given)[0]
    monkeypatch.setattr("ser_heads.layers.band_network.CHUNK", 5000)
    torch.testing.assert_close(outputs(frontend, *given)[0], whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("depth", [3, 5, 6])
def test_an_impulse_moves_the_frame_that_it_is_in(depth: int) -> None:
    frontend = frontend_of(depth=depth).eval()
    samples = torch.arange(3000, 40_000, 777)
    noise = 0.1 * torch.randn(1, 44_100, generator=torch.Generator().manual_seed(0))
    struck = noise + 5 * torch.nn.functional.one_hot(samples, 44_100)
    before, _ = outputs(frontend, noise, torch.tensor([44_100]))
    after, _ = outputs(frontend, struck, torch.full((len(samples),), 44_100))
    moved = (after - before).square().sum(dim=2).argmax(dim=1)
    errors = moved - (samples - WINDOW / 2) / HOP
    step = max(1, 16 * 2**depth / HOP)  # frames
    assert errors.mean().abs() < 0.75 * step and errors.abs().median() < step, errors


@pytest.mark.parametrize(("depth", "wavelet"), [(3, "sym4"), (5, "sym10"), (5, "haar"), (7, "db10")])
def test_a_frame_has_the_step_nearest_to_its_centre(depth: int, wavelet: str) -> None:
    frontend, n_samples = frontend_of(depth=depth, wavelet=wavelet), torch.tensor([44_100, 10_000])
    n_steps = torch.tensor([44_100, 10_000]) // (16 * 2**depth) + 1
    steps = torch.arange(400.0).expand(2, 1, -1)
    n_frames = [count_windows(n) for n in n_samples.tolist()]
    chosen = frontend.at_frames(steps, n_steps, max(n_frames))
    for row in range(2):
        places = [frontend.delay() + 16 * 2**depth * step for step in range(n_steps[row])]
        for frame in range(n_frames[row]):
            distances = [abs(place - (HOP * frame + WINDOW / 2)) for place in places]
            assert chosen[row, 0, frame] == distances.index(min(distances))


@pytest.mark.parametrize(("wavelet", "worst"), [("sym10", 24), ("db10", 211)])
def test_the_delay_is_that_of_the_wavelet(wavelet: str, worst: float) -> None:
    """Where an impulse's energy is in each band: of a symlet near one place, of db10 far apart."""
    frontend, packet, sample = frontend_of(wavelet=wavelet), WaveletPacket(wavelet, 5), 5000
    impulses = torch.eye(32, 10_000).roll(sample, dims=1)  # at each place within a coefficient
    energy = packet(impulses).detach().square().sum(dim=0)  # (band, coefficient)
    place = (energy * torch.arange(energy.shape[1])).sum(dim=1) / energy.sum(dim=1)
    lateness = frontend.delay() + 32 * place - (sample + 15.5)
    assert abs(float(lateness.mean())) < 2
    assert float(lateness.abs().max()) == pytest.approx(worst, abs=1)


def test_frames_are_those_of_the_fins() -> None:
    n_samples = torch.tensor([1, 2047, 2048, 2559, 2560, 2561, 22_050])
    signal = torch.randn(7, 22_050)
    output = frontend_of(depth=3).eval()(signal, n_samples)
    assert output.lengths.tolist() == [count_windows(n) for n in n_samples.tolist()]
    assert output.values.shape == (7, count_windows(22_050), 8)
    assert output.summary.shape == (7, 5)


def test_the_penalty_is_the_packets() -> None:
    """Trainers sum the penalty of each module that has one: there is one."""
    frontend = frontend_of(depth=2)
    assert [module for module in frontend.modules() if hasattr(module, "penalty")] == [frontend.packet]
    assert frontend.packet.penalty().item() < 1e-10
    with torch.no_grad():
        frontend.packet.kernels += 0.1
    assert frontend.packet.penalty().item() > 1e-3


def test_the_published_size_can_be_built() -> None:
    frontend = WaveletFrontEnd(
        WaveletConfig("db10", sharing="node", channels=(128, 256), n_hidden=64, n_layers=3)
    ).eval()
    values, summary = outputs(frontend, *speech([0.1]))
    assert values.shape == (1, 1, 32) and summary.shape == (1, 32)
    network = frontend.networks[0]
    assert len(network.recurrent.forwards) == 3 and network.recurrent.dropout.p == network.dropout.p == 0.2
