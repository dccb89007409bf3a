"""Answers about several recordings of one speaker, matched to the shares that labels have among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ser_heads.inference.predict import Prediction

EVEN = "even"
LEAST = 1e-6  # of a probability, as tables keep it, and of a share
CLOSE, MOST_STEPS = 1e-9, 1_000
ROUNDING = 0.01  # by which shares may miss 1 together


def match_shares(
    probabilities: NDArray[np.float64], shares: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Probabilities whose mean is nearer to known shares of the labels: (n, n_labels) → the same shape.

    A model that takes a new speaker for angry throughout does so for all of that speaker's recordings. Each
    label gets an offset, the same for all recordings, with which its mean probability would be its share:
    rows and columns are scaled in turn (Deming and Stephan 1940; for priors of classifiers Saerens et al.
    2002). Few recordings say little: of the offsets n / (n + n_labels) are applied.

    shares : (n_labels,), together 1; by default all labels have the same
    """
    logits = np.log(np.maximum(probabilities, LEAST))
    n, n_labels = logits.shape
    wanted = np.full(n_labels, 1 / n_labels) if shares is None else np.maximum(shares, LEAST)
    offsets = np.zeros(n_labels)
    for _ in range(MOST_STEPS if n else 0):
        mean = softmax(logits + offsets).mean(axis=0)
        offsets += np.log(wanted / mean)
        if np.abs(mean - wanted).max() < CLOSE:
            break
    return softmax(logits + n / (n + n_labels) * offsets)


def match_each_speaker(
    probabilities: NDArray[np.float64], speakers: Sequence[str], shares: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """`match_shares` of the recordings of each speaker: (n, n_labels), (n,) → (n, n_labels)."""
    matched, names = np.empty_like(probabilities), np.asarray(speakers, dtype=object)
    for speaker in set(speakers):
        of_speaker = names == speaker
        matched[of_speaker] = match_shares(probabilities[of_speaker], shares)
    return matched


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def shares_of(shares: str | Mapping[str, float], labels: Sequence[str]) -> list[float]:
    """The share of each label, together 1.

    shares : "even", or label → share of some labels or all; those that aren't named have what is left, evenly
    Raises ValueError in one sentence for others.
    """
    given = {} if shares == EVEN else shares
    if not isinstance(given, Mapping):
        raise ValueError(f"shares are {EVEN!r}, or label and share of some labels: got {shares!r}")
    for label, share in given.items():
        if label not in labels or not 0 <= share <= 1:
            known = ", ".join(labels)
            raise ValueError(
                f"shares are of labels, from 0 to 1: got {label}={share:g}, the labels are {known}"
            )
    left, n_others = 1 - sum(given.values()), len(labels) - len(given)
    if left < -ROUNDING or (left > ROUNDING and not n_others):
        raise ValueError(f"shares are 1 together: got {1 - left:g}")
    all_shares = [given.get(label, max(left, 0.0) / max(n_others, 1)) for label in labels]
    return [share / sum(all_shares) for share in all_shares]


def parse_shares(words: Sequence[str]) -> str | dict[str, float]:
    """Of an option's words: even, or label=share of some labels; ValueError in one sentence for others."""
    if list(words) == [EVEN]:
        return EVEN
    shares: dict[str, float] = {}
    for word in words:
        label, _, number = word.rpartition("=")
        try:
            share = float(number)
        except ValueError as error:
            raise ValueError(f"--shares is even, or label=share such as angry=0.5: got {word!r}") from error
        if label in shares:
            raise ValueError(f"--shares has {label} twice")
        shares[label] = share
    return shares


def match_predictions(
    predictions: Sequence[Prediction], shares: str | Mapping[str, float] = EVEN
) -> list[Prediction]:
    """Answers about recordings of one speaker, as `match_shares` moves them; a note says so.

    shares : as of `shares_of`, which raises ValueError for what can't be meant
    """
    if not predictions:
        return []
    labels = list(predictions[0].probabilities)
    rows = match_shares(
        np.array([list(one.probabilities.values()) for one in predictions]), shares_of(shares, labels)
    )
    return [
        replace(
            one,
            label=labels[int(row.argmax())],
            confidence=float(row.max()),
            probabilities=dict(zip(labels, row.tolist(), strict=True)),
            note="; ".join(
                filter(None, (one.note, f"matched to shares of labels over {len(rows)} recordings"))
            ),
        )
        for one, row in zip(predictions, rows, strict=True)
    ]
