"""The published networks against plain transcriptions and librosa; what they hear, and how large they are."""

from __future__ import annotations

import itertools
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import tyro
from conftest import make_signal
from test_classifier import batch_of
from torch import Tensor, nn
from torch.nn import functional
from wavelet_packet_net import NodeByNode

import pipelines.train as train
from fins.networks import count_parameters
from ser_heads.data import UtteranceTable, fit_length
from ser_heads.references.cnn_lstm import CnnLstm, Domain, end_to_end
from ser_heads.references.cnn_transformer import CnnTransformer, LogMel, Size
from ser_heads.references.wavelet_packet_net import WaveletPacketNet, resample
from ser_heads.training import Feed
from ser_heads.wavelet_packet import Sharing

EXACT = {"atol": 1e-5, "rtol": 1e-5}


def trained(model: nn.Module) -> nn.Module:
    """With weights and buffers of norms that aren't 0 and 1, and negative weights among them."""
    generator = torch.Generator().manual_seed(1)
    for its in model.modules():
        if isinstance(its, nn.BatchNorm1d | nn.BatchNorm2d):
            its.weight.data.normal_(generator=generator)
            its.bias.data.normal_(generator=generator)
            its.running_mean.normal_(generator=generator)
            its.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


@pytest.mark.parametrize("share_bands", [True, False])
@pytest.mark.parametrize("sharing", ["tree", "level", "node"])
def test_the_wavelet_packet_net_is_what_its_nodes_and_bands_are_one_by_one(
    sharing: Sharing, share_bands: bool
) -> None:
    torch.manual_seed(0)
    net = WaveletPacketNet("db4", 3, sharing, share_bands, (4, 6), n_hidden=7, n_layers=2).eval()
    with torch.no_grad():
        net.packet.kernels += 0.05 * torch.randn_like(net.packet.kernels)
        net.band_weights.normal_()
        net.mean.fill_(0.1)
        net.deviation.fill_(0.3)
    signals = [make_signal(seed, 9_000) for seed in range(3)]
    batch = batch_of(net, *signals)
    assert batch.inputs is not None
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[0], NodeByNode(net).eval()(batch.inputs[..., 0]), **EXACT)


def test_what_is_too_short_for_a_coefficient_ends_in_zeros() -> None:
    torch.manual_seed(0)
    net = WaveletPacketNet(depth=10, channels=(2, 3), n_hidden=6, n_layers=1).eval()
    net.mean.fill_(0.1)  # zeros are put in after the mean is taken away
    heard = torch.from_numpy(resample(make_signal(0, 8_000)))[:, 0][None]
    least = net.packet.least_samples()
    with torch.no_grad():
        padded = functional.pad(heard, (0, 500))
        coefficients, counts = net.decompose(padded, torch.tensor([heard.shape[1]]))
        longer = functional.pad(heard - 0.1, (0, least - heard.shape[1]))
        torch.testing.assert_close(coefficients, net.packet(longer), **EXACT)
        assert counts.tolist() == [1] and net(batch_of(net, make_signal(0, 8_000)))[0].isfinite().all()


def test_sixteen_kilohertz() -> None:
    time = np.arange(22_050) / 22_050
    tone = resample(np.sin(2 * np.pi * 440 * time).astype(np.float32))
    assert tone.shape == (16_000, 1) and tone.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(tone[500:-500, 0], expected[500:-500], atol=1e-3)


def test_samples_are_standardised_by_the_training_part(small_store: Path) -> None:
    table = UtteranceTable([small_store], trimmed=False)
    net = WaveletPacketNet(depth=1)
    rows = np.arange(20)
    net.calibrate(Feed(net, table), rows)
    heard = np.concatenate([resample(table.signal(row)) for row in rows])
    assert float(net.mean) == pytest.approx(heard.mean(), abs=1e-6)
    assert float(net.deviation) == pytest.approx(heard.std(), rel=1e-4)


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
    net = trained(CnnLstm(domain))
    signal = make_signal(0, 30_000)
    length = {"time": 864, "frequency": 384}[domain]
    grid = {"center": False, "hop_length": 512}
    if domain == "time":
        net.blocks[0][1].running_var *= 1e-4  # rates and levels are small
        zcr = librosa.feature.zero_crossing_rate(signal, frame_length=2048, **grid)
        forms = np.concatenate([zcr, librosa.feature.rms(y=signal, frame_length=2048, **grid)], axis=1)
    else:
        net.mean.fill_(-40.0)
        net.deviation.fill_(15.0)
        mel = librosa.feature.melspectrogram(y=signal, sr=22_050, n_fft=2048, n_mels=128, **grid)
        forms = (librosa.power_to_db(mel, amin=1e-10, top_db=None) + 40) / 15
    assert forms.shape[1] == {"time": 110, "frequency": 55}[domain]
    before = (length - forms.shape[1]) // 2
    picture = np.pad(forms, [(0, 0), (before, length - forms.shape[1] - before)])
    expected = by_blocks(net, torch.from_numpy(picture).float()[None, None if domain == "frequency" else ...])
    with torch.no_grad():
        torch.testing.assert_close(net(batch_of(net, signal))[0], expected, atol=1e-4, rtol=1e-3)


def test_the_mean_and_deviation_of_pictures_are_those_of_training(small_store: Path) -> None:
    table = UtteranceTable([small_store], trimmed=False)
    net, rows = CnnLstm("frequency"), np.arange(0, 64, 3)
    net.calibrate(Feed(net, table), rows)
    mel = np.concatenate([table.stored_features(row, ["mel"]) for row in rows])
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    assert float(net.mean) == pytest.approx(decibels.mean(), rel=1e-4)
    assert float(net.deviation) == pytest.approx(decibels.std(), rel=1e-3)
    transformer = CnnTransformer()
    transformer.calibrate(Feed(transformer, table), rows)
    pictures = np.stack([picture_of(table.signal(row)) for row in rows])
    np.testing.assert_allclose(transformer.mean, pictures.mean(axis=(0, 2)), atol=0.05)
    np.testing.assert_allclose(transformer.deviation, pictures.std(axis=(0, 2)), rtol=0.01)


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
    rows, lengths = torch.from_numpy(signal)[None], torch.tensor([n_samples])
    ours = LogMel()(fit_length(rows, lengths, 159 * 512))[0]
    assert ours.shape == (128, 160)
    np.testing.assert_allclose(ours, picture_of(signal), atol=0.05)
    assert (LogMel()(torch.zeros(1, 5_000)) == 0).all()


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
    net = trained(CnnTransformer())
    net.mean.uniform_(-60, -20)
    net.deviation.uniform_(5, 20)
    signal = make_signal(1, 40_000)
    frames = torch.from_numpy(picture_of(signal)).float()[None]
    frames = (frames - net.mean[:, None]) / net.deviation[:, None]
    steps = net.project(frames.unflatten(2, (40, 4)).amax(dim=3).transpose(1, 2))
    for layer in net.encoder.layers:
        steps = encoded(layer, steps)
    seen = []
    for layers in net.cnns:
        picture = frames[:, None]
        for convolution, norm, pool in zip(layers[0::5], layers[1::5], (2, 4, 4), strict=False):
            normal = norm(functional.conv2d(picture, convolution.weight, padding=1))
            picture = functional.max_pool2d(torch.relu(normal), pool)
        seen.append(picture.flatten(1))
    with torch.no_grad():
        expected = net.logits(torch.cat([*seen, steps.mean(dim=1)], dim=1))
        torch.testing.assert_close(net(batch_of(net, signal))[0], expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("size", "millions"), [("8M", 8), ("16M", 16), ("32M", 32)])
def test_sizes_of_the_cnn_transformer(size: Size, millions: int) -> None:
    assert count_parameters(CnnTransformer(size)) == pytest.approx(1e6 * millions, rel=0.01)
    with pytest.raises(ValueError, match="8M, 16M, 32M, got '64M'"):
        CnnTransformer("64M")  # type: ignore[arg-type]


def test_parameters_by_the_publications_layers() -> None:
    lstm = 4 * 256 * (128 + 256 + 2) + 256 * 8 + 8
    norms = 2 * (64 + 64 + 128 + 128)
    chain = 64 * 64 + 64 * 128 + 128 * 128
    assert count_parameters(CnnLstm("time")) == 3 * (64 + chain) + norms + lstm
    assert count_parameters(CnnLstm("frequency")) == 9 * (64 + chain) + norms + lstm
    bands = 7 * 128 + 5 * 128 * 256 + (7 * 256 * 256 + 256 * 256 + 256 + 256)
    recurrent = sum(2 * 3 * 32 * (n_inputs + 32 + 2) for n_inputs in (256, 64, 64))
    temporal = 64 * 64 + 128 * 32 + 32
    assert (
        count_parameters(WaveletPacketNet()) == 20 + 3 * 31 + bands + recurrent + temporal + 32 + 32 * 8 * 5
    )


def test_rows_are_fitted_into_a_length() -> None:
    lengths = torch.tensor([3, 10, 15, 6])
    rows = torch.randn(4, 15, 2)
    fitted = fit_length(rows, lengths, 10)
    np.testing.assert_array_equal(fitted[0], np.pad(rows[0, :3], [(3, 4), (0, 0)]))
    assert (fitted[1] == rows[1, :10]).all() and (fitted[2] == rows[2, 2:12]).all()
    np.testing.assert_array_equal(fit_length(rows[..., 0], lengths, 10), fitted[..., 0])
    generator, starts, cuts = torch.Generator().manual_seed(0), set(), set()
    for _ in range(100):
        fitted = fit_length(rows, lengths, 10, generator)
        (start,) = [at for at in range(8) if (fitted[0, at : at + 3] == rows[0, :3]).all()]
        assert fitted[0].count_nonzero() == 6
        (cut,) = [at for at in range(6) if (fitted[2] == rows[2, at : at + 10]).all()]
        starts.add(start)
        cuts.add(cut)
    assert starts >= set(range(7)) and cuts >= set(range(5))


@pytest.mark.parametrize("net", [CnnLstm("time"), CnnLstm("frequency"), CnnTransformer()])
def test_where_an_utterance_lies_is_drawn_in_training_alone(net: CnnLstm | CnnTransformer) -> None:
    net.eval()
    batch = batch_of(net, make_signal(0), make_signal(1, 20_000))
    with torch.no_grad():
        plain, again = net(batch)[0], net(batch)[0]
        drawn = [net(batch, None, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert (plain == again).all() and (drawn[0] == drawn[1]).all()
    assert not torch.allclose(drawn[0], drawn[2]) and not torch.allclose(drawn[0], plain)


def test_one_form_follows_the_other_in_a_sequence() -> None:
    lengths = torch.tensor([3, 10, 14])
    frames = torch.randn(3, 14, 2)
    joined, together = end_to_end(frames, lengths, 10, None)
    assert joined.shape == (3, 20, 1) and together.tolist() == [6, 20, 20]
    np.testing.assert_array_equal(joined[0, :6, 0], np.concatenate([frames[0, :3, 0], frames[0, :3, 1]]))
    np.testing.assert_array_equal(joined[1, :, 0], np.concatenate([frames[1, :10, 0], frames[1, :10, 1]]))
    np.testing.assert_array_equal(joined[2, :, 0], np.concatenate([frames[2, 2:12, 0], frames[2, 2:12, 1]]))
    drawn = end_to_end(frames, lengths, 10, torch.Generator().manual_seed(0))[0]
    np.testing.assert_array_equal(drawn[:2], joined[:2])
    assert not torch.equal(drawn[2], joined[2]) and torch.equal(drawn[2, 0, 0], drawn[2, 0, 0])
    short, _ = end_to_end(frames[:1, :4], lengths[:1], 10, None)
    np.testing.assert_array_equal(short[0, :6], joined[0, :6])


def test_packets_are_taken_apart_in_all_digits_in_mixed_precision() -> None:
    net = WaveletPacketNet(depth=3, channels=(4, 6), n_hidden=6, n_layers=1).eval()
    batch = batch_of(net, make_signal(0, 20_000))
    assert batch.inputs is not None
    with torch.no_grad():
        expected = net.packet(batch.inputs[..., 0])
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net.packet(batch.inputs[..., 0]), expected, rtol=0, atol=0)
            assert net(batch)[0].dtype == torch.float32


def test_the_cells_of_cnn_lstm_are_flags_away() -> None:
    cells = set()
    for name, optimizer, copies in itertools.product(
        ("cnn_lstm_1d", "cnn_lstm_2d"), ("adam", "sgd"), ("0", "4")
    ):
        arguments = ["--model", name, "--optimizer", optimizer, "--copies", copies]
        settings = train.settings_of(arguments)
        assert (settings.patience, settings.learning_rate, settings.weight_decay) == (8, 1e-4, 0.0)
        config = tyro.cli(train.TrainConfig, args=arguments, default=settings)
        cells.add((config.model, config.optimizer, config.copies))
    assert len(cells) == 8
