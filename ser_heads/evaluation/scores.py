"""UAR, WA, F1, confusion, and intervals from resampling speakers; the numbers are scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVELS = (2.5, 97.5)  # percentiles of the resamples that bound the 95 % interval
METRICS = ("uar", "wa", "macro_f1", "weighted_f1")


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
        draws = np.random.default_rng(seed).multinomial(
            n_speakers, [1 / n_speakers] * n_speakers, n_resamples
        )
        # in floats, which are exact here, because a product of ints isn't done by BLAS
        resampled = draws.astype(float) @ by_speaker.reshape(n_speakers, -1).astype(float)
        for name, values in metrics(resampled.reshape(-1, *confusion.shape)).items():
            low, high = np.percentile(values, LEVELS)
            interval[name] = (float(low), float(high))
    return Scores(
        labels=tuple(labels),
        **{name: float(value) for name, value in metrics(confusion).items()},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        n_utterances=len(truth),
        n_speakers=n_speakers,
        interval_95=interval,
    )


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
    tables = []
    for answers in (first, second):
        _, by_speaker = count_confusions(np.asarray(truth), np.asarray(answers), speakers, len(labels))
        tables.append(by_speaker.astype(float))
    n = len(tables[0])
    observed = _gain(tables[0].sum(axis=0), tables[1].sum(axis=0))
    interval: dict[str, tuple[float, float] | None] = dict.fromkeys(METRICS)
    p: dict[str, float | None] = dict.fromkeys(METRICS)
    if n > 1:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n, [1 / n] * n, n_resamples).astype(float)
        resampled = _gain(*(np.tensordot(draws, table, 1) for table in tables))
        if 2**n <= n_resamples:
            kept = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(float)
        else:
            kept = rng.integers(2, size=(n_resamples, n)).astype(float)
            kept[0] = 1
        ones, others = (
            np.tensordot(kept, a, 1) + np.tensordot(1 - kept, b, 1) for a, b in (tables, tables[::-1])
        )
        exchanged = _gain(ones, others)
        for name in METRICS:
            low, high = np.percentile(resampled[name], LEVELS)
            interval[name] = (float(low), float(high))
            p[name] = float((np.abs(exchanged[name]) >= np.abs(observed[name]) - 1e-12).mean())
    return Difference({name: float(observed[name]) for name in METRICS}, interval, p, n)


def _gain(first: NDArray, second: NDArray) -> dict[str, NDArray]:
    ours, theirs = metrics(first), metrics(second)
    return {name: ours[name] - theirs[name] for name in METRICS}


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
