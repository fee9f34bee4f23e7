from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.stats import block_counts, difference, group_means, interval


@settings(max_examples=100, deadline=None)
@given(times=st.integers(1, 60), block=st.integers(1, 80), seed=st.integers(0, 9))
def test_every_resample_has_the_series_length(times, block, seed):
    counts = block_counts(times, block, 20, seed)
    assert counts.shape == (20, times)
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts.sum(axis=1), times)
    np.testing.assert_array_equal(counts, block_counts(times, block, 20, seed))


def test_every_time_is_drawn_equally_often():
    counts = block_counts(30, 7, 20_000, 1)
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.05)


def test_neighbours_stay_together():
    together = block_counts(200, 20, 2_000, 0)
    alone = block_counts(200, 1, 2_000, 0)
    assert np.corrcoef(together[:, 5], together[:, 6])[0, 1] > 0.8
    assert abs(np.corrcoef(alone[:, 5], alone[:, 6])[0, 1]) < 0.1


def test_an_interval_covers_as_often_as_it_says():
    """A mean of overlapping sums: blocks longer than the overlap give honest intervals, single rows do not."""
    random = np.random.default_rng(2)
    groups = np.arange(400)
    covered = {1: 0, 10: 0}
    for _ in range(200):
        series = np.convolve(random.normal(size=404), np.ones(5), mode="valid")
        for block in covered:
            estimate = interval(series.mean(), group_means(series, groups, block_counts(400, block, 300, 3)))
            covered[block] += estimate.low <= 0.0 <= estimate.high
    assert covered[10] > 0.87 * 200
    assert covered[1] < 0.75 * 200


def test_group_means_weigh_rows():
    counts = np.array([[1.0, 1.0], [2.0, 0.0]])
    values, groups = np.array([1.0, 2.0, 6.0]), np.array([0, 1, 1])
    assert group_means(values, groups, counts).tolist() == [3.0, 1.0]


def test_p_values():
    random = np.random.default_rng(0)
    noise = random.normal(size=5_000)
    assert difference(0.0, noise).p_value == 1.0
    assert difference(2.0, 2.0 + noise).p_value == pytest.approx(0.0455, abs=0.01)
    assert difference(5.0, 5.0 + noise).p_value < 0.001
    assert difference(5.0, 5.0 + noise).p_value > 0.0


def test_nothing_finite():
    estimate = interval(float("nan"), np.array([np.nan]))
    assert estimate.to_dict() == {"value": None, "low": None, "high": None}
