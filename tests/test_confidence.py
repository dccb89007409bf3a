"""Confidence: the risk–coverage curve and its area, the threshold of abstention, and what is said of both."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from conftest import make_recordings
from matplotlib.image import imread

from fins.data.store import write_store
from fins.runs import read_json
from ser_heads.evaluation.calibration import FEWEST, abstain, fit_abstention, risk_coverage
from ser_heads.evaluation.plots import plot_risk
from ser_heads.evaluation.predictions import read_predictions
from ser_heads.evaluation.unseen import EvaluateOptions, evaluate
from ser_heads.experiments.config import configure
from ser_heads.experiments.run import train_classifier
from ser_heads.experiments.run_page import describe_threshold
from ser_heads.models import load

RNG = np.random.default_rng(0)


def test_the_curve_is_what_counting_gives() -> None:
    confidence, right = RNG.integers(1, 30, 200) / 30, RNG.random(200) < 0.6
    curve = risk_coverage(confidence, right)
    assert (np.diff(curve.threshold) < 0).all() and set(curve.threshold) == set(confidence)
    for threshold, coverage, risk in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean()) and risk == pytest.approx((~right[answered]).mean())
        assert abstain(confidence, right, threshold) == pytest.approx({"coverage": coverage, "risk": risk})
    assert abstain(confidence, right, 1.1) == {"coverage": 0.0, "risk": None}


def test_areas_in_closed_form() -> None:
    n_right, n_wrong = 30, 10
    right = np.arange(40) < n_right
    sure = risk_coverage(np.linspace(0.9, 0.1, 40), right).area
    assert sure == pytest.approx(sum((k - n_right) / k for k in range(n_right + 1, 41)) / 40)
    worst = risk_coverage(np.linspace(0.1, 0.9, 40), right).area
    assert worst == pytest.approx((n_wrong + sum(n_wrong / k for k in range(n_wrong + 1, 41))) / 40)
    assert risk_coverage(np.full(40, 0.7), right).area == pytest.approx(n_wrong / 40)  # no order
    with pytest.raises(ValueError, match="no answers"):
        risk_coverage(np.empty(0), np.empty(0, bool))


def test_the_area_of_ties_is_the_mean_over_all_their_orders() -> None:
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.2])
    right = np.array([True, False, True, False, True])
    areas = []
    for order in permutations((1, 2, 3)):
        wrong = (~right[[0, *order, 4]]).cumsum()
        areas.append((wrong / np.arange(1, 6)).mean())
    assert risk_coverage(confidence, right).area == pytest.approx(np.mean(areas))


def test_a_written_curve_is_thinned_and_keeps_its_end() -> None:
    confidence, right = RNG.random(5_000), RNG.random(5_000) < 0.5
    curve, written = risk_coverage(confidence, right), risk_coverage(confidence, right).as_json()
    assert len(written["coverage"]) == len(written["risk"]) == len(written["threshold"]) == 100
    np.testing.assert_allclose(written["coverage"], np.arange(1, 101) / 100, atol=2e-4)
    assert written["risk"][-1] == pytest.approx(1 - right.mean(), abs=1e-6) and written["area"] == curve.area
    few = risk_coverage(np.array([0.2, 0.8, 0.5]), np.array([True, True, False])).as_json()
    assert few["threshold"] == [0.8, 0.5, 0.2] and few["coverage"][-1] == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_that_halves_what_is_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.random(300)
    right = rng.random(300) < 0.3 + 0.6 * confidence
    threshold = fit_abstention(confidence, right)

    def halves(least: float) -> bool:
        answered = confidence >= least
        return answered.sum() >= FEWEST and (~right[answered]).mean() <= (~right).mean() / 2

    assert halves(threshold)
    assert not any(halves(lower) for lower in confidence[confidence < threshold])
    assert np.abs(confidence - threshold).min() > 0  # digits that are cut off change nothing


def test_without_a_good_threshold_nothing_is_left_out() -> None:
    sure = np.linspace(0.1, 0.9, 100)
    assert fit_abstention(sure, np.ones(100, bool)) == 0
    assert fit_abstention(sure, sure < 0.5) == 0  # surest where it is wrong
    assert fit_abstention(sure, np.arange(100) >= 95) == 0  # fewer than 20 would be left
    assert fit_abstention(sure, np.arange(100) >= 100 - FEWEST) > 0
    assert fit_abstention(np.empty(0), np.empty(0, bool)) == 0


def test_a_threshold_in_words() -> None:
    parts = {"validation": {"coverage": 0.5, "risk": 0.1}, "test": {"coverage": 0.4, "risk": 0.25}}
    text = describe_threshold({"threshold": 0.6, **parts})
    assert "confidence of 0.600" in text and "40.0 % of the test part" in text and "25.0 % are wrong" in text
    assert "None of the test part" in describe_threshold(
        {"threshold": 0.6, "test": {"coverage": 0, "risk": None}}
    )
    assert "none is kept" in describe_threshold({"threshold": 0.0, **parts})


def test_the_picture_of_a_curve(tmp_path: Path) -> None:
    curve = risk_coverage(RNG.random(200), RNG.random(200) < 0.5).as_json()
    plot_risk(tmp_path / "risk.png", curve, "a title")
    assert imread(tmp_path / "risk.png").std() > 0.01


def test_a_run_keeps_its_threshold_and_unseen_stores_are_judged_by_it(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def middle(confidence: np.ndarray, right: np.ndarray) -> float:
        parts.append((confidence, right))
        return float(np.median(confidence))

    monkeypatch.setattr("ser_heads.experiments.run.fit_abstention", middle)
    options = {"frozen_epochs": 6, "copies": 0, "store": (small_store,), "out": tmp_path / "run"}
    result = train_classifier(configure("feature_cnn", **options)).result
    ((confidence, right),) = parts
    assert len(confidence) == result["parts"]["validation"]["n_utterances"]
    assert right.mean() == pytest.approx(result["by_part"]["validation"]["wa"])
    threshold = result["abstention"]["threshold"]
    assert threshold == pytest.approx(np.median(confidence), abs=1e-6)
    assert float(load(tmp_path / "run").abstention) == threshold
    write_store(tmp_path / "other.h5", make_recordings(40, corpus="other", n_speakers=5))
    evaluate(EvaluateOptions((tmp_path / "run",), (tmp_path / "other.h5",), tmp_path / "out"))
    for folder in (tmp_path / "run", tmp_path / "out"):
        written, predictions = read_json(folder / "result.json"), read_predictions(folder)
        surest = predictions.probabilities.max(axis=1)
        wrong = (predictions.table["emotion"] != predictions.table["answer"]).to_numpy()
        found = written["abstention"]["test"]
        surely, perhaps = (surest >= threshold + digits for digits in (1e-6, -1e-6))  # six are written
        assert surely.mean() <= found["coverage"] <= perhaps.mean()
        n_wrong = (found["risk"] or 0) * found["coverage"] * len(wrong)
        assert wrong[surely].sum() - 1e-6 <= n_wrong <= wrong[perhaps].sum() + 1e-6
        assert 0 <= written["calibration_error"] <= 1 and written["risk_coverage"]["coverage"][-1] == 1
        assert "area under the risk–coverage curve" in (folder / "README.md").read_text()
    page = (tmp_path / "out" / "README.md").read_text()
    own = f"{100 * result['calibration_error']:.1f} points"
    assert "isn't to be trusted as the chance of being right" in page and own in page
    assert "Of fewer than 300 recordings" in page
