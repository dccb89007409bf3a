"""FINs over whole recordings, or closed forms in their places, or some of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fins.audio import HOP, WINDOW
from fins.features import compute_features, fingerprint, get_feature
from fins.networks import Fin, FinConfig, build_fin, load_fin
from fins.networks.fourier import CHUNK, BandWeights, PrunedBandWeights
from fins.networks.spectral import MelFin, SpectralFin, permute_bins, prune
from ser_heads.frontends import FrameBatch, FrontEnd
from ser_heads.frontends.waveform import count_frames
from ser_heads.layers.masked import mask_until

Pretraining = Literal["imitation", "permuted", "none", "closed_form"]
PERMUTATION = 0  # seed of the shuffled bins


class ClosedForm(nn.Module):
    """A feature as it is defined, in a FIN's place: (n, 2048) → (n, n_outputs), in which nothing learns.

    Raises ValueError for an unknown name.
    """

    n_outputs: Tensor  # and with it a name among the weights, by which one front end is told from another

    def __init__(self, name: str) -> None:
        super().__init__()
        feature = get_feature(name)
        self.name, self.fingerprint = name, fingerprint(feature)
        self.register_buffer("n_outputs", torch.tensor(feature.n_outputs))

    def forward(self, windows: Tensor) -> Tensor:
        return compute(windows, [self.name])[self.name]


def compute(windows: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Name → (n, n_outputs) closed forms of (n, 2048) windows; what these share is computed once."""
    if not names:
        return {}
    computed = compute_features(windows.detach().cpu().numpy(), names)
    return {name: torch.from_numpy(values).to(windows.device) for name, values in computed.items()}


class FinFrontEnd(FrontEnd):
    """Every FIN on every window of a recording, in the features' own units.

    members : name of the feature → FIN, or its closed form
    slices : name → its columns of a frame
    Raises ValueError if there is no member.
    """

    keep = True

    def __init__(self, members: Mapping[str, Fin | ClosedForm]) -> None:
        super().__init__()
        if not members:
            raise ValueError("a front end of FINs has at least one FIN")
        self.members = nn.ModuleDict(members)
        self.slices: dict[str, slice] = {}
        start = 0
        for name, member in members.items():
            with torch.no_grad():
                n_outputs = member(torch.zeros(1, WINDOW)).shape[1]
            self.slices[name] = slice(start, start + n_outputs)
            start += n_outputs
        self.n_columns = start
        self.computed = [member.name for member in members.values() if isinstance(member, ClosedForm)]
        if self.computed:
            names = ", ".join(self.computed)
            self.why_not_exported = f"NumPy computes its closed forms of {names}: it is exported with FINs"

    def extra_repr(self) -> str:
        closed = [member.fingerprint for member in self.members.values() if isinstance(member, ClosedForm)]
        return ", ".join([*self.slices, *filter(None, closed)])

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        """Windows that are padding alone give 0.

        waveform : (batch, n) with n at least a window; lengths : (batch,)
        """
        windows = waveform.unfold(1, WINDOW, HOP)  # (batch, time, 2048), a view
        n_frames = count_frames(lengths)
        mask = mask_until(n_frames, windows.shape[1])
        if torch.compiler.is_compiling():  # a graph has no place for as many windows as there happen to be
            rows = windows.clone(memory_format=torch.contiguous_format).flatten(0, 1)
            return FrameBatch(self.imitate(rows).unflatten(0, mask.shape) * mask[..., None], n_frames)
        # of one recording a view: its windows share three quarters of their samples
        outputs = self.imitate(windows[0, : int(n_frames)] if len(windows) == 1 else windows[mask])
        values = outputs.new_zeros(*mask.shape, self.n_columns)
        values[mask] = outputs
        return FrameBatch(values, n_frames)

    def imitate(self, windows: Tensor) -> Tensor:
        """(n, 2048) → (n, n_columns), always in float32: half of its digits would drown quiet bands."""
        with torch.autocast(windows.device.type, enabled=False):
            computed = compute(windows, self.computed)
            answers = computed | self._share_spectrum(windows)
            parts = [answers[name] if name in answers else member(windows) for name, member in self._named()]
            return torch.cat(parts, dim=1)

    def _named(self) -> list[tuple[str, nn.Module]]:
        """Members by what `compute` calls them, or by their key."""
        named = self.members.items()
        return [(member.name if isinstance(member, ClosedForm) else key, member) for key, member in named]

    def _share_spectrum(self, windows: Tensor) -> dict[str, Tensor]:
        """Key → outputs of FINs whose learned spectra are the same, which is computed once. Those that come
        with the package have one until they are finetuned."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return {}
        spectral = {key: fin for key, fin in self.members.items() if isinstance(fin, SpectralFin)}
        first = next(iter(spectral.values()), None)
        alike = {key: fin for key, fin in spectral.items() if first and fin.spectrum.equals(first.spectrum)}
        if first is None or len(alike) < 2:
            return {}
        parts: dict[str, list[Tensor]] = {key: [] for key in alike}
        for chunk in windows.split(CHUNK):
            powers = first.spectrum(chunk)
            for key, fin in alike.items():
                parts[key].append(fin.of_powers(powers))
        return {key: torch.cat(chunks) for key, chunks in parts.items()}

    def pretrained(self) -> Iterator[nn.Parameter]:
        return self.members.parameters()

    def band_weights(self) -> Iterator[nn.Parameter]:
        for module in self.modules():
            if isinstance(module, BandWeights | PrunedBandWeights):
                yield module.weights

    def fins(self) -> list[Fin]:
        """Its FINs, without closed forms."""
        return [member for member in self.members.values() if isinstance(member, Fin)]


def starting_fins(names: Sequence[str], pretraining: Pretraining = "imitation") -> dict[str, Fin]:
    """Feature → FIN, of FINs by name or folder of a run, with what they know at the start.

    Compact FINs of mel and mfcc are pruned: their weights that are zero stay zero. Bins are shuffled of those
    that have bands; the others stay as they are.
    Raises ValueError for a FIN that can't be loaded, and for a feature that two FINs imitate.
    """
    fins: dict[str, Fin] = {}
    for name in names:
        fin = load_fin(name)
        if pretraining == "none":
            fin = build_fin(fin.config)
        elif pretraining == "permuted" and (has_bands(fin) or len(names) == 1):
            permute_bins(fin, PERMUTATION)
        if pretraining != "none" and isinstance(fin, MelFin) and fin.config.topology == "compact":
            # else finetuning would make strong bins leak into bands that are 80 dB below
            prune(fin)
        put(fins, fin.config.feature, fin)
    return fins


def has_bands(fin: Fin) -> bool:
    """Whether a FIN weights the powers of a spectrum by bands."""
    return any(isinstance(module, BandWeights) for module in fin.modules())


def built_fins(configs: Sequence[FinConfig]) -> dict[str, Fin]:
    """Feature → FIN with random weights, of configurations: what weights are loaded into."""
    fins: dict[str, Fin] = {}
    for config in configs:
        put(fins, config.feature, build_fin(config))
    return fins


def closed_forms(features: Sequence[str]) -> dict[str, ClosedForm]:
    """Feature → its closed form; ValueError for a name that is none, and for one that is given twice."""
    members: dict[str, ClosedForm] = {}
    for feature in features:
        put(members, feature, ClosedForm(feature))
    return members


def put(members: dict[str, Any], feature: str, member: nn.Module) -> None:
    """By a key that a module can have; ValueError if there is one already."""
    key = feature.replace(".", "_")
    if key in members:
        raise ValueError(f"two FINs imitate {key}: give each feature once")
    members[key] = member
