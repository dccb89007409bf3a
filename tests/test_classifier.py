"""Every model by one sweep: gradients, padding, length, saving, loading; and the parts of the classifier."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import get_args

import librosa
import numpy as np
import pytest
import torch
from conftest import make_signal
from safetensors.torch import load_file, save_file

import fins
from fins.audio import cut_windows, quantise
from fins.features import FEATURES, compute_features
from fins.networks import count_parameters
from fins.store import EMOTIONS, Recording, Utterance, write_store
from ser_heads.attention import mask_until
from ser_heads.augmentation import Augmentation
from ser_heads.base import UtteranceModel
from ser_heads.classifier import Classifier, Melody, Removed, Scaling, SpectrumStem
from ser_heads.data import Batch, UtteranceTable, count_frames, pad
from ser_heads.fin_branch import FinBranch
from ser_heads.models import ModelConfig, ModelName, Pretraining, build_model, load_model, save_model
from ser_heads.training import Feed, Options

SECOND = 22_050
CONFIGS = {
    **{name: ModelConfig(name) for name in get_args(ModelName)},
    "feature_cnn on FINs": ModelConfig("feature_cnn", fins=("zcr", "rms", "chroma")),
    "fin without a spectrum": ModelConfig("fin", fins=("rms", "chroma")),
    "fin, pruned": ModelConfig("fin", fins=("mfcc_pruned", "rms")),
    "fin on closed forms": ModelConfig("fin", pretraining="closed_form"),
    "fin of random FINs": ModelConfig("fin", fins=("mel", "rms"), pretraining="none"),
    "fin of shuffled bands": ModelConfig("fin", fins=("mel",), pretraining="permuted"),
    "wavelet, each band its own": ModelConfig("wavelet", depth=3, sharing="node", share_bands=False),
    "wavelet_packet_net, each band its own": ModelConfig(
        "wavelet_packet_net", wavelet="db10", depth=2, sharing="level", share_bands=False
    ),
}


FOLDER = tempfile.TemporaryDirectory()


@cache
def table_of(*signals: bytes) -> UtteranceTable:
    """A store of some int16 signals, of each emotion in turn."""
    path = Path(FOLDER.name) / f"{abs(hash(signals))}.h5"
    recordings = []
    for number, signal in enumerate(signals):
        row = Utterance(f"{number}", f"{number}.wav", "made", f"s{number}", EMOTIONS[number % 8], "1")
        recordings.append(Recording(row, np.frombuffer(signal, np.int16), f"sha{number}"))
    write_store(path, recordings)
    return UtteranceTable([path], trimmed=False)


def feed_of(model: UtteranceModel, *signals: np.ndarray) -> Feed:
    return Feed(model, table_of(*(quantise(signal)[0].tobytes() for signal in signals)))


def batch_of(model: UtteranceModel, *signals: np.ndarray) -> Batch:
    """Signals through a store, as training and evaluation bring them."""
    return feed_of(model, *signals).batch(range(len(signals)), [0] * len(signals))


def built(name: str, seed: int = 0) -> tuple[UtteranceModel, list[dict]]:
    """A model with random weights, or fitted to noise if it has no gradient."""
    torch.manual_seed(seed)
    model, headers = build_model(CONFIGS[name])
    if not model.by_gradient:
        feed = feed_of(model, *(make_signal(seed, 20_000) for seed in range(24)))
        model.fit(feed, {"train": np.arange(16), "validation": np.arange(16, 24)}, Options(copies=0))
    return model, headers


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = built(name)[0].train()
    # thresholds let next to nothing through at first; loud noise passes them
    signals = [
        0.3 * np.random.default_rng(i).standard_normal(SECOND + 3_000 * i).astype(np.float32)
        for i in range(4)
    ]
    logits, targets = model(batch_of(model, *signals))
    assert logits.shape == targets.shape == (4, 8)
    assert model.by_gradient == any(True for _ in model.parameters())
    if not model.by_gradient:
        return
    torch.nn.functional.cross_entropy(logits, targets).backward()
    without = [
        its
        for its, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not without


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name: str) -> None:
    model = built(name)[0].train()
    lengths = (2_205, 7_000, SECOND, 3 * SECOND, 777)
    signals = [make_signal(seed, length) for seed, length in enumerate(lengths)]
    for _ in range(3):  # running means and deviations that aren't 0 and 1
        model(batch_of(model, *signals))
    model.eval()
    with torch.no_grad():
        together = model(batch_of(model, *signals))[0]
        for place, signal in enumerate(signals):
            alone = model(batch_of(model, signal))[0]
            torch.testing.assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hertz", [80.0, 147.0, 233.0, 400.0])
def test_melody_is_the_pitch_of_what_is_voiced(hertz: float) -> None:
    time = np.arange(2 * SECOND) / SECOND
    glide = hertz * 2 ** (0.25 * (time > 1))  # three semitones up, halfway
    phase = 2 * np.pi * np.cumsum(glide) / SECOND
    voice = 0.05 * sum(np.sin(n * phase) / n for n in range(1, 9))
    noise = 0.05 * np.random.default_rng(0).standard_normal(SECOND)
    windows = cut_windows(np.concatenate([voice, noise]).astype(np.float32))
    likeness = torch.from_numpy(compute_features(windows, ["pitch"])["pitch"])[None]
    padded = torch.cat([likeness, torch.full((1, 7, 96), 0.9)], dim=1)
    mask = mask_until(torch.tensor([len(windows)]), padded.shape[1])
    voicing, semitones, above = (Melody()(padded, mask) * mask[..., None])[0].T
    first, second = semitones[5:35], semitones[50:80]
    expected = 12 * np.log2(hertz / 100)
    assert voicing[5:35].min() > 0.9 and (first - expected).abs().max() < 0.5
    assert (second - expected - 3).abs().max() < 0.5
    np.testing.assert_allclose(above[50:80].mean() - above[5:35].mean(), 3, atol=0.3)
    assert semitones[92:120].abs().max() < 0.3 and above[92:120].abs().max() < 0.3
    assert abs(float(above[:120].sum())) < 0.05 * float(above[:120].abs().sum()) + 1e-3
    torch.testing.assert_close(Melody()(likeness, mask[:, : len(windows)])[0].T[2], above[: len(windows)])


@pytest.mark.parametrize("n_imitated", range(6))
def test_each_feature_of_the_published_head_is_computed_or_imitated(n_imitated: int) -> None:
    torch.manual_seed(0)
    computed = build_model(ModelConfig("feature_cnn"))[0].eval()
    some = ModelConfig("feature_cnn", fins=tuple(FEATURES)[-n_imitated:] if n_imitated else ())
    imitated = build_model(some)[0].eval()
    imitated.load_state_dict(computed.state_dict(), strict=False)
    signals = [make_signal(0), make_signal(1, 5_000)]
    with torch.no_grad():
        first, second = (model(batch_of(model, *signals))[0] for model in (computed, imitated))
    # zcr and rms of the windows that the store would hold are within 1e-3 of what their FINs say
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in get_args(ModelName) if name != "fin_wavelet"])
def test_a_minute_is_no_problem(name: str) -> None:
    model = built(name)[0].eval()
    signals = [make_signal(0, 60 * SECOND), make_signal(1, SECOND // 10)]
    with torch.no_grad():
        together = model(batch_of(model, *signals))[0]
        alone = model(batch_of(model, signals[1]))[0]
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_silence_has_logits_and_gradients(name: str) -> None:
    model = built(name)[0].train()
    silence = np.zeros(5_000, np.float32)
    logits, _ = model(batch_of(model, silence, make_signal(0, 6_000), silence))
    assert logits.isfinite().all()
    if model.by_gradient:
        logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_model_says_the_same(name: str, tmp_path: Path) -> None:
    model, headers = built(name, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    path = tmp_path / "weights.safetensors"
    save_model(path, model.state_dict(), CONFIGS[name], headers, EMOTIONS[2:])
    loaded, config, emotions = load_model(path)
    assert config == CONFIGS[name] and emotions == EMOTIONS[2:]
    batch = batch_of(model, make_signal(0), make_signal(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch)[0], model.eval()(batch)[0], rtol=0, atol=0)


def test_frozen_fins_and_closed_forms_say_the_same_and_others_dont() -> None:
    frames = {}
    for pretraining in get_args(Pretraining):
        model, _ = build_model(ModelConfig("fin", fins=("mel",), pretraining=pretraining))
        assert isinstance(model, Classifier) and model.scaling is not None
        feed = feed_of(model, *(make_signal(seed, 40_000) for seed in range(4)))
        model.calibrate(feed, np.arange(4))
        batch = feed.batch(range(4), [0] * 4)
        with torch.no_grad():
            outputs = model.heard(batch)
            frames[pretraining] = model.scaling(outputs, mask_until(batch.n_frames, outputs.shape[1]))
    torch.testing.assert_close(frames["closed_form"], frames["imitation"], rtol=1e-3, atol=1e-3)
    for other in ("permuted", "none"):
        assert (frames[other] - frames["imitation"]).abs().mean() > 0.1


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are missing"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="no classifier of this version"):
        load_model(Path(fins.__file__).with_name("weights") / "rms.safetensors")
    model, headers = build_model(ModelConfig("feature_cnn"))
    path = tmp_path / "weights.safetensors"
    save_model(path, model.state_dict(), ModelConfig("feature_cnn"), headers, EMOTIONS)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    del tensors["norm.weight"]
    save_file(tensors, path, header)
    with pytest.raises(ValueError, match="no classifier of this version"):
        load_model(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("wavelet", fins=("rms",)), "takes no FINs"),
        (ModelConfig("fin", fins=()), "needs at least one FIN"),
        (ModelConfig("fin", fins=("mfcc", "mfcc_pruned")), "two FINs imitate mfcc"),
        (ModelConfig("fin", fins=("nowhere",)), "missing"),
        (ModelConfig("resnet"), "the known ones are fin, wavelet"),  # type: ignore[arg-type]
        (ModelConfig("wavelet", depth=11), "1 to 10"),
        (ModelConfig("fin", fins=("rms",), pretraining="permuted"), "bins can be shuffled"),
        (ModelConfig("fin", fins=("nothing",), pretraining="closed_form"), "there is no feature 'nothing'"),
        (ModelConfig("feature_cnn", pretraining="closed_form"), "has no FINs to be replaced"),
    ],
)
def test_models_that_cant_be(config: ModelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(config)


def test_sizes() -> None:
    for name in ("fin", "wavelet", "fin_wavelet"):
        assert count_parameters(built(name)[0]) < 1_000_000
    # by the layers of the publication: 162 averages, two pools of 8 leave 2 places of 64
    shapes = [(1, 256), (256, 256), (256, 128), (128, 128), (128, 128), (128, 128), (128, 64), (64, 64)]
    convolutions = sum(8 * n_in * n_out + n_out for n_in, n_out in shapes)
    norms = 2 * (162 + 256 + 128)
    assert count_parameters(built("feature_cnn")[0]) == convolutions + norms + (128 + 1) * 8


def frames_of(removed: Removed, *signals: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    branch = FinBranch({name: fins.load(name) for name in ("mel", "rms", "chroma")})
    n_samples = torch.tensor([len(signal) for signal in signals])
    with torch.no_grad():
        outputs = branch(pad(signals), n_samples)
        frames = Scaling(branch.slices, removed)(
            outputs, mask_until(count_frames(n_samples), outputs.shape[1])
        )
    return outputs, frames


def test_the_level_leaves_no_trace_in_the_frames_and_else_they_are_decibels() -> None:
    signal = np.random.default_rng(0).standard_normal(2 * SECOND).astype(np.float32) / 10
    outputs, frames = frames_of("level", signal, 0.2 * signal)
    torch.testing.assert_close(frames[0], frames[1], atol=2e-3, rtol=0)
    decibel = librosa.power_to_db(outputs[0, :, :128].numpy(), amin=1e-10, top_db=None)
    np.testing.assert_allclose(frames[0, :, :128].numpy(), decibel - decibel.mean(), atol=1e-3)
    rms = librosa.amplitude_to_db(outputs[0, :, 128].numpy(), amin=1e-5, top_db=None)
    np.testing.assert_allclose(frames[0, :, 128].numpy(), rms - rms.mean(), atol=1e-3)
    torch.testing.assert_close(frames[0, :, 129:], outputs[0, :, 129:])


def test_the_channel_leaves_no_trace_and_nothing_leaves_all() -> None:
    rng = np.random.default_rng(0)
    short, long = (rng.standard_normal(n).astype(np.float32) / 10 for n in (SECOND, 2 * SECOND))
    _, frames = frames_of("channel", short, long)
    torch.testing.assert_close(frames[1].mean(dim=0), torch.zeros(141), atol=1e-3, rtol=0)
    assert (frames[0, 40:] == 0).all()
    torch.testing.assert_close(frames[0, :40].mean(dim=0), torch.zeros(141), atol=1e-3, rtol=0)
    _, other = frames_of("nothing", short, 0.1 * short)
    torch.testing.assert_close(
        other[0, :, :129] - other[1, :, :129], torch.full((40, 129), 20.0), atol=1e-2, rtol=0
    )
    with pytest.raises(ValueError, match="level, channel, nothing"):
        Scaling({"rms": slice(0, 1)}, "all")  # type: ignore[arg-type]


def test_the_stem_hears_a_shifted_spectrum_as_a_shifted_one() -> None:
    torch.manual_seed(0)
    stem = SpectrumStem(64, (4, 5, 6), 0.0).eval()
    spectrum = torch.zeros(1, 20, 64)
    spectrum[..., 16:32] = torch.randn(1, 20, 16)
    shifted = spectrum.roll(8, dims=2)  # one step of the last layer
    mask = torch.ones(1, 10, dtype=torch.bool)
    with torch.no_grad():
        one, other = (stem(its, mask).unflatten(1, (6, 8)) for its in (spectrum, shifted))
    torch.testing.assert_close(one[:, :, 1:5], other[:, :, 2:6])


def test_a_mix_is_between_two_utterances_and_its_targets_say_so() -> None:
    model = built("fin")[0].eval()
    batch = batch_of(model, make_signal(0), make_signal(1), make_signal(2))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        _, targets = model(batch, Augmentation(mixup=0.3), generator)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    assert ((targets > 0).sum(dim=1) <= 2).all()
    with torch.no_grad():
        plain, _ = model(batch)
        same, _ = model(
            batch, Augmentation(stretch=1.0, noisy=0.0, contrast=1.0, n_masks=0, mixup=0.0), generator
        )
    torch.testing.assert_close(plain, same, atol=1e-5, rtol=1e-5)
