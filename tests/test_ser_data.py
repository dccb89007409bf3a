"""Datasets, perturbed copies, batches, kept frames, and augmentation of frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_recordings, make_signal

from data_manifests.labels import EMOTIONS
from fins.audio import HOP, WINDOW
from fins.data.store import write_store
from fins.data.table import UtteranceTable
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.waveform import count_frames
from ser_heads.layers.masked import mask_until
from ser_heads.model import FrameLayout, SerModel
from ser_heads.models import create
from ser_heads.training.augmentation import (
    add_noise,
    augment_outputs,
    change_contrast,
    draw_mixture,
    mask_runs,
    stretch,
)
from ser_heads.training.cache import KEPT_FOLDERS, StoreCache, copied_signal
from ser_heads.training.copies import PACE, SEMITONES, WHITE, change_apart
from ser_heads.training.datasets import StoreDataset, pad, perturb
from ser_heads.training.recipe import Augmentation
from ser_heads.training.sources import FrameSource, length_batches, random_batches


def tone(n: int, hertz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(n) / 22_050)).astype(np.float32)


def test_copies_depend_on_name_and_number_alone() -> None:
    signal = make_signal(1)
    np.testing.assert_array_equal(perturb(signal, "a/1", 0), signal)
    first = perturb(signal, "a/1", 1)
    np.testing.assert_array_equal(first, perturb(signal, "a/1", 1))
    assert len(first) != len(perturb(signal, "a/1", 2)) or len(first) != len(perturb(signal, "a/2", 1))
    assert first.dtype == np.float32 and np.abs(first).max() <= 1


def hertz_of(signal: np.ndarray) -> float:
    """Of the strongest sinusoid."""
    middle = signal[len(signal) // 4 : -len(signal) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return spectrum.argmax() * 22_050 / (1 << 18)


def test_copies_apart_change_one_thing_each() -> None:
    signal = tone(44_100)
    np.testing.assert_array_equal(change_apart(signal, "a/1", 0), signal)
    for first in (0, 5, 10):
        noisy, pitched, paced, all_of_them = (
            change_apart(signal, "a/1", first + way) for way in (1, 2, 3, 5)
        )
        noise = noisy - signal
        deviation = noise.std()
        assert 0 < deviation <= WHITE * 0.5 * 1.02 and abs(noise.mean()) < 4 * deviation / 210
        power = np.abs(np.fft.rfft(noise)[1:-2]) ** 2
        assert power[:11_000].mean() == pytest.approx(power[11_000:].mean(), rel=0.1)  # white
        semitones = 12 * np.log2(hertz_of(pitched) / 440)
        assert len(pitched) == len(signal) and 0.02 < abs(semitones) <= SEMITONES + 0.05
        assert hertz_of(paced) == pytest.approx(440, abs=2) and 1 / PACE <= len(paced) / 44_100 <= PACE
        assert len(paced) != len(signal)
        assert len(all_of_them) != len(signal) and abs(hertz_of(all_of_them) - 440) > 0.5
    ramp = np.arange(3_000, dtype=np.float32)
    again = change_apart(ramp, "a/1", 4)
    start = int(again[0])
    assert start > 0 and np.array_equal(again, np.concatenate([ramp[start:], ramp[:start]]))
    np.testing.assert_array_equal(again, change_apart(ramp, "a/1", 4))
    assert not np.array_equal(again, change_apart(ramp, "a/2", 4))
    for way in range(1, 6):
        assert change_apart(np.zeros(3_000, np.float32), "a/1", way).dtype == np.float32


def test_a_dataset_says_how_its_copies_are_made(store: Path) -> None:
    model = model_of("rms")
    with UtteranceTable([store]) as table:
        cache = StoreCache()
        for copying, change in (("voices", perturb), ("apart", change_apart)):
            dataset = StoreDataset(table, np.arange(8), EMOTIONS, copying)
            source = FrameSource(model, dataset, cache, copies=4)
            trimmed, lengths = model.trim(torch.from_numpy(table.signal(5))[None])
            expected = change(trimmed[0, : int(lengths[0])].numpy(), "made/made-005", 4)
            with torch.no_grad():
                frames = model.frontend(torch.from_numpy(expected)[None], torch.tensor([len(expected)]))
            kept, _ = source.batch([5], [4])
            np.testing.assert_allclose(kept.values[0].numpy(), frames.values[0].numpy(), atol=1e-6)
        cache.close()


def test_a_copy_changes_pitch_with_length() -> None:
    signal = tone(22_050)
    for copy in range(1, 6):
        changed = perturb(signal, "a/1", copy)
        factor = len(changed) / len(signal)
        assert 1 / 1.21 < factor < 1.21
        spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed))))
        hertz = spectrum.argmax() * 22_050 / len(changed)
        assert hertz == pytest.approx(440 / factor, abs=2)


def test_batches_hold_every_utterance_once() -> None:
    lengths = np.random.default_rng(0).integers(1_000, 90_000, 515)
    sorted_batches = length_batches(lengths, 32, 2_000_000)
    padding = sum(len(batch) * lengths[batch].max() for batch in sorted_batches) / lengths.sum() - 1
    assert padding < 0.06
    assert max(len(batch) * lengths[batch].max() for batch in sorted_batches) <= 2_000_000
    assert [len(batch) for batch in length_batches(np.array([5, 90, 7]), 8, 20)] == [2, 1]
    shuffled = random_batches(515, 32, np.random.default_rng(1))
    for batches in (sorted_batches, shuffled):
        assert sorted(np.concatenate(batches)) == list(range(515))
        assert max(map(len, batches)) <= 32
    assert min(map(len, shuffled)) >= 30  # no leftover of one, of which batch norm could learn nothing
    assert sorted(map(len, random_batches(31, 2, np.random.default_rng(1)))) == [2] * 14 + [3]
    again, other = (random_batches(515, 32, np.random.default_rng(seed)) for seed in (1, 2))
    assert all((one == two).all() for one, two in zip(shuffled, again, strict=True))
    assert any((one != two).any() for one, two in zip(shuffled, other, strict=True))


def test_pad_adds_zeros_at_the_end() -> None:
    rows = [np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]
    padded = pad(rows)
    assert padded.shape == (2, 4, 3)
    assert padded.sum(dim=(1, 2)).tolist() == [6, 12]
    assert (padded[0, 2:] == 0).all()


def test_frames_are_counted_as_windows_are() -> None:
    n_samples = torch.tensor([1, WINDOW, WINDOW + HOP - 1, WINDOW + HOP, 60 * 22_050])
    expected = [1, 1, 1, 2, 1 + (60 * 22_050 - WINDOW) // HOP]
    assert count_frames(n_samples).tolist() == expected
    assert mask_until(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True] * 3]


def test_stretch_is_linear_interpolation() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(6, 50, 4)
    n_frames = torch.tensor([50, 40, 3, 1, 20, 50])
    stretched, wanted = stretch(frames, n_frames, 1.3, generator)
    assert wanted[3] == 1 and (wanted != n_frames).any()
    for row in range(6):
        n, m = int(n_frames[row]), int(wanted[row])
        assert n / 1.3 - 1 <= m <= n * 1.3
        at = np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
        for column in range(4):
            expected = np.interp(at, np.arange(n), frames[row, :n, column].numpy())
            np.testing.assert_allclose(stretched[row, :m, column].numpy(), expected, atol=5e-5)


def test_noise_is_steady_coloured_and_at_its_level() -> None:
    rng = torch.Generator().manual_seed(0)
    powers = torch.rand(300, 6, 16, generator=rng).square() * torch.logspace(-9, 2, 300)[:, None, None]
    n_frames = torch.randint(2, 7, (300,), generator=rng)
    mask = mask_until(n_frames, 6)
    powers = powers * mask[..., None]
    draws = torch.rand(3, 300, 1, 1, generator=rng)
    louder = add_noise(powers, mask, Augmentation(noisy=0.5, noise=(-30.0, -20.0)), draws)
    added = (louder.double() - powers.double()).numpy()
    assert (added[~mask.numpy()] == 0).all()
    noisy = added[:, 0].max(axis=1) > 0
    assert 0.4 < noisy.mean() < 0.6 and (added[~noisy] == 0).all()
    for row in np.flatnonzero(noisy):
        own = powers[row, : n_frames[row]].numpy()
        noise = added[row, : n_frames[row]]
        np.testing.assert_allclose(noise, np.broadcast_to(noise[:1], noise.shape), atol=1e-6 * own.max())
        assert -30.1 < 10 * np.log10(noise.mean() / own.mean()) < -19.9
    ends = 10 * np.log10(added[noisy, 0, -1] / added[noisy, 0, 0])
    assert -40.5 < ends.min() < -35 and 35 < ends.max() < 40.5


def test_contrast_moves_levels_together_and_nothing_else() -> None:
    frames = torch.randn(400, 5, 7, generator=torch.Generator().manual_seed(0))
    levels = [slice(0, 3), slice(5, 6)]
    changed = change_contrast(frames, levels, 1.5, torch.Generator().manual_seed(1))
    factors = (changed / frames).numpy()
    np.testing.assert_allclose(factors[..., [3, 4, 6]], 1)
    drawn = factors[:, :1, :1]
    np.testing.assert_allclose(factors[..., [0, 1, 2, 5]], np.broadcast_to(drawn, (400, 5, 4)), rtol=1e-5)
    assert 1 / 1.5 <= drawn.min() < 0.68 and 1.48 < drawn.max() <= 1.5
    assert abs(np.log(drawn).mean()) < 0.03  # as often up as down


def test_masks_are_runs_within_their_limits() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.ones(40, 60, 10 + 64)
    n_frames = torch.full((40,), 60)
    options = Augmentation(n_masks=1, masked_bands=12, masked_time=0.2)
    masked = mask_runs(frames, n_frames, [slice(10, 74)], options, generator)
    time = (masked[..., :10] == 0).all(dim=2)
    assert ((masked[..., :10] == 0).any(dim=2) == time).all()  # all plain features of a frame or none
    assert time.sum(dim=1).max() <= 12 and time.any()
    band = (masked[..., 10:] == 0).all(dim=1)
    assert 1 <= band.sum(dim=1).max() <= 12
    for row in torch.cat([time.int(), band[:, :60].int()]):
        assert (row.diff() == 1).sum() <= 1  # one run


def test_all_spectra_of_a_recording_are_masked_and_made_noisy_alike() -> None:
    spectra = (slice(0, 64), slice(70, 102), slice(102, 134))
    options = Augmentation(n_masks=1, masked_bands=64, noisy=1.0, noise=(0.0, 0.0))
    frames = torch.rand(40, 60, 140) + 0.1
    frames[..., spectra[2]] = frames[..., spectra[1]]
    n_frames = torch.full((40,), 60)
    masked = mask_runs(frames, n_frames, spectra, options, torch.Generator().manual_seed(0))
    hidden = [(masked[..., bands] == 0).all(dim=1) for bands in spectra]
    assert hidden[0].sum(dim=1).max() > 10
    assert torch.equal(hidden[1], hidden[2])
    assert (hidden[0].unflatten(1, (32, 2)).float().mean(dim=2) - hidden[1].float()).abs().sum(
        dim=1
    ).max() <= 2
    plain = ((masked == 0).any(dim=1))[:, [*range(64, 70), *range(134, 140)]]
    time = (masked == 0).all(dim=2).any(dim=1)
    assert torch.equal(plain, time[:, None].expand(-1, 12))  # but for runs of time nothing beside spectra
    layout = FrameLayout(powers=spectra)
    batch = FrameBatch(frames, n_frames)
    noisy = augment_outputs(batch, layout, options, torch.Generator().manual_seed(1)).values
    added = noisy - frames
    torch.testing.assert_close(added[..., spectra[1]], added[..., spectra[2]])
    slopes = [(added[:, 0, bands.stop - 1] / added[:, 0, bands.start]).log() for bands in spectra]
    torch.testing.assert_close(slopes[0], slopes[1], atol=0.02, rtol=0.02)
    assert not added[..., 64:70].any() and added[..., :64].amin() > 0


def test_mixing_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_mixture(8, 0.3, generator) for _ in range(300)]
    shares = np.array([share for share, _ in drawn])
    assert shares.min() >= 0 and shares.max() <= 1
    # variance of a beta distribution with both parameters a is 1 / (4 (2 a + 1))
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * 1.6), rel=0.15)
    assert all(sorted(order.tolist()) == list(range(8)) for _, order in drawn)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "made.h5"
    write_store(path, make_recordings(8), {"identity": "first"})
    return path


def model_of(*features: str) -> SerModel:
    model = create("fin", EMOTIONS, fins=features)
    model.frontend.requires_grad_(False)
    return model


class Counting:
    """A watch that counts what is made."""

    def __init__(self) -> None:
        self.n = 0

    def note(self, text: str) -> None:
        """Nothing."""

    def bar(self, total: int | None, unit: str, what: str = "") -> Counting:
        return self

    def update(self, n: int = 1) -> None:
        self.n += n

    def describe(self, text: str) -> None:
        """Nothing."""

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""


def made(store: Path, model: SerModel, copies: int = 1, rows: range = range(8)) -> tuple[int, np.ndarray]:
    """How many frames of recordings are made, and those of the first one's last copy."""
    watch = Counting()
    with UtteranceTable([store]) as table:
        cache = StoreCache(watch)
        dataset = StoreDataset(table, np.array(rows), EMOTIONS)
        source = FrameSource(model, dataset, cache, copies=copies)
        frames = source.batch([0], [copies])[0].values[0].numpy()
        cache.close()
    return watch.n, frames


def test_a_store_s_dataset_says_what_the_table_says(small_store: Path, other_store: Path) -> None:
    with UtteranceTable([small_store, other_store]) as table:
        dataset = StoreDataset(table, np.array([3, 64, 70]), EMOTIONS)
        assert len(dataset) == 3 and dataset.names == ["made/made-003", "other/other-000", "other/other-006"]
        assert dataset.groups == ["made", "other", "other"] and dataset.targets.tolist() == [3, 0, 6]
        signal, place = dataset[1]
        np.testing.assert_array_equal(signal, table.stores[1].signal(0).astype(np.float32) / 32_768)
        assert place == 0 and dataset.lengths[1] == len(signal)
        with pytest.raises(ValueError, match="calm is none of the labels angry, sad"):
            StoreDataset(table, np.array([0, 1]), ("angry", "sad"))


def test_kept_frames_are_those_of_the_copies(store: Path) -> None:
    model = model_of("rms", "zcr")
    with UtteranceTable([store]) as table:
        dataset = StoreDataset(table, np.arange(8), EMOTIONS)
        source = FrameSource(model, dataset, StoreCache(), copies=2)
        for copy in range(3):
            signal = copied_signal(model.trim, dataset, 5, dataset.names[5], copy)
            trimmed, lengths = model.trim(torch.from_numpy(table.signal(5))[None])
            expected = perturb(trimmed[0, : int(lengths[0])].numpy(), "made/made-005", copy)
            np.testing.assert_array_equal(signal[: len(expected)], expected)
            with torch.no_grad():
                frames = model.frontend(torch.from_numpy(signal)[None], torch.tensor([len(signal)]))
            kept, _ = source.batch([5], [copy])
            np.testing.assert_allclose(kept.values[0].numpy(), frames.values[0].numpy(), atol=1e-6)


def test_frames_are_made_once_and_only_what_is_missing(store: Path) -> None:
    model = model_of("rms")
    assert made(store, model, rows=range(4))[0] == 4 * 2
    assert made(store, model, rows=range(4))[0] == 0
    # of others what they lack: recordings that never train have no copies
    assert made(store, model, copies=0)[0] == 4
    assert made(store, model)[0] == 4
    assert made(store, model, copies=2)[0] == 8
    (folder,) = store.parent.glob("made.frames-*")
    assert folder.is_dir() and not list(folder.glob("*.partial"))


@pytest.mark.parametrize("damage", ["values", "truncated", "index", "no file"])
def test_damaged_frames_are_made_again(store: Path, damage: str) -> None:
    model = model_of("rms")
    _, truth = made(store, model)
    (segment,) = store.parent.glob("made.frames-*/*.h5")
    if damage == "truncated":
        segment.write_bytes(segment.read_bytes()[:1_000])
    elif damage == "no file":
        segment.write_text("nothing")
    else:
        with h5py.File(segment, "r+") as file:
            if damage == "values":
                file["frames"][:] = 0
            else:
                index = file["index"][:]
                index[-1, 3] += 1_000
                file["index"][:] = index
    n, again = made(store, model)
    np.testing.assert_array_equal(again, truth)
    assert n == 16


def test_a_column_of_small_values_is_looked_into_beside_large_ones(store: Path) -> None:
    model = model_of("mel", "rms", "zcr")
    assert (made(store, model)[0], made(store, model)[0]) == (16, 0)
    for column in (128, 129):
        (segment,) = store.parent.glob("made.frames-*/*.h5")
        with h5py.File(segment, "r+") as file:
            file["frames"][:, column] *= 1.02
        assert (made(store, model)[0], made(store, model)[0]) == (16, 0)


def test_other_weights_stores_and_trimming_have_their_own_frames(store: Path) -> None:
    model = model_of("rms")
    assert made(store, model)[0] == 16
    other = model_of("rms")
    with torch.no_grad():
        next(other.frontend.parameters()).mul_(1.01)
    assert made(store, other)[0] == 16 and made(store, model)[0] == 0
    whole = model_of("rms")
    whole.trim.quiet = None
    assert made(store, whole)[0] == 16
    write_store(store, make_recordings(8), {"identity": "second"})
    assert made(store, model)[0] == 16


def test_what_is_unused_for_longest_goes_first(store: Path) -> None:
    models = []
    for factor in range(KEPT_FOLDERS + 2):
        model = model_of("rms")
        with torch.no_grad():
            next(model.frontend.parameters()).mul_(1 + factor / 100)
        models.append(model)
        made(store, model)
        for age, folder in enumerate(sorted(store.parent.glob("made.frames-*"), key=os.path.getmtime)):
            os.utime(folder, (age, age))
    assert len(list(store.parent.glob("made.frames-*"))) == KEPT_FOLDERS
    assert made(store, models[-1])[0] == 0 and made(store, models[0])[0] == 16


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser writes anywhere")
def test_a_place_where_nothing_can_be_kept_is_named(store: Path) -> None:
    store.parent.chmod(0o500)
    try:
        with pytest.raises(ValueError, match="link the store into a folder of yours"):
            made(store, model_of("rms"))
    finally:
        store.parent.chmod(0o700)


def test_a_copied_store_takes_its_frames_along_only_with_their_folder(store: Path, tmp_path: Path) -> None:
    model = model_of("rms")
    made(store, model)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(store, other / "made.h5")
    assert made(other / "made.h5", model)[0] == 16
