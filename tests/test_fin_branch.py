"""FINs over whole utterances against the stored closed forms, and frozen outputs kept beside a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import make_recordings

import fins
from fins.audio import cut_windows
from fins.features import compute_features
from fins.store import write_store
from ser_heads.augmentation import perturb
from ser_heads.data import UtteranceTable, count_frames, pad
from ser_heads.fin_branch import ClosedForm, FinBranch, FrozenOutputs
from ser_heads.kept import KEPT_FILES


def branch_of(*names: str) -> FinBranch:
    return FinBranch({name: fins.load(name) for name in names})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "made.h5"
    write_store(path, make_recordings(8), {"identity": "first"})
    return path


def test_outputs_are_the_closed_forms_of_every_window(small_store: Path) -> None:
    table = UtteranceTable([small_store], trimmed=False)
    names = ("rms", "mel", "zcr", "chroma", "mfcc")
    branch = branch_of(*names)
    chosen = [0, 3, 4]
    signals = [table.signal(row) for row in chosen]
    n_samples = torch.tensor([len(signal) for signal in signals])
    assert len(set(n_samples.tolist())) > 1
    with torch.no_grad():
        outputs = branch(pad(signals), n_samples)
    for place, row in enumerate(chosen):
        truth = table.stored_features(row, names)
        n = len(truth)
        assert count_frames(n_samples)[place] == n
        assert (outputs[place, n:] == 0).all()
        for its in branch.slices.values():
            scale = np.abs(truth[:, its]).max()
            # a soft sign can't tell a sample of 1e-9 from zero: one crossing in 2047 is 5e-4
            np.testing.assert_allclose(outputs[place, :n, its].numpy(), truth[:, its], atol=1e-3 * scale)


def test_frozen_fins_get_no_gradient_and_unfrozen_ones_do() -> None:
    branch = branch_of("rms", "mel")
    signal, n_samples = torch.randn(2, 4_096) / 10, torch.tensor([4_096, 3_000])
    branch.freeze()
    assert not branch(signal, n_samples).requires_grad
    branch.unfreeze()
    branch(signal, n_samples).sum().backward()
    assert all(parameter.grad is not None for parameter in branch.parameters())


def test_a_branch_needs_a_fin() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FinBranch({})


def test_frozen_outputs_are_those_of_the_copies(store: Path) -> None:
    table, branch = UtteranceTable([store]), branch_of("rms", "zcr")
    outputs = FrozenOutputs(branch, table, n_copies=2)
    for copy in range(3):
        signal = perturb(table.signal(5), table.names[5], copy)
        with torch.no_grad():
            expected = branch(torch.from_numpy(signal)[None], torch.tensor([len(signal)]))[0]
        np.testing.assert_allclose(outputs(5, copy), expected.numpy(), atol=1e-6)


def test_frozen_outputs_are_computed_once(store: Path) -> None:
    done: list[int] = []
    for _ in range(2):
        FrozenOutputs(branch_of("rms"), UtteranceTable([store]), 1, done.append).close()
    assert sum(done) == 8
    (kept,) = store.parent.glob("made.frozen-*.h5")
    assert kept.is_file() and not list(store.parent.glob("*.partial"))


@pytest.mark.parametrize("damage", ["values", "truncated", "rows", "no file"])
def test_damaged_outputs_are_computed_again(store: Path, damage: str) -> None:
    def compute(done: list[int]) -> np.ndarray:
        outputs = FrozenOutputs(branch_of("rms"), UtteranceTable([store]), 1, done.append)
        values = outputs(0, 1)
        outputs.close()
        return values

    truth = compute([])
    (kept,) = store.parent.glob("made.frozen-*.h5")
    if damage == "truncated":
        kept.write_bytes(kept.read_bytes()[:1_000])
    elif damage == "no file":
        kept.write_text("nothing")
    else:
        with h5py.File(kept, "r+") as file:
            if damage == "values":
                file["outputs"][:] = 0
            else:
                first = file["first"][:]
                del file["first"]
                file["first"] = first[:-3]
    done: list[int] = []
    np.testing.assert_array_equal(compute(done), truth)
    assert sum(done) == 8


def test_a_column_of_small_values_is_looked_into_beside_large_ones(store: Path) -> None:
    def compute() -> int:
        done: list[int] = []
        FrozenOutputs(branch_of("mel", "rms", "zcr"), UtteranceTable([store]), 0, done.append).close()
        return sum(done)

    assert (compute(), compute()) == (8, 0)
    (kept,) = store.parent.glob("made.frozen-*.h5")
    for column in (128, 129):
        with h5py.File(kept, "r+") as file:
            file["outputs"][:, column] *= 1.02
        assert (compute(), compute()) == (8, 0)


def test_other_weights_stores_copies_and_trimming_have_their_own_file(store: Path) -> None:
    def compute(branch: FinBranch, copies: int = 1, trimmed: bool = True) -> int:
        done: list[int] = []
        FrozenOutputs(branch, UtteranceTable([store], trimmed), copies, done.append).close()
        return sum(done)

    branch = branch_of("rms")
    assert compute(branch) == 8
    assert compute(branch, copies=2) == 8
    assert compute(branch, trimmed=False) == 8
    with torch.no_grad():
        branch.fins["rms"].weights[3] += 0.1  # type: ignore[index, operator]
    assert compute(branch) == 8
    assert compute(branch_of("rms")) == 0  # the first one still stands
    write_store(store, make_recordings(8), {"identity": "second"})
    assert compute(branch_of("rms")) == 8


def test_files_unused_for_longest_are_evicted(store: Path) -> None:
    for copies in range(KEPT_FILES + 2):
        FrozenOutputs(branch_of("rms"), UtteranceTable([store]), copies).close()
        for age, path in enumerate(sorted(store.parent.glob("made.frozen-*"), key=os.path.getmtime)):
            os.utime(path, (1_000 * copies + age, 1_000 * copies + age))
    assert len(list(store.parent.glob("made.frozen-*"))) == KEPT_FILES
    done: list[int] = []
    FrozenOutputs(branch_of("rms"), UtteranceTable([store]), KEPT_FILES + 1, done.append).close()
    assert not done


def test_a_folder_that_cant_be_written_to_is_said(store: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    folder = tmp_path / "locked"
    folder.mkdir()
    shutil.copy(store, folder)
    folder.chmod(0o555)
    with pytest.raises(ValueError, match="nothing can be written"):
        FrozenOutputs(branch_of("rms"), UtteranceTable([folder / store.name]), 0)


def test_closed_forms_in_the_places_of_fins_are_kept_apart_and_learn_nothing(small_store: Path) -> None:
    """Computed once, as librosa and the definitions have them; of other features under another key."""
    branch = FinBranch({name: ClosedForm(name) for name in ("mel", "pitch")})
    assert branch.n_outputs == 224 and not list(branch.parameters())
    digests = [FinBranch({name: ClosedForm(name)}).digest() for name in ("mel", "chroma", "pitch")]
    assert len({*digests, branch.digest()}) == 4
    kept = FrozenOutputs(branch, UtteranceTable([small_store]), 0)
    windows = cut_windows(UtteranceTable([small_store]).signal(5))
    computed = compute_features(windows, ["mel", "pitch"])
    np.testing.assert_array_equal(kept(5, 0), np.concatenate(list(computed.values()), axis=1))
    kept.close()
    with pytest.raises(ValueError, match="there is no feature 'loudness'"):
        ClosedForm("loudness")
