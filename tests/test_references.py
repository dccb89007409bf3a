"""The published systems by their oracles: direct sums, scikit-learn's machine, librosa, Pillow."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from conftest import make_signal
from safetensors.torch import load_file, save_file
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import pipelines.evaluate as evaluate
import pipelines.train as train
from fins.audio import SAMPLE_RATE
from fins.runs import read_json
from pipelines.results import read_predictions
from ser_heads.data import Batch, UtteranceTable
from ser_heads.models import load_model
from ser_heads.references.spectral_svm import (
    BANDS,
    FEATURES,
    SpectralSvm,
    SvmGrid,
    columns_of,
    spectral_features,
    tensors_of,
)
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
    assert set(result["by_feature"]) == set(FEATURES) and result["epochs"] == 12
    best = max(FEATURES, key=lambda name: result["by_feature"][name]["validation"]["uar"])
    chosen = result["by_feature"][result["best_feature"]]
    assert chosen["validation"]["uar"] == result["by_feature"][best]["validation"]["uar"]
    assert chosen["validation"]["uar"] == pytest.approx(result["validation_uar"])
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
    assert hurried.rows[0] != found.rows[0]  # copies are learned from


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
