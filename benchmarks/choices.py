"""What each choice in learning a FIN from noise is worth: R² on the synthetic corpus with it and without.

python benchmarks/choices.py [STORE...]      scores on stores too
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from common import machine

import fins
from fins.data.store import Store
from fins.features import FEATURES, compute_features
from fins.features.spectrum import mel_filters
from fins.learning.degradations import score_clips, store_clips, synthetic_clips
from fins.learning.r2 import r2_text
from fins.learning.stages import Stage, learn, nothing
from fins.networks import FinConfig, build_fin
from fins.networks.compact import CompactFin
from fins.networks.fourier import bin_of_power, white_noise
from fins.networks.spectral import MelFin
from fins.networks.waveform import ZcrFin

SEED = 0
MOST = 100  # clips of a store

Change = Callable[[CompactFin, list[Stage]], list[Stage]]


def as_it_is(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    return stages


def free_signs(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """Band weights may be negative."""
    return [replace(stage, after_step=nothing, finish=nothing) for stage in stages]


def not_rounded(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """What ends below a hundred-thousandth of a band's largest weight stays."""
    return [replace(stage, finish=nothing) for stage in stages]


def real_powers(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """Bands learn from the powers of white noise instead of normal numbers."""
    name = next(name for name, child in fin.named_children() if name in ("bands", "classes"))
    bands, spectrum = fin.get_submodule(name), fin.get_submodule("spectrum")

    def powers(n: int, generator: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            return spectrum(white_noise(n, generator))

    place = torch.zeros(1025, dtype=torch.int64)
    place[bin_of_power()] = torch.arange(len(bin_of_power()))
    old = stages[1].target
    stage = replace(
        stages[1],
        excite=powers,
        imitate=lambda values: bands(values) / bands.scale,
        target=lambda values: old(values[:, place]),
    )
    return [stages[0], stage, *stages[2:]]


def not_scaled(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """Band weights in their own unit, so that rows differ in length."""
    assert isinstance(fin, MelFin)
    length = torch.from_numpy(mel_filters()).norm(dim=1)
    fin.bands.scale.div_(length)
    return fin.stages()


def end_to_end(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """All weights at once, from white noise to the feature, for as many steps."""
    feature = fin.feature

    def target(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compute_features(windows.numpy(), [feature])[feature])

    levels = target(white_noise(1024, torch.Generator().manual_seed(0)))
    mean, deviation = levels.mean(dim=0), levels.std(dim=0)
    return [
        Stage(
            "everything",
            list(fin.parameters()),
            excite=white_noise,
            imitate=lambda windows: (fin.imitate(windows) - mean) / deviation,
            target=lambda windows: (target(windows) - mean) / deviation,
            n_steps=5000,
            batch_size=64,
            learning_rate=1e-3,
        )
    ]


def hard_signs_of_one_level(fin: CompactFin, stages: list[Stage]) -> list[Stage]:
    """Signs learn from normal numbers of one level, without faint samples and zeros."""
    stage = replace(stages[0], excite=lambda n, generator: torch.randn(n, generator=generator))
    return [stage, *stages[1:]]


CHOICES: list[tuple[str, str, Change]] = [
    ("mfcc", "as it is", as_it_is),
    ("mfcc", "band weights of any sign", free_signs),
    ("mfcc", "small band weights not rounded to zero", not_rounded),
    ("mfcc", "bands learned from powers, all positive", real_powers),
    ("mfcc", "rows of band weights not scaled", not_scaled),
    ("mfcc", "end to end on white noise, without stages", end_to_end),
    ("chroma", "as it is", as_it_is),
    ("chroma", "bands learned from powers, all positive", real_powers),
    ("zcr", "as it is", as_it_is),
    ("zcr", "signs learned from one level, no zeros", hard_signs_of_one_level),
]


def main(stores: list[str]) -> None:
    """A Markdown table: a row a choice."""
    corpora = {store: Store(store) for store in stores}
    names = ["synthetic", *(store.utterances["corpus"][0] for store in corpora.values())]
    print(machine(), f"; seed {SEED}; R² uniform", sep="")
    print(f"| feature | choice | {' | '.join(names)} |\n|---|---|{'--:|' * len(names)}", flush=True)
    for feature, choice, change in CHOICES:
        torch.manual_seed(SEED)
        fin = build_fin(FinConfig(feature))
        assert isinstance(fin, CompactFin)
        stages = fin.stages()
        if change is not end_to_end and not isinstance(fin, ZcrFin):  # the first stage is alike in all
            fin.get_submodule("spectrum").load_state_dict(
                fins.load("mfcc").get_submodule("spectrum").state_dict()
            )
            stages = change(fin, stages)[1:]
        else:
            stages = change(fin, stages)
        learn(stages, SEED, lambda stage, step, loss: None)
        cells = [score_clips(fin, FEATURES[feature], synthetic_clips())]
        cells += [score_clips(fin, FEATURES[feature], store_clips(store, MOST)) for store in corpora.values()]
        print(f"| {feature} | {choice} | {' | '.join(r2_text(cell.result().uniform) for cell in cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
