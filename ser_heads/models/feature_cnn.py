"""The FIN publication's classifier: features averaged over time, and a stack of convolutions over them.

The 162 averages → batch norm → convolutions of 8 taps: 256, 256, batch norm, dropout, max pool 8, four of
128, batch norm, dropout, max pool 8, two of 64 → logits. On closed forms it is the publication's baseline;
on FINs, frozen and then tuned, its proposal. Each of the five features can be the one or the other.

It takes whole recordings, where the publication took 2.5 s from 0.6 s on (`pipelines.prepare --clip
0.6:3.1`), keeps the best epoch in place of the last one, and tunes FINs for as long and at the rate that
`fin` does, which the publication leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from fins.features import STORED
from fins.networks import Fin
from ser_heads.frontends import FrameBatch, FrontEnd, Joined
from ser_heads.frontends.fins import FinFrontEnd, closed_forms, starting_fins
from ser_heads.frontends.waveform import Trim
from ser_heads.model import ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

DROPOUT = 0.25
POOL = 8
Start = Literal["imitation", "permuted", "none"]


@dataclass(frozen=True)
class FeatureCnnOptions:
    """Raises ValueError for a start that isn't there to be chosen."""

    fins: tuple[str, ...] = ()
    """FINs by name or folder of a run, in the places of closed forms; by default none."""
    pretraining: Start = "imitation"
    """What its FINs know at the start: imitation of their features, the same with bands of shuffled bins
    (permuted), or none, but random weights."""

    def __post_init__(self) -> None:
        if self.pretraining not in get_args(Start):
            raise ValueError(
                f"--pretraining is one of {', '.join(get_args(Start))} here, got {self.pretraining!r}: its "
                "features are closed forms wherever --fins names none"
            )


class FeatureCnn(nn.Module):
    """Averages of a recording's frames → (batch, n_classes) logits; padding is left out."""

    def __init__(self, n_classes: int, n_columns: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_columns)
        self.layers = nn.Sequential(
            *convolutions(1, 256, 2),
            nn.BatchNorm1d(256),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(POOL),
            *convolutions(256, 128, 4),
            nn.BatchNorm1d(128),
            nn.Dropout(DROPOUT),
            nn.MaxPool1d(POOL),
            *convolutions(128, 64, 2),
            nn.Flatten(),
        )
        self.logits = nn.Linear(64 * (n_columns // POOL // POOL), n_classes)

    def forward(self, frames: FrameBatch) -> Tensor:
        return self.logits(self.embed(frames))

    def embed(self, frames: FrameBatch) -> Tensor:
        """(batch, 128), from which the logits are a linear map. Frames are 0 beyond each end."""
        averages = frames.values.sum(dim=1) / frames.lengths[:, None]
        return self.layers(self.norm(averages)[:, None])


def convolutions(n_inputs: int, n_channels: int, n_layers: int) -> list[nn.Module]:
    """Layers of 8 taps that keep the length, each with its ReLU."""
    layers: list[nn.Module] = []
    for number in range(n_layers):
        layers += [
            nn.ConstantPad1d((3, 4), 0.0),
            nn.Conv1d(n_inputs if number == 0 else n_channels, n_channels, 8),
            nn.ReLU(),
        ]
    return layers


def features_in_order(fins: Mapping[str, Fin]) -> FrontEnd:
    """The five features in their own order, then others; closed forms apart, so that they can be kept."""
    order = [*STORED, *(name for name in fins if name not in STORED)]
    computed = [name for name in order if name not in fins]
    members = [FinFrontEnd({name: fins[name] for name in order if name in fins})] if fins else []
    members += [FinFrontEnd(closed_forms(computed))] if computed else []
    if len(members) == 1:
        return members[0]
    columns: dict[str, range] = {}
    start = 0
    for member in members:
        columns |= {name: range(start + s.start, start + s.stop) for name, s in member.slices.items()}
        start += member.n_columns
    return Joined(members, [column for name in order for column in columns[name]])


def build_feature_cnn(options: FeatureCnnOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    frontend = features_in_order(fins)
    head = FeatureCnn(len(labels), frontend.n_columns)
    return SerModel("feature_cnn", options, labels, Trim(quiet=None), frontend, nn.Identity(), head)


FEATURE_CNN = ModelEntry(
    "feature_cnn",
    "averages of 162 features, closed forms or FINs, and a stack of convolutions",
    "the FIN publication's classifier",
    FeatureCnnOptions,
    build_feature_cnn,
    lambda options: starting_fins(options.fins, options.pretraining),
    Recipe(
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        copies=0,
        class_weights=0.0,
        label_smoothing=0.0,
        augmentation=NO_AUGMENTATION,
    ),
)
