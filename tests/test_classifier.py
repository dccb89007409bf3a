"""Every model by one sweep over MODELS, of plain waveforms: gradients, padding, length, silence, saving,
loading, exporting; and the parts of this package's own classifiers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import librosa
import numpy as np
import pytest
import torch
from conftest import make_signal
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import fins
from fins.audio import SAMPLE_RATE, cut_windows
from fins.features import STORED, compute_features
from fins.networks import count_parameters
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.fins import FinFrontEnd, Pretraining, closed_forms
from ser_heads.frontends.waveform import Trim, count_frames
from ser_heads.layers.frame_norm import FrameNorm, Removed, VoicingAndPitch
from ser_heads.layers.masked import mask_until
from ser_heads.layers.temporal_head import Branch, SpectrumStem
from ser_heads.model import SerModel
from ser_heads.models import MODELS, create, list_models, load, save_model
from ser_heads.training.recipe import Recipe

LABELS = ("bored", "stressed", "relaxed")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in MODELS},
    "feature_cnn on FINs": ("feature_cnn", {"fins": ("mel", "rms", "zcr", "chroma", "mfcc")}),
    "feature_cnn on some FINs": ("feature_cnn", {"fins": ("chroma", "zcr", "pitch")}),
    "fin without a spectrum": ("fin", {"fins": ("rms", "chroma")}),
    "fin, pruned": ("fin", {"fins": ("mfcc_pruned", "rms")}),
    "fin on closed forms": ("fin", {"pretraining": "closed_form"}),
    "fin of random FINs": ("fin", {"fins": ("mel", "rms"), "pretraining": "none"}),
    "fin of shuffled bands": ("fin", {"fins": ("mel",), "pretraining": "permuted"}),
    "wavelet, equal bands": ("wavelet", {"tree": ("equal",), "depth": 3, "sharing": "node"}),
    "fin_wavelet, any tree": ("fin_wavelet", {"fins": ("rms",), "tree": ("d", "ad", "aaa", "aad")}),
}
EXPORTED = {"fin", "fin_wavelet", "wavelet", "raw_cnn", "cnn_transformer"}
BY_GRADIENT = [name for name, (model, _) in CASES.items() if MODELS[model].fit is None]


def made(name: str, seed: int = 0) -> SerModel:
    torch.manual_seed(seed)
    model, options = CASES[name]
    return create(model, LABELS, **options)


def batch_of(*signals: NDArray[np.float32] | Tensor) -> tuple[Tensor, Tensor]:
    """Signals side by side, and their lengths."""
    rows = [torch.as_tensor(signal) for signal in signals]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def loud(seed: int, n: int) -> NDArray[np.float32]:
    """Noise that passes thresholds, which let next to nothing through at first."""
    return 0.3 * np.random.default_rng(seed).standard_normal(n).astype(np.float32)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = made(name).train()
    if (branch := getattr(model.head, "branch", None)) is not None:  # which is joined by zeros at first
        torch.nn.init.normal_(branch.join.weight)
    logits = model(*batch_of(*(loud(seed, 12_000 + 3_000 * seed) for seed in range(4))))
    assert logits.shape == (4, len(LABELS))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not without
    assert count_parameters(model) == model.n_parameters()


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing(name: str) -> None:
    model = made(name).train()
    lengths = (2_205, 7_000, SAMPLE_RATE, 3 * SAMPLE_RATE, 777)
    signals = [make_signal(seed, length) for seed, length in enumerate(lengths)]
    waveform, n_samples = batch_of(*signals)
    with torch.no_grad():
        for _ in range(3):  # running means and deviations that aren't 0 and 1
            model(waveform, n_samples)
        model.eval()
        longer = torch.nn.functional.pad(waveform, (0, 5_000))
        together = model(longer, n_samples)
        for place, signal in enumerate(signals):
            alone = model(torch.from_numpy(signal)[None])
            torch.testing.assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "fin_wavelet"])
def test_a_long_recording_is_no_problem(name: str) -> None:
    model = made(name).eval()
    signals = [make_signal(0, 20 * SAMPLE_RATE), make_signal(1, SAMPLE_RATE // 10)]
    with torch.no_grad():
        together = model(*batch_of(*signals))
        alone = model(*batch_of(signals[1]))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_silence_has_logits_and_gradients(name: str) -> None:
    model = made(name).train()
    silence = np.zeros(5_000, np.float32)
    logits = model(*batch_of(silence, make_signal(0, 6_000), silence))
    assert logits.isfinite().all()
    if logits.requires_grad:
        logits.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_gives_the_same(name: str, tmp_path: Path) -> None:
    model = made(name, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
        model.temperature.fill_(1.5)
        model.abstention.fill_(0.4)
    save_model(tmp_path / "weights.safetensors", model, card={"about": "a test"})
    loaded = load(tmp_path)  # as a run's folder
    assert not loaded.training and loaded.layout == model.layout
    assert (loaded.name, loaded.options, loaded.labels) == (model.name, model.options, LABELS)
    assert model.state_dict().keys() == loaded.state_dict().keys()
    batch = batch_of(make_signal(0), make_signal(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded(*batch), model.eval()(*batch), rtol=0, atol=0)
    assert (float(loaded.temperature), float(loaded.abstention)) == pytest.approx((1.5, 0.4))
    save_model(tmp_path / "again.safetensors", loaded)  # what it was made of isn't lost
    assert load(tmp_path / "again.safetensors").options == model.options
    older = {key: tensor for key, tensor in loaded.state_dict().items() if key != "abstention"}
    save_model(tmp_path / "older.safetensors", loaded, older)
    assert float(load(tmp_path / "older.safetensors").abstention) == 0


@pytest.mark.parametrize("name", CASES)
def test_the_layout_is_that_of_the_frames(name: str) -> None:
    """Noise goes into powers, and what is masked or stretched lies among the columns that the head takes."""
    model = made(name).eval()
    with torch.no_grad():
        frames = model.frontend(*model.trim(*batch_of(loud(0, 30_000), loud(1, 9_000))))
        normal = model.norm(frames)
    layout, n_columns = model.layout, normal.values.shape[2]
    assert frames.values.shape[2] == model.frontend.n_columns
    assert frames.values.dtype == torch.float32 and frames.lengths.dtype == torch.int64
    assert int(frames.lengths.min()) >= 1 and int(frames.lengths.max()) <= frames.values.shape[1]
    there = mask_until(frames.lengths, frames.values.shape[1])
    assert (normal.values[~there] == layout.fill).all()
    for columns in (*layout.levels, *layout.spectra):
        assert 0 <= columns.start <= columns.stop <= n_columns
    for columns in layout.powers:
        assert columns.stop <= frames.values.shape[2] and (frames.values[..., columns] >= 0).all()
    if layout.n_frames is not None:
        assert normal.values.shape[1] == layout.n_frames


def test_the_layout_of_this_packages_own() -> None:
    """mel, rms, zcr, pitch: 226 columns, 133 after the norm; then four times 42 of the wavelet packet."""
    layout = made("fin").layout
    assert layout.powers == layout.spectra == (slice(0, 128),)
    assert layout.levels == (slice(0, 128), slice(128, 129))
    joined, slots = made("fin_wavelet").layout, [slice(start, start + 42) for start in range(0, 168, 42)]
    assert joined.powers == (*layout.powers, *(slice(226 + s.start, 226 + s.stop) for s in slots))
    assert joined.spectra == (*layout.spectra, *(slice(133 + s.start, 133 + s.stop) for s in slots))
    assert joined.levels == (*layout.levels, slice(133, 301))
    assert made("fin without a spectrum").layout.powers == ()
    alone = made("wavelet").layout
    assert alone.powers == alone.spectra == tuple(slots) and alone.levels == (slice(0, 168),)


def test_with_the_same_seed_fin_wavelet_starts_as_fin() -> None:
    batch = batch_of(*(loud(seed, 20_000 + 9_000 * seed) for seed in range(3)))
    fin, both = made("fin").eval(), made("fin_wavelet").eval()
    weights = both.state_dict()
    for name, tensor in fin.head.state_dict().items():
        assert torch.equal(weights[f"head.{name}"], tensor), name
    with torch.no_grad():
        assert torch.equal(fin(*batch), both(*batch))
        torch.nn.init.normal_(both.head.branch.join.weight)
        assert not torch.allclose(fin(*batch), both(*batch), atol=1e-2)


def test_in_training_the_branch_is_left_out_of_a_share_of_the_recordings() -> None:
    branch = Branch(slice(3, 27), 2, n_channels=5, dropout=0.25)
    torch.nn.init.normal_(branch.join.weight)
    frames, mask = torch.randn(400, 6, 30), torch.ones(400, 3, dtype=torch.bool)
    added = branch(frames, mask)
    left_out = (added == 0).all(dim=2).all(dim=1)
    assert 0.18 < left_out.float().mean() < 0.32 and (added[~left_out] != 0).any(dim=2).all()
    branch.eval()
    before = branch(frames, mask)
    assert (before != 0).any(dim=2).any(dim=1).all()
    others = frames.clone()
    others[..., [*range(3), *range(27, 30)]] += 1
    torch.testing.assert_close(branch(others, mask), before, rtol=0, atol=0)


def test_entries() -> None:
    assert list_models().keys() == MODELS.keys()
    for name, entry in MODELS.items():
        assert entry.name == name and entry.about == list_models()[name] and entry.source
        assert isinstance(entry.recipe, Recipe) and entry.options() == entry.options()
        assert create(name, ["no", "yes"]).labels == ("no", "yes")


def test_torch_is_imported_when_a_model_is_asked_for() -> None:
    code = "import sys, ser_heads; assert 'torch' not in sys.modules; ser_heads.list_models(); "
    code += "assert 'torch' in sys.modules; print(*dir(ser_heads))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"create", "load", "list_models"} <= set(result.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        import ser_heads

        ser_heads.nothing  # noqa: B018


def test_a_model_that_cant_be_exported_says_why() -> None:
    reasons = {name: create(name, LABELS).frontend.why_not_exported for name in MODELS}
    assert {name for name, why in reasons.items() if not why} == EXPORTED
    assert all(len(why.split()) > 3 for why in reasons.values() if why)


@pytest.mark.parametrize("n_imitated", range(6))
def test_each_feature_of_the_published_head_is_computed_or_imitated(n_imitated: int) -> None:
    torch.manual_seed(0)
    computed = create("feature_cnn", LABELS).eval()
    some = create("feature_cnn", LABELS, fins=STORED[::-1][:n_imitated]).eval()
    some.head.load_state_dict(computed.head.state_dict())
    with torch.no_grad():
        first, second = (
            model(*batch_of(make_signal(0), make_signal(1, 5_000))) for model in (computed, some)
        )
    # zcr and rms are within 1e-3 of what their FINs give
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
    parts = some.frontend.parts
    assert [part.keep for part in parts] == [True] * len(parts)
    assert len(list(some.frontend.pretrained())) == len(list(some.frontend.parameters()))
    assert sum(part.learns() for part in parts) == (n_imitated > 0)


def test_frozen_fins_and_closed_forms_give_the_same_and_others_dont() -> None:
    batches = [batch_of(make_signal(seed, 40_000)) for seed in range(4)]
    frames = {}
    for pretraining in get_args(Pretraining):
        model = create("fin", LABELS, fins=("mel",), pretraining=pretraining)
        with torch.no_grad():
            outputs = [model.frontend(*model.trim(*batch)) for batch in batches]
            model.norm.calibrate(outputs)
            frames[pretraining] = torch.cat([model.norm(each).values for each in outputs], dim=1)
    torch.testing.assert_close(frames["closed_form"], frames["imitation"], rtol=1e-3, atol=1e-3)
    for other in ("permuted", "none"):
        assert (frames[other] - frames["imitation"]).abs().mean() > 0.1


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no classifier .*none"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="no classifier of this version"):
        load(Path(fins.__file__).with_name("weights") / "rms.safetensors")
    path = tmp_path / "weights.safetensors"
    save_model(path, create("feature_cnn", LABELS))
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["header"])
    del header["sha256"]  # as of a file that another program has written
    tensors = load_file(path)
    save_file(tensors, path, {"header": '{"config": {"model": "fin"}, "fins": [], "emotions": ["sad"]}'})
    with pytest.raises(ValueError, match=r"version 0\.1, whose classifiers .*: make it again by"):
        load(tmp_path)
    del tensors["head.norm.weight"]
    save_file(tensors, path, {"header": json.dumps(header)})
    with pytest.raises(ValueError, match="no classifier of this version"):
        load(path)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(ValueError, match="truncated"):
        load(path)


@dataclass(frozen=True)
class Wrong:
    model: str
    message: str
    options: dict[str, Any] = field(default_factory=dict)
    labels: Any = LABELS


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("fin", "needs at least one FIN", {"fins": ()}),
        Wrong("fin", "two FINs imitate mfcc", {"fins": ("mfcc", "mfcc_pruned")}),
        Wrong("fin", "two FINs imitate mel", {"fins": ("mel", "mel"), "pretraining": "closed_form"}),
        Wrong("fin", "there is no FIN nowhere", {"fins": ("nowhere",)}),
        Wrong("fin", "bins can be shuffled", {"fins": ("rms",), "pretraining": "permuted"}),
        Wrong("fin", "no feature 'nothing'", {"fins": ("nothing",), "pretraining": "closed_form"}),
        Wrong("fin", "--pretraining is one of imitation", {"pretraining": "all"}),
        Wrong("fin_wavelet", "--removed is one of level", {"removed": "all"}),
        Wrong("fin", "fin has no option depth: its own are fins, pretraining, removed", {"depth": 3}),
        Wrong("wavelet", "wavelet has no option fins: its own are wavelet, tree", {"fins": ("rms",)}),
        Wrong("wavelet", "--depth is 1 to 7, got 8", {"depth": 8}),
        Wrong("wavelet", "is 1 to 7", {"tree": ("aaaaaaaa", "aaaaaaad", *("a" * n + "d" for n in range(7)))}),
        Wrong("wavelet", "best is chosen by the training recordings", {"tree": ("best",)}),
        Wrong("fin_wavelet", "--tree is mel, equal, best, or leaves", {"tree": ("bark",)}),
        Wrong("fin_wavelet", "aren't all leaves of a tree", {"tree": ("aa", "d")}),
        Wrong("fin_wavelet", "knows no discrete wavelet", {"wavelet": "sin"}),
        Wrong("feature_cnn", "--pretraining is one of imitation", {"pretraining": "closed_form"}),
        Wrong("resnet", "the known ones are fin, wavelet"),
        Wrong("fin", "two labels or more", labels=["one"]),
        Wrong("fin", "two labels or more", labels=["one", "one"]),
        Wrong("fin", "a list of words", labels="angry"),
        Wrong("fin", "labels are words, got 1", labels=[1, 0]),
        Wrong("fin", "labels are words, got ' '", labels=["sad", " "]),
    ],
    ids=lambda wrong: f"{wrong.model}: {wrong.message}",
)
def test_models_that_cant_be(wrong: Wrong) -> None:
    with pytest.raises(ValueError, match=wrong.message):
        create(wrong.model, wrong.labels, **wrong.options)


@pytest.mark.parametrize(
    ("waveform", "lengths", "message"),
    [
        (torch.zeros(30), None, r"the shape \(batch, n_samples\)"),
        (torch.zeros(2, 0), None, r"the shape \(batch, n_samples\)"),
        (torch.zeros(2, 30), [30], r"lengths have the shape \(2,\)"),
        (torch.zeros(2, 30), [30, 0], "1 to 30 samples here, got 0 to 30"),
        (torch.zeros(2, 30), [31, 2], "1 to 30 samples here, got 2 to 31"),
    ],
)
def test_waveforms_that_cant_be(waveform: Tensor, lengths: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("fin without a spectrum")(waveform, None if lengths is None else torch.tensor(lengths))


def test_sizes() -> None:
    for name in ("fin", "wavelet", "fin_wavelet"):
        assert count_parameters(made(name)) < 1_000_000
    # by the layers of the publication: 162 averages, two pools of 8 leave 2 places of 64
    shapes = [(1, 256), (256, 256), (256, 128), (128, 128), (128, 128), (128, 128), (128, 64), (64, 64)]
    convolutions = sum(8 * n_in * n_out + n_out for n_in, n_out in shapes)
    norms = 2 * (162 + 256 + 128)
    assert count_parameters(made("feature_cnn")) == convolutions + norms + (128 + 1) * len(LABELS)


@pytest.mark.parametrize("seed", range(6))
def test_the_trim_is_that_of_each_recording_by_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    signals = []
    for n in rng.integers(1, 30_000, size=6):
        signal = make_signal(seed, int(n)) + 1e-5 * rng.standard_normal(n)
        edge = int(n) // 4
        signal[:edge] *= 10 ** rng.uniform(-3, 0)
        signal[-edge:] *= 10 ** rng.uniform(-3, 0)
        signals.append((signal + rng.choice([0, 1e-4, 0.1])).astype(np.float32))
    signals.append(np.zeros(5_000, np.float32))
    trimmed, lengths = Trim()(*batch_of(*signals))
    assert trimmed.shape[1] == lengths.max()
    for row, n, signal in zip(trimmed.numpy(), lengths.tolist(), signals, strict=True):
        mean = signal.mean(dtype=np.float64)
        centred = signal - mean if abs(mean) > 0.05 * signal.std(dtype=np.float64) else signal
        whole = np.pad(centred, (0, max(0, 2_048 - len(signal))))
        energy = np.square(cut_windows(whole.astype(np.float32)).astype(np.float64)).sum(axis=1)
        loud_enough = np.flatnonzero(
            10 * np.log10(energy + 1e-300) >= 10 * np.log10(energy.max() + 1e-300) - 45
        )
        first, last = loud_enough[0] * 512, loud_enough[-1] * 512 + 2_048
        expected = whole[first:last] if len(signal) > 2_048 else whole
        np.testing.assert_allclose(row[:n], expected, atol=1e-6)
        assert not row[n:].any()


def test_without_a_trim_recordings_are_a_window_long_at_least() -> None:
    waveform, lengths = batch_of(make_signal(0, 1_000), make_signal(1, 1_500))
    same, n = Trim(quiet=None)(waveform, lengths)
    assert same.shape == (2, 2_048) and n.tolist() == [2_048, 2_048]
    torch.testing.assert_close(same[:, :1_500], waveform, rtol=0, atol=0)


@pytest.mark.parametrize("hertz", [80.0, 147.0, 233.0, 400.0])
def test_pitch_is_that_of_what_is_voiced(hertz: float) -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    glide = hertz * 2 ** (0.25 * (time > 1))  # three semitones up, halfway
    phase = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE
    voice = 0.05 * sum(np.sin(n * phase) / n for n in range(1, 9))
    noise = 0.05 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    windows = cut_windows(np.concatenate([voice, noise]).astype(np.float32))
    likeness = torch.from_numpy(compute_features(windows, ["pitch"])["pitch"])[None]
    padded = torch.cat([likeness, torch.full((1, 7, 96), 0.9)], dim=1)
    mask = mask_until(torch.tensor([len(windows)]), padded.shape[1])
    voicing, semitones, above = (VoicingAndPitch()(padded, mask) * mask[..., None])[0].T
    first, second = semitones[5:35], semitones[50:80]
    expected = 12 * np.log2(hertz / 100)
    assert voicing[5:35].min() > 0.9 and (first - expected).abs().max() < 0.5
    assert (second - expected - 3).abs().max() < 0.5
    np.testing.assert_allclose(above[50:80].mean() - above[5:35].mean(), 3, atol=0.3)
    assert semitones[92:120].abs().max() < 0.3 and above[92:120].abs().max() < 0.3
    assert abs(float(above[:120].sum())) < 0.05 * float(above[:120].abs().sum()) + 1e-3
    alone = VoicingAndPitch()(likeness, mask[:, : len(windows)])[0].T[2]
    torch.testing.assert_close(alone, above[: len(windows)])


def frames_of(removed: Removed, *signals: np.ndarray) -> tuple[Tensor, Tensor]:
    frontend = FinFrontEnd({name: fins.load(name) for name in ("mel", "rms", "chroma")})
    with torch.no_grad():
        frames = frontend(*batch_of(*signals))
        return frames.values, FrameNorm(frontend.slices, removed)(frames).values


def test_the_level_leaves_no_trace_in_the_frames_and_else_they_are_decibels() -> None:
    signal = np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32) / 10
    outputs, frames = frames_of("level", signal, 0.2 * signal)
    torch.testing.assert_close(frames[0], frames[1], atol=2e-3, rtol=0)
    decibel = librosa.power_to_db(outputs[0, :, :128].numpy(), amin=1e-10, top_db=None)
    np.testing.assert_allclose(frames[0, :, :128].numpy(), decibel - decibel.mean(), atol=1e-3)
    rms = librosa.amplitude_to_db(outputs[0, :, 128].numpy(), amin=1e-5, top_db=None)
    np.testing.assert_allclose(frames[0, :, 128].numpy(), rms - rms.mean(), atol=1e-3)
    torch.testing.assert_close(frames[0, :, 129:], outputs[0, :, 129:])


def test_the_channel_leaves_no_trace_and_nothing_leaves_all() -> None:
    rng = np.random.default_rng(0)
    short, long = (rng.standard_normal(n).astype(np.float32) / 10 for n in (SAMPLE_RATE, 2 * SAMPLE_RATE))
    _, frames = frames_of("channel", short, long)
    torch.testing.assert_close(frames[1].mean(dim=0), torch.zeros(141), atol=1e-3, rtol=0)
    assert (frames[0, 40:] == 0).all()
    torch.testing.assert_close(frames[0, :40].mean(dim=0), torch.zeros(141), atol=1e-3, rtol=0)
    _, other = frames_of("nothing", short, 0.1 * short)
    torch.testing.assert_close(
        other[0, :, :129] - other[1, :, :129], torch.full((40, 129), 20.0), atol=1e-2, rtol=0
    )
    with pytest.raises(ValueError, match="level, channel, nothing"):
        FrameNorm({"rms": slice(0, 1)}, "all")  # type: ignore[arg-type]


def test_scales_are_the_mean_and_deviation_of_all_frames() -> None:
    frontend = FinFrontEnd(closed_forms(["rms", "zcr"]))
    waveform, lengths = batch_of(*(make_signal(seed, 9_000 + 3_000 * seed) for seed in range(5)))
    frames = frontend(waveform, lengths)
    rows = [values[:n] for values, n in zip(frames.values, frames.lengths.tolist(), strict=True)]
    decibels = [20 * np.log10(np.maximum(row[:, 0].double().numpy(), 1e-5)) for row in rows]
    columns = [np.concatenate([each - each.mean() for each in decibels])]
    columns.append(np.concatenate([(row[:, 1] - row[:, 1].mean()).numpy() for row in rows]))

    def one_at_a_time() -> Iterator[FrameBatch]:
        for row in rows:
            yield FrameBatch(row[None], torch.tensor([len(row)]))

    together, single = FrameNorm(frontend.slices), FrameNorm(frontend.slices)
    together.calibrate([frames])
    single.calibrate(one_at_a_time())
    for norm in (together, single):
        np.testing.assert_allclose(norm.mean, [column.mean() for column in columns], atol=1e-5)
        np.testing.assert_allclose(norm.deviation, [column.std() for column in columns], rtol=1e-4)
    torch.testing.assert_close(together.mean, single.mean, rtol=0, atol=0)
    constant = FrameNorm({"zcr": slice(0, 1)}, "nothing")
    constant.calibrate([FrameBatch(torch.full((1, 9, 1), 0.5), torch.tensor([9]))])
    assert (float(constant.mean), float(constant.deviation)) == (0.5, 1.0)
    with pytest.raises(ValueError, match="at least one recording"):
        constant.calibrate([])


def test_a_stem_of_planes_is_one_of_channels() -> None:
    stem = SpectrumStem(12, (4,), 0.0, n_planes=3).eval()
    planes, mask = torch.randn(2, 3, 10, 12), torch.ones(2, 5, dtype=torch.bool)  # (batch, plane, time, band)
    expected = torch.nn.functional.conv2d(
        planes.transpose(2, 3), stem.convolutions[0].weight, stride=2, padding=2
    )
    flat = planes.transpose(1, 2).flatten(2)
    torch.testing.assert_close(
        stem(flat, mask), torch.relu(expected / (1 + 1e-5) ** 0.5).flatten(1, 2), atol=1e-5, rtol=1e-5
    )


def test_the_stem_gives_for_a_shifted_spectrum_what_it_gives_shifted() -> None:
    torch.manual_seed(0)
    stem = SpectrumStem(64, (4, 5, 6), 0.0).eval()
    spectrum = torch.zeros(1, 20, 64)
    spectrum[..., 16:32] = torch.randn(1, 20, 16)
    shifted = spectrum.roll(8, dims=2)  # one step of the last layer
    mask = torch.ones(1, 10, dtype=torch.bool)
    with torch.no_grad():
        one, other = (stem(each, mask).unflatten(1, (6, 8)) for each in (spectrum, shifted))
    torch.testing.assert_close(one[:, :, 1:5], other[:, :, 2:6])


def test_frames_are_counted_as_windows_are() -> None:
    lengths = torch.tensor([1, 2_047, 2_048, 2_559, 2_560, 30_000])
    assert count_frames(lengths).tolist() == [1, 1, 1, 1, 2, 55]
