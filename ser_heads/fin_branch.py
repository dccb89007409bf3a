"""A stack of FINs over whole utterances, and what frozen ones make of them kept beside the store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fins.audio import HOP, WINDOW, Signal, cut_windows
from fins.features import Floats, compute_features, get_feature
from fins.fourier import BandWeights, PrunedBandWeights
from fins.networks import Fin
from ser_heads.attention import mask_until
from ser_heads.data import UtteranceTable, count_frames
from ser_heads.kept import KeptArrays, Progress, ignore


class ClosedForm(nn.Module):
    """A feature as it is defined, in a FIN's place: (n, 2048) → (n, n_outputs), in which nothing learns.

    Raises ValueError for an unknown name.
    """

    n_outputs: Tensor  # and with it a name among the weights, by which one branch is told from another

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("n_outputs", torch.tensor(get_feature(name).n_outputs))

    def forward(self, windows: Tensor) -> Tensor:
        computed = compute_features(windows.detach().cpu().numpy(), [self.name])
        return torch.from_numpy(computed[self.name]).to(windows.device)


class FinBranch(nn.Module):
    """(batch, n_samples) → (batch, time, n_outputs): every FIN on every window, in the features' own units.

    fins : name of the feature → FIN, or its closed form; `slices` says which outputs are whose
    """

    def __init__(self, fins: Mapping[str, Fin | ClosedForm]) -> None:
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


class FrozenOutputs(KeptArrays):
    """What frozen FINs make of each utterance of a table and of its perturbed copies: (n_windows, n_outputs)
    each, computed once and kept beside the stores."""

    def __init__(
        self, branch: FinBranch, table: UtteranceTable, n_copies: int, progress: Progress = ignore
    ) -> None:
        branch.eval()

        def imitate(signal: Signal) -> Floats:
            windows = np.ascontiguousarray(cut_windows(signal))
            with torch.no_grad():
                return branch.imitate(torch.from_numpy(windows)).numpy()

        super().__init__(table, "frozen", branch.digest(), imitate, branch.n_outputs, n_copies, progress)
