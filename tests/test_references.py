"""The published systems by their oracles: direct sums, scikit-learn's machine, librosa, Pillow."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from conftest import make_signal
from PIL import Image
from sklearn.metrics import accuracy_score, recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn import functional

from data_manifests.labels import EMOTIONS
from fins.audio import SAMPLE_RATE
from fins.networks import count_parameters
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.image import ImageFrontEnd, draw
from ser_heads.frontends.samples import FirstSamples
from ser_heads.frontends.spectral import BANDS, FEATURES, SpectralFrontEnd, spectral_features
from ser_heads.layers.standardise import Standardise
from ser_heads.model import SerModel
from ser_heads.models import create, load, save_model
from ser_heads.models.feature_cnn import FeatureCnn
from ser_heads.models.raw_cnn import RAW_CNN, RawCnn
from ser_heads.models.spectral_svm import (
    SPECTRAL_SVM,
    SpectralSvm,
    SvmExamples,
    SvmGrid,
    columns_of,
    fit,
    tensors_of,
)
from ser_heads.models.spectrogram_cnn import SPECTROGRAM_CNN, SpectrogramCnn


def side_by_side(*signals: np.ndarray) -> tuple[Tensor, Tensor]:
    """Waveforms with zeros behind each end, and their lengths."""
    rows = [torch.from_numpy(signal) for signal in signals]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def frames_of(values: Tensor) -> FrameBatch:
    """All of one length."""
    return FrameBatch(values, torch.full(values.shape[:1], values.shape[1]))


def spectral_features_by_sums(signal: np.ndarray) -> np.ndarray:
    """(3, 5, 200): the three equations, one frame and one band after the other, in float64."""
    mel = librosa.feature.melspectrogram(
        y=signal.astype(np.float64),
        sr=SAMPLE_RATE,
        n_mels=3401,
        n_fft=16384,
        hop_length=330,
        power=2,
        dtype=np.float64,
    )
    values = np.zeros((3, 5, 200))
    for frame in range(min(200, mel.shape[1])):
        for band, (first, last) in enumerate(BANDS):
            power, rows = mel[first : last + 1, frame], np.arange(first, last + 1)
            energy = power.sum()
            if energy > 0:
                centroid = (rows * power).sum() / energy
                spread = ((rows - centroid) ** 2 * power).sum() / energy
                values[:, band, frame] = centroid, spread, energy / mel[300:3401, frame].sum()
    return values


@pytest.mark.parametrize("n_samples", [2_048, 20_000, 90_000])
@pytest.mark.filterwarnings("ignore:n_fft=16384 is too large")
def test_spectral_features_are_their_sums(n_samples: int) -> None:
    signal = make_signal(n_samples, n_samples)
    signal[n_samples // 2 :] *= 1e-3
    expected = spectral_features_by_sums(signal).reshape(15, 200).T
    features = spectral_features(signal)
    np.testing.assert_allclose(features[:, :5], expected[:, :5], rtol=1e-5)
    np.testing.assert_allclose(features[:, 5:10], expected[:, 5:10], rtol=1e-3)
    np.testing.assert_allclose(features[:, 10:], expected[:, 10:], atol=1e-5)
    n_frames = 1 + n_samples // 330
    assert (features[n_frames:] == 0).all() and features[: min(200, n_frames)].all()


def test_spectral_features_of_a_tone_and_of_silence() -> None:
    assert (spectral_features(np.zeros(30_000, np.float32)) == 0).all()
    hertz = 500.0  # row 510 of 3401 is there
    tone = np.sin(2 * np.pi * hertz * np.arange(80_000) / SAMPLE_RATE).astype(np.float32)
    centroid, bandwidth, energy = spectral_features(tone)[100].reshape(3, 5)[:, 0]
    assert np.argmin(np.abs(librosa.mel_frequencies(3403, fmax=SAMPLE_RATE / 2)[1:-1] - hertz)) == 510
    assert centroid == pytest.approx(510, abs=0.5) and bandwidth < 9 and energy > 0.999


@pytest.mark.parametrize("frontend", [SpectralFrontEnd(), ImageFrontEnd()])
def test_frames_of_a_recording_are_the_same_in_any_batch(frontend: nn.Module) -> None:
    signals = [make_signal(seed, n) for seed, n in ((0, 70_000), (1, 2_048), (2, 30_000))]
    frames = frontend(*side_by_side(*signals))
    assert frames.values.shape == (
        3,
        *{SpectralFrontEnd: (200, 15), ImageFrontEnd: (50, 150)}[type(frontend)],
    )
    assert frames.values.dtype == torch.float32 and (frames.lengths == frames.values.shape[1]).all()
    for signal, values in zip(signals, frames.values, strict=True):
        assert torch.equal(frontend(*side_by_side(signal)).values[0], values)


def random_features(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (n, 200, 15)).astype(np.float32)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly"])
@pytest.mark.parametrize("n_labels", [2, 3, 8])
def test_the_machine_is_that_of_scikit_learn(kernel: str, n_labels: int) -> None:
    truth = np.arange(40) % n_labels
    features = random_features(40) + 0.3 * truth[:, None, None].astype(np.float32)
    columns = columns_of("sbw")
    stacked = features[..., columns].reshape(40, -1).astype(np.float64)
    scaler = StandardScaler().fit(stacked)
    svm = SVC(C=10, kernel=kernel, break_ties=True).fit(scaler.transform(stacked), truth)
    head = SpectralSvm(n_labels)
    head.load_state_dict(tensors_of(columns, kernel, scaler, svm))
    rng = np.random.default_rng(n_labels)
    unseen = random_features(50, 1) + 0.3 * rng.choice(n_labels, 50)[:, None, None].astype(np.float32)
    logits = head(frames_of(torch.from_numpy(unseen)))
    assert logits.shape == (50, n_labels)
    scaled = scaler.transform(unseen[..., columns].reshape(50, -1).astype(np.float64))
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), svm.predict(scaled))
    values = svm.decision_function(scaled)
    if n_labels > 2:
        np.testing.assert_allclose(logits.numpy(), values, atol=1e-5)
    else:
        np.testing.assert_array_equal(logits[:, 1] > logits[:, 0], values > 0)


LABELS = ("angry", "calm", "sad")


def examples(n: int, seed: int) -> SvmExamples:
    """Features that tell labels apart a little, best by their energies."""
    targets = np.arange(n) % len(LABELS)
    shifts = np.repeat([0.1, 0.2, 0.4], 5)
    return SvmExamples(
        random_features(n, seed) + (targets[:, None, None] * shifts).astype(np.float32), targets
    )


def test_the_grid_is_that_of_scikit_learn() -> None:
    train, validation = examples(30, 0), examples(21, 1)
    weights = np.linspace(0.5, 2, 30).astype(np.float32)
    model = create("spectral_svm", LABELS, svm=SvmGrid(c=(0.1, 10.0), kernel=("rbf", "linear")))
    result = fit(model, train._replace(weights=weights), validation)
    cells = itertools.product(("rbf", "linear"), (0.1, 10.0), FEATURES)
    for row, (kernel, c, name) in zip(result.rows, cells, strict=True):
        learned, unseen = (
            part.features[..., columns_of(name)].reshape(len(part.targets), -1)
            for part in (train, validation)
        )
        scaler = StandardScaler().fit(learned.astype(np.float64))
        svm = SVC(C=c, kernel=kernel, break_ties=True)
        svm.fit(scaler.transform(learned.astype(np.float64)), train.targets, weights)
        labels = svm.predict(scaler.transform(unseen.astype(np.float64)))
        assert (row.feature, row.kernel, row.c) == (name, kernel, c)
        assert row.n_support_vectors == len(svm.support_)
        uar = recall_score(validation.targets, labels, average="macro")
        assert row.validation_uar == pytest.approx(uar)
        assert row.validation_wa == pytest.approx(accuracy_score(validation.targets, labels))
    best = max(result.rows, key=lambda row: (row.validation_uar, row.validation_wa))
    assert result.best[result.best_feature] == best and result.stopped == "converged"
    for name in FEATURES:  # the first of equals
        rows = [row for row in result.rows if row.feature == name]
        assert result.best[name] == max(rows, key=lambda row: (row.validation_uar, row.validation_wa))
    for name, tensor in result.tensors[result.best_feature].items():
        assert torch.equal(model.head.state_dict()[name], tensor)
    assert torch.equal(result.tensors["sbe"]["columns"], torch.arange(10, 15))


def test_a_machine_of_each_feature_is_tried_whatever_the_time() -> None:
    train = examples(12, 0)
    model = create("spectral_svm", LABELS, svm=SvmGrid(c=(0.1, 10.0)))
    result = fit(model, train, examples(9, 1), seconds=0.0)
    assert result.stopped == "minutes" and [row.feature for row in result.rows] == list(FEATURES)
    expected = train.features[..., columns_of("sc")].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(result.tensors["sc"]["mean"].reshape(200, 5), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no training recording is labelled calm, sad"):
        fit(model, train._replace(targets=np.zeros(12, np.int64)), examples(9, 1))


def test_a_machine_answers_recordings_and_comes_back_from_its_file(tmp_path: Path) -> None:
    signals = [make_signal(seed, n) for seed, n in enumerate((2_205, 9_000, 30_000, 80_000, 20_000, 10_000))]
    waveform, lengths = side_by_side(*signals)
    model = create("spectral_svm", LABELS).eval()
    assert model(waveform, lengths).isfinite().all()  # before it is fitted
    features = np.stack([spectral_features(signal) for signal in signals])
    examples = SvmExamples(features, np.arange(6) % 3)
    result = fit(model, examples, examples)
    logits = model(waveform, lengths)
    assert result.best[result.best_feature].train_uar == 1
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 0, 1, 2]
    n = len(model.head.support_vectors)
    assert model.n_parameters() == 2 * 1_000 + n * 1_000 + 3 * n + 3
    save_model(tmp_path / "w.safetensors", model)
    again = load(tmp_path / "w.safetensors")
    assert again.labels == LABELS and again.options == model.options
    assert torch.equal(again(waveform, lengths), logits)


@pytest.mark.parametrize("name", ["intercepts", "support_vectors", "mean"])
def test_a_machine_whose_tensors_dont_fit_together(name: str, tmp_path: Path) -> None:
    model = create("spectral_svm", LABELS)
    fit(model, examples(12, 0), examples(9, 1))
    tensors = model.state_dict()
    tensors[f"head.{name}"] = tensors[f"head.{name}"][:-1].clone()
    save_model(tmp_path / "w.safetensors", model, tensors)
    with pytest.raises(ValueError, match="no classifier of this version"):
        load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "grid", [{"c": ()}, {"c": (1.0, 0.0)}, {"kernel": ()}, {"c": (float("inf"),)}, {"kernel": ("sigmoid",)}]
)
def test_grids_that_cant_be_meant(grid: dict) -> None:
    with pytest.raises(ValueError, match=r"--svm\.kernel"):
        SvmGrid(**grid)


def settle(model: SerModel, waveform: Tensor) -> None:
    """Give batch norms the moments of a batch, so that random weights leave something to tell apart."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
    model.train()(waveform)
    model.eval()


def test_the_raw_network_takes_three_seconds_at_the_level_of_training() -> None:
    torch.manual_seed(0)
    model = create("raw_cnn", EMOTIONS).eval()
    training = [make_signal(seed, n) + np.float32(0.01) for seed, n in enumerate((9_000, 66_330, 80_000))]
    model.norm.calibrate(model.frontend(*side_by_side(*pair)) for pair in (training[:2], training[2:]))
    together = np.concatenate([signal[:66_330] for signal in training]).astype(np.float64)
    assert model.norm.mean == pytest.approx(together.mean(), rel=1e-6)
    assert model.norm.deviation == pytest.approx(together.std(), rel=1e-6)
    settle(model, torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (4, 66_330)).astype(np.float32)))
    signals = np.stack([make_signal(seed, 70_000) for seed in range(2)])
    later, earlier, scaled = signals.copy(), signals.copy(), 2 * signals + np.float32(0.1)
    later[:, 66_330:] += 0.5
    earlier[:, 66_329:] += 0.5
    with torch.no_grad():
        logits = model(torch.from_numpy(signals))
        assert torch.equal(model(torch.from_numpy(later)), logits)
        assert not torch.equal(model(torch.from_numpy(earlier)), logits)
        assert (model(torch.from_numpy(scaled)) - logits).abs().max() > 1e-2
        model.norm.mean.mul_(2).add_(0.1)
        model.norm.deviation.mul_(2)
        torch.testing.assert_close(model(torch.from_numpy(scaled)), logits, atol=1e-4, rtol=1e-4)


def test_the_first_samples_end_in_zeros() -> None:
    waveform = torch.randn(3, 12)
    frames = FirstSamples(10)(waveform, torch.tensor([4, 10, 12]))
    assert frames.lengths.tolist() == [4, 10, 10] and frames.values.shape == (3, 10, 1)
    assert torch.equal(frames.values[0, :, 0], functional.pad(waveform[0, :4], (0, 6)))
    assert torch.equal(frames.values[1:, :, 0], waveform[1:, :10])


def test_the_raw_network_is_laid_out_as_m11_with_half_of_the_channels() -> None:
    # Dai and others 2017, table 1: 80/4, then 2, 2, 3 and 2 layers of 3 taps; each with a batch norm
    channels = [1, 32, 32, 32, 64, 64, 128, 128, 128, 256, 256]
    convolutions = 80 * 32 + sum(3 * one * other for one, other in itertools.pairwise(channels[1:]))
    norms = 2 * sum(channels[1:])
    dense = (256 + 1) * 64 + (64 + 1) * 8
    model = create("raw_cnn", EMOTIONS).eval()
    assert model.n_parameters() == count_parameters(model) == convolutions + norms + dense
    lengths = []
    for layer in model.head.layers:
        if isinstance(layer, torch.nn.MaxPool1d):
            layer.register_forward_hook(lambda _, inputs, output: lengths.append(output.shape[2]))
    model(torch.zeros(1, 66_330))
    assert lengths == [4145, 1036, 259, 64]  # 16,583 places of the first layer, by fours


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """With batch norms whose weights and moments aren't 1 and 0, negative weights among them."""
    generator = torch.Generator().manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.weight.data.normal_(generator=generator)
            layer.bias.data.normal_(generator=generator)
            layer.running_mean.normal_(std=0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def layers_of(model: torch.nn.Module, kind: type) -> list[torch.nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def test_the_raw_network_is_its_layers_one_by_one() -> None:
    torch.manual_seed(0)
    head = randomised(RawCnn(8))
    signals = torch.from_numpy(np.stack([make_signal(seed, 66_330) for seed in range(2)]))
    maps = signals[:, None]
    pairs = zip(layers_of(head, torch.nn.Conv1d), layers_of(head, torch.nn.BatchNorm1d), strict=True)
    for place, (convolution, norm) in enumerate(pairs):
        stride, padding = (4, 40) if place == 0 else (1, 1)
        if place in (1, 3, 5, 8):  # where groups of 2, 2, 3 and 2 layers begin
            maps = functional.max_pool1d(maps, 4)
        maps = torch.relu(norm(functional.conv1d(maps, convolution.weight, stride=stride, padding=padding)))
    dense, last = layers_of(head, torch.nn.Linear)
    expected = last(torch.relu(dense(maps.mean(dim=2))))
    with torch.no_grad():
        torch.testing.assert_close(head(frames_of(signals[..., None])), expected, atol=1e-4, rtol=1e-4)


def test_the_network_of_images_is_its_layers_one_by_one() -> None:
    torch.manual_seed(0)
    head = randomised(SpectrogramCnn(8))
    images = torch.rand(2, 50, 150, generator=torch.Generator().manual_seed(0)) * 2 - 1
    maps = images.transpose(1, 2)[:, None]
    pairs = zip(layers_of(head, torch.nn.Conv2d), layers_of(head, torch.nn.BatchNorm2d), strict=True)
    for convolution, norm in pairs:
        normal = norm(functional.conv2d(maps, convolution.weight, padding=1))
        maps = functional.max_pool2d(torch.relu(normal), 2)
    assert maps.shape[1:] == (128, 9, 3)
    dense, last = layers_of(head, torch.nn.Linear)
    expected = last(torch.relu(dense(maps.mean(dim=3).flatten(1))))
    with torch.no_grad():
        torch.testing.assert_close(head(frames_of(images)), expected, atol=1e-4, rtol=1e-4)
    convolutions = 9 * (16 + 16 * 32 + 32 * 64 + 64 * 128) + 2 * (16 + 32 + 64 + 128)
    assert count_parameters(head) == convolutions + (128 * 9 + 1) * 128 + (128 + 1) * 8 == 246_008


def test_the_network_of_averages_is_its_layers_one_by_one() -> None:
    torch.manual_seed(0)
    head = randomised(FeatureCnn(8, 162))
    lengths = torch.tensor([4, 6])
    frames = torch.randn(2, 6, 162, generator=torch.Generator().manual_seed(0))
    frames[0, 4:] = 0
    averages = torch.stack([frames[0, :4].mean(dim=0), frames[1].mean(dim=0)])
    first, *norms = layers_of(head, torch.nn.BatchNorm1d)
    maps = first(averages)[:, None]
    for place, convolution in enumerate(layers_of(head, torch.nn.Conv1d)):
        padded = functional.pad(maps, (3, 4))
        maps = torch.relu(functional.conv1d(padded, convolution.weight, convolution.bias))
        if place in (1, 5):
            maps = functional.max_pool1d(norms.pop(0)(maps), 8)
    assert maps.shape[1:] == (64, 2)
    (last,) = layers_of(head, torch.nn.Linear)
    with torch.no_grad():
        expected = last(maps.flatten(1))
        torch.testing.assert_close(head(FrameBatch(frames, lengths)), expected, atol=1e-5, rtol=1e-5)


def test_silent_recordings_have_a_level_too() -> None:
    model = create("raw_cnn", EMOTIONS).eval()
    silence = torch.zeros(8, 12_000)
    model.norm.calibrate([model.frontend(*model.trim(silence))])
    assert model(silence).isfinite().all()


@pytest.mark.filterwarnings("error")
def test_an_image_is_the_scaled_logarithm_of_librosas_mel_spectrogram() -> None:
    signal = make_signal(3, 40_000)
    mel = librosa.feature.melspectrogram(
        y=signal.astype(np.float64), sr=SAMPLE_RATE, n_fft=2048, hop_length=330, n_mels=150, power=1
    )
    logarithm = np.log(mel + 1e-9)
    expected = (logarithm - logarithm.min()) / (logarithm.max() - logarithm.min()) * 255
    image = draw(signal)
    assert image.dtype == np.uint8 and image.shape == (150, 122)
    assert image.min() == 0 and image.max() == 255
    np.testing.assert_allclose(image, np.floor(expected), atol=1)
    assert (draw(np.zeros(40_000, np.float32)) == 0).all()


@pytest.mark.filterwarnings("error")
def test_an_image_comes_as_the_published_transform_has_it() -> None:
    signal = make_signal(3, 40_000)
    # torchvision's Resize((150, 50)), Grayscale, ToTensor and Normalize(0.5, 0.5), by hand
    small = np.asarray(Image.fromarray(draw(signal)).resize((50, 150), Image.Resampling.BILINEAR), np.float64)
    (values,) = ImageFrontEnd()(*side_by_side(signal)).values
    np.testing.assert_allclose(values, ((small / 255 - 0.5) / 0.5).T, atol=1e-6)


def test_scales_are_those_of_all_frames_and_of_none_beyond_an_end() -> None:
    torch.manual_seed(0)
    rows = [100 + torch.randn(n, 3) * torch.tensor([1.0, 5.0, 20.0]) for n in (4, 9, 1, 6)]
    lengths = torch.tensor([4, 9])
    batches = [FrameBatch(nn.utils.rnn.pad_sequence(rows[:2], batch_first=True), lengths)]
    batches += [frames_of(row[None]) for row in rows[2:]]
    together = torch.cat(rows).double()
    for n_columns, kept in ((3, together), (None, together.flatten()[:, None])):
        norm = Standardise(n_columns)
        norm.calibrate(iter(batches))
        np.testing.assert_allclose(norm.mean, kept.mean(dim=0).view(norm.mean.shape), rtol=1e-6)
        np.testing.assert_allclose(
            norm.deviation, kept.std(dim=0, correction=0).view(norm.mean.shape), rtol=1e-6
        )
        normal = norm(batches[0])
        assert torch.equal(normal.lengths, lengths)
        expected = ((rows[0] - norm.mean) / norm.deviation).numpy()
        np.testing.assert_allclose(normal.values[0, :4], expected, rtol=1e-5, atol=1e-6)
        assert (normal.values[0, 4:] < -1).all()
        norm.masked = True
        assert (norm(batches[0]).values[0, 4:] == 0).all()
    with pytest.raises(ValueError, match="at least one recording"):
        norm.calibrate([])


def test_scales_of_powers_are_in_decibels_and_never_too_small() -> None:
    norm = Standardise(decibels=True, least=1.0)
    norm.calibrate([frames_of(torch.tensor([[[1e-3], [1e-5], [0.0]]]))])
    assert float(norm.mean) == pytest.approx((-30 - 50 - 100) / 3)
    assert float(norm.deviation) == pytest.approx(np.std([-30, -50, -100]))
    norm.calibrate([frames_of(torch.full((1, 5, 1), 1e-3))])
    assert (float(norm.mean), float(norm.deviation)) == (pytest.approx(-30), 1.0)


def test_recipes_are_the_published_ones() -> None:
    for entry in (SPECTRAL_SVM, RAW_CNN, SPECTROGRAM_CNN):
        augmentation = entry.recipe.augmentation
        assert augmentation.seconds is None and (augmentation.noisy, augmentation.contrast) == (0, 1)
    assert RAW_CNN.recipe.augmentation.stretch == 1 < SPECTROGRAM_CNN.recipe.augmentation.stretch
    assert RAW_CNN.recipe.copies == SPECTROGRAM_CNN.recipe.copies == 6 and SPECTRAL_SVM.recipe.copies == 0
    assert replace(RAW_CNN.recipe.augmentation, stretch=1.16) == SPECTROGRAM_CNN.recipe.augmentation
