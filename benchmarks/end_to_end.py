"""FINs learned end to end: random wiring, coloured noise, the feature as the only target; R² on recordings.

python benchmarks/end_to_end.py mel --minutes 12 --store stores/ravdess.h5 stores/esd.h5
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from common import machine
from torch import Generator, Tensor, nn

from fins.audio import WINDOW
from fins.data.store import Store
from fins.features import FEATURES, compute_feature
from fins.features.mfcc import AMIN, TOP_DB
from fins.learning.degradations import score_clips, store_clips, synthetic_clips
from fins.learning.r2 import r2_text
from fins.networks import Fin, FinConfig, count_parameters

TAPS, STRIDE, N_STEPS = 192, 32, 65  # of kernels over a window that is padded by 96 at each end
N_GROUPS, WIDE = 64, 32  # pairs of kernels, and numbers that are made of each pair's outputs
STEPS = 32768  # of 16 bits, up to 1
GENTLE = -4.0  # logarithm of how steep a soft sign starts, for a step
N_PARTS = N_GROUPS * WIDE // 2  # of the spectrum, where longer waves start
N_BANDS = 128  # between powers and coefficients
MOST = 100  # clips of a store
FAINT = 1e-9  # of the power that is looked at: what is fainter counts as nothing in a logarithm
WARM_UP = 0.03  # share of the time in which the rate rises
BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)  # Harris 1978; side lobes 92 dB below


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is learned."""

    feature: tyro.conf.Positional[Literal["mel", "mfcc", "chroma", "rms", "zcr"]]
    minutes: float = 12.0
    """Of one core."""
    seed: int = 0
    start: Literal["waves", "transform", "random"] = "waves"
    """Of the first layer: sinuses of all pitches, faded in and out, or normal numbers; transform: sinuses in
    the second layer, too."""
    learning_rate: float = 3e-2
    curriculum: float = 0.15
    """How coloured the noise is at the start, as a share of how coloured it is in the second half."""
    store: tuple[Path, ...] = ()
    """Recordings that it is judged on; none are learned from."""


class Powers(Fin):
    """A window → kernels, maps of each pair's outputs, squares, sums of squares, and what a feature does to
    sums. All weights learn; nothing but the feature says what they become."""

    def __init__(self, feature: str, start: str) -> None:
        super().__init__()
        n_outputs = FEATURES[feature].n_outputs
        self.start = start
        self.config = FinConfig(feature, n_outputs=n_outputs)
        random = torch.randn(2 * N_GROUPS, 1, TAPS) / math.sqrt(TAPS)
        self.kernels = nn.Parameter(random if start == "random" else waves())
        random = torch.randn(N_GROUPS, 2 * N_STEPS, WIDE) / math.sqrt(2 * N_STEPS)
        self.maps = nn.Parameter(longer_waves() if start == "transform" else random)
        self.log_sums = nn.Parameter(
            torch.zeros(N_GROUPS * WIDE, N_BANDS if feature == "mfcc" else n_outputs)
        )
        self.exponent = nn.Parameter(torch.ones(1) / 2)
        self.coefficients = nn.Linear(N_BANDS, n_outputs) if feature == "mfcc" else nn.Identity()

    def squares(self, windows: Tensor) -> Tensor:
        """(batch, 2048) → (batch, 2048) powers, wherever the maps have put them."""
        steps = nn.functional.conv1d(windows[:, None], self.kernels, stride=STRIDE, padding=TAPS // 2)
        pairs = steps[..., :N_STEPS].reshape(len(windows), N_GROUPS, -1).transpose(0, 1)
        return torch.bmm(pairs, self.maps).transpose(0, 1).reshape(len(windows), -1).square()

    def forward(self, windows: Tensor) -> Tensor:
        level = windows.square().mean(dim=1, keepdim=True).clamp_min(1e-20)
        sums = self.squares(windows / level.sqrt()) @ self.log_sums.exp()
        if self.config.feature == "mel":
            return sums * level
        if self.config.feature == "rms":
            return (sums * level + 1e-20) ** self.exponent
        if self.config.feature == "chroma":
            return sums / sums.amax(dim=1, keepdim=True).clamp_min(1e-30)
        return self.coefficients(decibels(sums * level))

    def rates(self, peak: float) -> list[tuple[list[nn.Parameter], float]]:
        last = [self.exponent, *self.coefficients.parameters()]
        return [
            ([self.kernels], 0.03 * peak),
            ([self.maps], 0.3 * peak),
            ([self.log_sums], 3 * peak),
            (last, 0.1 * peak),
        ]

    def places(self) -> Tensor:
        """(powers,): where in the spectrum, from 0 to 1, each one lies; random maps tell the pair alone."""
        if self.start == "transform":
            return middles(N_PARTS).reshape(N_GROUPS, 1, -1).repeat(1, 2, 1).flatten()
        return middles(N_GROUPS).repeat_interleave(WIDE)

    def prepare(self, generator: Generator) -> None:
        """Sums start where a regression on white noise puts them, those of mfcc at neighbours, and its
        coefficients where a regression on coloured noise does."""
        white = torch.randn(6 * WINDOW, WINDOW, generator=generator)
        with torch.no_grad():
            squares = self.squares(white)
            if isinstance(self.coefficients, nn.Linear):
                sums, mean = neighbours(self.places(), generator), torch.full((N_BANDS,), 700.0)
            else:
                truth = closed_form(self.config.feature, white)
                weights = regress(squares, truth.square() if self.config.feature == "rms" else truth)
                sums, mean = weights.clamp_min(0) + 1e-4 * weights.clamp_min(0).mean(dim=0), truth.mean(dim=0)
            self.log_sums.copy_((sums / (squares.mean(dim=0) @ sums) * mean).log())
            if isinstance(self.coefficients, nn.Linear):
                self._start_coefficients(self.coefficients, generator)

    def _start_coefficients(self, coefficients: nn.Linear, generator: Generator) -> None:
        windows = coloured_noise(2 * WINDOW, generator, 1.0)
        truth = closed_form(self.config.feature, windows)
        bands = decibels(self.squares(windows) @ self.log_sums.exp())
        weights = regress(bands, truth, ridge=0.005)
        coefficients.weight.copy_(weights.T)
        coefficients.bias.copy_((truth - bands @ weights).mean(dim=0))


class Crossings(Fin):
    """A window in steps of 16 bits → kernels, soft signs of a learned steepness, kernels again, squares,
    their mean, a scale."""

    start = "as drawn"

    def __init__(self, n_channels: int = 8) -> None:
        super().__init__()
        self.config = FinConfig("zcr", n_outputs=1)
        self.first = nn.Conv1d(1, n_channels, 3)
        self.log_gain = nn.Parameter(torch.full((n_channels, 1), GENTLE))
        self.second = nn.Conv1d(n_channels, n_channels, 3)
        self.last = nn.Linear(n_channels, 1)

    def forward(self, windows: Tensor) -> Tensor:
        signs = nn.functional.softsign(self.first(windows[:, None] * STEPS) * self.log_gain.exp())
        return self.last(self.second(signs).square().mean(dim=2))

    def rates(self, peak: float) -> list[tuple[list[nn.Parameter], float]]:
        rest = [*self.first.parameters(), *self.second.parameters(), *self.last.parameters()]
        return [([self.log_gain], peak), (rest, 0.1 * peak)]

    def prepare(self, generator: Generator) -> None:
        """It starts as it was drawn."""


def waves() -> Tensor:
    """(128, 1, 192): pairs of cosines and sines in the middle of 64 bands, under a window of Blackman and
    Harris."""
    time = torch.arange(TAPS) + 0.5 - TAPS / 2
    phase = middles(N_GROUPS)[:, None] * math.pi * time
    pairs = torch.stack([phase.cos(), phase.sin()], dim=1) * fade(TAPS)
    return (pairs / pairs.norm(dim=2, keepdim=True)).reshape(-1, 1, TAPS)


def longer_waves() -> Tensor:
    """(64, 130, 32): cosines and sines over a pair's outputs in 65 steps, in the middle of 16 parts of its
    band."""
    phase = math.pi * middles(N_PARTS).reshape(N_GROUPS, 1, -1) * (STRIDE * torch.arange(N_STEPS)[:, None])
    faded = fade(N_STEPS)[:, None]
    cosines, sines = phase.cos() * faded, phase.sin() * faded
    maps = torch.cat([torch.cat([cosines, -sines], dim=1), torch.cat([-sines, -cosines], dim=1)], dim=2)
    return maps / maps.norm(dim=1, keepdim=True)


def middles(n: int) -> Tensor:
    """(n,): of as many equal parts of 0 to 1."""
    return (torch.arange(n) + 0.5) / n


def fade(n: int) -> Tensor:
    """(n,): the window of Blackman and Harris."""
    angle = 2 * math.pi * middles(n)
    return sum((share * (i * angle).cos() for i, share in enumerate(BLACKMAN_HARRIS)), torch.zeros(n))


def decibels(powers: Tensor) -> Tensor:
    """As the closed form of mfcc clips them."""
    level = 10 * torch.log10(powers.clamp_min(AMIN))
    return torch.maximum(level, level.amax(dim=1, keepdim=True) - TOP_DB)


def regress(inputs: Tensor, truth: Tensor, ridge: float = 0.02) -> Tensor:
    """(n, n_inputs) and (n, n_outputs) → (n_inputs, n_outputs) weights of differences from the mean."""
    deviation = inputs.std(dim=0)
    normal = (inputs - inputs.mean(dim=0)) / deviation
    table = normal.T @ normal + ridge * len(normal) * torch.eye(normal.shape[1])
    return torch.linalg.solve(table, normal.T @ (truth - truth.mean(dim=0))) / deviation[:, None]


def neighbours(places: Tensor, generator: Generator) -> Tensor:
    """(powers, 128): random weights of powers near a band's middle; bands lie closer at the bottom."""
    edges = (12 ** (torch.arange(N_BANDS + 1) / N_BANDS) - 1) / 11
    middle, width = (edges[1:] + edges[:-1]) / 2, edges.diff().clamp_min(0.75 / len(places.unique()))
    near = torch.exp(-(((places[:, None] - middle) / width) ** 2) / 2) + 1e-7
    return near * torch.rand(near.shape, generator=generator)


def closed_form(feature: str, windows: Tensor) -> Tensor:
    """(n, 2048) → (n, n_outputs)."""
    return torch.from_numpy(compute_feature(FEATURES[feature], windows.numpy()))


def coloured_noise(n: int, generator: Generator, colour: float) -> Tensor:
    """(n, 2048) windows of noise, of a root mean square of about 1: levels wander over the spectrum and fall
    towards its top, bands end, some have the comb of a voice, and they grow and fade.

    colour : 0 for white noise, 1 for levels of 100 dB and more between bands
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    n_bins = WINDOW + 1
    place = torch.linspace(0, 1, n_bins)
    knots = int(torch.randint(4, 60, (), generator=generator))
    wandering = torch.randn(n, 1, knots, generator=generator) * draw(1, 1) * 30
    level = nn.functional.interpolate(wandering, size=n_bins, mode="linear", align_corners=True)[:, 0]
    level = level - 70 * draw(1) * place
    steep = 90 * draw(1)
    level = level - steep * torch.sigmoid(120 * (place - 0.15 - 1.4 * draw(1)))
    level = level - steep * torch.sigmoid(400 * (0.08 * draw(1) - 0.04 - place))
    pitch, voiced = (60 + 400 * draw(1)) / 11025, draw(1) < 0.6
    level = level - 20 * draw(1) * voiced * (1 - torch.cos(2 * math.pi * place / pitch))
    normal = torch.view_as_complex(torch.randn(n, n_bins, 2, generator=generator))
    long = torch.fft.irfft(normal * 10 ** (colour * level / 20), n=2 * WINDOW)
    windows = long[:, WINDOW // 2 : WINDOW // 2 + WINDOW]
    knots = int(torch.randint(2, 9, (), generator=generator))
    louder = (1.5 * draw(1, 1) * torch.randn(n, 1, knots, generator=generator)).exp()
    windows = (
        windows * nn.functional.interpolate(louder, size=WINDOW, mode="linear", align_corners=True)[:, 0]
    )
    windows = windows / windows.square().mean(dim=1, keepdim=True).sqrt()
    floor = 10 ** (-1 - 4 * colour * draw(1))
    return windows + floor * torch.randn(n, WINDOW, generator=generator)


def as_recorded(windows: Tensor, generator: Generator) -> Tensor:
    """The same at levels of recordings, some off centre, in 16 bits, some with digital silence: zeros have a
    sign, too."""
    n = len(windows)
    level = 10 ** (-0.5 - 4.3 * torch.rand(n, 1, generator=generator))
    offset = 2 * torch.randn(n, 1, generator=generator) * (torch.rand(n, 1, generator=generator) < 0.4)
    steps = ((windows + offset) * level * STEPS).round().clamp(-STEPS, STEPS - 1) / STEPS
    bounds = torch.rand(n, 2, generator=generator).sort(dim=1).values * WINDOW
    time = torch.arange(WINDOW)
    silent = (time >= bounds[:, :1]) & (time < bounds[:, 1:]) & (torch.rand(n, 1, generator=generator) < 0.3)
    return steps * ~silent


def loss_of(feature: str, imitation: Tensor, truth: Tensor, deviation: Tensor) -> Tensor:
    """Levels are compared by their logarithm, so that faint bands count as loud ones do."""
    if feature in ("mel", "rms"):
        return ((imitation + FAINT).log() - (truth + FAINT).log()).square().mean()
    if feature == "chroma":
        shares = ((imitation + 1e-5).log() - (truth + 1e-5).log()).square().mean()
        return 10 * (imitation - truth).square().mean() + 0.01 * shares
    return ((imitation - truth) / deviation).square().mean()


def learn(config: BenchmarkConfig, fin: Powers | Crossings, generator: Generator) -> int:
    """Until the time is over; returns the steps that were made."""
    groups = [{"params": list(part), "peak": peak} for part, peak in fin.rates(config.learning_rate)]
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate, betas=(0.9, 0.99))
    deviation = closed_form(config.feature, coloured_noise(4096, generator, 1.0)).std(dim=0)
    start, n_steps = time.monotonic(), 0
    while (share := (time.monotonic() - start) / 60 / config.minutes) < 1:
        factor = min(1, share / WARM_UP + 0.02) * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        windows = coloured_noise(128, generator, min(1, config.curriculum + 1.4 * share))
        if config.feature in ("zcr", "rms", "mfcc"):  # the level tells nothing new of the others
            windows = as_recorded(windows, generator)
        loss = loss_of(config.feature, fin(windows), closed_form(config.feature, windows), deviation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(fin.parameters(), 1.0)
        optimizer.step()
        n_steps += 1
        if n_steps % 500 == 0:
            print(
                f"{n_steps:,} steps, {60 * config.minutes * share:.0f} s, loss {loss.item():.2e}", flush=True
            )
    return n_steps


def main(config: BenchmarkConfig) -> None:
    """A line of a Markdown table: R² uniform on made speech, and on each store."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    fin = Crossings() if config.feature == "zcr" else Powers(config.feature, config.start)
    fin.prepare(generator)
    n_steps = learn(config, fin, generator)
    stores = [Store(path) for path in config.store]
    names = ["made speech", *(store.utterances["corpus"][0] for store in stores)]
    clips = [synthetic_clips(), *(store_clips(store, MOST) for store in stores)]
    cells = [r2_text(score_clips(fin, FEATURES[config.feature], some).result().uniform) for some in clips]
    print(machine(), f"; 1 thread, seed {config.seed}, {n_steps:,} steps of 128 windows", sep="")
    print(f"| feature | start | parameters | minutes | {' | '.join(names)} |")
    about = (config.feature, fin.start, f"{count_parameters(fin):,}", f"{config.minutes:g}")
    print(f"| {' | '.join([*about, *cells])} |")


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
