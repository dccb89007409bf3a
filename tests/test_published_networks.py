"""The published networks against plain transcriptions and librosa; what they hear, and how large they are."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from conftest import make_signal
from test_references import frames_of, side_by_side
from torch import Tensor, nn
from torch.nn import functional
from wavelet_packet_net import NodeByNode

from data_manifests.labels import EMOTIONS
from fins.audio import cut_windows
from fins.features import compute_features
from fins.networks import count_parameters
from ser_heads.experiments.sweeps import cnn_lstm
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.log_mel import LogMel
from ser_heads.frontends.samples import Resampled
from ser_heads.layers import published_bands
from ser_heads.layers.masked import mask_until
from ser_heads.layers.packed_gru import PackedGru
from ser_heads.layers.placed import Placed
from ser_heads.layers.published_bands import Filters
from ser_heads.layers.wavelet_packet import Sharing
from ser_heads.models import MODELS, create
from ser_heads.models.cnn_lstm import CNN_LSTM_1D, CNN_LSTM_2D, CnnLstm, Domain, EndToEnd
from ser_heads.models.cnn_transformer import CNN_TRANSFORMER, CnnTransformer, Size
from ser_heads.models.wavelet_packet_net import WAVELET_PACKET_NET, WaveletPacketNet, WaveletPacketNetOptions
from ser_heads.training.recipe import NO_AUGMENTATION

EXACT = {"atol": 1e-5, "rtol": 1e-5}


def trained(model: nn.Module) -> nn.Module:
    """With weights and buffers of norms that aren't 0 and 1, and negative weights among them."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.weight.data.normal_(generator=generator)
            layer.bias.data.normal_(generator=generator)
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def small_net(n_classes: int = 8, **options: Any) -> WaveletPacketNet:
    """With few channels, and weights that aren't at their start."""
    torch.manual_seed(0)
    net = WaveletPacketNet(n_classes, WaveletPacketNetOptions(**options), channels=(4, 6))
    with torch.no_grad():
        net.packet.kernels += 0.05 * torch.randn_like(net.packet.kernels)
        for parameter in net.packet.threshold.parameters():
            parameter *= torch.empty_like(parameter).uniform_(0.7, 1.3)
        net.band_weights.normal_()
    return net.eval()


@pytest.mark.parametrize("share_bands", [True, False])
@pytest.mark.parametrize(
    ("sharing", "conjugate"), [("tree", True), ("level", True), ("node", True), ("node", False)]
)
def test_the_wavelet_packet_net_is_what_its_nodes_and_bands_are_one_by_one(
    sharing: Sharing, conjugate: bool, share_bands: bool
) -> None:
    net = small_net(
        5,
        wavelet="db4",
        depth=3,
        sharing=sharing,
        conjugate=conjugate,
        share_bands=share_bands,
        n_hidden=7,
        n_layers=2,
    )
    signals = [
        make_signal(seed, n) / 0.3 for seed, n in enumerate((6_500, 4_000, 5_500, 6_500, 2_100, 4_100))
    ]
    samples = torch.zeros(len(signals), 6_500)
    for row, signal in zip(samples, signals, strict=True):
        row[: len(signal)] = torch.from_numpy(signal)
    batch = FrameBatch(samples[..., None], torch.tensor([len(signal) for signal in signals]))
    peer = NodeByNode(net).eval()
    result = net(batch)
    expected = torch.cat([peer(torch.from_numpy(signal)[None]) for signal in signals])
    torch.testing.assert_close(result, expected, **EXACT)
    towards = torch.randn_like(result)
    ours = torch.autograd.grad((result * towards).sum(), list(net.parameters()))
    gradients = gradients_of(peer, (expected * towards).sum())
    for (name, _), one in zip(net.named_parameters(), ours, strict=True):
        np.testing.assert_allclose(one, gradients[name], atol=1e-4, rtol=1e-3, err_msg=name)


def gradients_of(peer: NodeByNode, loss: Tensor) -> dict[str, Tensor]:
    """By the names of the network whose weights it has; those of its recurrent layers are PyTorch's."""
    loss.backward()
    gradients = {name: value.grad for name, value in peer.net.named_parameters()}
    names = {"weight_ih": "input_weights", "weight_hh": "hidden_weights"}
    names |= {"bias_ih": "input_biases", "bias_hh": "hidden_biases"}
    for theirs, ours in names.items():
        for layer in range(peer.recurrent[0].num_layers):
            ways = [
                torch.stack([getattr(gru, f"{theirs}_l{layer}{way}").grad for gru in peer.recurrent])
                for way in ("", "_reverse")
            ]
            gradients[f"networks.recurrent.{ours}.{layer}"] = torch.stack(ways)
    return gradients


@pytest.mark.parametrize("n_networks", [1, 3])
def test_recurrent_layers_in_blocks_are_those_one_by_one(n_networks: int) -> None:
    torch.manual_seed(0)
    layers, lengths = PackedGru(n_networks, 5, 4, 3), torch.tensor([9, 6, 6, 1])
    sequence = torch.randn(n_networks, 22, 5, requires_grad=True)
    results = [layers(sequence, lengths), layers.in_blocks(sequence, lengths)]
    torch.testing.assert_close(*results, **EXACT)
    towards = torch.randn_like(results[0])
    wanted = [sequence, *layers.parameters()]
    for one, other in zip(*(torch.autograd.grad((r * towards).sum(), wanted) for r in results), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_networks_all_at_once_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small_net(depth=2, n_hidden=6, n_layers=1)
    steps, filters = torch.randn(4, 3, 20, 6), net.networks.filters()
    for weights, taps, how in (
        (filters.third, 7, {"padding": 3}),
        (torch.randn(4, 5, 6, 5), 5, {"stride": 2}),
    ):
        together = published_bands._convolve(steps, weights, taps, **how)
        for network in range(4):
            alone = functional.conv1d(steps[network].transpose(1, 2), weights[network], **how)
            torch.testing.assert_close(together[network], alone.transpose(1, 2), **EXACT)
    rows = torch.randn(4, 3, 150)
    lengths = [150, 120, 100]
    rows *= mask_until(torch.tensor(lengths), 150)
    at_once = net.networks.over_rows(rows, lengths, filters, 3)
    for network in range(4):
        own = Filters(*(weights[[network]] for weights in filters))
        alone = net.networks.over_rows(rows[[network]], lengths, own, 1)
        torch.testing.assert_close(at_once[[network]], alone, **EXACT)


def test_what_is_fixed_isnt_learned() -> None:
    net = small_net(depth=2, n_hidden=6, learn_kernels=False, learn_thresholds=False)
    fixed = {name for name, value in net.named_parameters() if not value.requires_grad}
    assert fixed == {
        "packet.kernels",
        *(f"packet.threshold.{name}" for name in ("above", "below", "steepness")),
    }
    options = WaveletPacketNetOptions(depth=2, threshold=0.7, steepness=12.0)
    packet = WaveletPacketNet(8, options).packet
    assert packet.threshold.above.tolist() == packet.threshold.below.tolist() == [pytest.approx(0.7)] * 3
    assert packet.threshold.steepness.tolist() == [12.0] * 3
    assert WaveletPacketNet(
        8, WaveletPacketNetOptions(sharing="node", conjugate=False)
    ).packet.kernels.shape == (31, 2, 20)


def test_what_is_too_short_for_a_coefficient_ends_in_zeros() -> None:
    model = create("wavelet_packet_net", EMOTIONS, depth=7, share_bands=True).eval()
    model.head = net = small_net(depth=7, share_bands=True, n_hidden=6, n_layers=1)
    model.norm.mean.fill_(0.1)  # zeros are put in after the mean is taken away
    signal = make_signal(0, 8_000)
    samples = torch.from_numpy(resample(signal))[None]
    least = 2**7 + (2**7 - 1) * 18 + 50 * 2**7  # for 51 coefficients by kernels of 20 taps
    frames = model.norm(model.frontend(*side_by_side(signal, make_signal(1, 9_000))))
    with torch.no_grad():
        coefficients, counts = net.decompose(frames.values[:1, :, 0], frames.lengths[:1])
        longer = functional.pad(samples - 0.1, (0, least - samples.shape[1]))
        torch.testing.assert_close(coefficients, net.packet(longer), **EXACT)
        assert counts.tolist() == [51] and model(*side_by_side(signal)).isfinite().all()


def resample(signal: np.ndarray) -> np.ndarray:
    """(n,) → (m,) at 16 kHz."""
    import soxr

    return soxr.resample(signal, 22_050, 16_000)


def test_sixteen_kilohertz() -> None:
    time = np.arange(22_050) / 22_050
    signal = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    frames = Resampled(16_000)(*side_by_side(signal, signal[:10_000]))
    assert frames.values.shape == (2, 16_000, 1) and frames.values.dtype == torch.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(frames.values[0, 500:-500, 0], expected[500:-500], atol=1e-3)
    assert frames.lengths.tolist() == [16_000, 7_256]
    np.testing.assert_array_equal(frames.values[1, :7_256, 0], resample(signal[:10_000]))


def test_samples_are_standardised_by_the_training_part() -> None:
    model = create("wavelet_packet_net", EMOTIONS, depth=1)
    signals = [make_signal(seed, 9_000 + 700 * seed) for seed in range(6)]
    model.norm.calibrate([model.frontend(*side_by_side(*part)) for part in (signals[:2], signals[2:])])
    samples = np.concatenate([resample(signal) for signal in signals])
    assert float(model.norm.mean) == pytest.approx(samples.mean(), abs=1e-6)
    assert float(model.norm.deviation) == pytest.approx(samples.std(), rel=1e-4)


def by_blocks(net: CnnLstm, picture: Tensor) -> Tensor:
    """In the published order: convolution, norm, ELU, pool."""
    flat = net.domain == "time"
    for (convolution, norm, *_), pool in zip(net.blocks, (4, 4, 4, 4) if flat else (2, 4, 4, 4), strict=True):
        convolve = functional.conv1d if flat else functional.conv2d
        normal = norm(convolve(picture, convolution.weight, padding=1))
        picture = (functional.max_pool1d if flat else functional.max_pool2d)(functional.elu(normal), pool)
    steps = picture if flat else picture[:, :, 0]
    assert steps.shape[1:] == (128, 3)
    _, (last, _) = net.recurrent(steps.transpose(1, 2))
    return net.logits(last[0])


@pytest.mark.parametrize("domain", ["time", "frequency"])
def test_the_cnn_lstm_is_its_published_layers(domain: Domain) -> None:
    torch.manual_seed(0)
    model = trained(create({"time": "cnn_lstm_1d", "frequency": "cnn_lstm_2d"}[domain], EMOTIONS))
    signal = make_signal(0, 30_000)
    length = {"time": 864, "frequency": 384}[domain]
    grid = {"center": False, "hop_length": 512}
    if domain == "time":
        model.head.blocks[0][1].running_var *= 1e-4  # rates and levels are small
        zcr = librosa.feature.zero_crossing_rate(signal, frame_length=2048, **grid)
        forms = np.concatenate([zcr, librosa.feature.rms(y=signal, frame_length=2048, **grid)], axis=1)
    else:
        model.norm.mean.fill_(-40.0)
        model.norm.deviation.fill_(15.0)
        mel = librosa.feature.melspectrogram(y=signal, sr=22_050, n_fft=2048, n_mels=128, **grid)
        forms = (librosa.power_to_db(mel, amin=1e-10, top_db=None) + 40) / 15
    assert forms.shape[1] == {"time": 110, "frequency": 55}[domain]
    before = (length - forms.shape[1]) // 2
    picture = np.pad(forms, [(0, 0), (before, length - forms.shape[1] - before)])
    picture = torch.from_numpy(picture).float()[None, None if domain == "frequency" else ...]
    expected = by_blocks(model.head, picture)
    with torch.no_grad():
        torch.testing.assert_close(model(*side_by_side(signal)), expected, atol=1e-4, rtol=1e-3)
        together = model(*side_by_side(make_signal(1, 200_000), signal))[1:]
        torch.testing.assert_close(together, expected, atol=1e-4, rtol=1e-3)


def test_the_mean_and_deviation_of_pictures_are_those_of_training() -> None:
    signals = [make_signal(seed, 9_000 + 4_000 * seed) for seed in range(8)]
    batches = [side_by_side(*signals[:3]), side_by_side(*signals[3:])]
    lstm = create("cnn_lstm_2d", EMOTIONS).eval()
    lstm.norm.calibrate(lstm.frontend(*batch) for batch in batches)
    mel = np.concatenate([compute_features(cut_windows(signal), ["mel"])["mel"] for signal in signals])
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    assert float(lstm.norm.mean) == pytest.approx(decibels.mean(), rel=1e-4)
    assert float(lstm.norm.deviation) == pytest.approx(decibels.std(), rel=1e-3)
    transformer = create("cnn_transformer", EMOTIONS).eval()
    transformer.norm.calibrate(transformer.frontend(*batch) for batch in batches)
    pictures = np.stack([picture_of(signal) for signal in signals])
    np.testing.assert_allclose(transformer.norm.mean, pictures.mean(axis=(0, 2)), atol=0.05)
    np.testing.assert_allclose(transformer.norm.deviation, pictures.std(axis=(0, 2)), rtol=0.01)


def picture_of(signal: np.ndarray) -> np.ndarray:
    """(128, 160) by librosa, of 3.7 s with the signal in their middle."""
    n = 159 * 512
    signal = signal[max(0, -(-(len(signal) - n) // 2)) :][:n]
    before = (n - len(signal)) // 2
    sharp = librosa.effects.preemphasis(
        np.pad(signal, (before, n - len(signal) - before)), coef=0.97, zi=[0.0]
    )
    power = librosa.feature.melspectrogram(y=sharp, sr=22_050, n_fft=2048, hop_length=512, window="hamming")
    return librosa.power_to_db(power, ref=np.max)


@pytest.mark.parametrize("n_samples", [2_048, 30_000, 100_000])
def test_the_spectrogram_is_librosas(n_samples: int) -> None:
    signal = make_signal(3, n_samples)
    frames = LogMel().eval()(*side_by_side(signal, make_signal(0, 120_000)))
    assert frames.values.shape == (2, 160, 128) and frames.lengths.tolist() == [160, 160]
    np.testing.assert_allclose(frames.values[0].T, picture_of(signal), atol=0.05)
    assert (LogMel()(*side_by_side(np.zeros(5_000, np.float32))).values == 0).all()


def encoded(layer: nn.TransformerEncoderLayer, steps: Tensor) -> Tensor:
    """One encoder layer by hand: (batch, step, 512), four heads of 128."""
    attention = layer.self_attn
    queries, keys, values = (
        part.unflatten(2, (4, 128)).transpose(1, 2)
        for part in (steps @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=2)
    )
    weights = (queries @ keys.transpose(2, 3) / 128**0.5).softmax(dim=3)
    steps = layer.norm1(steps + attention.out_proj((weights @ values).transpose(1, 2).flatten(2)))
    return layer.norm2(steps + layer.linear2(torch.relu(layer.linear1(steps))))


def test_the_cnn_transformer_is_its_published_layers() -> None:
    torch.manual_seed(0)
    model = trained(create("cnn_transformer", EMOTIONS))
    model.norm.mean.uniform_(-60, -20)
    model.norm.deviation.uniform_(5, 20)
    signal, head = make_signal(1, 40_000), model.head
    frames = torch.from_numpy(picture_of(signal)).float()[None]
    frames = (frames - model.norm.mean[:, None]) / model.norm.deviation[:, None]
    steps = head.project(frames.unflatten(2, (40, 4)).amax(dim=3).transpose(1, 2))
    for layer in head.encoder.layers:
        steps = encoded(layer, steps)
    maps = []
    for layers in head.cnns:
        picture = frames[:, None]
        for convolution, norm, pool in zip(layers[0::5], layers[1::5], (2, 4, 4), strict=False):
            normal = norm(functional.conv2d(picture, convolution.weight, padding=1))
            picture = functional.max_pool2d(torch.relu(normal), pool)
        maps.append(picture.flatten(1))
    with torch.no_grad():
        expected = head.logits(torch.cat([*maps, steps.mean(dim=1)], dim=1))
        torch.testing.assert_close(model(*side_by_side(signal)), expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("size", "millions"), [("8M", 8), ("16M", 16), ("32M", 32)])
def test_sizes_of_the_cnn_transformer(size: Size, millions: int) -> None:
    assert count_parameters(CnnTransformer(8, size)) == pytest.approx(1e6 * millions, rel=0.01)
    with pytest.raises(ValueError, match="8M, 16M, 32M, got '64M'"):
        create("cnn_transformer", EMOTIONS, size="64M")


def test_parameters_by_the_publications_layers() -> None:
    lstm = 4 * 256 * (128 + 256 + 2) + 256 * 8 + 8
    norms = 2 * (64 + 64 + 128 + 128)
    chain = 64 * 64 + 64 * 128 + 128 * 128
    assert count_parameters(CnnLstm("time", 8)) == 3 * (64 + chain) + norms + lstm
    assert count_parameters(CnnLstm("frequency", 8)) == 9 * (64 + chain) + norms + lstm
    bands = 7 * 128 + 5 * 128 * 256 + (7 * 256 * 256 + 256)
    recurrent = sum(2 * 3 * 32 * (n_inputs + 32 + 2) for n_inputs in (256, 64, 64))
    temporal = 64 * 64 + 128 * 64
    rest = 20 + 3 * 31 + 32 + 32 * 8 * 5
    shared = WaveletPacketNet(8, WaveletPacketNetOptions(share_bands=True))
    assert count_parameters(shared) == bands + recurrent + temporal + rest
    n_parameters = count_parameters(WaveletPacketNet(8, WaveletPacketNetOptions()))
    assert n_parameters == 32 * (bands + recurrent + temporal) + rest == 23_340_433
    biases = 128 + 256 + 256  # of the published 23.4 million, which the norms subtract
    assert round((n_parameters + 32 * biases) / 1e6, 1) == 23.4


def test_rows_are_placed_in_the_middle_and_anywhere_in_training() -> None:
    lengths = torch.tensor([3, 10, 15, 6])
    rows = torch.randn(4, 15, 2)
    placed = Placed(10).eval()
    middle = placed(rows, lengths)
    np.testing.assert_array_equal(middle[0], np.pad(rows[0, :3], [(3, 4), (0, 0)]))
    assert (middle[1] == rows[1, :10]).all() and (middle[2] == rows[2, 2:12]).all()
    np.testing.assert_array_equal(placed(rows[..., 0], lengths), middle[..., 0])
    placed.train()
    torch.manual_seed(0)
    starts, cuts = set(), set()
    for _ in range(100):
        drawn = placed(rows, lengths)
        (start,) = [at for at in range(8) if (drawn[0, at : at + 3] == rows[0, :3]).all()]
        assert drawn[0].count_nonzero() == 6
        (cut,) = [at for at in range(6) if (drawn[2] == rows[2, at : at + 10]).all()]
        starts.add(start)
        cuts.add(cut)
    assert starts >= set(range(7)) and cuts >= set(range(5))


@pytest.mark.parametrize("name", ["cnn_lstm_1d", "cnn_lstm_2d", "cnn_transformer"])
def test_where_a_recording_lies_is_drawn_in_training_alone(name: str) -> None:
    model = create(name, EMOTIONS).eval()
    batch = side_by_side(make_signal(0), make_signal(1, 20_000))

    other = create(name, EMOTIONS).eval()
    other.load_state_dict(model.state_dict())

    def drawn(seed: int, model: nn.Module = model) -> Tensor:
        torch.manual_seed(seed)
        return model(*batch)

    with torch.no_grad():
        plain = drawn(1)
        assert torch.equal(drawn(2), plain)
        for layer in (*model.modules(), *other.modules()):
            if isinstance(layer, Placed):  # alone, so that nothing else is drawn
                layer.train()
        assert torch.equal(drawn(1), drawn(1, other))
        assert not torch.allclose(drawn(1), drawn(2)) and not torch.allclose(drawn(1), plain)


def test_one_form_follows_the_other_in_a_sequence() -> None:
    lengths = torch.tensor([3, 10, 14])
    frames = torch.randn(3, 14, 2)
    layer = EndToEnd(10).eval()
    joined, together = layer(frames, lengths)
    assert joined.shape == (3, 20, 1) and together.tolist() == [6, 20, 20]
    np.testing.assert_array_equal(joined[0, :6, 0], np.concatenate([frames[0, :3, 0], frames[0, :3, 1]]))
    np.testing.assert_array_equal(joined[1, :, 0], np.concatenate([frames[1, :10, 0], frames[1, :10, 1]]))
    np.testing.assert_array_equal(joined[2, :, 0], np.concatenate([frames[2, 2:12, 0], frames[2, 2:12, 1]]))
    short, _ = layer(frames[:1, :4], lengths[:1])
    np.testing.assert_array_equal(short[0, :6], joined[0, :6])
    layer.train()
    torch.manual_seed(0)
    starts = set()
    for _ in range(50):
        drawn = layer(frames, lengths)[0]
        np.testing.assert_array_equal(drawn[:2, :6], joined[:2, :6])
        (start,) = [at for at in range(5) if (drawn[2, :10, 0] == frames[2, at : at + 10, 0]).all()]
        assert (drawn[2, 10:, 0] == frames[2, start : start + 10, 1]).all()
        starts.add(start)
    assert starts >= set(range(4))


def test_packets_are_taken_apart_in_all_digits_in_mixed_precision() -> None:
    net = small_net(depth=3, n_hidden=6, n_layers=1)
    samples = torch.from_numpy(make_signal(0, 14_500))[None]
    with torch.no_grad():
        expected = net.packet(samples)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net.packet(samples), expected, rtol=0, atol=0)
            assert net(frames_of(samples[..., None])).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 11}, "1 to 10, got 11"),
        ({"wavelet": "db99"}, "no discrete wavelet 'db99'"),
        ({"sharing": "leaf"}, "tree, level, node"),
    ],
)
def test_wavelet_packets_that_cant_be(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveletPacketNetOptions(**options)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("wavelet_packet_net", "its own are wavelet, depth, sharing, conjugate, learn_kernels, threshold"),
        ("cnn_lstm_1d", "it has none"),
    ],
)
def test_options_that_a_model_doesnt_have(name: str, rest: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no option size: {rest}"):
        create(name, EMOTIONS, size="8M")


def test_recipes_are_the_published_ones() -> None:
    entries = (CNN_LSTM_1D, CNN_LSTM_2D, CNN_TRANSFORMER, WAVELET_PACKET_NET)
    for entry in entries:
        assert entry.recipe.augmentation == NO_AUGMENTATION and entry.recipe.label_smoothing == 0
        assert MODELS[entry.name] is entry
    assert CNN_LSTM_1D.recipe == CNN_LSTM_2D.recipe
    recipes = [
        (recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.copies, recipe.loss)
        for recipe in (entry.recipe for entry in entries[1:])
    ]
    assert recipes == [
        ("adam", 1e-4, 0, 0, "cross_entropy"),
        ("adamw", 3e-4, 0.01, 2, "cross_entropy"),
        ("adam", 1e-3, 1e-6, 0, "focal"),
    ]
    assert CNN_LSTM_1D.recipe.patience == 8
    cells = [(run.model, run.recipe) for run in cnn_lstm.runs().values()]
    assert all((recipe.patience, recipe.learning_rate) == (8, 1e-4) for _, recipe in cells)
    assert {(model, recipe.optimizer, recipe.copies, recipe.copying) for model, recipe in cells} == {
        (model, optimizer, *copies)
        for model in ("cnn_lstm_1d", "cnn_lstm_2d")
        for optimizer in ("adam", "sgd")
        for copies in ((0, "voices"), (5, "apart"))
    }
