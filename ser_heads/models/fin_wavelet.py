"""This package's own classifiers: on FINs, on a learnable wavelet packet, or on both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fins.networks import Fin
from ser_heads.frontends import FrontEnd, Joined
from ser_heads.frontends.fins import FinFrontEnd, Pretraining, closed_forms, starting_fins
from ser_heads.frontends.waveform import Trim
from ser_heads.frontends.wavelet_packets import DEEPEST, N_SLOTS, WaveletFrontEnd
from ser_heads.layers.frame_norm import PACKET, Compression, FrameNorm, Removed, is_level, scale_of
from ser_heads.layers.packet_tree import Leaves, best_basis, equal_tree, in_order, mel_tree
from ser_heads.layers.temporal_head import Branch, TemporalHead
from ser_heads.layers.wavelet_packet import Sharing, check_packet
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import Recipe

SPECTRUM = 64  # outputs from which a feature counts as a spectrum
SOURCE = "this package"
TREES = {("mel",): mel_tree, ("equal",): equal_tree}
BEST = ("best",)


@dataclass(frozen=True)
class FinOptions:
    """Raises ValueError for no FIN, and for values that aren't there to be chosen."""

    fins: tuple[str, ...] = ("mel", "rms", "zcr", "pitch")
    """FINs by name or folder of a run."""
    pretraining: Pretraining = "imitation"
    """What the FINs know at the start: imitation of their features, the same with bands of shuffled bins
    (permuted), or none, but random weights. Or closed forms stand in their place."""
    removed: Removed = "channel"
    """What of a recording's FIN outputs is taken away: level, channel (the mean of each output), nothing."""
    compression: Compression = "decibels"
    """Of powers and amplitudes: decibels, or a power law of each band that is learned from there."""

    def __post_init__(self) -> None:
        if not self.fins:
            raise ValueError("this model needs at least one FIN: change --fins")
        for option, choices in (
            ("pretraining", Pretraining),
            ("removed", Removed),
            ("compression", Compression),
        ):
            if getattr(self, option) not in get_args(choices):
                raise ValueError(
                    f"--{option} is one of {', '.join(get_args(choices))}, got {getattr(self, option)!r}"
                )


@dataclass(frozen=True)
class WaveletOptions:
    """Raises ValueError for what no wavelet packet can be."""

    wavelet: str = "sym10"
    """Where the wavelet packet starts, as PyWavelets names it."""
    tree: tuple[str, ...] = ("mel",)
    """Its bands: mel, about as wide as mel bands; equal; best, the best basis of training recordings; or the
    leaves of any tree, as aa ad d."""
    depth: int = 7
    """Levels of a tree that is mel or equal, most levels of the best one; 1 to 7."""
    sharing: Sharing = "tree"
    """Kernels of the wavelet packet: one pair for the tree, for each level, or for each node."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= DEEPEST:
            raise ValueError(f"--depth is 1 to {DEEPEST}, got {self.depth}")
        deepest = self.depth if self.tree == BEST else max(map(len, self.leaves()))
        check_packet(self.wavelet, deepest, self.sharing)

    def leaves(self) -> Leaves:
        """Of its tree, in the order of frequency; ValueError while recordings have yet to choose it."""
        if self.tree == BEST:
            raise ValueError("--tree best is chosen by the training recordings of a run: train one")
        if self.tree in TREES:
            return TREES[self.tree](self.depth)
        return in_order(self.tree)


@dataclass(frozen=True)
class FinWaveletOptions(WaveletOptions, FinOptions):
    """Those of both."""

    def __post_init__(self) -> None:
        FinOptions.__post_init__(self)
        WaveletOptions.__post_init__(self)


def fins_of(options: FinOptions) -> dict[str, Fin]:
    """Feature → the FIN that it starts from; none where closed forms stand in their places."""
    return {} if options.pretraining == "closed_form" else starting_fins(options.fins, options.pretraining)


def build_fin_model(options: FinOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    frontend = fin_frontend(options, fins)
    norm = FrameNorm(frontend.slices, options.removed, options.compression)
    layout = layout_of(norm)
    head = TemporalHead(len(labels), norm.n_features, spectra_of(norm))
    return SerModel("fin", options, labels, Trim(), frontend, norm, head, layout)


def build_wavelet_model(options: WaveletOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    frontend = wavelet_frontend(options)
    norm = FrameNorm({PACKET: slice(0, frontend.n_columns)})
    head = TemporalHead(len(labels), norm.n_features, (norm.features[PACKET],), N_SLOTS)
    return SerModel("wavelet", options, labels, Trim(), frontend, norm, head, layout_of(norm))


def build_joined_model(
    options: FinWaveletOptions, labels: Sequence[str], fins: Mapping[str, Fin]
) -> SerModel:
    on_fins, on_wavelets = fin_frontend(options, fins), wavelet_frontend(options)
    frontend: FrontEnd = Joined((on_fins, on_wavelets))
    behind = slice(on_fins.n_columns, frontend.n_columns)
    norm = FrameNorm({**on_fins.slices, PACKET: behind}, options.removed, options.compression)
    columns = norm.features[PACKET]
    head = TemporalHead(len(labels), columns.start, spectra_of(norm))
    head.branch = Branch(columns, N_SLOTS)  # drawn last: the same seed gives the same weights as those of fin
    return SerModel("fin_wavelet", options, labels, Trim(), frontend, norm, head, layout_of(norm))


def fin_frontend(options: FinOptions, fins: Mapping[str, Fin]) -> FinFrontEnd:
    return FinFrontEnd(closed_forms(options.fins) if options.pretraining == "closed_form" else fins)


def settle_tree(options: WaveletOptions, signals: Iterable[NDArray[np.float32]]) -> WaveletOptions:
    """With the leaves of the best basis of some training recordings, where that is asked for."""
    if options.tree != BEST:
        return options
    return replace(options, tree=best_basis(list(signals), options.wavelet, options.depth))


def wavelet_frontend(options: WaveletOptions) -> WaveletFrontEnd:
    return WaveletFrontEnd(options.wavelet, options.leaves(), options.sharing)


def spectra_of(norm: FrameNorm) -> tuple[slice, ...]:
    """Features that count as a spectrum, but for the wavelet packet."""
    columns = norm.features.items()
    return tuple(part for name, part in columns if name != PACKET and part.stop - part.start >= SPECTRUM)


def layout_of(norm: FrameNorm) -> FrameLayout:
    """Noise goes into the powers of mel and of the packet, contrast into decibels, masks into spectra; 0 is
    the mean."""
    before, after = norm.slices, norm.features
    on_fins = [name for name in after if name != PACKET]
    powers = [before[name] for name in on_fins if scale_of(name) == "power"][:1]
    levels = [after[name] for name in on_fins if is_level(name)]
    spectra = list(spectra_of(norm))
    if PACKET in after:
        powers += planes_of(before[PACKET])
        levels.append(after[PACKET])
        spectra += planes_of(after[PACKET])
    return FrameLayout(tuple(powers), tuple(levels), tuple(spectra))


def planes_of(columns: slice) -> list[slice]:
    """Columns of each slot of a wavelet packet's frames."""
    n_bands = (columns.stop - columns.start) // N_SLOTS
    return [slice(start, start + n_bands) for start in range(columns.start, columns.stop, n_bands)]


FIN = ModelEntry(
    "fin",
    "FINs on every window, dilated convolutions over time, attentive pooling",
    SOURCE,
    FinOptions,
    build_fin_model,
    fins_of,
    Recipe(),
)
WAVELET = ModelEntry(
    "wavelet",
    "energies of a learnable wavelet packet every 128 samples, the same head",
    SOURCE,
    WaveletOptions,
    build_wavelet_model,
    recipe=Recipe(penalty=1.0),
    settle=settle_tree,
)
FIN_WAVELET = ModelEntry(
    "fin_wavelet",
    "fin, and energies of a learnable wavelet packet that join it after its first layer",
    SOURCE,
    FinWaveletOptions,
    build_joined_model,
    fins_of,
    Recipe(penalty=1.0),
    settle=settle_tree,
)
