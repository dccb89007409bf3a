"""What training makes small: cross-entropy or focal loss of weighted, smoothed shares of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_heads.training.recipe import Recipe


def class_weights(targets: NDArray[np.int64], groups: Sequence[str], exponent: float) -> NDArray[np.float32]:
    """(n,): what each training recording counts in the loss, by how often its label occurs in its corpus.

    targets : (n,) places of labels; groups : the corpus of each
    The weights are (mean count of a label in a corpus / count of this one) ** exponent, so that no corpus
    says how likely a label is, and a small one is heard too.
    """
    corpora = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    cells = np.stack([corpora, targets])
    _, places, counts = np.unique(cells, axis=1, return_inverse=True, return_counts=True)
    return ((counts.mean() / counts) ** exponent)[places.reshape(-1)].astype(np.float32)


def weighted_targets(targets: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    """(batch,) places and (batch,) weights → (batch, n_classes): the weight at the label, else 0.

    A place beyond the classes is a word that the model doesn't know: there all is 0.
    """
    known = targets < n_classes
    shares = nn.functional.one_hot(targets * known, n_classes).float()
    return shares * (weights * known)[:, None]


def loss_of(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Cross-entropy or focal loss, mean over the batch.

    logits : (batch, n_classes); targets : the same shape, weighted shares of labels
    Raises ValueError for logits of another shape, as of a head that doesn't know all labels.
    """
    if logits.shape != targets.shape:
        expected = tuple(targets.shape)
        raise ValueError(
            f"logits have the shape {tuple(logits.shape)}, needed is {expected}: one for each label"
        )
    smoothing = recipe.label_smoothing
    weight = targets.sum(dim=1, keepdim=True)
    targets = (1 - smoothing) * targets + smoothing * weight / targets.shape[1]
    log = logits.log_softmax(dim=1)
    each = targets * log
    if recipe.loss == "focal":
        each = each * (1 - log.exp()) ** recipe.focusing
    return -each.sum(dim=1).mean()


def penalty_of(model: nn.Module) -> Tensor | None:
    """Sum of the penalties of the modules that have one, such as wavelet packets; None without any."""
    having = [penalty for module in model.modules() if (penalty := getattr(module, "penalty", None))]
    penalties = [penalty() for penalty in having]
    return torch.stack(penalties).sum() if penalties else None
