"""UAR, WA, F1, confusion, and intervals from resampling speakers; the numbers are scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVELS = (2.5, 97.5)  # percentiles of the resamples that bound the 95 % interval
METRICS = ("uar", "wa", "macro_f1", "weighted_f1")
OF_A_PART = (*METRICS, "precision", "per_label", "interval_95")  # of each part, in every result


@dataclass(frozen=True)
class Scores:
    """How well emotions were recognised in some utterances; every score is in [0, 1].

    uar : mean recall over the emotions that occur in the truth
    wa : share of utterances that are right
    macro_f1 : mean F1 over the emotions that occur in the truth
    weighted_f1 : mean F1 weighted by how often an emotion occurs in the truth
    confusion : utterances of truth (row) and prediction (column), in the order of `labels`
    interval_95 : lower and upper bound of each score, None with fewer than two speakers
    """

    labels: tuple[str, ...]
    uar: float
    wa: float
    macro_f1: float
    weighted_f1: float
    confusion: tuple[tuple[int, ...], ...]
    n_utterances: int
    n_speakers: int
    interval_95: dict[str, tuple[float, float] | None]


def score_labels(
    truth: ArrayLike,
    prediction: ArrayLike,
    speakers: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
    n_resamples: int = 10_000,
) -> Scores:
    """Scores of predictions, with percentile intervals from a bootstrap over speakers.

    truth, prediction : (n,) int, places in `labels`
    speakers : (n,) names that are unique over corpora, such as "ravdess/01"
    labels : the words that an utterance can have here
    seed : of the resampling

    A resample draws as many speakers as there are, with replacement, each with all of its utterances: those
    of one speaker aren't independent. An emotion that a resample lacks is left out of its means. Raises
    ValueError for no utterances, unequal lengths and places outside of `labels`.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    _, by_speaker = count_confusions(truth, prediction, speakers, len(labels))
    confusion = by_speaker.sum(axis=0)
    n_speakers = len(by_speaker)
    interval: dict[str, tuple[float, float] | None] = dict.fromkeys(METRICS)
    if n_speakers > 1:
        resampled = resample(by_speaker, np.random.default_rng(seed), n_resamples)
        interval |= {name: bounds_of(values) for name, values in metrics(resampled).items()}
    return Scores(
        labels=tuple(labels),
        **{name: float(value) for name, value in metrics(confusion).items()},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        n_utterances=len(truth),
        n_speakers=n_speakers,
        interval_95=interval,
    )


def resample(by_group: NDArray, rng: np.random.Generator, n_resamples: int = 10_000) -> NDArray:
    """Sums of as many groups as there are, drawn with replacement.

    by_group : (n_groups, ...) counts; returns : (n_resamples, ...) float, which holds them exactly
    """
    kinds, counts = distinct(by_group)
    draws = rng.multinomial(len(by_group), counts / len(by_group), n_resamples)
    # in floats because a product of ints isn't done by BLAS
    summed = draws.astype(float) @ kinds.reshape(len(kinds), -1).astype(float)
    return summed.reshape(-1, *by_group.shape[1:])


def distinct(by_group: NDArray) -> tuple[NDArray, NDArray]:
    """Groups that differ, in the order of their first, and how many there are of each.

    Thousands of utterances that are groups of their own are of a few kinds, which are quicker to draw.
    """
    flat = by_group.reshape(len(by_group), -1)
    _, first, counts = np.unique(flat, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    return by_group[first[order]], counts[order]


def bounds_of(values: NDArray) -> tuple[float, float]:
    """The 95 % interval of resampled values."""
    low, high = np.percentile(values, LEVELS)
    return float(low), float(high)


def macro_precision(confusions: NDArray) -> NDArray:
    """Mean precision over the labels that occur in the truth; of one that is never predicted it is 0.

    confusions : as of `metrics`; returns : (...). Equal to scikit-learn's `precision_score` with those labels
    and zero_division=0.
    """
    support, predicted = confusions.sum(axis=-1), confusions.sum(axis=-2)
    precision = np.diagonal(confusions, axis1=-2, axis2=-1) / np.maximum(predicted, 1)
    return (precision * (support > 0)).sum(axis=-1) / (support > 0).sum(axis=-1)


def metrics(confusions: NDArray) -> dict[str, NDArray]:
    """The four scores of confusion matrices.

    confusions : (..., n_labels, n_labels), utterances of truth (row) and prediction (column)
    returns : uar, wa, macro_f1 and weighted_f1, each (...)

    Recall and F1 are averaged over the labels that occur in the truth; others only cost precision. Equal to
    `recall_score`, `accuracy_score` and `f1_score` of scikit-learn with those labels. Raises ValueError for a
    matrix without utterances.
    """
    support = confusions.sum(axis=-1)  # (..., n_labels)
    predicted = confusions.sum(axis=-2)
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    n = support.sum(axis=-1)
    if (n == 0).any():
        raise ValueError("there are no utterances in a confusion matrix, so it has no scores")
    n_occurring = (support > 0).sum(axis=-1)
    # where a label doesn't occur, nothing is right: its recall and F1 add 0 to the sums
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return {
        "uar": recall.sum(axis=-1) / n_occurring,
        "wa": right.sum(axis=-1) / n,
        "macro_f1": f1.sum(axis=-1) / n_occurring,
        "weighted_f1": (f1 * support).sum(axis=-1) / n,
    }


def score_each_label(confusion: NDArray, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Label → precision, recall, F1 and n_utterances; what has none is 0, as in scikit-learn."""
    support, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)
    return {
        label: {
            "precision": float(right[place] / max(1, predicted[place])),
            "recall": float(right[place] / max(1, support[place])),
            "f1": float(2 * right[place] / max(1, support[place] + predicted[place])),
            "n_utterances": int(support[place]),
        }
        for place, label in enumerate(labels)
    }


def count_confusions(
    truth: NDArray, prediction: NDArray, groups: Sequence[str], n_labels: int
) -> tuple[list[str], NDArray]:
    """A confusion matrix for each group: the sorted names, and (n_groups, n_labels, n_labels) counts."""
    n = len(truth)
    if not n == len(prediction) == len(groups):
        raise ValueError(
            f"truth, prediction and names differ in length: {n}, {len(prediction)} and {len(groups)}"
        )
    if n == 0:
        raise ValueError("there are no utterances to score")
    for places in (truth, prediction):
        if places.min() < 0 or places.max() >= n_labels:
            raise ValueError(f"labels are 0 to {n_labels - 1}, got {places.min()} to {places.max()}")
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    shape = (len(names), n_labels, n_labels)
    cells = np.ravel_multi_index((group, truth, prediction), shape)
    return names.tolist(), np.bincount(cells, minlength=len(names) * n_labels**2).reshape(shape)


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another on the same utterances.

    by : first minus second, of each score; interval_95 : as of `Scores`, with the same resampled speakers
    p : of each score, how often a difference at least as large comes about if the models' answers to each
        speaker are exchanged at random; None with fewer than two speakers
    """

    by: dict[str, float]
    interval_95: dict[str, tuple[float, float] | None]
    p: dict[str, float | None]
    n_speakers: int


def difference(
    truth: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    speakers: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
    n_resamples: int = 10_000,
) -> Difference:
    """Compare two models' answers to the same utterances, speaker by speaker; arguments as of `score`.

    With up to 13 speakers all exchanges are counted, else as many as there are resamples, with this one.
    """
    tables = [
        count_confusions(np.asarray(truth), np.asarray(answers), speakers, len(labels))[1]
        for answers in (first, second)
    ]
    pairs = np.stack(tables, axis=1).astype(float)  # (speaker, model, truth, answer)
    n = len(pairs)
    observed = _gain(pairs.sum(axis=0))
    interval: dict[str, tuple[float, float] | None] = dict.fromkeys(METRICS)
    p: dict[str, float | None] = dict.fromkeys(METRICS)
    if n > 1:
        rng = np.random.default_rng(seed)
        resampled = _gain(resample(pairs, rng, n_resamples))
        exchanged = _gain(exchange(pairs, rng, n_resamples))
        for name in METRICS:
            interval[name] = bounds_of(resampled[name])
            p[name] = float((np.abs(exchanged[name]) >= np.abs(observed[name]) - 1e-12).mean())
    return Difference({name: float(observed[name]) for name in METRICS}, interval, p, n)


def exchange(pairs: NDArray, rng: np.random.Generator, n_resamples: int) -> NDArray:
    """Sums over groups whose two models are exchanged or not: all ways, or this one and some that are drawn.

    pairs : (n_groups, 2, ...) counts; returns : (n_ways, 2, ...)
    """
    n = len(pairs)
    kinds, counts = (pairs, np.ones(n, int)) if 2**n <= n_resamples else distinct(pairs)
    if 2**n <= n_resamples:
        kept = np.arange(2**n)[:, None] >> np.arange(n) & 1
    elif counts.max() == 1:
        kept = rng.integers(2, size=(n_resamples, n))
    else:
        kept = rng.binomial(counts, 0.5, size=(n_resamples, len(kinds)))
    if 2**n > n_resamples:
        kept[0] = counts
    flat, flipped = (table.reshape(len(kinds), -1) for table in (kinds, kinds[:, ::-1]))
    summed = kept.astype(float) @ flat + (counts - kept).astype(float) @ flipped
    return summed.reshape(-1, *pairs.shape[1:])


def _gain(pairs: NDArray) -> dict[str, NDArray]:
    """(..., 2, n_labels, n_labels) → the first's scores minus the second's, each (...)."""
    scores = metrics(pairs)
    return {name: values[..., 0] - values[..., 1] for name, values in scores.items()}


def holm(p: Sequence[float]) -> list[float]:
    """P-values of several comparisons, corrected so that the chance of any false one stays what it says (Holm
    1979)."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()


def score_groups(
    truth: ArrayLike,
    prediction: ArrayLike,
    groups: Sequence[str],
    labels: Sequence[str],
) -> dict[str, dict]:
    """uar, wa and n_utterances of each group, sorted by name; UAR is over the labels that occur in the group.

    truth, prediction, labels : as `score_labels` has them
    groups : (n,) names, such as those of the corpora or the speakers
    """
    names, confusions = count_confusions(np.asarray(truth), np.asarray(prediction), groups, len(labels))
    scores = metrics(confusions)
    return {
        name: {
            "uar": float(scores["uar"][place]),
            "wa": float(scores["wa"][place]),
            "n_utterances": int(confusions[place].sum()),
        }
        for place, name in enumerate(names)
    }


def restrict(
    logits: NDArray, labels: Sequence[str], wanted: Sequence[str]
) -> tuple[NDArray, tuple[str, ...]]:
    """Probabilities of the labels that a model and a test corpus share.

    logits : (n, n_classes), a column for each of the model's labels; wanted : labels that the corpus has
    returns : (n, n_shared) float64, rows sum to 1; and the shared labels, in the order of the model's

    Where the model knows calm and the corpus doesn't, calm counts as neutral, if both know that. Where the
    corpus has a label that the model doesn't know, its utterances are for the caller to leave out. Raises
    ValueError if no label is shared, for another shape, and for logits that aren't finite.
    """
    if logits.ndim != 2 or logits.shape[1] != len(labels):
        raise ValueError(f"logits have the shape (n, {len(labels)}), got {logits.shape}")
    shared = tuple(label for label in labels if label in wanted)
    if not shared:
        raise ValueError(
            f"the model knows {', '.join(labels)} and the corpus has {', '.join(wanted)}: "
            "no emotion is shared"
        )
    column = {label: logits[:, place].astype(np.float64) for place, label in enumerate(labels)}
    if not all(np.isfinite(values).all() for values in column.values()):
        raise ValueError("logits hold NaN or infinity, so they give no probabilities")
    if "calm" in labels and "calm" not in wanted and "neutral" in shared:
        column["neutral"] = np.logaddexp(column["neutral"], column["calm"])
    # one softmax over what is left equals one over all, renormalised, and stays exact where that is nearly 0
    kept = np.stack([column[label] for label in shared], axis=1)
    odds = np.exp(kept - kept.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True), shared


def scores_as_json(scores: Scores) -> dict:
    """The fields of `Scores` as plain lists, numbers and None."""
    return asdict(scores) | {
        "labels": list(scores.labels),
        "confusion": [list(row) for row in scores.confusion],
        "interval_95": {
            name: None if bounds is None else list(bounds) for name, bounds in scores.interval_95.items()
        },
    }
