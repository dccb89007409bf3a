"""The published stacks: sizes, gradients, scales; and the convolution by FFT against PyTorch's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import fins
from fins.audio import WINDOW
from fins.features import FEATURES
from fins.networks import SHIPPED, FinConfig, StridedFin, build_fin, count_parameters, load_fin, save_fin
from fins.networks.pooled_convolution import pooled_convolution
from fins.tensors import WEIGHTS, load_tensors

PARAMETERS = {"rms": 66_241, "zcr": 263_057, "chroma": 894_412, "mfcc": 822_420, "mel": 983_680}


@pytest.mark.parametrize("feature", PARAMETERS)
def test_each_stack_is_the_published_one(feature: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fin = build_fin(FinConfig(feature, "paper"))
    assert count_parameters(fin) == PARAMETERS[feature]
    n_outputs = FEATURES[feature].n_outputs
    fin.calibrate(1.0, torch.ones(n_outputs), torch.full((n_outputs,), 3.0))  # a last ReLU starts alive
    windows = torch.randn(5, WINDOW)
    output = fin(windows)
    assert output.shape == (5, n_outputs)
    output.square().sum().backward()
    for name, parameter in fin.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    save_fin(tmp_path / WEIGHTS, fin)
    torch.testing.assert_close(load_fin(tmp_path)(windows), fin(windows), rtol=0, atol=0)


def test_a_fin_knows_what_it_is_built_from(tmp_path: Path) -> None:
    for name, topology in (("mfcc", "compact"), ("mel", "pruned"), ("zcr", "paper")):
        fin = build_fin(FinConfig(name, topology))
        assert fin.config == FinConfig(name, topology, FEATURES[name].n_outputs)
        again = build_fin(fin.config)
        again.load_state_dict(fin.state_dict())
        assert type(again) is type(fin) and again.config == fin.config
    unknown = FinConfig("no_module:function", n_outputs=3)  # which isn't imported
    own = build_fin(unknown)
    assert own(torch.zeros(2, WINDOW)).shape == (2, 3) and own.config == unknown
    save_fin(tmp_path / WEIGHTS, own)
    torch.testing.assert_close(load_fin(tmp_path)(torch.ones(1, WINDOW)), own(torch.ones(1, WINDOW)))


def test_a_feature_without_a_network_of_its_own_gets_a_small_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEATURES, "plain", replace(FEATURES["mfcc"], name="plain", compact=None))
    assert isinstance(build_fin(FinConfig("plain")), StridedFin)
    with pytest.raises(ValueError, match="can't be pruned"):
        build_fin(FinConfig("plain", "pruned"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_say_what_they_are(name: str) -> None:
    feature, _, topology = name.partition("_")
    _, header = load_tensors(SHIPPED[name])
    assert header["feature"] == feature and header["n_outputs"] == FEATURES[feature].n_outputs
    assert fins.load(name).config == FinConfig(feature, topology or "compact", header["n_outputs"])
    assert name in fins.list_fins()


def test_the_mfcc_stack_layer_by_layer() -> None:
    """The same weights in plain PyTorch layers, as the publication lists them."""
    torch.manual_seed(1)
    fin = build_fin(FinConfig("mfcc", "paper"))
    plain = torch.nn.Sequential(
        torch.nn.Conv1d(1, 256, 512),
        torch.nn.ReLU(),
        torch.nn.MaxPool1d(512, 110),
        torch.nn.Flatten(),
        torch.nn.Linear(10 * 256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 20),
    )
    state = fin.state_dict()
    plain[0].load_state_dict({"weight": state["front.kernels"][:, None], "bias": state["front.bias"]})
    for place, number in ((4, 0), (6, 2), (8, 4)):
        plain[place].load_state_dict({key: state[f"dense.{number}.{key}"] for key in ("weight", "bias")})
    windows = torch.randn(3, WINDOW)
    torch.testing.assert_close(fin(windows), plain(windows[:, None]), rtol=1e-4, atol=1e-5)


def test_multiply_adds_are_those_of_the_definition() -> None:
    assert build_fin(FinConfig("rms", "paper")).multiply_adds() == 2048 * 32 + 32 * 16 + 16 * 8 + 8
    assert (
        build_fin(FinConfig("mfcc", "paper")).multiply_adds()
        == 1537 * 256 * 512 + 2560 * 256 + 256 * 128 + 128 * 20
    )
    assert (
        build_fin(FinConfig("zcr", "paper")).multiply_adds() == 509 * 16 * 16 + 8144 * 32 + 32 * 32 * 2 + 32
    )


def test_scales_turn_layers_near_one_into_the_features_unit() -> None:
    torch.manual_seed(2)
    fin = build_fin(FinConfig("mfcc", "paper"))
    windows = 0.01 * torch.randn(4, WINDOW)
    mean, deviation = torch.arange(20.0), torch.arange(1.0, 21.0)
    unscaled = fin(windows * 100)
    fin.calibrate(0.01, mean, deviation)
    torch.testing.assert_close(fin(windows), unscaled * deviation + mean, rtol=1e-4, atol=1e-4)


def test_a_last_relu_starts_at_the_mean_and_so_alive() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        fin = build_fin(FinConfig("rms", "paper"))
        fin.calibrate(0.1, torch.tensor([0.05]), torch.tensor([0.04]))
        assert (fin(0.1 * torch.randn(64, WINDOW)) > 0).float().mean() > 0.9


def test_windows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(batch, 2048\)"):
        build_fin(FinConfig("rms", "paper"))(torch.zeros(1, 1024))
    with pytest.raises(ValueError, match="known ones are"):
        build_fin(FinConfig("loudness"))
    with pytest.raises(ValueError, match="known ones are compact, pruned, paper"):
        build_fin(FinConfig("rms", "large"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "n_samples", "n_kernels", "n_taps", "pool", "stride"),
    [(1, 40, 1, 7, 5, 3), (5, 64, 3, 16, 9, 9), (9, 100, 37, 11, 20, 4), (4, 50, 33, 50, 1, 1)],
)
def test_pooled_convolution_equals_pytorchs_layers(
    batch: int, n_samples: int, n_kernels: int, n_taps: int, pool: int, stride: int
) -> None:
    torch.manual_seed(3)
    signal = torch.randn(batch, n_samples, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(n_kernels, n_taps, dtype=torch.float64, requires_grad=True)
    mine = pooled_convolution(signal, kernels, pool, stride)
    theirs = functional.max_pool1d(functional.conv1d(signal[:, None], kernels[:, None]), pool, stride)
    torch.testing.assert_close(mine, theirs)
    gradient = torch.randn_like(mine)
    for a, b in zip(
        torch.autograd.grad(mine, (signal, kernels), gradient),
        torch.autograd.grad(theirs, (signal, kernels), gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_broken_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no FIN"):
        load_fin(tmp_path)
    weights = tmp_path / WEIGHTS
    fin = build_fin(FinConfig("rms", "paper"))
    save_fin(weights, fin)
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated"):
        load_fin(tmp_path)
    weights.write_bytes(b"\x80\x04N.")  # a pickle
    with pytest.raises(ValueError, match="not written by this package"):
        load_fin(tmp_path)
    fin.config = FinConfig("zcr", "paper", 1)
    save_fin(weights, fin)
    with pytest.raises(ValueError, match="no weights of a FIN"):
        load_fin(tmp_path)
    np.testing.assert_equal([path.name for path in tmp_path.iterdir()], [WEIGHTS])
