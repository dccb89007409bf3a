"""Compact FINs of features of the spectrum: mel, mfcc, chroma and pitch; pruned ones, and shuffled bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fins.audio import WINDOW
from fins.features.chroma import N_CHROMA, chroma_filters
from fins.features.mfcc import AMIN, N_MFCC, TOP_DB, dct_matrix
from fins.features.pitch import FAINT, lag_filters
from fins.features.spectrum import N_BINS, N_MELS, mel_filters
from fins.networks.compact import FAINTEST, CompactFin, Stage, normal_vectors, nothing
from fins.networks.fin import Topology
from fins.networks.fourier import (
    HANN_ENERGY,
    BandWeights,
    LagWeights,
    LearnedSpectrum,
    PrunedBandWeights,
    SpectrumWeights,
    bin_of_power,
    fourier_components,
    white_noise,
)

NEGLIGIBLE = 1e-5  # of a band's largest weight: what ends below is nothing but the last steps' noise


class SpectralFin(CompactFin):
    """What those share that begin with a learned spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = LearnedSpectrum()

    def imitate(self, windows: Tensor) -> Tensor:
        return self.of_powers(self.spectrum(windows))

    def of_powers(self, powers: Tensor) -> Tensor:
        """(batch, 1056) powers of its spectrum → (batch, n_outputs)."""
        raise NotImplementedError

    def table(self) -> SpectrumWeights | PrunedBandWeights:
        """The weights of its powers."""
        raise NotImplementedError

    def multiply_adds(self) -> int:
        return self.spectrum.multiply_adds() + self.table().multiply_adds()


class MelFin(SpectralFin):
    """A learned spectrum and weights to bands: 145,600 parameters.

    Its bands are narrow, so that most of their weights end at zero and can be pruned. It takes pruned and
    whole bands alike when it is loaded, whichever it has.
    """

    feature = "mel"

    def __init__(self) -> None:
        super().__init__()
        self.bands: BandWeights | PrunedBandWeights = BandWeights(_scale_of(mel_filters()))

    def of_powers(self, powers: Tensor) -> Tensor:
        return self.bands(powers)

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), self.bands_stage()]

    def bands_stage(self) -> Stage:
        """Also of bands that were pruned, to fit what is left once more."""
        return _bands_stage(self.bands, mel_filters())

    def table(self) -> BandWeights | PrunedBandWeights:
        return self.bands

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """The bands become what the state holds, before it is loaded into them."""
        places = state_dict.get(f"{prefix}bands.place")
        if places is not None:
            if not isinstance(self.bands, PrunedBandWeights) or len(self.bands.place) != len(places):
                self._take_bands(PrunedBandWeights(self.bands.scale.clone(), len(places)))
        elif f"{prefix}bands.weights" in state_dict and isinstance(self.bands, PrunedBandWeights):
            self._take_bands(BandWeights(self.bands.scale.clone()))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _take_bands(self, bands: BandWeights | PrunedBandWeights) -> None:
        weights = self.bands.weights
        self.bands = bands.to(weights.device).requires_grad_(weights.requires_grad)
        topology: Topology = "pruned" if isinstance(bands, PrunedBandWeights) else "compact"
        self.config = replace(self.config, topology=topology)


class MfccFin(MelFin):
    """The same, decibels, and coefficients: 148,180 parameters."""

    feature = "mfcc"

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Linear(N_MELS, N_MFCC)

    def of_powers(self, powers: Tensor) -> Tensor:
        decibel = 10 * torch.log10(super().of_powers(powers).clamp_min(AMIN))
        clipped = torch.maximum(decibel, decibel.amax(dim=1, keepdim=True) - TOP_DB)
        return self.coefficients(clipped)

    def stages(self) -> list[Stage]:
        dct = torch.from_numpy(dct_matrix())
        coefficients = Stage(
            "coefficients of a log-mel",
            list(self.coefficients.parameters()),
            excite=normal_vectors(N_MELS),
            imitate=self.coefficients,
            target=lambda vectors: vectors @ dct.T,
            n_steps=1000,
            batch_size=256,
            learning_rate=1e-2,
        )
        return [*super().stages(), coefficients]

    def multiply_adds(self) -> int:
        return super().multiply_adds() + self.coefficients.weight.numel()


class ChromaFin(SpectralFin):
    """A learned spectrum, weights to pitch classes, and their share of the strongest: 23,104 parameters."""

    feature = "chroma"

    def __init__(self) -> None:
        super().__init__()
        self.classes = BandWeights(_scale_of(chroma_filters()))

    def of_powers(self, powers: Tensor) -> Tensor:
        energy = self.classes(powers)
        return energy / energy.amax(dim=1, keepdim=True).clamp_min(FAINTEST)

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), _bands_stage(self.classes, chroma_filters())]

    def table(self) -> BandWeights:
        return self.classes

    def multiply_adds(self) -> int:
        return super().multiply_adds() + N_CHROMA


class PitchFin(SpectralFin):
    """A learned spectrum, weights to lags, and their share of the power: 112,670 parameters."""

    feature = "pitch"

    def __init__(self) -> None:
        super().__init__()
        self.lags = LagWeights(_scale_of(lag_filters()))

    def of_powers(self, powers: Tensor) -> Tensor:
        power = self.lags(powers)
        return power[:, 1:] / (power[:, :1].clamp_min(0) + FAINT**2 * HANN_ENERGY * WINDOW)

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), _bands_stage(self.lags, lag_filters())]

    def table(self) -> LagWeights:
        return self.lags


def prune(fin: MelFin) -> None:
    """Leave out the band weights that ended at zero; their places can't be learned any more."""
    assert isinstance(fin.bands, BandWeights)
    fin._take_bands(PrunedBandWeights.of(fin.bands))


def permute_bins(fin: nn.Module, seed: int) -> None:
    """Make each band one of other bins, drawn at random, as if it had learned from such targets.

    Learning from noise treats all bins alike, so that nothing has to be learned anew. Raises ValueError for
    a FIN whose bands aren't learned as a table.
    """
    table = fin.table() if isinstance(fin, SpectralFin) else None
    if not isinstance(table, BandWeights):
        raise ValueError("only compact FINs of mel, mfcc and chroma have bands whose bins can be shuffled")
    bins = bin_of_power()
    order = torch.randperm(N_BINS, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        whole = table.weights.new_zeros(len(table.weights), N_BINS).index_add(1, bins, table.weights)
        table.weights.copy_(whole[:, order[bins]] / torch.bincount(bins)[bins])


def _scale_of(filters: np.ndarray) -> Tensor:
    return torch.from_numpy(np.linalg.norm(filters, axis=1)).float() * HANN_ENERGY


def _spectrum_stage(spectrum: LearnedSpectrum) -> Stage:
    return Stage(
        "complex spectrum",
        list(spectrum.parameters()),
        excite=white_noise,
        imitate=spectrum.components,
        target=fourier_components,
        n_steps=2500,
        batch_size=64,
        learning_rate=2e-2,
    )


def _bands_stage(bands: SpectrumWeights | PrunedBandWeights, filters: np.ndarray) -> Stage:
    """Energies of bands, or lags, from normal numbers in place of powers: real powers are all positive, which
    makes every weight's gradient mostly that of their sum."""
    rows = torch.from_numpy(filters).float() * HANN_ENERGY / bands.scale[:, None]
    bin_of = bin_of_power()

    def finish() -> None:
        if isinstance(bands, BandWeights):
            with torch.no_grad():
                bands.weights[bands.weights < NEGLIGIBLE * bands.weights.amax(dim=1, keepdim=True)] = 0

    pruned = isinstance(bands, PrunedBandWeights)
    return Stage(
        "energies of bands, pruned" if pruned else "energies of bands",
        [bands.weights],
        excite=normal_vectors(N_BINS),
        imitate=lambda vectors: bands(vectors[:, bin_of]) / bands.scale,
        target=lambda vectors: vectors @ rows.T,
        n_steps=1500,
        batch_size=256,
        learning_rate=5e-3,
        after_step=bands.constrain if isinstance(bands, BandWeights | PrunedBandWeights) else nothing,
        finish=finish,
    )
