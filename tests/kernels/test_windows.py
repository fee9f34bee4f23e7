"""Windowed steps against exact rational arithmetic and plain scans, on series made to break running sums."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.kernels.moments import line, mean_and_deviation, moments
from tapeline.kernels.rolling import highest, lag, lowest, rolling_sum, weighted_mean

from tests.kernels.driver import run

_magnitudes = st.sampled_from([1e-9, 1e-6, 1.0, 1e6, 1e12])
_values = st.builds(lambda scale, x: scale * x, _magnitudes, st.floats(0.5, 2.0))
_series = st.lists(_values, min_size=1, max_size=60)
_periods = st.integers(2, 12)


def _exact_moments(window: list[float]) -> tuple[float, float]:
    exact = [Fraction(x) for x in window]
    mean = sum(exact) / len(exact)
    return float(mean), float(sum((x - mean) ** 2 for x in exact))


@settings(max_examples=200, deadline=None)
@given(_series, _periods)
def test_a_rolling_sum_forgets_whatever_has_left(series: list[float], n: int) -> None:
    """Values 21 orders of magnitude apart: the sum is right to thirteen places all the same."""
    results = run(rolling_sum, np.array(series), n)[:, 0]
    for i, result in enumerate(results):
        if i < n - 1:
            assert math.isnan(result)
        else:
            assert result == pytest.approx(math.fsum(series[i - n + 1 : i + 1]), rel=1e-13)


@settings(max_examples=200, deadline=None)
@given(_series, _periods)
def test_a_weighted_mean_forgets_whatever_has_left(series: list[float], n: int) -> None:
    results = run(weighted_mean, np.array(series), n)[:, 0]
    for i in range(n - 1, len(series)):
        window = [Fraction(x) for x in series[i - n + 1 : i + 1]]
        exact = sum(weight * x for weight, x in enumerate(window, start=1)) / Fraction(n * (n + 1), 2)
        assert results[i] == pytest.approx(float(exact), rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(_series, _periods)
def test_moments_are_accurate_on_any_mixture_of_scales(series: list[float], n: int) -> None:
    results = run(moments, np.array(series), n)
    for i in range(n - 1, len(series)):
        mean, squares = _exact_moments(series[i - n + 1 : i + 1])
        spread = max(series[i - n + 1 : i + 1]) - min(series[i - n + 1 : i + 1])
        assert results[i, 0] == pytest.approx(mean, rel=1e-13, abs=1e-13 * spread)
        # A window's values are given to half a unit in the last place; nothing can be sharper than that.
        granularity = n * spread * 2**-52 * max(series[i - n + 1 : i + 1])
        assert results[i, 1] == pytest.approx(squares, rel=1e-11, abs=granularity)


def test_moments_recover_when_an_outlier_leaves() -> None:
    """Without the second summation (RESUM_AT) the sum of squares would be off by 1e24·epsilon for ever."""
    rng = np.random.default_rng(3)
    series = 100.0 + rng.normal(0, 0.01, 400)
    series[100] = 1e12
    results = run(moments, series, 20)
    for i in range(125, 400, 7):
        _, squares = _exact_moments(series[i - 19 : i + 1].tolist())
        assert results[i, 1] == pytest.approx(squares, rel=1e-9)


def test_moments_do_not_drift_over_a_million_rows() -> None:
    rng = np.random.default_rng(4)
    series = 1e6 + np.cumsum(rng.normal(0, 1e-3, 1_000_000))
    results = run(moments, series, 50)
    for i in range(999_000, 1_000_000, 37):
        mean, squares = _exact_moments(series[i - 49 : i + 1].tolist())
        assert results[i, 0] == pytest.approx(mean, rel=1e-15)
        assert results[i, 1] == pytest.approx(squares, rel=1e-11)


@pytest.mark.parametrize("value", [0.1, 1e-6, 1e6 / 3])
def test_a_constant_window_has_exactly_no_spread(value: float) -> None:
    series = np.concatenate([np.random.default_rng(5).normal(50 * value, value, 77), np.full(40, value)])
    assert (run(moments, series, 30)[-10:] == [value, 0.0]).all()
    assert (run(mean_and_deviation, series, 30)[-10:] == [value, 0.0]).all()
    assert (run(line, series, 30)[-10:] == [value, 0.0]).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6).map(float), min_size=1, max_size=80), _periods)
def test_extremes_and_their_ages_equal_a_scan(series: list[float], n: int) -> None:
    """Many equal values: of equals the newest counts."""
    top, bottom = run(highest, np.array(series), n), run(lowest, np.array(series), n)
    for i in range(len(series)):
        if i < n - 1:
            assert np.isnan(top[i]).all()
            assert np.isnan(bottom[i]).all()
            continue
        window = series[i - n + 1 : i + 1][::-1]
        assert top[i].tolist() == [max(window), window.index(max(window))]
        assert bottom[i].tolist() == [min(window), window.index(min(window))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), _periods)
def test_a_lag_is_the_value_n_rows_ago(series: list[float], n: int) -> None:
    results = run(lag, np.array(series), n)[:, 0]
    assert np.isnan(results[:n]).all()
    assert results[n:].tolist() == series[:-n]


@settings(max_examples=200, deadline=None)
@given(_series, st.integers(2, 20))
def test_the_line_is_the_least_squares_one(series: list[float], n: int) -> None:
    results = run(line, np.array(series), n)
    for i in range(n - 1, len(series)):
        window = [Fraction(x) for x in series[i - n + 1 : i + 1]]
        centre = Fraction(n - 1, 2)
        slope = sum((k - centre) * x for k, x in enumerate(window)) / sum((k - centre) ** 2 for k in range(n))
        end = sum(window) / n + slope * centre
        largest = float(max(window))
        assert results[i, 0] == pytest.approx(float(end), rel=1e-11, abs=1e-14 * largest)
        assert results[i, 1] == pytest.approx(float(slope), rel=1e-11, abs=1e-14 * largest)


def test_a_missing_value_is_skipped_and_leaves_no_trace() -> None:
    rng = np.random.default_rng(6)
    series = rng.normal(10, 1, 300)
    gaps = np.array([0, 5, 6, 7, 40, 170, 299])
    holed = np.insert(series, gaps, np.nan)
    kept = ~np.isnan(holed)
    for step in (lag, rolling_sum, weighted_mean, highest, lowest, moments, mean_and_deviation, line):
        results = run(step, holed, 9)
        assert np.isnan(results[~kept]).all()
        np.testing.assert_array_equal(results[kept], run(step, series, 9))
