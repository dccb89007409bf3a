"""A stack of FINs over whole utterances, and what frozen ones make of them kept beside the store."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from fins.audio import HOP, WINDOW, cut_windows
from fins.features import Floats
from fins.fourier import BandWeights, PrunedBandWeights
from fins.networks import Fin
from ser_heads.attention import mask_until
from ser_heads.augmentation import PERTURBATION
from ser_heads.data import QUIET, UtteranceTable, count_frames

CHECKED = 3  # utterances that are computed again before kept outputs are trusted
TOLERANCE = 1e-3  # of the largest output of an utterance
KEPT_FILES = 4  # beside a store, of other FINs or other copies
ABANDONED = 3600.0  # seconds after which an unfinished file isn't being written any more


class FinBranch(nn.Module):
    """(batch, n_samples) → (batch, time, n_outputs): every FIN on every window, in the features' own units.

    fins : name of the feature → FIN; `slices` says which outputs are whose
    """

    def __init__(self, fins: Mapping[str, Fin]) -> None:
        super().__init__()
        if not fins:
            raise ValueError("a FIN branch has at least one FIN")
        self.fins = nn.ModuleDict(fins)
        self.slices: dict[str, slice] = {}
        start = 0
        for name, fin in fins.items():
            with torch.no_grad():
                n_outputs = fin(torch.zeros(1, WINDOW)).shape[1]
            self.slices[name] = slice(start, start + n_outputs)
            start += n_outputs
        self.n_outputs = start

    def forward(self, signal: Tensor, n_samples: Tensor) -> Tensor:
        """signal : padded with zeros, n_samples (batch,) of each at least one window; windows that are
        padding alone aren't computed, and their outputs are 0."""
        n_frames = count_frames(n_samples)
        windows = signal.unfold(1, WINDOW, HOP)  # (batch, time, 2048), a view
        there = mask_until(n_frames, windows.shape[1])
        outputs = self.imitate(windows[there])
        padded = outputs.new_zeros(*there.shape, self.n_outputs)
        padded[there] = outputs
        return padded

    def imitate(self, windows: Tensor) -> Tensor:
        """(n, 2048) → (n, n_outputs), always in float32: half of its digits would drown quiet bands."""
        with torch.autocast(windows.device.type, enabled=False):
            return torch.cat([fin(windows) for fin in self.fins.values()], dim=1)

    def freeze(self) -> None:
        """From now on the FINs don't learn."""
        self.requires_grad_(False)

    def unfreeze(self) -> None:
        self.requires_grad_(True)

    def hold(self) -> None:
        """After a step: an energy stays a sum of powers, whose weights are at or above 0."""
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, BandWeights | PrunedBandWeights):
                    module.weights.clamp_min_(0)

    def digest(self) -> str:
        """Of the features and all weights: equal for equal branches only."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class FrozenOutputs:
    """What frozen FINs make of each utterance of a table and of its perturbed copies, from files beside the
    stores: computed once, and again whenever the weights, the store or the way of the copies are others.

    progress : called with the number of utterances done since the last call
    """

    def __init__(
        self,
        branch: FinBranch,
        table: UtteranceTable,
        n_copies: int,
        progress: Callable[[int], object] = lambda n: None,
    ) -> None:
        self.table, self.n_copies = table, n_copies
        self.files = []
        for number in range(len(table.stores)):
            path = self._path(branch, number)
            if not self._holds(path, branch, number):
                self._write(path, branch, number, progress)
                evict(table.stores[number].path, path)
            self.files.append(h5py.File(path, "r"))
        self._first = [file["first"][:] for file in self.files]

    def __call__(self, utterance: int, copy: int) -> Floats:
        """(n_windows, n_outputs) float32."""
        number = self.table.store[utterance]
        place = self.table.row[utterance] * (self.n_copies + 1) + copy
        first = self._first[number]
        return self.files[number]["outputs"][first[place] : first[place + 1]]

    def close(self) -> None:
        for file in self.files:
            file.close()

    def _path(self, branch: FinBranch, number: int) -> Path:
        store = self.table.stores[number]
        versions = {name: its for name, its in store.file.attrs.items() if name.startswith("version_")}
        copies = (self.n_copies, PERTURBATION, version("soxr"), self.table.trimmed, QUIET)
        known = f"{branch.digest()} {self.table.fact(number)} {versions} {copies}"
        key = hashlib.sha256(known.encode()).hexdigest()[:12]
        return store.path.with_name(f"{store.path.stem}.frozen-{key}.h5")

    def _rows(self, number: int) -> Iterator[int]:
        return map(int, np.flatnonzero(self.table.store == number))

    def _imitate(self, branch: FinBranch, utterance: int, copy: int) -> Floats:
        windows = np.ascontiguousarray(cut_windows(self.table.copy(utterance, copy)))
        with torch.no_grad():
            return branch.imitate(torch.from_numpy(windows)).numpy()

    def _holds(self, path: Path, branch: FinBranch, number: int) -> bool:
        """Whether a file is whole and a few of its utterances come out the same now."""
        if not path.is_file():
            return False
        rows = list(self._rows(number))
        n_made = self.n_copies + 1
        try:
            with h5py.File(path, "r") as file:
                first, outputs = file["first"][:], file["outputs"]
                if len(first) != len(rows) * n_made + 1 or first[-1] != len(outputs):
                    return False
                for place in range(0, len(rows), max(1, len(rows) // CHECKED)):
                    for copy in range(n_made):
                        kept = outputs[slice(*first[place * n_made + copy :][:2])]
                        again = self._imitate(branch, rows[place], copy)
                        if not (kept.shape == again.shape and _close(kept, again)):
                            return False
        except (OSError, KeyError, RuntimeError):
            return False
        with contextlib.suppress(OSError):  # of another user
            os.utime(path)  # used now: others are evicted before it
        return True

    def _write(self, path: Path, branch: FinBranch, number: int, progress: Callable[[int], object]) -> None:
        if not os.access(path.parent, os.W_OK):
            raise ValueError(
                f"what frozen FINs make of {self.table.stores[number].path} is kept beside it, where nothing "
                "can be written: link the store into a folder of yours"
            )
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        branch.eval()
        first = [0]
        try:
            with h5py.File(partial, "w") as file:
                outputs = file.create_dataset(
                    "outputs",
                    (0, branch.n_outputs),
                    "f4",
                    maxshape=(None, branch.n_outputs),
                    chunks=(128, branch.n_outputs),
                )
                for utterance in self._rows(number):
                    made = [self._imitate(branch, utterance, copy) for copy in range(self.n_copies + 1)]
                    outputs.resize(first[-1] + sum(map(len, made)), 0)
                    outputs[first[-1] :] = np.concatenate(made)
                    for block in made:
                        first.append(first[-1] + len(block))
                    progress(1)
                file["first"] = np.array(first, np.int64)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _close(kept: Floats, again: Floats) -> bool:
    return bool(np.abs(kept - again).max() <= TOLERANCE * np.abs(again).max())


def evict(store: Path, newest: Path) -> None:
    """Of the kept outputs beside a store, remove those unused for longest, and what killed runs left."""
    ages = {}
    for path in store.parent.glob(f"{glob.escape(store.stem)}.frozen-*"):
        with contextlib.suppress(FileNotFoundError):  # another run may evict too
            ages[path] = path.stat().st_mtime
    left = [path for path, age in ages.items() if path.suffix == ".partial" and age < time.time() - ABANDONED]
    others = sorted((path for path in ages if path.suffix == ".h5" and path != newest), key=ages.__getitem__)
    for path in [*left, *others[: max(0, len(others) + 1 - KEPT_FILES)]]:
        path.unlink(missing_ok=True)
