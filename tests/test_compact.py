"""Compact FINs: shipped weights against librosa, learning from any seed, finetuning, pruning, gradients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warm
from conftest import make_signal
from numpy.typing import NDArray
from sklearn.metrics import r2_score

import fins
from fins.audio import SAMPLE_RATE, WINDOW, cut_windows
from fins.data.store import Store
from fins.features import FEATURES, compute_feature, get_feature
from fins.features.spectrum import mel_filters
from fins.learning.degradations import CONDITIONS, evaluate, score_clips, store_clips, synthetic_clips
from fins.learning.run import FinRunConfig, train_fin
from fins.learning.stages import Stage, learn
from fins.networks import SHIPPED, FinConfig, build_fin, count_parameters, load_fin, save_fin
from fins.networks.fourier import BandWeights, LearnedSpectrum, bin_of_power, fourier_components
from fins.networks.spectral import ChromaFin, MelFin, MfccFin, PitchFin, permute_bins, prune
from fins.networks.waveform import RmsFin

MOST_PARAMETERS = {
    "rms": 5_000,
    "zcr": 5_000,
    "chroma": 40_000,
    "mfcc": 160_000,
    "mel": 160_000,
    "mfcc_pruned": 30_000,
    "pitch": 120_000,
}


def ignore(stage: Stage, step: int, loss: float) -> None:
    """No progress to show."""


def hard_windows() -> NDArray[np.float32]:
    """Speech-like, noisy, silent, clipped, tiny, impulsive, constant."""
    rng = np.random.default_rng(0)
    speech = cut_windows(synthetic_clips()[3])[10:50:4]
    noise = rng.normal(0, 0.1, (4, WINDOW))
    impulse = np.zeros((2, WINDOW))
    impulse[0, 700], impulse[1, WINDOW // 2] = 1, -1e-4
    half_silent = noise[:1].copy()
    half_silent[:, WINDOW // 2 :] = 0
    constant = np.full((1, WINDOW), 0.25)
    every = [speech, noise, 1e-7 * noise, (20 * noise).clip(-1, 1), impulse, half_silent, constant]
    return np.concatenate([*every, np.zeros((1, WINDOW))]).astype(np.float32)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_fins_agree_with_librosa_on_hard_windows(name: str) -> None:
    fin, feature = fins.load(name), name.split("_")[0]
    windows = hard_windows()
    truth = np.stack([FEATURES[feature].oracle(window) for window in windows])
    with torch.no_grad():
        imitation = fin(torch.from_numpy(windows)).numpy()
    assert imitation.shape == truth.shape and count_parameters(fin) <= MOST_PARAMETERS[name]
    # of the largest value in each window; zcr's signs are soft: samples of 1e-9 are hardly told from zeros
    allowed = {"zcr": 5e-3, "chroma": 2e-3}.get(feature, 1e-4)
    scale = 1.0 if feature in ("zcr", "pitch") else np.abs(truth).max(axis=1, keepdims=True)
    error = np.abs(imitation - truth)
    assert (error <= allowed * scale + 1e-14).all(), (error / (scale + 1e-14)).max(axis=1)


@pytest.mark.corpora
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_fins_hold_on_real_speech(name: str, real_store: Path) -> None:
    """The targets, on recordings that no weight has seen, silence included."""
    feature = get_feature(name.split("_")[0])
    least = {"rms": 0.9999, "zcr": 0.998, "chroma": 0.998, "mfcc": 0.999, "mel": 0.999}.get(
        feature.name, 0.9999
    )
    with Store(real_store) as store:
        for condition in ("as recorded", "noise, 10 dB", "made at 8 kHz", "gain -20 dB"):
            r2 = score_clips(fins.load(name), feature, store_clips(store), condition).result()
            assert r2.uniform is not None and r2.uniform >= (least if condition == "as recorded" else 0.99)
            assert r2.variance_weighted is not None and r2.variance_weighted >= 0.998


def test_what_is_loaded_is_refused_if_it_is_nothing() -> None:
    with pytest.raises(ValueError, match="there is no FIN loudness"):
        fins.load("loudness")


@pytest.mark.parametrize("feature", [name for name, feature in FEATURES.items() if feature.compact])
def test_weights_start_at_random(feature: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_fin(FinConfig(feature)).state_dict())
    names = [name for name, _ in build_fin(FinConfig(feature)).named_parameters()]
    for name in names:
        assert torch.equal(states[0][name], states[1][name])
        assert not torch.equal(states[0][name], states[2][name]), name


@pytest.mark.parametrize(
    ("seed", "first"),
    [pytest.param(11, 0, marks=pytest.mark.slow), (12, 1), pytest.param(13, 1, marks=pytest.mark.slow)],
    ids=str,
)
def test_mfcc_is_learned_from_noise_from_three_seeds(seed: int, first: int) -> None:
    torch.manual_seed(seed)
    fin = MfccFin()
    if first:  # without the long stage, and fewer steps of the next
        fin.spectrum.load_state_dict(load_fin(SHIPPED["mel"]).get_submodule("spectrum").state_dict())
    stages = [replace(stage, n_steps=1000) for stage in fin.stages()] if first else fin.stages()
    learned = learn(stages[first:], seed, ignore)
    assert all(stage.error < 1e-12 for stage in learned), learned
    r2 = score_clips(fin, FEATURES["mfcc"], synthetic_clips()[::8]).result()
    assert r2.uniform is not None and r2.uniform > 0.99999


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_rms_lacks_no_more_than_a_scale(seed: int) -> None:
    """What its wiring gives: said in docs/results.md beside the headline table."""
    torch.manual_seed(seed)
    fin = build_fin(FinConfig("rms")).eval()
    windows = np.concatenate([cut_windows(clip) for clip in synthetic_clips()[::8]]).astype(np.float32)
    truth = np.sqrt(np.square(windows.astype(float)).mean(axis=1))
    with torch.no_grad():
        answers = fin(torch.from_numpy(windows)).double().numpy()[:, 0]
    scale = (answers @ truth) / (answers @ answers)
    untrained, scaled = (r2_score(truth, factor * answers) for factor in (1, scale))
    assert 0.75 < untrained < 0.95 and scaled > 0.999


@pytest.mark.parametrize("feature", ["zcr", "rms", "chroma", "pitch"])
def test_the_other_features_are_learned_too(feature: str) -> None:
    torch.manual_seed(5)
    fin = build_fin(FinConfig(feature))
    stages = fin.stages()  # type: ignore[operator]
    if isinstance(fin, ChromaFin | PitchFin):
        fin.spectrum.load_state_dict(load_fin(SHIPPED["mel"]).get_submodule("spectrum").state_dict())
        stages = [replace(stage, n_steps=500) for stage in stages[1:]]  # of 1500
    before = score_clips(fin, get_feature(feature), synthetic_clips()[::8]).result()  # type: ignore[arg-type]
    learn(stages, 5, ignore)
    after = score_clips(fin, get_feature(feature), synthetic_clips()[::8]).result()  # type: ignore[arg-type]
    assert before.uniform is not None and after.uniform is not None
    assert before.uniform < 0.9 and after.uniform > 0.9999


def test_the_spectrum_imitates_torchs_and_numpys() -> None:
    windows = torch.randn(3, WINDOW)
    spectrum = np.fft.rfft(windows.double().numpy() * np.hanning(WINDOW + 1)[:-1])
    power = np.abs(spectrum) ** 2 / np.square(np.hanning(WINDOW + 1)).sum()
    components = fourier_components(windows).square().sum(dim=2).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(components, power[:, bin_of_power()], rtol=1e-3, atol=1e-4)
    assert set(bin_of_power().tolist()) == set(range(1025))
    learned = load_fin(SHIPPED["mfcc"]).get_submodule("spectrum")
    with torch.no_grad():
        np.testing.assert_allclose(learned(windows), power[:, bin_of_power()], rtol=1e-3, atol=1e-4)


def test_a_stage_moves_its_own_parameters_and_obeys_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []  # each takes a 64th of a second by this clock, however fast the machine
    clock = SimpleNamespace(monotonic=lambda: 7 + len(steps) / 64)
    monkeypatch.setattr("fins.learning.stages.time", clock)
    torch.manual_seed(0)
    fin = MelFin()
    before = {name: parameter.detach().clone() for name, parameter in fin.named_parameters()}
    (result,) = learn([fin.bands_stage()], 0, lambda stage, step, loss: steps.append(step), seconds=0.5)
    assert result.n_steps == len(steps) == 33 and result.seconds == 33 / 64  # the one that ends it included
    for name, parameter in fin.named_parameters():
        assert torch.equal(before[name], parameter) == name.startswith("spectrum"), name
    assert (fin.bands.weights >= 0).all()


def test_the_same_seed_learns_the_same_weights() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(4)
        fin = RmsFin()
        before = fin.weights.detach().clone()
        learn([replace(stage, n_steps=50) for stage in fin.stages()], 4, ignore)
        results.append(fin.state_dict())
        assert not torch.equal(results[-1]["weights"], before)
    assert torch.equal(results[0]["weights"], results[1]["weights"])


@pytest.mark.parametrize("name", SHIPPED)
def test_finetuning_moves_every_parameter(name: str) -> None:
    fin = fins.load(name)
    before = {key: parameter.detach().clone() for key, parameter in fin.named_parameters()}
    optimizer = torch.optim.SGD(fin.parameters(), lr=1e-3)
    windows = torch.from_numpy(np.ascontiguousarray(cut_windows(make_signal(1))))
    target = torch.randn(len(windows), fin(windows[:1]).shape[1])  # as the gradients of a head come in
    (fin(windows) * target).sum().backward()
    for key, parameter in fin.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if parameter.ndim and key != "coefficients.weight":
            assert parameter.grad.count_nonzero() >= 0.9 * parameter.numel(), key
        parameter.grad /= parameter.grad.abs().max()
    optimizer.step()
    for key, parameter in fin.named_parameters():
        assert not torch.equal(before[key], parameter), key


@pytest.mark.parametrize("name", SHIPPED)
def test_a_step_on_silence_or_tiny_signals_leaves_no_nan(name: str) -> None:
    windows = torch.from_numpy(hard_windows())
    for chosen in (torch.zeros(2, WINDOW), windows, 1e-6 * windows, 1e-15 * windows):
        fin = fins.load(name)
        chosen = chosen.clone().requires_grad_()
        output = fin(chosen)
        optimizer = torch.optim.Adam(fin.parameters(), lr=1e-4)
        (output - 1).square().mean().backward()
        assert chosen.grad is not None and chosen.grad.isfinite().all()
        optimizer.step()
        assert all(parameter.isfinite().all() for parameter in fin.parameters())
        assert fin(chosen).isfinite().all()


def test_a_window_gets_the_same_output_alone_and_in_any_batch() -> None:
    fin = fins.load("mfcc")
    windows = torch.from_numpy(np.ascontiguousarray(cut_windows(make_signal(2, 400_000))))
    assert len(windows) > 600
    with torch.no_grad():
        together = fin(windows)  # in chunks
        for row in (0, 255, 256, 600):
            torch.testing.assert_close(
                together[row : row + 1], fin(windows[row : row + 1]), rtol=1e-4, atol=1e-3
            )
    torch.testing.assert_close(fin(windows).detach(), together, rtol=1e-4, atol=1e-3)  # not in chunks
    assert fin(windows[:0]).shape == (0, 20)
    with pytest.raises(ValueError, match=r"\(batch, 2048\)"):
        fin(windows[0])


def test_pruning_leaves_out_zeros_alone(tmp_path: Path) -> None:
    fin = load_fin(SHIPPED["mel"])
    assert isinstance(fin, MelFin) and isinstance(fin.bands, BandWeights)
    windows = torch.from_numpy(hard_windows())
    full, n_full = fin(windows), count_parameters(fin)
    prune(fin)
    torch.testing.assert_close(fin(windows), full)
    assert count_parameters(fin) < n_full / 5
    save_fin(tmp_path / "pruned.safetensors", fin)
    again = load_fin(tmp_path / "pruned.safetensors")
    torch.testing.assert_close(again(windows), full)
    assert fin.config == again.config == FinConfig("mel", "pruned", 128)
    with pytest.raises(ValueError, match="all needed"):
        build_fin(FinConfig("chroma", "pruned"))
    with pytest.raises(ValueError, match="nobody published"):
        build_fin(FinConfig("pitch", "paper"))


def test_a_state_is_loaded_into_whole_and_pruned_bands_alike() -> None:
    """Also as a part of a network, which is how classifiers load theirs."""
    windows = torch.from_numpy(hard_windows())
    for name in ("mfcc", "mfcc_pruned"):
        shipped = fins.load(name)
        for start in (build_fin(FinConfig("mfcc")), fins.load("mfcc"), fins.load("mfcc_pruned")):
            whole = torch.nn.ModuleDict({"fin": start.requires_grad_(False)})
            bands = start.bands
            whole.load_state_dict({f"fin.{key}": value for key, value in shipped.state_dict().items()})
            assert torch.equal(start(windows), shipped(windows)) and start.config == shipped.config
            assert not any(parameter.requires_grad for parameter in start.parameters())
            assert (start.bands is bands) == (type(bands) is type(shipped.bands))  # an optimizer's stay


@pytest.mark.parametrize("name", ["mel", "chroma", "mfcc_pruned"])
def test_energies_stay_sums_of_powers(name: str) -> None:
    table = fins.load(name).table()
    with torch.no_grad():
        expected = (table.weights - 0.01).clamp_min(0)
        table.weights.sub_(0.01)
    table.constrain()
    assert (table.weights == expected).all() and (table.weights == 0).any()


@pytest.mark.parametrize("name", SHIPPED)
def test_exported_fins_take_any_batch(name: str) -> None:
    """On windows of another batch than it was exported with, more than are worked on at once."""
    fin = fins.load(name)
    batch = {"windows": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        exported = torch.export.export(fin, (torch.randn(3, WINDOW),), dynamic_shapes=batch).module()
        for n in (1, 5, 300):
            windows = 0.1 * torch.randn(n, WINDOW)
            torch.testing.assert_close(exported(windows), fin(windows), rtol=1e-4, atol=1e-4)


def test_the_heap_is_widened_once_and_not_on_import() -> None:
    """A block of 31 MiB, which an import shouldn't take."""
    code = """
import torch
sizes = []
empty = torch.empty
torch.empty = lambda *size, **rest: [sizes.append(size), empty(*size, **rest)][1]
from fins.networks import FinConfig, build_fin
assert (31 << 20,) not in sizes
build_fin(FinConfig("rms")), build_fin(FinConfig("zcr"))
assert sizes.count((31 << 20,)) == 1, sizes
"""
    done = warm.run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_windows_that_are_a_view_are_taken_without_a_warning() -> None:
    """A recording of one window is such a view, which isn't to be written."""
    windows = cut_windows(make_signal(0, WINDOW + 100))
    assert windows.shape == (1, WINDOW) and not windows.flags.writeable and windows.flags.c_contiguous
    assert evaluate(fins.load("rms"), windows).shape == (1, 1)


def test_shuffled_bands_are_those_of_shuffled_filters() -> None:
    """Against the closed form with its filters' columns shuffled, over numpy's spectra."""
    windows = np.random.default_rng(0).normal(0, 0.1, (16, 2048)).astype(np.float32)
    powers = np.abs(np.fft.rfft(windows * np.hanning(2049)[:-1])) ** 2
    fin = fins.load("mel")
    permute_bins(fin, 3)
    order = torch.randperm(1025, generator=torch.Generator().manual_seed(3)).numpy()
    imitation = fin(torch.from_numpy(windows)).detach().numpy()
    np.testing.assert_allclose(imitation, powers @ mel_filters()[:, order].T, rtol=1e-3, atol=1e-3)
    assert np.abs(imitation - powers @ mel_filters().T).max() > 0.1
    with pytest.raises(ValueError, match="bins can be shuffled"):
        permute_bins(fins.load("pitch"), 0)


def test_multiply_adds_are_counted_layer_by_layer() -> None:
    spectrum = 2048 + 66 * 64 * 32 + 33 * 64 * 64 + 2 * 1056
    assert LearnedSpectrum().multiply_adds() == spectrum
    assert MfccFin().multiply_adds() == spectrum + 1056 * 128 + 128 * 20


def test_training_without_data_writes_a_whole_run(tmp_path: Path) -> None:
    train_fin(FinRunConfig("zcr", seed=3, out=tmp_path / "zcr"))
    names = {path.name for path in (tmp_path / "zcr").iterdir()}
    assert {"config.json", "result.json", "history.csv", "README.md", "weights.safetensors"} <= names
    assert {"stages.png", "learned.png", "true_against_imitated.png", "r2_per_output.png"} <= names
    result = json.loads((tmp_path / "zcr" / "result.json").read_text())
    assert [stage["name"] for stage in result["stages"]] == ["signs", "changes of sign", "mean of changes"]
    (row,) = result["r2"]
    assert row["corpus"] == "synthetic" and row["uniform"] > 0.999
    clips = synthetic_clips()
    again = score_clips(load_fin(tmp_path / "zcr"), FEATURES["zcr"], clips).result()
    assert row["uniform"] == pytest.approx(again.uniform, abs=1e-9)


def test_finetuning_on_a_store_keeps_what_it_can_not_better(small_store: Path, tmp_path: Path) -> None:
    config = FinRunConfig("rms", store=(small_store,), epochs=2, out=tmp_path / "run")
    train_fin(replace(config, learning_rate=0.5))  # which ruins it
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    test = next(row for row in result["r2"] if (row["corpus"], row["part"]) == ("made", "test"))
    assert test["uniform"] > 0.9999 and result["epochs"] == 2 and result["stages"]


def test_conditions_do_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    signal = 0.05 * rng.standard_normal(40_000).astype(np.float32)

    def degrade(name: str) -> NDArray:
        return CONDITIONS[name](signal, np.random.default_rng(1))

    def share_above(result: NDArray, hertz: float) -> float:
        power = np.abs(np.fft.rfft(result)) ** 2
        return float(power[np.fft.rfftfreq(len(result), 1 / SAMPLE_RATE) > hertz].sum() / power.sum())

    for name, snr in (("noise, 20 dB", 20), ("noise, 10 dB", 10), ("noise, 0 dB", 0)):
        noise = degrade(name) - signal
        assert 10 * np.log10(np.square(signal).sum() / np.square(noise).sum()) == pytest.approx(snr, abs=0.1)
    np.testing.assert_allclose(degrade("gain +20 dB"), 10 * signal, rtol=1e-6)
    np.testing.assert_allclose(degrade("gain -20 dB"), signal / 10, rtol=1e-6)
    assert np.abs(degrade("clipped at a fifth of the peak")).max() == pytest.approx(np.abs(signal).max() / 5)
    assert share_above(degrade("telephone band, 300 to 3400 Hz"), 3800) < 0.01
    assert share_above(degrade("telephone band, 300 to 3400 Hz"), 280) > 0.99
    assert share_above(degrade("made at 8 kHz"), 4_100) < 1e-4 < share_above(signal, 4_100)
    assert (
        share_above(degrade("made at 16 kHz"), 8_100) < 1e-4 < share_above(degrade("made at 16 kHz"), 7_000)
    )
    assert (degrade("digital silence for half of it") == 0).mean() == pytest.approx(0.5, abs=1e-3)
    for name in CONDITIONS:
        assert len(degrade(name)) == pytest.approx(len(signal), abs=2)
        np.testing.assert_array_equal(degrade(name), degrade(name))


OWN = """
import numpy as np

def spectral_centroid(windows):
    magnitude = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1])))
    total = magnitude.sum(axis=1)
    return magnitude @ np.fft.rfftfreq(2048, 1 / 22050) / np.where(total > 0, total, 1)

def three(windows):
    return windows[:, :3]

def standardised(windows):
    return windows.mean(axis=1) / windows.std()

def flat(windows):
    return windows.mean()

def broken(windows):
    raise KeyError("no")

def nan(windows):
    return np.log(windows[:, 0] * 0)

def in_place(windows):
    windows -= windows.mean(axis=1, keepdims=True)
    return windows[:, 0]

def log_energy(windows):
    return np.log(np.square(windows).mean(axis=1))

number = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_features.py").write_text(OWN)
    (tmp_path / "broken_module.py").write_text("x = y")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_features"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("own_features:missing", "can't be imported"),
        ("no_such_module:x", "can't be imported"),
        (":x", "can't be imported"),
        ("own_features:standardised", "another value when others are beside it"),
        ("own_features:flat", "one row a window"),
        ("own_features:broken", "failed: KeyError"),
        ("own_features:number", "failed: TypeError"),
        ("own_features:nan", "NaN"),
        ("own_features:log_energy", "NaN or infinity; give silence a number"),
        ("broken_module:x", "can't be imported: NameError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_function_that_is_no_feature_is_refused(own_module: str, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        get_feature(name)


def test_a_function_that_works_in_place_leaves_the_windows_alone(own_module: str) -> None:
    windows = np.random.default_rng(0).normal(0.1, 0.1, (3, 2048)).astype(np.float32)
    before = windows.copy()
    compute_feature(get_feature(f"{own_module}:in_place"), windows)
    np.testing.assert_array_equal(windows, before)


def test_a_features_own_closed_form_is_imitated(
    own_module: str, small_store: Path, other_store: Path, tmp_path: Path
) -> None:
    name = f"{own_module}:spectral_centroid"
    out = tmp_path / "run"
    train_fin(FinRunConfig(name, store=(small_store,), test_store=(other_store,), epochs=60, out=out))
    result = json.loads((out / "result.json").read_text())
    scores = {(row["corpus"], row["part"]): row["uniform"] for row in result["r2"]}
    assert scores["made", "test"] > 0.8 and result["feature"] == name
    fin = load_fin(out)
    windows = torch.from_numpy(np.ascontiguousarray(cut_windows(make_signal(3))))
    truth = compute_feature(get_feature(name), windows.numpy())
    assert fin(windows).shape == truth.shape == (len(windows), 1)
    assert get_feature(f"{own_module}:three").n_outputs == 3
    with pytest.raises(ValueError, match="give --store"):
        train_fin(FinRunConfig(name, out=tmp_path / "other"))
    with pytest.raises(ValueError, match="compact topology only"):
        train_fin(FinRunConfig(name, "paper", store=(small_store,), out=tmp_path / "other"))
