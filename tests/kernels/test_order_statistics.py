"""Order statistics of a sliding window against sorting it anew."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from tapeline.kernels.order_statistics import order_statistic, share_below
from tapeline.kernels.rolling import RING_HEADER, push

Array = NDArray[np.float64]

# Few distinct values, so that ties and both zeros are common, and some far apart.
_values = st.one_of(st.integers(-3, 3).map(float), st.just(-0.0), st.floats(-1e12, 1e12))
_series = st.lists(_values, min_size=1, max_size=120)


@cache
def _loop(step: Any, *constants: int) -> Any:
    @njit(error_model="numpy")
    def loop(x: Array, n: int, state: Array, out: Array) -> None:
        for i in range(len(x)):
            newest = push(state, n, n + 1, x[i])
            out[i] = step(state, 0, n, n + 1, newest, x[i], n, *constants)

    return loop


def _run(step: Any, x: Array, n: int, *constants: int) -> Array:
    """All results over a fresh state: the sorted window, then the ring."""
    out = np.empty(len(x))
    _loop(step, *constants)(x, n, np.zeros(2 * n + 1 + RING_HEADER), out)
    return out


@settings(max_examples=300, deadline=None)
@given(_series, st.integers(2, 15), st.sampled_from([1, 2]))
def test_an_order_statistic_is_that_of_the_sorted_window(series: list[float], n: int, rank: int) -> None:
    results = _run(order_statistic, np.array(series), n, rank)
    assert np.isnan(results[: n - 1]).all()
    for i in range(n - 1, len(series)):
        assert results[i] == sorted(series[i - n + 1 : i + 1])[rank - 1]


@settings(max_examples=300, deadline=None)
@given(_series, st.integers(2, 15))
def test_the_share_below_counts_the_values_before(series: list[float], n: int) -> None:
    results = _run(share_below, np.array(series), n)
    assert np.isnan(results[:n]).all()
    for i in range(n, len(series)):
        assert results[i] == sum(x < series[i] for x in series[i - n : i]) / n


@pytest.mark.parametrize("n", [2, 37, 400])
def test_long_series_of_any_course(n: int) -> None:
    """Random, rising, falling, in a zigzag, on few levels: values cross the whole window or none of it."""
    rng = np.random.default_rng(11)
    courses = [rng.normal(size=3_000), np.arange(3_000.0), -np.arange(3_000.0), rng.integers(0, 4, 3_000).astype(float)]
    courses.append(np.where(np.arange(3_000) % 2 == 0, 1.0, -1.0) * np.arange(3_000))
    for x in courses:
        medians = _run(order_statistic, x, n, 2)
        shares = _run(share_below, x, n)
        for i in range(n, 3_000, 83):
            assert medians[i] == np.sort(x[i - n + 1 : i + 1])[1]
            assert shares[i] == (x[i - n : i] < x[i]).mean()


def test_a_missing_value_is_skipped_and_leaves_no_trace() -> None:
    series = np.random.default_rng(12).normal(size=300)
    holed = np.insert(series, [0, 5, 6, 7, 40, 170, 299], np.nan)
    kept = ~np.isnan(holed)
    for results, plain in (
        (_run(order_statistic, holed, 9, 2), _run(order_statistic, series, 9, 2)),
        (_run(share_below, holed, 9), _run(share_below, series, 9)),
    ):
        assert np.isnan(results[~kept]).all()
        np.testing.assert_array_equal(results[kept], plain)
