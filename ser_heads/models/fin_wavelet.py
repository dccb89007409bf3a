"""This package's own classifiers: on FINs, on a learnable wavelet packet, or on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from torch import nn

from fins.networks import Fin
from ser_heads.frontends import FrontEnd, Joined
from ser_heads.frontends.fins import FinFrontEnd, Pretraining, closed_forms, starting_fins
from ser_heads.frontends.waveform import Trim
from ser_heads.frontends.wavelet_packets import WaveletConfig, WaveletFrontEnd
from ser_heads.layers.frame_norm import FrameNorm, Removed, is_level, scale_of
from ser_heads.layers.temporal_head import TemporalHead
from ser_heads.layers.wavelet_packet import Sharing, check_packet
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import Recipe

SPECTRUM = 64  # outputs from which a feature counts as a spectrum
SOURCE = "this package"


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

    def __post_init__(self) -> None:
        if not self.fins:
            raise ValueError("this model needs at least one FIN: change --fins")
        for option, choices in (("pretraining", Pretraining), ("removed", Removed)):
            if getattr(self, option) not in get_args(choices):
                raise ValueError(
                    f"--{option} is one of {', '.join(get_args(choices))}, got {getattr(self, option)!r}"
                )


@dataclass(frozen=True)
class WaveletOptions:
    """Raises ValueError for what no wavelet packet can be."""

    wavelet: str = "sym10"
    """Where the wavelet packet starts, as PyWavelets names it."""
    depth: int = 5
    """Levels of the wavelet packet, 1 to 10."""
    sharing: Sharing = "tree"
    """Kernels of the wavelet packet: one pair for the tree, for each level, or for each node."""
    share_bands: bool = True
    """One network over all bands; else each band has its own."""

    def __post_init__(self) -> None:
        check_packet(self.wavelet, self.depth, self.sharing)


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
    norm = FrameNorm(frontend.slices, options.removed)
    layout = layout_of(frontend, norm)
    head = TemporalHead(len(labels), norm.n_features, layout.spectra)
    return SerModel("fin", options, labels, Trim(), frontend, norm, head, layout)


def build_wavelet_model(options: WaveletOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    frontend = wavelet_frontend(options)
    head = TemporalHead(len(labels), frontend.n_columns, (), frontend.config.n_summary)
    return SerModel("wavelet", options, labels, Trim(), frontend, nn.Identity(), head)


def build_joined_model(
    options: FinWaveletOptions, labels: Sequence[str], fins: Mapping[str, Fin]
) -> SerModel:
    on_fins, on_wavelets = fin_frontend(options, fins), wavelet_frontend(options)
    frontend: FrontEnd = Joined((on_fins, on_wavelets))
    norm = FrameNorm(on_fins.slices, options.removed)
    layout = layout_of(on_fins, norm)
    n_features = norm.n_features + on_wavelets.n_columns
    head = TemporalHead(len(labels), n_features, layout.spectra, on_wavelets.config.n_summary)
    return SerModel("fin_wavelet", options, labels, Trim(), frontend, norm, head, layout)


def fin_frontend(options: FinOptions, fins: Mapping[str, Fin]) -> FinFrontEnd:
    return FinFrontEnd(closed_forms(options.fins) if options.pretraining == "closed_form" else fins)


def wavelet_frontend(options: WaveletOptions) -> WaveletFrontEnd:
    return WaveletFrontEnd(
        WaveletConfig(options.wavelet, options.depth, options.sharing, share_bands=options.share_bands)
    )


def layout_of(frontend: FinFrontEnd, norm: FrameNorm) -> FrameLayout:
    """Noise goes into the powers of mel, contrast into decibels, masks into spectra; 0 is the mean."""
    columns = norm.features
    return FrameLayout(
        powers=next((part for name, part in frontend.slices.items() if scale_of(name) == "power"), None),
        levels=tuple(columns[name] for name in columns if is_level(name)),
        spectra=tuple(part for part in columns.values() if part.stop - part.start >= SPECTRUM),
    )


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
    "a learnable wavelet packet with a network over its bands, the same head",
    SOURCE,
    WaveletOptions,
    build_wavelet_model,
    recipe=Recipe(),
)
FIN_WAVELET = ModelEntry(
    "fin_wavelet",
    "FINs and the wavelet packet side by side, the same head",
    SOURCE,
    FinWaveletOptions,
    build_joined_model,
    fins_of,
    Recipe(),
)
