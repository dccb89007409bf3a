"""The compact FINs: networks that can hold a closed form and learn it from random weights, from noise.

Every weight is learned and stays trainable; gradients are finite on any window, silence included. What each
choice is worth is measured by benchmarks/choices.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from fins.audio import WINDOW
from fins.features import (
    AMIN,
    FAINT,
    N_BINS,
    N_CHROMA,
    N_MELS,
    N_MFCC,
    TOP_DB,
    ZERO,
    chroma_filters,
    dct_matrix,
    lag_filters,
    mel_filters,
)
from fins.fourier import (
    CHUNK,
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
from fins.stages import Stage

NEGLIGIBLE = 1e-5  # of a band's largest weight: what ends below is nothing but the last steps' noise
FAINTEST = 1e-30  # a divisor and an energy never get smaller, so that gradients stay finite
PRUNABLE = ("mfcc", "mel")  # features whose bands are narrow

# A block that is taken, not touched and given back: from then on glibc keeps as much for the layers, instead
# of returning it to the system after each and getting it again page by page, at half of the speed.
torch.empty(31 << 20, dtype=torch.uint8)


def check_windows(windows: Tensor) -> None:
    """ValueError for anything but (batch, 2048)."""
    if windows.ndim != 2 or windows.shape[1] != WINDOW:
        raise ValueError(
            f"windows have the shape (batch, {WINDOW}), got {tuple(windows.shape)}: "
            "cut the signal with audio.cut_windows"
        )


class CompactFin(nn.Module):
    """What all share: (batch, 2048) float32 → (batch, n_outputs) in the feature's own unit."""

    def forward(self, windows: Tensor) -> Tensor:
        """ValueError for windows of another length."""
        check_windows(windows)
        if torch.is_grad_enabled() or len(windows) <= CHUNK:
            return self.imitate(windows)
        return torch.cat([self.imitate(chunk) for chunk in windows.split(CHUNK)])

    def imitate(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def stages(self) -> list[Stage]:
        """How it is learned."""
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Multiplications that one window takes, each with its addition."""
        raise NotImplementedError


class RmsFin(CompactFin):
    """The root of a weighted mean of squares: 2,048 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(WINDOW))

    def imitate(self, windows: Tensor) -> Tensor:
        energy = nn.functional.linear(windows.square(), self.weights[None] / WINDOW)
        return energy.clamp_min(FAINTEST).sqrt()

    def stages(self) -> list[Stage]:
        return [_mean_stage("mean of squares", self.weights, WINDOW)]

    def multiply_adds(self) -> int:
        return 2 * WINDOW


class ZcrFin(CompactFin):
    """Soft signs of samples, magnitudes of weighted sums of pairs, a weighted mean: 2,051 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.randn(()))
        self.offset = nn.Parameter(torch.randn(()))
        self.pair = nn.Parameter(torch.randn(2))
        self.weights = nn.Parameter(torch.rand(WINDOW - 1))

    def signs(self, samples: Tensor) -> Tensor:
        """-1 to 1; unlike a hyperbolic tangent it keeps a gradient where it is almost there."""
        return nn.functional.softsign(samples * self.log_gain.exp() + self.offset)

    def changes(self, signs: Tensor) -> Tensor:
        """0 to 1, of neighbouring signs."""
        return (self.pair[0] * signs[:, :-1] + self.pair[1] * signs[:, 1:]).abs()

    def imitate(self, windows: Tensor) -> Tensor:
        return nn.functional.linear(self.changes(self.signs(windows)), self.weights[None] / WINDOW)

    def stages(self) -> list[Stage]:
        return [
            Stage(
                "signs",
                [self.log_gain, self.offset],
                excite=_faint_and_loud,
                imitate=self.signs,
                target=lambda samples: torch.where(samples < -ZERO, -1.0, 1.0),
                n_steps=1500,
                batch_size=4096,
                learning_rate=0.1,
            ),
            Stage(
                "changes of sign",
                [self.pair],
                excite=lambda n, generator: torch.randint(2, (n, 2), generator=generator) * 2.0 - 1,
                imitate=self.changes,
                target=lambda signs: (signs[:, :1] != signs[:, 1:]).float(),
                n_steps=1000,
                batch_size=256,
                learning_rate=0.02,
            ),
            _mean_stage("mean of changes", self.weights, WINDOW - 1),
        ]

    def multiply_adds(self) -> int:
        return 5 * WINDOW


class SpectralFin(CompactFin):
    """What those share that begin with a learned spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = LearnedSpectrum()

    def table(self) -> SpectrumWeights | PrunedBandWeights:
        """The weights of its powers."""
        raise NotImplementedError

    def multiply_adds(self) -> int:
        return self.spectrum.multiply_adds() + self.table().multiply_adds()


class MelFin(SpectralFin):
    """A learned spectrum and weights to bands: 145,600 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.bands: BandWeights | PrunedBandWeights = BandWeights(_scale_of(mel_filters()))

    def imitate(self, windows: Tensor) -> Tensor:
        return self.bands(self.spectrum(windows))

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), self.bands_stage()]

    def bands_stage(self) -> Stage:
        """Also of bands that were pruned, to fit what is left once more."""
        return _bands_stage(self.bands, mel_filters())

    def table(self) -> BandWeights | PrunedBandWeights:
        return self.bands


class MfccFin(MelFin):
    """The same, decibels, and coefficients: 148,180 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Linear(N_MELS, N_MFCC)

    def imitate(self, windows: Tensor) -> Tensor:
        decibel = 10 * torch.log10(super().imitate(windows).clamp_min(AMIN))
        clipped = torch.maximum(decibel, decibel.amax(dim=1, keepdim=True) - TOP_DB)
        return self.coefficients(clipped)

    def stages(self) -> list[Stage]:
        dct = torch.from_numpy(dct_matrix())
        coefficients = Stage(
            "coefficients of a log-mel",
            list(self.coefficients.parameters()),
            excite=_normal_vectors(N_MELS),
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

    def __init__(self) -> None:
        super().__init__()
        self.classes = BandWeights(_scale_of(chroma_filters()))

    def imitate(self, windows: Tensor) -> Tensor:
        energy = self.classes(self.spectrum(windows))
        return energy / energy.amax(dim=1, keepdim=True).clamp_min(FAINTEST)

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), _bands_stage(self.classes, chroma_filters())]

    def table(self) -> BandWeights:
        return self.classes

    def multiply_adds(self) -> int:
        return super().multiply_adds() + N_CHROMA


class PitchFin(SpectralFin):
    """A learned spectrum, weights to lags, and their share of the power: 112,670 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.lags = LagWeights(_scale_of(lag_filters()))

    def imitate(self, windows: Tensor) -> Tensor:
        power = self.lags(self.spectrum(windows))
        return power[:, 1:] / (power[:, :1].clamp_min(0) + FAINT**2 * HANN_ENERGY * WINDOW)

    def stages(self) -> list[Stage]:
        return [_spectrum_stage(self.spectrum), _bands_stage(self.lags, lag_filters())]

    def table(self) -> LagWeights:
        return self.lags


COMPACT: dict[str, type[CompactFin]] = {
    "zcr": ZcrFin,
    "rms": RmsFin,
    "chroma": ChromaFin,
    "mfcc": MfccFin,
    "mel": MelFin,
    "pitch": PitchFin,
}


def prune(fin: MelFin) -> None:
    """Leave out the band weights that ended at zero; their places can't be learned any more."""
    assert isinstance(fin.bands, BandWeights)
    fin.bands = PrunedBandWeights.of(fin.bands)


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


def _normal_vectors(length: int) -> Callable[[int, Generator], Tensor]:
    return lambda n, generator: torch.randn(n, length, generator=generator)


def _faint_and_loud(n: int, generator: Generator) -> Tensor:
    """(n,) samples of both signs from 1e-9 to 1, every magnitude as likely as another, and some zeros."""
    magnitude = 10 ** (-9 * torch.rand(n, generator=generator))
    sign = torch.randint(-1, 2, (n,), generator=generator)
    return magnitude * sign


def _mean_stage(name: str, weights: nn.Parameter, n: int) -> Stage:
    """Weights of a sum of n numbers over a window; normal numbers stand for them."""
    return Stage(
        name,
        [weights],
        excite=_normal_vectors(n),
        imitate=lambda vectors: vectors @ weights / n**0.5,
        target=lambda vectors: vectors.sum(dim=1) / n**0.5,
        n_steps=1000,
        batch_size=256,
        learning_rate=1e-2,
    )


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

    def hold() -> None:
        if isinstance(bands, BandWeights | PrunedBandWeights):
            with torch.no_grad():
                bands.weights.clamp_min_(0)

    def finish() -> None:
        if isinstance(bands, BandWeights):
            with torch.no_grad():
                bands.weights[bands.weights < NEGLIGIBLE * bands.weights.amax(dim=1, keepdim=True)] = 0

    pruned = isinstance(bands, PrunedBandWeights)
    return Stage(
        "energies of bands, pruned" if pruned else "energies of bands",
        [bands.weights],
        excite=_normal_vectors(N_BINS),
        imitate=lambda vectors: bands(vectors[:, bin_of]) / bands.scale,
        target=lambda vectors: vectors @ rows.T,
        n_steps=1500,
        batch_size=256,
        learning_rate=5e-3,
        after_step=hold,
        finish=finish,
    )
