"""Spectral features and a support vector machine: centroid, bandwidth or energy of five bands.

The features are those of `ser_heads.frontends.spectral`, each of the three a matrix of 5 bands × 200 frames,
whose columns, one behind another, are what the machine takes. All three are tried, with each kernel and cost
of a grid; validation chooses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.networks import Fin
from fins.progress import SILENT, Watch
from ser_heads.evaluation.scores import count_confusions, metrics
from ser_heads.frontends import FrameBatch
from ser_heads.frontends.spectral import BANDS, FEATURES, N_FRAMES, SpectralFrontEnd
from ser_heads.frontends.waveform import Trim
from ser_heads.model import FrameLayout, ModelEntry, SerModel
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

Floats = NDArray[np.float32]
Kernel = Literal["rbf", "linear", "poly"]  # poly is of degree 3
KERNELS: tuple[str, ...] = get_args(Kernel)
DEGREE = 3


@dataclass(frozen=True)
class SvmGrid:
    """What is tried, with each of the three features; validation chooses.

    Raises ValueError for an empty grid, an unknown kernel, and a cost that can't be meant.
    """

    c: tuple[float, ...] = (10.0,)
    """Cost of a recording on the wrong side, one or several."""
    kernel: tuple[Kernel, ...] = ("rbf",)
    """One or several."""

    def __post_init__(self) -> None:
        if not (self.c and self.kernel and all(c > 0 and math.isfinite(c) for c in self.c)):
            raise ValueError(
                "--svm.c and --svm.kernel have one value or several, every cost a number above 0"
            )
        if not set(self.kernel) <= set(KERNELS):
            raise ValueError(f"--svm.kernel is of {', '.join(KERNELS)}, got {', '.join(self.kernel)}")


@dataclass(frozen=True)
class SpectralSvmOptions:
    """Of the recipe it takes copies and class weights."""

    svm: SvmGrid = field(default_factory=SvmGrid)


@dataclass(frozen=True)
class Candidate:
    """One row of a history: a machine that was tried."""

    feature: str
    kernel: str
    c: float
    n_support_vectors: int
    seconds: float
    train_uar: float
    validation_uar: float
    validation_wa: float

    def goodness(self) -> tuple[float, float]:
        return self.validation_uar, self.validation_wa


class SvmExamples(NamedTuple):
    """Recordings that a machine learns from, or is judged by; copies count as recordings.

    features : (n, 200, 15) float32, values of the front end's frames
    targets : (n,) int64, places in the model's labels
    weights : (n,) what each counts, or None for 1
    """

    features: Floats
    targets: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class GridResult:
    """What came of trying several machines.

    rows : what was tried, in that order; best : feature → the best row of it
    tensors : feature → the head's state with the best machine of it
    best_feature : the one that validated best, which the model is now
    stopped : converged, or minutes if the time was spent before all were tried
    """

    rows: Sequence[Candidate]
    best: Mapping[str, Candidate]
    tensors: Mapping[str, dict[str, Tensor]]
    best_feature: str
    stopped: Literal["converged", "minutes"]


class SpectralSvm(nn.Module):
    """One of the spectral features → (batch, n_classes) decision values, which stand for logits.

    The machine is scikit-learn's SVC, fitted to standardised features and kept as plain tensors. A decision
    value is the number of other labels that a label wins against, and less than a third up or down by how
    clearly: SVC's own `decision_function`, whose largest is its answer with `break_ties`. Shares that are
    made of them are no probabilities. Until it is fitted there are no support vectors, and all is one.
    """

    columns: Tensor  # (5,) of the 15
    kernel: Tensor  # () place in KERNELS
    gamma: Tensor  # ()
    mean: Tensor  # (1000,)
    scale: Tensor  # (1000,)
    support_vectors: Tensor  # (n, 1000)
    dual_coefficients: Tensor  # (n_pairs, n), 0 for vectors of neither label of a pair
    intercepts: Tensor  # (n_pairs,)

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes
        n_inputs, n_pairs = len(BANDS) * N_FRAMES, n_classes * (n_classes - 1) // 2
        empty = {
            "columns": torch.arange(len(BANDS)),
            "kernel": torch.tensor(0),
            "gamma": torch.ones((), dtype=torch.float64),
            "mean": torch.zeros(n_inputs, dtype=torch.float64),
            "scale": torch.ones(n_inputs, dtype=torch.float64),
            "support_vectors": torch.zeros(0, n_inputs, dtype=torch.float64),
            "dual_coefficients": torch.zeros(n_pairs, 0, dtype=torch.float64),
            "intercepts": torch.zeros(n_pairs, dtype=torch.float64),
        }
        for name, tensor in empty.items():
            self.register_buffer(name, tensor)

    def forward(self, frames: FrameBatch) -> Tensor:
        return self.decide(frames.values)

    def decide(self, features: Tensor) -> Tensor:
        """(batch, 200, 15) → (batch, n_classes)."""
        stacked = features[..., self.columns].flatten(1).double()  # frame by frame, its five bands
        kernels = self._kernels((stacked - self.mean) / self.scale)  # (batch, n)
        pairs = kernels @ self.dual_coefficients.T + self.intercepts  # (batch, n_pairs), > 0 for the first
        first, second = torch.triu_indices(self.n_classes, self.n_classes, 1, device=pairs.device)
        none = pairs.new_zeros(len(pairs), self.n_classes)
        wins = (pairs >= 0).to(pairs)
        votes = none.index_add(1, first, wins).index_add(1, second, 1 - wins)
        clear = none.index_add(1, first, pairs).index_add(1, second, -pairs)
        return (votes + clear / (3 * (clear.abs() + 1))).float()

    def _kernels(self, features: Tensor) -> Tensor:
        """(batch, 1000) → (batch, n), with each support vector."""
        kind = KERNELS[int(self.kernel)]
        products = features @ self.support_vectors.T
        if kind == "linear":
            return products
        if kind == "poly":
            return (self.gamma * products) ** DEGREE
        squares = features.square().sum(dim=1)[:, None] + self.support_vectors.square().sum(dim=1)
        return torch.exp(-self.gamma * (squares - 2 * products).clamp_min(0))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """How many support vectors there are is known from the tensors alone."""
        for name, own in list(self.named_buffers()):
            tensor = state_dict.get(prefix + name)
            if tensor is not None:
                setattr(self, name, own.new_empty(tensor.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        n_pairs, n = self.n_classes * (self.n_classes - 1) // 2, len(self.support_vectors)
        whole = self.dual_coefficients.shape == (n_pairs, n) and self.intercepts.shape == (n_pairs,)
        if not (whole and self.mean.shape == self.scale.shape == self.support_vectors.shape[1:]):
            raise ValueError("the tensors of a support vector machine don't fit together")

    def n_fitted(self) -> int:
        """How many numbers are learned, none of which is a parameter."""
        fitted = (self.mean, self.scale, self.support_vectors, self.dual_coefficients, self.intercepts)
        return sum(tensor.numel() for tensor in fitted)


def fit(
    model: SerModel,
    train: SvmExamples,
    validation: SvmExamples,
    *,
    seconds: float | None = None,
    watch: Watch = SILENT,
) -> GridResult:
    """Try the grid of the model's options with each feature; of each feature, and of all, the machine of the
    best validation UAR is kept, of equals that of the best WA, of these the first.

    seconds : budget; one machine of each feature is tried in any case
    Raises ValueError if training recordings lack a label of the model.
    """
    head, grid = cast(SpectralSvm, model.head), model.options.svm
    missing = [label for place, label in enumerate(model.labels) if place not in train.targets]
    if missing:
        raise ValueError(f"no training recording is labelled {', '.join(missing)}: leave out such labels")
    started = time.monotonic()
    machines = [(kernel, c, name) for kernel in grid.kernel for c in grid.c for name in FEATURES]
    rows: list[Candidate] = []
    tensors: dict[str, dict[str, Tensor]] = {}
    best: dict[str, Candidate] = {}
    with watch.bar(len(machines), "machines") as bar:
        for kernel, c, name in machines:
            if seconds is not None and len(best) == len(FEATURES) and time.monotonic() - started >= seconds:
                break
            state = fitted_state(name, kernel, c, train)
            head.load_state_dict(state)
            learned, unseen = scores_of(head, train), scores_of(head, validation)
            n, spent = len(head.support_vectors), round(time.monotonic() - started, 2)
            row = Candidate(name, kernel, c, n, spent, learned["uar"], unseen["uar"], unseen["wa"])
            rows.append(row)
            if name not in best or row.goodness() > best[name].goodness():
                best[name], tensors[name] = row, state
            bar.update()
    best_feature = max(best, key=lambda name: best[name].goodness())
    head.load_state_dict(tensors[best_feature])
    stopped: Literal["converged", "minutes"] = "converged" if len(rows) == len(machines) else "minutes"
    return GridResult(rows, best, tensors, best_feature, stopped)


def fitted_state(feature: str, kernel: str, c: float, train: SvmExamples) -> dict[str, Tensor]:
    """A machine fitted by scikit-learn, as a head holds it."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    columns = columns_of(feature)
    stacked = train.features[..., columns].reshape(len(train.features), -1).astype(np.float64)
    scaler = StandardScaler().fit(stacked)
    svm = SVC(C=c, kernel=kernel, degree=DEGREE)
    svm.fit(scaler.transform(stacked), train.targets, train.weights)
    return tensors_of(columns, kernel, scaler, svm)


def scores_of(head: SpectralSvm, examples: SvmExamples) -> dict[str, float]:
    """UAR and WA among others, in [0, 1]."""
    with torch.no_grad():
        features = torch.from_numpy(examples.features).to(head.mean.device)
        labels = head.decide(features).argmax(dim=1).cpu().numpy()
    groups = ["all"] * len(labels)
    _, confusions = count_confusions(examples.targets, labels, groups, head.n_classes)
    return {name: float(values[0]) for name, values in metrics(confusions).items()}


def columns_of(feature: str) -> NDArray[np.int64]:
    """Which of the 15 columns are those of a feature."""
    return FEATURES.index(feature) * len(BANDS) + np.arange(len(BANDS))


def tensors_of(
    columns: NDArray[np.int64], kernel: str, scaler: StandardScaler, svm: SVC
) -> dict[str, Tensor]:
    """A fitted machine as what a SpectralSvm holds."""
    n_of = np.concatenate([[0], np.cumsum(svm.n_support_)])  # support vectors lie label by label
    pairs = []
    for first in range(len(svm.classes_)):
        for second in range(first + 1, len(svm.classes_)):
            row = np.zeros(len(svm.support_))
            of_first, of_second = (slice(n_of[place], n_of[place + 1]) for place in (first, second))
            # of each vector, one row for each other label
            row[of_first] = svm.dual_coef_[second - 1, of_first]
            row[of_second] = svm.dual_coef_[first, of_second]
            pairs.append(row)
    sign = -1 if len(svm.classes_) == 2 else 1  # of two labels, SVC has the second one above 0
    return {
        "columns": torch.from_numpy(columns),
        "kernel": torch.tensor(KERNELS.index(kernel)),
        "gamma": torch.tensor(float(svm._gamma), dtype=torch.float64),
        "mean": torch.from_numpy(scaler.mean_),
        "scale": torch.from_numpy(scaler.scale_),
        "support_vectors": torch.from_numpy(np.ascontiguousarray(svm.support_vectors_)),
        "dual_coefficients": torch.from_numpy(sign * np.stack(pairs)),
        "intercepts": torch.from_numpy(sign * svm.intercept_),
    }


def build(options: SpectralSvmOptions, labels: Sequence[str], fins: Mapping[str, Fin]) -> SerModel:
    """Not fitted yet."""
    head, layout = SpectralSvm(len(labels)), FrameLayout(n_frames=N_FRAMES)
    trim, frontend, norm = Trim(quiet=None), SpectralFrontEnd(), nn.Identity()
    return SerModel("spectral_svm", options, labels, trim, frontend, norm, head, layout)


SPECTRAL_SVM = ModelEntry(
    "spectral_svm",
    "published: a support vector machine on centroid, bandwidth or energy of five bands",
    "Hosseinzadeh and Krishnan 2008, doi:10.1155/2008/258184 (its features)",
    SpectralSvmOptions,
    build,
    recipe=Recipe(copies=0, class_weights=0.0, augmentation=NO_AUGMENTATION),
    fit=fit,
)
