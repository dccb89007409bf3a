"""Streamed R² against scikit-learn on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from fins.learning.r2 import R2Accumulator


def streamed(truth: np.ndarray, imitation: np.ndarray, sizes: list[int]) -> R2Accumulator:
    accumulator = R2Accumulator(truth.shape[1])
    for batch in np.split(np.arange(len(truth)), np.cumsum(sizes)):
        accumulator.update(truth[batch], imitation[batch])
    return accumulator


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 200),
    n_outputs=st.integers(1, 6),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    cuts=st.lists(st.integers(1, 20), max_size=5),
)
def test_equal_to_scikit_learn(seed: int, n: int, n_outputs: int, offset: float, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    truth = offset + rng.standard_normal((n, n_outputs)) * 10 ** rng.uniform(-2, 2, n_outputs)
    imitation = truth + rng.standard_normal((n, n_outputs))
    result = streamed(truth, imitation, cuts).result()
    assert result.n_windows == n
    for kind, value in (("uniform_average", result.uniform), ("variance_weighted", result.variance_weighted)):
        assert value == pytest.approx(r2_score(truth, imitation, multioutput=kind), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(
        np.array(result.per_output, float),
        r2_score(truth, imitation, multioutput="raw_values"),
        rtol=1e-6,
        atol=1e-6,
    )


def test_outputs_without_variance_are_counted_apart() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((50, 4))
    truth[:, 1], truth[:, 3] = 0.1, 0  # the mean of six 0.1 is another number: it must still give no variance
    assert np.full(6, 0.1).mean() != 0.1
    imitation = truth + 0.1
    result = streamed(truth, imitation, [6, 20]).result()
    assert result.constant_outputs == (1, 3)
    assert result.per_output[1] is None and result.per_output[3] is None
    assert result.uniform == pytest.approx(r2_score(truth[:, [0, 2]], imitation[:, [0, 2]]), abs=1e-6)
    nothing = streamed(truth[:, [1]], imitation[:, [1]], []).result()
    assert (nothing.uniform, nothing.variance_weighted, nothing.constant_outputs) == (None, None, (0,))


def test_merging_equals_seeing_all() -> None:
    rng = np.random.default_rng(1)
    truth, imitation = rng.standard_normal((2, 90, 3)) + 100
    left, right = streamed(truth[:30], imitation[:30], [10]), streamed(truth[30:], imitation[30:], [1, 2])
    left.merge(right)
    assert left.result().uniform == pytest.approx(r2_score(truth, imitation))


def test_wrong_shapes_and_nan_are_refused() -> None:
    accumulator = R2Accumulator(2)
    with pytest.raises(ValueError, match="differ in shape"):
        accumulator.update(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="NaN"):
        accumulator.update(np.zeros((1, 2)), np.array([[0, np.nan]]))
