"""Utterance tables, batches, trimming, and augmentation of signals and frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_recordings, make_signal

from fins.audio import HOP, WINDOW
from fins.store import Recording, write_store
from ser_heads.attention import mask_until
from ser_heads.augmentation import Augmentation, perturb
from ser_heads.data import UtteranceTable, centre, count_frames, length_batches, pad, random_batches, trim


def tone(n: int, hertz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(n) / 22_050)).astype(np.float32)


def test_a_table_joins_stores_in_their_order(small_store: Path, other_store: Path) -> None:
    table = UtteranceTable([small_store, other_store], trimmed=False)
    assert len(table) == 64 + 16
    assert table.names[64] == "other/other-000"
    assert table.speakers[0] == "made/s0"
    np.testing.assert_array_equal(table.signal(64), table.stores[1].signal(0).astype(np.float32) / 32_768)
    features = table.stored_features(64, ("rms", "mel"))
    np.testing.assert_array_equal(features[:, :1], table.stores[1].labels("rms", 0, len(features)))
    assert features.shape[1] == 129


def test_trim_cuts_quiet_ends_on_the_grid_and_nothing_within() -> None:
    speech = tone(20 * HOP)
    signal = np.concatenate([np.zeros(30 * HOP), speech, np.zeros(9 * HOP), speech, np.zeros(25 * HOP)])
    trimmed = trim(signal.astype(np.float32))
    # a window is heard if any of it is: three hops before the first sample, and the window of the last one
    first = 30 * HOP - WINDOW + HOP
    last = (30 + 20 + 9 + 20 - 1) * HOP + WINDOW
    np.testing.assert_array_equal(trimmed, signal[first:last].astype(np.float32))


def test_trim_leaves_what_is_45_db_down_out_and_less_in() -> None:
    loud, quiet = tone(10 * WINDOW), 10 ** (-44 / 20) * tone(10 * WINDOW)
    assert len(trim(np.concatenate([quiet, loud]))) == 20 * WINDOW
    assert len(trim(np.concatenate([quiet / 1.5, loud]))) < 12 * WINDOW


def test_an_offset_is_taken_away_if_it_is_worth_it(tmp_path: Path) -> None:
    speech = np.concatenate([np.zeros(30 * HOP), 0.2 * tone(40 * HOP), np.zeros(30 * HOP)])
    recordings = make_recordings(2)
    for place, offset in enumerate((0.05, 0.001)):
        signal = ((speech + offset) * 32_768).round().astype(np.int16)
        recordings[place] = Recording(recordings[place].utterance, signal, f"sha{place}")
    write_store(tmp_path / "offset.h5", recordings)
    with_offset, nearly_none = (UtteranceTable([tmp_path / "offset.h5"]).signal(place) for place in (0, 1))
    assert abs(with_offset.mean()) < 2e-3 and len(with_offset) < 50 * HOP
    stored = recordings[1].signal.astype(np.float32) / 32_768
    np.testing.assert_array_equal(nearly_none, trim(stored))
    untouched = UtteranceTable([tmp_path / "offset.h5"], trimmed=False).signal(0)
    assert untouched.mean() == pytest.approx(0.05, abs=1e-3)
    assert not centre(np.zeros(10, np.float32)).any()


def test_trim_of_silence_and_of_a_short_signal() -> None:
    assert len(trim(np.zeros(5 * WINDOW, np.float32))) == 5 * WINDOW
    padded = trim(np.ones(100, np.float32))
    assert len(padded) == WINDOW and padded.sum() == 100


def test_copies_depend_on_name_and_number_alone() -> None:
    signal = make_signal(1)
    np.testing.assert_array_equal(perturb(signal, "a/1", 0), signal)
    first = perturb(signal, "a/1", 1)
    np.testing.assert_array_equal(first, perturb(signal, "a/1", 1))
    assert len(first) != len(perturb(signal, "a/1", 2)) or len(first) != len(perturb(signal, "a/2", 1))
    assert first.dtype == np.float32 and np.abs(first).max() <= 1


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
    padding = sum(len(its) * lengths[its].max() for its in sorted_batches) / lengths.sum() - 1
    assert padding < 0.06
    assert max(len(its) * lengths[its].max() for its in sorted_batches) <= 2_000_000
    assert [len(its) for its in length_batches(np.array([5, 90, 7]), 8, 20)] == [2, 1]
    shuffled = random_batches(515, 32, np.random.default_rng(1))
    for batches in (sorted_batches, shuffled):
        assert sorted(np.concatenate(batches)) == list(range(515))
        assert max(map(len, batches)) <= 32
    assert min(map(len, shuffled)) >= 30  # no leftover of one, of which batch norm could learn nothing
    assert sorted(map(len, random_batches(31, 2, np.random.default_rng(1)))) == [2] * 14 + [3]
    again, other = (random_batches(515, 32, np.random.default_rng(seed)) for seed in (1, 2))
    assert all((one == its).all() for one, its in zip(shuffled, again, strict=True))
    assert any((one != its).any() for one, its in zip(shuffled, other, strict=True))


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
    stretched, wanted = Augmentation(stretch=1.3).stretched(frames, n_frames, generator)
    assert wanted[3] == 1 and (wanted != n_frames).any()
    for row in range(6):
        n, m = int(n_frames[row]), int(wanted[row])
        assert n / 1.3 - 1 <= m <= n * 1.3
        at = np.linspace(0, n - 1, m) if m > 1 else np.zeros(1)
        for column in range(4):
            expected = np.interp(at, np.arange(n), frames[row, :n, column].numpy())
            np.testing.assert_allclose(stretched[row, :m, column].numpy(), expected, atol=1e-5)


def test_noise_is_steady_coloured_and_at_its_level() -> None:
    rng = torch.Generator().manual_seed(0)
    powers = torch.rand(300, 6, 16, generator=rng).square() * torch.logspace(-9, 2, 300)[:, None, None]
    n_frames = torch.randint(2, 7, (300,), generator=rng)
    mask = mask_until(n_frames, 6)
    powers = powers * mask[..., None]
    louder = Augmentation(noisy=0.5, noise=(-30.0, -20.0)).with_noise(powers, mask, rng)
    added = (louder.double() - powers.double()).numpy()
    assert (added[~mask.numpy()] == 0).all()
    noisy = added[:, 0].max(axis=1) > 0
    assert 0.4 < noisy.mean() < 0.6 and (added[~noisy] == 0).all()
    for row in np.flatnonzero(noisy):
        its = powers[row, : n_frames[row]].numpy()
        noise = added[row, : n_frames[row]]
        np.testing.assert_allclose(noise, np.broadcast_to(noise[:1], noise.shape), atol=1e-6 * its.max())
        assert -30.1 < 10 * np.log10(noise.mean() / its.mean()) < -19.9
    ends = 10 * np.log10(added[noisy, 0, -1] / added[noisy, 0, 0])
    assert -40.5 < ends.min() < -35 and 35 < ends.max() < 40.5


def test_contrast_moves_levels_together_and_nothing_else() -> None:
    frames = torch.randn(400, 5, 7, generator=torch.Generator().manual_seed(0))
    levels = [slice(0, 3), slice(5, 6)]
    changed = Augmentation(contrast=1.5).contrasted(frames, levels, torch.Generator().manual_seed(1))
    factors = (changed / frames).numpy()
    np.testing.assert_allclose(factors[..., [3, 4, 6]], 1)
    its = factors[:, :1, :1]
    np.testing.assert_allclose(factors[..., [0, 1, 2, 5]], np.broadcast_to(its, (400, 5, 4)), rtol=1e-5)
    assert 1 / 1.5 <= its.min() < 0.68 and 1.48 < its.max() <= 1.5
    assert abs(np.log(its).mean()) < 0.03  # as often up as down


def test_masks_are_runs_within_their_limits() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.ones(40, 60, 10 + 64)
    n_frames = torch.full((40,), 60)
    masked = Augmentation(n_masks=1, masked_bands=12, masked_time=0.2).masked(
        frames, n_frames, slice(10, 74), generator
    )
    time = (masked[..., :10] == 0).all(dim=2)
    assert ((masked[..., :10] == 0).any(dim=2) == time).all()  # all plain features of a frame or none
    assert time.sum(dim=1).max() <= 12 and time.any()
    band = (masked[..., 10:] == 0).all(dim=1)
    assert 1 <= band.sum(dim=1).max() <= 12
    for row in torch.cat([time.int(), band[:, :60].int()]):
        assert (row.diff() == 1).sum() <= 1  # one run


def test_mixing_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [Augmentation(mixup=0.3).shares(8, generator) for _ in range(300)]
    shares = np.array([share for share, _ in drawn])
    assert shares.min() >= 0 and shares.max() <= 1
    # variance of a beta distribution with both parameters a is 1 / (4 (2 a + 1))
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * 1.6), rel=0.15)
    assert all(sorted(order.tolist()) == list(range(8)) for _, order in drawn)
    assert Augmentation(mixup=0).shares(8, generator)[0] == 1
