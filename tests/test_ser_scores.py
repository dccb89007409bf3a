"""Scores of emotions against scikit-learn, closed forms and simulated speakers; the pictures of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy.stats import permutation_test
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from data_manifests.labels import EMOTIONS
from fins.figures import new_figure
from ser_heads.evaluation import plots
from ser_heads.evaluation.scores import (
    METRICS,
    Scores,
    difference,
    holm,
    metrics,
    restrict,
    score_groups,
    score_labels,
    scores_as_json,
)

RNG = np.random.default_rng(0)


def scikit_learn(truth: np.ndarray, prediction: np.ndarray, n_labels: int) -> dict[str, float]:
    occurring, every = np.unique(truth), np.arange(n_labels)
    return {
        "uar": recall_score(truth, prediction, labels=occurring, average="macro"),
        "wa": accuracy_score(truth, prediction),
        "macro_f1": f1_score(truth, prediction, labels=occurring, average="macro"),
        "weighted_f1": f1_score(truth, prediction, labels=every, average="weighted", zero_division=0),
    }


def simulate(
    n_speakers: int, seed: int, n_each: int = 5, n_labels: int = 4
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Truth, prediction and speakers; each speaker has an accuracy of its own, 4 / 7 on average."""
    rng = np.random.default_rng(seed)
    truth = np.tile(np.arange(n_labels), (n_speakers, n_each))
    right = rng.random(truth.shape) < rng.beta(4, 3, (n_speakers, 1))
    prediction = np.where(right, truth, (truth + rng.integers(1, n_labels, truth.shape)) % n_labels)
    speakers = np.repeat([f"corpus/{number:02d}" for number in range(n_speakers)], truth.shape[1])
    return truth.reshape(-1), prediction.reshape(-1), speakers.tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 120),
    n_labels=st.integers(2, 8),
    n_true=st.integers(1, 8),
    n_predicted=st.integers(1, 8),
)
def test_equal_to_scikit_learn(seed: int, n: int, n_labels: int, n_true: int, n_predicted: int) -> None:
    """Also where labels are absent from the truth or never predicted."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(rng.permutation(n_labels)[:n_true], n)
    prediction = rng.choice(rng.permutation(n_labels)[:n_predicted], n)
    speakers = [f"s{number}" for number in rng.integers(0, 5, n)]
    found = score_labels(truth, prediction, speakers, EMOTIONS[:n_labels], n_resamples=10)
    for name, expected in scikit_learn(truth, prediction, n_labels).items():
        assert getattr(found, name) == pytest.approx(expected, abs=1e-12), name
    assert found.labels == EMOTIONS[:n_labels]
    np.testing.assert_array_equal(
        found.confusion, confusion_matrix(truth, prediction, labels=np.arange(n_labels))
    )
    assert (found.n_utterances, found.n_speakers) == (n, len(set(speakers)))


def test_metrics_of_many_matrices_are_those_of_each() -> None:
    confusions = RNG.integers(0, 4, (3, 5, 6, 6))
    many = metrics(confusions)
    for place in np.ndindex(3, 5):
        truth, prediction = np.divmod(np.repeat(np.arange(36), confusions[place].reshape(-1)), 6)
        for name, expected in scikit_learn(truth, prediction, 6).items():
            assert many[name][place] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("n_labels", [2, 5, 8])
def test_closed_forms(n_labels: int) -> None:
    truth = np.tile(np.arange(n_labels), 6)
    speakers = [f"s{place % 3}" for place in range(len(truth))]
    perfect = score_labels(truth, truth, speakers, EMOTIONS[:n_labels], n_resamples=100)
    assert all(getattr(perfect, name) == 1 and perfect.interval_95[name] == (1, 1) for name in METRICS)
    one = score_labels(truth, np.ones_like(truth), speakers, EMOTIONS[:n_labels], n_resamples=100)
    assert (one.uar, one.wa) == (pytest.approx(1 / n_labels), pytest.approx(1 / n_labels))
    assert one.macro_f1 == pytest.approx(2 / (n_labels + 1) / n_labels)  # precision 1 / C, recall 1, once


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """300 corpora of 40 speakers; a bootstrap over utterances would cover about 70 %."""
    n_trials, covered = 300, 0
    for trial in range(n_trials):
        found = score_labels(*simulate(40, trial), EMOTIONS[:4], seed=trial, n_resamples=500)
        low, high = found.interval_95["uar"] or (1, 0)
        covered += low <= 4 / 7 <= high
    assert 0.90 <= covered / n_trials <= 0.98


def test_interval_is_that_of_a_loop_over_resamples() -> None:
    """The same by drawing speakers one by one, up to the noise of 4000 resamples of each."""
    truth, prediction, speakers = simulate(8, 3)
    found = score_labels(truth, prediction, speakers, EMOTIONS[:4], n_resamples=4000)
    rows = np.array([np.flatnonzero(np.array(speakers) == name) for name in sorted(set(speakers))])
    rng = np.random.default_rng(1)
    correct = (truth == prediction)[rows].mean(
        axis=1
    )  # classes are balanced in each speaker: UAR = WA = mean
    looped = [correct[rng.integers(0, 8, 8)].mean() for _ in range(4000)]
    for name in ("uar", "wa"):
        expected = tuple(np.percentile(looped, [2.5, 97.5]))
        assert found.interval_95[name] == pytest.approx(expected, abs=0.01)


def test_a_resample_without_an_emotion_leaves_it_out() -> None:
    """Two speakers, an emotion each, always right: UAR is 1 unless absent emotions count as wrong."""
    found = score_labels([0, 0, 1], [0, 0, 1], ["a", "a", "b"], EMOTIONS[:3], n_resamples=200)
    assert found.interval_95["uar"] == found.interval_95["macro_f1"] == (1, 1)


def test_interval_is_repeatable_and_wider_with_fewer_speakers() -> None:
    def width(found: Scores, name: str) -> float:
        low, high = found.interval_95[name] or (0, 0)
        assert low < getattr(found, name) < high
        return high - low

    many, few = simulate(60, 0), simulate(6, 0)
    first = score_labels(*many, EMOTIONS[:4], seed=1)
    assert first == score_labels(*many, EMOTIONS[:4], seed=1)
    assert first.interval_95 != score_labels(*many, EMOTIONS[:4], seed=2).interval_95
    for name in METRICS:
        assert width(score_labels(*few, EMOTIONS[:4]), name) > 1.5 * width(first, name)


def test_one_speaker_gives_no_interval() -> None:
    found = score_labels(*simulate(1, 0), EMOTIONS[:4])
    assert found.n_speakers == 1 and found.interval_95 == dict.fromkeys(METRICS)


def test_what_has_no_score_is_refused() -> None:
    labels = EMOTIONS[:2]
    with pytest.raises(ValueError, match="there are no utterances"):
        score_labels([], [], [], labels)
    with pytest.raises(ValueError, match="differ in length: 2, 1 and 2"):
        score_labels([0, 1], [0], ["a", "b"], labels)
    with pytest.raises(ValueError, match="differ in length: 2, 2 and 1"):
        score_labels([0, 1], [0, 1], ["a"], labels)
    with pytest.raises(ValueError, match="differ in length: 2, 2 and 1"):
        score_groups([0, 1], [0, 1], ["a"], labels)
    for wrong in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="labels are 0 to 1"):
            score_labels(wrong, [0, 1], ["a", "b"], labels)
        with pytest.raises(ValueError, match="labels are 0 to 1"):
            score_labels([0, 1], wrong, ["a", "b"], labels)
    with pytest.raises(ValueError, match="no utterances in a confusion matrix"):
        metrics(np.zeros((2, 3, 3)))


def answers_of(rng: np.random.Generator, truth: np.ndarray, share: float) -> np.ndarray:
    """Right in about that share of the utterances."""
    return np.where(rng.random(len(truth)) < share, truth, rng.integers(4, size=len(truth)))


def test_a_difference_is_that_of_the_scores_and_its_p_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    for n_speakers in (5, 8):
        truth = np.tile(np.arange(4), 5 * n_speakers)
        speakers = np.repeat([f"s{i}" for i in range(n_speakers)], 20)
        first, second = answers_of(rng, truth, 0.6), answers_of(rng, truth, 0.5)
        found = difference(truth, first, second, list(speakers), "abcd")
        ours, theirs = (score_labels(truth, its, list(speakers), "abcd") for its in (first, second))
        assert found.by["uar"] == pytest.approx(ours.uar - theirs.uar)
        assert found.by["macro_f1"] == pytest.approx(ours.macro_f1 - theirs.macro_f1)
        # where all speakers have as many utterances of each emotion, UAR is the mean over speakers
        each = [
            (first == truth)[speakers == s].mean() - (second == truth)[speakers == s].mean()
            for s in dict.fromkeys(speakers)
        ]
        expected = permutation_test(
            (each, np.zeros(n_speakers)),
            lambda a, b, axis: (a - b).mean(axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=True,
        )
        assert found.p["uar"] == pytest.approx(expected.pvalue)
        assert found.p["wa"] == pytest.approx(expected.pvalue)


def test_p_of_equal_models_is_as_likely_as_it_says_and_of_unequal_ones_small() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(4), 150)
    speakers = [f"s{i:02d}" for i in np.repeat(np.arange(30), 20)]
    equal = [
        difference(truth, answers_of(rng, truth, 0.5), answers_of(rng, truth, 0.5), speakers, "abcd", 0, 400)
        for _ in range(300)
    ]
    share = np.mean([its.p["uar"] <= 0.1 for its in equal])
    assert 0.06 <= share <= 0.14  # 10 %, and three standard errors
    held = np.mean([its.interval_95["uar"][0] <= 0 <= its.interval_95["uar"][1] for its in equal])  # type: ignore[index]
    assert 0.90 <= held <= 0.98
    better = difference(truth, answers_of(rng, truth, 0.8), answers_of(rng, truth, 0.5), speakers, "abcd")
    assert better.p["uar"] is not None and better.p["uar"] < 1e-3
    assert better.interval_95["uar"] is not None and better.interval_95["uar"][0] > 0
    same = difference(truth, truth, truth, speakers, "abcd")
    assert same.by["uar"] == 0 and same.p["uar"] == 1
    assert difference(truth, truth, truth, ["s"] * len(truth), "abcd").p["uar"] is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_groups_are_scored_each_for_itself() -> None:
    truth, prediction = RNG.integers(0, 5, (2, 300))
    groups = RNG.choice(["tess", "esd", "savee"], 300)
    truth[groups == "esd"] %= 3  # has fewer emotions
    found = score_groups(truth, prediction, groups.tolist(), EMOTIONS[:5])
    assert list(found) == ["esd", "savee", "tess"]
    for name, row in found.items():
        own = groups == name
        expected = scikit_learn(truth[own], prediction[own], 5)
        assert row == {
            "uar": pytest.approx(expected["uar"]),
            "wa": pytest.approx(expected["wa"]),
            "n_utterances": own.sum(),
        }
    json.dumps(found, allow_nan=False)


def test_json_holds_every_field_and_nothing_but_json() -> None:
    for n_speakers in (1, 5):
        found = score_labels(*simulate(n_speakers, 0), EMOTIONS[:4], n_resamples=100)
        written = scores_as_json(found)
        assert json.loads(json.dumps(written, allow_nan=False)) == written  # tuples would come back as lists
        assert written.pop("labels") == list(found.labels)
        assert written.pop("confusion") == [list(row) for row in found.confusion]
        assert written.pop("interval_95") == {
            name: None if n_speakers == 1 else list(found.interval_95[name] or ()) for name in METRICS
        }
        assert written == {name: getattr(found, name) for name in (*METRICS, "n_utterances", "n_speakers")}


WITHOUT_CALM = tuple(name for name in EMOTIONS if name != "calm")
CORPUS = ("surprise", "neutral", "angry")  # in another order


@pytest.mark.parametrize(
    ("known", "wanted", "labels", "expected"),
    [
        # of odds 1 to 8 in the order of EMOTIONS: angry 1, calm 2, ... neutral 6, sad 7, surprise 8
        (EMOTIONS, EMOTIONS, EMOTIONS, np.arange(1, 9) / 36),
        (EMOTIONS, CORPUS, ("angry", "neutral", "surprise"), np.array([1, 6 + 2, 8]) / 17),
        (WITHOUT_CALM, CORPUS, ("angry", "neutral", "surprise"), np.array([1, 6, 8]) / 15),
        (WITHOUT_CALM, EMOTIONS, WITHOUT_CALM, np.array([1, 3, 4, 5, 6, 7, 8]) / 34),
        (("calm", "neutral"), ("calm", "neutral", "sad"), ("calm", "neutral"), np.array([2, 6]) / 8),
        # nothing to count calm as
        (("angry", "calm", "sad"), ("angry", "neutral", "sad"), ("angry", "sad"), np.array([1, 7]) / 8),
        (EMOTIONS, ("angry", "sad"), ("angry", "sad"), np.array([1, 7]) / 8),
    ],
)
def test_restrict_by_hand(known: tuple, wanted: tuple, labels: tuple, expected: np.ndarray) -> None:
    places = [EMOTIONS.index(label) + 1 for label in known]
    logits = np.log(places)[None].astype(np.float32)
    probabilities, shared = restrict(logits, known, wanted)
    assert shared == labels
    np.testing.assert_allclose(probabilities, expected[None], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.1, 10.0, 1e4]),
    known=st.sets(st.sampled_from(EMOTIONS), min_size=1),
    wanted=st.sets(st.sampled_from(EMOTIONS), min_size=1),
)
def test_restricted_probabilities_sum_to_one(seed: int, scale: float, known: set, wanted: set) -> None:
    """Also where the shared emotions have next to no probability before."""
    logits = scale * np.random.default_rng(seed).standard_normal((20, len(known)))
    if not known & wanted:
        with pytest.raises(ValueError, match="no emotion is shared"):
            restrict(logits, sorted(known), sorted(wanted))
        return
    probabilities, labels = restrict(logits, sorted(known), sorted(wanted))
    assert labels == tuple(sorted(known & wanted)) and probabilities.shape == (20, len(labels))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)


def test_what_has_no_shared_probabilities_is_refused() -> None:
    logits = np.zeros((2, 8))
    with pytest.raises(ValueError, match="knows angry and the corpus has sad: no emotion is shared"):
        restrict(logits[:, :1], ["angry"], ["sad"])
    with pytest.raises(ValueError, match=r"shape \(n, 8\), got \(2, 7\)"):
        restrict(logits[:, :7], EMOTIONS, EMOTIONS)
    logits[0, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity"):
        restrict(logits, EMOTIONS, EMOTIONS)


HISTORY = [
    {
        "epoch": epoch,
        "phase": "frozen" if epoch < 4 else "finetuned",
        "train_loss": 2 / epoch,
        "validation_loss": 2.2 / epoch,
        "validation_uar": 1 - 0.8 / epoch,
    }
    for epoch in range(1, 8)
]
GROUPS = {f"ravdess/{n:02d}": {"uar": n / 10, "wa": n / 10, "n_utterances": 60} for n in range(11)}
RECALLS = {"tess": {"angry": 0.5, "calm": 0.0}, "esd": {"sad": 1.0}}


@pytest.mark.parametrize(
    ("draw", "least"),
    [
        (
            lambda path: plots.plot_confusion(path, [[3, 1, 0], [0, 0, 0], [2, 2, 9]], EMOTIONS[:3], "title"),
            0.05,
        ),
        (lambda path: plots.plot_learning_curves(path, HISTORY, 2, "title"), 0.002),
        (lambda path: plots.plot_learning_curves(path, HISTORY[:1], 1, "title"), 0.0001),
        (lambda path: plots.plot_groups(path, GROUPS, "title", 8), 0.1),
        (lambda path: plots.plot_recalls(path, RECALLS, EMOTIONS, "title"), 0.03),
    ],
    ids=["confusion", "learning_curves", "one_epoch", "groups", "recalls"],
)
def test_each_picture_is_drawn(tmp_path: Path, draw: Callable[[Path], None], least: float) -> None:
    """Coloured ink left of legends and colour bars is this share of the picture or more; words are black."""
    draw(tmp_path / "picture.png")
    height, width, _ = (picture := imread(tmp_path / "picture.png")[..., :3]).shape
    assert height > 200 and width > 400
    coloured = np.ptp(picture[:, : width * 2 // 3], axis=2) > 0.2
    assert coloured.mean() > least


def test_the_epoch_that_is_kept_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def watched(*arguments: Any) -> Any:
        drawn.append(new_figure(*arguments))
        return drawn[-1]

    monkeypatch.setattr(plots, "new_figure", watched)
    plots.plot_learning_curves(tmp_path / "a.png", HISTORY, 3, "title")
    (mark,) = [line for line in drawn[0][1][1].lines if line.get_label().startswith("kept")]
    assert (mark.get_xdata(), mark.get_ydata()) == ([3], [HISTORY[2]["validation_uar"]])
