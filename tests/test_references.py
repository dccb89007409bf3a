"""The published systems by their oracles: direct sums, scikit-learn's machine, librosa, Pillow."""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from conftest import make_recordings, make_signal
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch.nn import functional

import pipelines.evaluate as evaluate
import pipelines.train as train
from fins.audio import SAMPLE_RATE
from fins.networks import count_parameters
from fins.runs import read_json
from fins.store import EMOTIONS, write_store
from pipelines.results import read_predictions
from ser_heads.augmentation import Augmentation
from ser_heads.base import UtteranceModel
from ser_heads.data import Batch, UtteranceTable
from ser_heads.kept import KEPT_FILES
from ser_heads.models import load_model
from ser_heads.references.feature_cnn import FeatureCnn
from ser_heads.references.raw_cnn import RawCnn
from ser_heads.references.spectral_svm import (
    BANDS,
    FEATURES,
    SpectralFeatures,
    SpectralSvm,
    SvmGrid,
    columns_of,
    spectral_features,
    tensors_of,
)
from ser_heads.references.spectrogram_cnn import SpectrogramCnn, SpectrogramImages, draw
from ser_heads.speed import real_time_factor
from ser_heads.training import Feed, Options


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


def random_features(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (n, 200, 15)).astype(np.float32)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly"])
@pytest.mark.parametrize("n_emotions", [2, 3, 8])
def test_the_machine_is_that_of_scikit_learn(kernel: str, n_emotions: int) -> None:
    rng = np.random.default_rng(n_emotions)
    emotions = np.sort(rng.choice(8, n_emotions, replace=False))
    truth = emotions[np.arange(40) % n_emotions]
    features = random_features(40) + 0.3 * truth[:, None, None]
    columns = columns_of("sbw")
    stacked = features[..., columns].reshape(40, -1).astype(np.float64)
    scaler = StandardScaler().fit(stacked)
    svm = SVC(C=10, kernel=kernel, break_ties=True).fit(scaler.transform(stacked), truth)
    model = SpectralSvm()
    model.load_state_dict(tensors_of(columns, kernel, scaler, svm))
    heard = random_features(50, 1) + 0.3 * rng.choice(emotions, 50)[:, None, None].astype(np.float32)
    batch = Batch(
        torch.full((50,), 104_000),
        torch.full((50,), 200),
        torch.zeros(50).long(),
        inputs=torch.from_numpy(heard),
    )
    logits, _ = model(batch)
    unseen = scaler.transform(heard[..., columns].reshape(50, -1).astype(np.float64))
    np.testing.assert_array_equal(logits.argmax(dim=1).numpy(), svm.predict(unseen))
    values = svm.decision_function(unseen)
    if n_emotions > 2:
        np.testing.assert_allclose(logits[:, emotions].numpy(), values, atol=1e-5)
    else:
        np.testing.assert_array_equal(logits[:, emotions[1]] > logits[:, emotions[0]], values > 0)
    others = np.setdiff1d(np.arange(8), emotions)
    assert (logits[:, others] <= -1e4).all() and logits.isfinite().all()


@pytest.fixture(scope="module")
def fitted(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the support vector machine."""
    out = tmp_path_factory.mktemp("runs") / "svm"
    grid = SvmGrid(c=(1.0, 10.0), kernel=("rbf", "linear"))
    train.main(train.with_settings("spectral_svm", store=(small_store,), out=out, svm=grid))
    return out


def test_a_fitted_run_says_what_each_feature_does(fitted: Path, small_store: Path, tmp_path: Path) -> None:
    result = read_json(fitted / "result.json")
    assert tuple(result["by_feature"]) == FEATURES and result["epochs"] == 12
    assert result["best_feature"] != FEATURES[-1]  # else the last to be judged would be the best by chance
    best = max(FEATURES, key=lambda name: result["by_feature"][name]["validation"]["uar"])
    chosen = result["by_feature"][result["best_feature"]]
    assert chosen["validation"]["uar"] == result["by_feature"][best]["validation"]["uar"]
    assert chosen["validation"]["uar"] == pytest.approx(result["validation_uar"])
    assert chosen["test"]["confusion"] == result["confusion"]
    assert chosen["test"]["confusion"] != result["by_feature"][FEATURES[-1]]["test"]["confusion"]
    assert chosen["test"]["uar"] == result["uar"] and result["test_by_phase"]["fitted"]["wa"] == result["wa"]
    assert result["parameters"] == load_model(fitted / "weights.safetensors")[0].n_learned() > 2_000
    text = (fitted / "README.md").read_text()
    assert all(f"| {name} |" in text and f"(confusion-{name}.png)" in text for name in FEATURES)
    rows = (fitted / "history.csv").read_text().splitlines()
    assert len(rows) == 13 and rows[0].startswith("feature,kernel,c,n_support_vectors")
    evaluate.main(evaluate.EvaluateConfig((fitted,), (small_store,), tmp_path / "same"))
    one, other = (read_predictions(folder) for folder in (fitted, tmp_path / "same"))
    order = [other.names.index(name) for name in one.names]
    np.testing.assert_allclose(one.probabilities, other.probabilities[order], atol=2e-6)


def test_the_grid_is_that_of_scikit_learn_and_test_has_no_say(
    small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = UtteranceTable([small_store], trimmed=False)
    speaker = table.columns["speaker"]
    parts = {
        "train": np.flatnonzero(np.isin(speaker, ["s0", "s1"])),
        "validation": np.flatnonzero(speaker == "s2"),
    }
    model = SpectralSvm()
    feed = Feed(model, table)
    found = model.fit(feed, parts, Options(copies=0, svm=SvmGrid(c=(0.1, 10.0))))
    place = 0
    for c in (0.1, 10.0):
        for name in FEATURES:
            heard = {
                part: np.stack([spectral_features(table.signal(int(row))) for row in rows])[
                    ..., columns_of(name)
                ].reshape(len(rows), -1)
                for part, rows in parts.items()
            }
            scaler = StandardScaler().fit(heard["train"])
            svm = SVC(C=c, break_ties=True).fit(
                scaler.transform(heard["train"]), table.emotion[parts["train"]]
            )
            said = svm.predict(scaler.transform(heard["validation"]))
            uar = recall_score(table.emotion[parts["validation"]], said, average="macro")
            assert (found.rows[place].feature, found.rows[place].c) == (name, c)
            assert found.rows[place].validation_uar == pytest.approx(uar)
            place += 1
    assert found.best[found.kept].validation_uar == max(row.validation_uar for row in found.rows)
    assert found.stopped == "converged"
    hurried = model.fit(feed, parts, Options(copies=1, svm=SvmGrid(c=(0.1, 10.0))), seconds=0.0)
    assert hurried.stopped == "minutes" and len(hurried.rows) == 3
    both = [spectral_features(table.copy(int(row), copy)) for copy in (0, 1) for row in parts["train"]]
    expected = np.stack(both)[..., columns_of("sc")].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(hurried.tensors["sc"]["mean"].reshape(200, 5), expected, atol=1e-6)


def test_a_machine_whose_tensors_dont_fit_together(fitted: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(fitted / "weights.safetensors", "pt") as file:
        header = file.metadata()
    tensors = load_file(fitted / "weights.safetensors")
    for name in ("intercepts", "support_vectors", "mean"):
        save_file({**tensors, name: tensors[name][:-1]}, tmp_path / "w.safetensors", header)
        with pytest.raises(ValueError, match="no classifier of this version"):
            load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "grid", [SvmGrid(c=()), SvmGrid(c=(1.0, 0.0)), SvmGrid(kernel=()), SvmGrid(c=(float("inf"),))]
)
def test_grids_that_cant_be_meant(small_store: Path, tmp_path: Path, grid: SvmGrid) -> None:
    with pytest.raises(ValueError, match=r"--svm\.c and --svm\.kernel"):
        train.main(train.with_settings("spectral_svm", store=(small_store,), out=tmp_path / "run", svm=grid))
    assert not (tmp_path / "run").exists()


def batch_at(signals: np.ndarray) -> Batch:
    n_samples = torch.full((len(signals),), signals.shape[1])
    return Batch(n_samples, n_samples // 512, torch.arange(len(signals)) % 8, torch.from_numpy(signals))


def settle(model: torch.nn.Module, batch: Batch) -> None:
    """Give batch norms the moments of a batch, so that random weights leave something to tell apart."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
    model.train()(batch)
    model.eval()


def test_the_raw_network_hears_three_seconds_at_the_level_of_training(small_store: Path) -> None:
    table = UtteranceTable([small_store], trimmed=False)
    model = RawCnn().eval()
    rows = np.arange(20)
    model.calibrate(Feed(model, table), rows)
    together = np.concatenate([table.signal(int(row)) for row in rows]).astype(np.float64)
    settle(model, batch_at(np.random.default_rng(0).normal(0, 0.1, (4, 66_330)).astype(np.float32)))
    assert model.mean == pytest.approx(together.mean(), abs=1e-7)
    assert model.deviation == pytest.approx(together.std(), rel=1e-5)
    signals = np.stack([make_signal(seed, 70_000) for seed in range(2)])
    later, earlier, scaled = signals.copy(), signals.copy(), 2 * signals + 0.1
    later[:, 66_330:] += 0.5
    earlier[:, 66_329:] += 0.5
    with torch.no_grad():
        logits = model(batch_at(signals))[0]
        assert torch.equal(model(batch_at(later))[0], logits)
        assert not torch.equal(model(batch_at(earlier))[0], logits)
        assert (model(batch_at(scaled))[0] - logits).abs().max() > 1e-2
        model.mean.mul_(2).add_(0.1)
        model.deviation.mul_(2)
        torch.testing.assert_close(model(batch_at(scaled))[0], logits, atol=1e-4, rtol=1e-4)


def test_the_raw_network_is_laid_out_as_m11_with_half_of_the_channels() -> None:
    # Dai and others 2017, table 1: 80/4, then 2, 2, 3 and 2 layers of 3 taps; each with a batch norm
    channels = [1, 32, 32, 32, 64, 64, 128, 128, 128, 256, 256]
    convolutions = 80 * 32 + sum(3 * one * other for one, other in itertools.pairwise(channels[1:]))
    norms = 2 * sum(channels[1:])
    dense = (256 + 1) * 64 + (64 + 1) * 8
    model = RawCnn()
    assert count_parameters(model) == convolutions + norms + dense
    lengths = []
    for layer in model.layers:
        if isinstance(layer, torch.nn.MaxPool1d):
            layer.register_forward_hook(lambda _, inputs, output: lengths.append(output.shape[2]))
    model.eval()(batch_at(np.zeros((1, 66_330), np.float32)))
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
    model = randomised(RawCnn())
    signals = np.stack([make_signal(seed, 66_330) for seed in range(2)])
    seen = torch.from_numpy(signals)[:, None]
    pairs = zip(layers_of(model, torch.nn.Conv1d), layers_of(model, torch.nn.BatchNorm1d), strict=True)
    for place, (convolution, norm) in enumerate(pairs):
        stride, padding = (4, 40) if place == 0 else (1, 1)
        if place in (1, 3, 5, 8):  # where groups of 2, 2, 3 and 2 layers begin
            seen = functional.max_pool1d(seen, 4)
        seen = torch.relu(norm(functional.conv1d(seen, convolution.weight, stride=stride, padding=padding)))
    dense, last = layers_of(model, torch.nn.Linear)
    expected = last(torch.relu(dense(seen.mean(dim=2))))
    with torch.no_grad():
        torch.testing.assert_close(model(batch_at(signals))[0], expected, atol=1e-4, rtol=1e-4)


def test_the_network_of_images_is_its_layers_one_by_one() -> None:
    torch.manual_seed(0)
    model = randomised(SpectrogramCnn())
    images = torch.rand(2, 50, 150, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = images.transpose(1, 2)[:, None]
    pairs = zip(layers_of(model, torch.nn.Conv2d), layers_of(model, torch.nn.BatchNorm2d), strict=True)
    for convolution, norm in pairs:
        normal = norm(functional.conv2d(seen, convolution.weight, padding=1))
        seen = functional.max_pool2d(torch.relu(normal), 2)
    assert seen.shape[1:] == (128, 9, 3)
    dense, last = layers_of(model, torch.nn.Linear)
    expected = last(torch.relu(dense(seen.mean(dim=3).flatten(1))))
    lengths = torch.tensor([60_000, 60_000])
    batch = Batch(lengths, lengths // 512, torch.tensor([0, 1]), inputs=images)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[0], expected, atol=1e-4, rtol=1e-4)
    convolutions = 9 * (16 + 16 * 32 + 32 * 64 + 64 * 128) + 2 * (16 + 32 + 64 + 128)
    assert count_parameters(model) == convolutions + (128 * 9 + 1) * 128 + (128 + 1) * 8 == 246_008


def test_the_network_of_averages_is_its_layers_one_by_one() -> None:
    torch.manual_seed(0)
    model = randomised(FeatureCnn(None))
    lengths = torch.tensor([4, 6])
    frames = torch.randn(2, 6, 162, generator=torch.Generator().manual_seed(0))
    averages = torch.stack([frames[0, :4].mean(dim=0), frames[1].mean(dim=0)])
    first, *norms = layers_of(model, torch.nn.BatchNorm1d)
    seen = first(averages)[:, None]
    for place, convolution in enumerate(layers_of(model, torch.nn.Conv1d)):
        padded = functional.pad(seen, (3, 4))
        seen = torch.relu(functional.conv1d(padded, convolution.weight, convolution.bias))
        if place in (1, 5):
            seen = functional.max_pool1d(norms.pop(0)(seen), 8)
    assert seen.shape[1:] == (64, 2)
    (last,) = layers_of(model, torch.nn.Linear)
    batch = Batch(512 * lengths, lengths, torch.tensor([0, 1]), inputs=frames)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[0], last(seen.flatten(1)), atol=1e-5, rtol=1e-5)


def test_a_silent_corpus_has_a_level_too(tmp_path: Path) -> None:
    silent = [replace(row, signal=np.zeros_like(row.signal)) for row in make_recordings(8)]
    write_store(tmp_path / "silent.h5", silent)
    table = UtteranceTable([tmp_path / "silent.h5"], trimmed=False)
    model = RawCnn().eval()
    model.calibrate(Feed(model, table), np.arange(8))
    assert model(Feed(model, table).batch([0, 1], [0, 0]))[0].isfinite().all()


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


def test_images_lie_in_folders_of_emotions_and_come_back_as_the_transform_has_them(tmp_path: Path) -> None:
    store = tmp_path / "made.h5"
    write_store(store, make_recordings(16))
    table = UtteranceTable([store], trimmed=False)
    images = SpectrogramImages(table)
    (folder,) = tmp_path.glob("made.images-*")
    assert {path.name for path in folder.iterdir()} == set(EMOTIONS)
    for row in (0, 9):
        path = folder / EMOTIONS[row % 8] / f"made-{row:03d}.png"
        with Image.open(path) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), draw(table.signal(row)))
            # torchvision's Resize((150, 50)), Grayscale, ToTensor and Normalize(0.5, 0.5), by hand
            small = np.asarray(image.resize((50, 150), Image.Resampling.BILINEAR)).astype(np.float64)
        np.testing.assert_allclose(images(row, 0), ((small / 255 - 0.5) / 0.5).T, atol=1e-6)
    copied = Image.fromarray(draw(table.copy(3, 2))).resize((50, 150), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(images(3, 2), (np.asarray(copied).T / 255 - 0.5) / 0.5, atol=1e-6)


def test_images_are_made_once_and_again_if_damaged(tmp_path: Path) -> None:
    store = tmp_path / "made.h5"
    write_store(store, make_recordings(8), {"identity": "first"})

    def make() -> int:
        done: list[int] = []
        SpectrogramImages(UtteranceTable([store], trimmed=False), done.append)
        return sum(done)

    assert (make(), make()) == (8, 0)
    (folder,) = tmp_path.glob("made.images-*")
    (folder / "calm" / "made-001.png").unlink()  # none of those that are looked into
    assert (make(), make()) == (8, 0)
    (folder / "angry" / "made-000.png").write_bytes((folder / "neutral" / "made-005.png").read_bytes())
    assert (make(), make()) == (8, 0)
    (folder / "angry" / "made-000.png").write_bytes(b"no image")
    assert (make(), make()) == (8, 0)
    for number in range(KEPT_FILES):
        write_store(store, make_recordings(8), {"identity": f"{number}"})
        assert make() == 8
        for age, path in enumerate(sorted(tmp_path.glob("made.images-*"), key=os.path.getmtime)):
            os.utime(path, (1_000 * number + age, 1_000 * number + age))
    assert len(list(tmp_path.glob("made.images-*"))) == KEPT_FILES and not folder.exists()
    images = SpectrogramImages(UtteranceTable([store], trimmed=False))
    shutil.rmtree(images.files[5].parent)
    with pytest.raises(ValueError, match="missing or damaged: delete that folder"):
        images(5, 0)


def test_images_of_names_that_are_no_file_names_and_of_several_corpora(tmp_path: Path) -> None:
    rows = make_recordings(8) + make_recordings(8, corpus="other")
    ids = ["a/b", "a%2Fb", "..", 'c:"d"', "é", "x", "y", "z"] * 2
    rows = [
        replace(row, utterance=replace(row.utterance, id=its, emotion="sad"))
        for row, its in zip(rows, ids, strict=True)
    ]
    write_store(tmp_path / "both.h5", rows)
    table = UtteranceTable([tmp_path / "both.h5"], trimmed=False)
    images = SpectrogramImages(table)
    (folder,) = tmp_path.glob("both.images-*")
    assert len(list((folder / "sad").glob("*.png"))) == 16
    for row in range(16):
        np.testing.assert_array_equal(np.asarray(Image.open(images.files[row])), draw(table.signal(row)))


def test_augmented_images() -> None:
    torch.manual_seed(0)
    model = SpectrogramCnn().eval()
    seen: list[torch.Tensor] = []
    model.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 0].transpose(1, 2)))
    images = torch.rand(4, 50, 150) * 2 - 1
    batch = Batch(torch.full((4,), 27_136), torch.full((4,), 50), torch.arange(4), inputs=images)
    off = Augmentation(stretch=1.0, n_masks=0, mixup=0.0)
    for augmentation in (
        off,
        replace(off, stretch=1.5),
        replace(off, n_masks=2, masked_time=0.5),
        replace(off, mixup=1.0),
    ):
        with torch.no_grad():
            _, targets = model(batch, augmentation, torch.Generator().manual_seed(2))
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    same, stretched, masked, mixed = seen[:4]
    assert torch.equal(same, images)
    ended = (stretched == -1).all(dim=2).sum(dim=1)  # columns of black behind one that was made shorter
    assert stretched.shape == images.shape and ended.max() > 3 and ended.min() == 0
    assert (stretched[:, 0] == images[:, 0]).all()
    for seed in range(8):
        with torch.no_grad():
            model(
                replace(batch, inputs=images[:1], emotion=batch.emotion[:1]),
                replace(off, stretch=2.0),
                torch.Generator().manual_seed(seed),
            )
    lengths = [int((its[0] != -1).all(dim=1).sum()) for its in seen[4:]]
    assert min(lengths) < 45 and max(lengths) == 50
    assert all((its[0, n:] == -1).all() for its, n in zip(seen[4:], lengths, strict=True))
    changed = masked != images
    assert (masked[changed] == 0).all() and changed.any(dim=2).any() and not changed.all()
    assert (targets.max(dim=1).values < 1).any()
    # emotions are the images' own numbers here, so the targets say which ones were mixed
    torch.testing.assert_close(mixed, torch.einsum("ij,jtf->itf", targets[:, :4], images))


@pytest.mark.parametrize("model", [SpectralSvm(), SpectrogramCnn()])
def test_what_is_prepared_is_there(model: UtteranceModel, tmp_path: Path) -> None:
    write_store(tmp_path / "made.h5", make_recordings(8))
    table = UtteranceTable([tmp_path / "made.h5"], trimmed=False)
    done: list[int] = []
    model.prepare(table, done.append)
    assert sum(done) == 8
    model.prepare(table, done.append)
    assert sum(done) == 8 and model.inputs(table) is not None


@pytest.mark.parametrize(
    ("model", "kept"), [(SpectralSvm(), SpectralFeatures), (SpectrogramCnn(), SpectrogramImages)]
)
def test_the_time_of_an_answer_is_not_that_of_reading_what_is_kept(
    model: UtteranceModel, kept: type, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: object, utterance: int, copy: int) -> None:
        raise AssertionError("kept inputs were read")

    monkeypatch.setattr(kept, "__call__", read)
    table = UtteranceTable([small_store], trimmed=False)
    assert real_time_factor(model, table, np.arange(8)) > 0


def test_whether_to_augment_is_a_matter_of_flags(small_store: Path, tmp_path: Path) -> None:
    off = Augmentation(stretch=1.0, n_masks=0, mixup=0.0)
    quick = {"store": (small_store,), "frozen_epochs": 2, "copies": 1}
    train.main(train.with_settings("spectrogram_cnn", **quick, out=tmp_path / "on"))
    train.main(
        train.with_settings(
            "spectrogram_cnn", **{**quick, "copies": 0}, augmentation=off, out=tmp_path / "off"
        )
    )
    one, other = (read_json(tmp_path / name / "config.json")["config"] for name in ("on", "off"))
    assert {key for key in one if one[key] != other[key]} == {"copies", "augmentation"}
    evaluate.main(evaluate.EvaluateConfig((tmp_path / "on",), (small_store,), tmp_path / "same"))
    said, again = (read_predictions(tmp_path / name) for name in ("on", "same"))
    order = [again.names.index(name) for name in said.names]
    np.testing.assert_allclose(said.probabilities, again.probabilities[order], atol=2e-6)


def test_images_that_another_run_made_meanwhile_stay(tmp_path: Path) -> None:
    store = tmp_path / "made.h5"
    write_store(store, make_recordings(8))
    images = SpectrogramImages(UtteranceTable([store], trimmed=False))
    (folder,) = tmp_path.glob("made.images-*")
    names = {row: str(path.relative_to(folder)) for row, path in enumerate(images.files)}
    before = folder.stat().st_ino
    images._write(folder, names, lambda n: None)
    assert folder.stat().st_ino == before and images(5, 0).shape == (50, 150)
    (folder / "angry" / "made-000.png").write_bytes(b"no image")
    images._write(folder, names, lambda n: None)
    assert folder.stat().st_ino != before and images(0, 0).shape == (50, 150)
    assert {path.name for path in tmp_path.iterdir()} == {"made.h5", folder.name}
