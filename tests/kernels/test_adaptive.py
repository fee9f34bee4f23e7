"""Averages with weights of their own, against whole windows and exact arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray
from tapeline.kernels.adaptive import dynamic_mean, gaussian_mean, variable_index_mean
from tapeline.kernels.primitive import count_of, primitive_of
from tapeline.kernels.rolling import RING_HEADER, push

Floats = NDArray[np.float64]

_magnitudes = st.sampled_from([1e-9, 1.0, 1e9])
_series = st.lists(st.builds(lambda scale, x: scale * x, _magnitudes, st.floats(0.5, 2.0)), min_size=1, max_size=50)


@njit(error_model="numpy")
def _gaussian(x, n, offset, sigma, out):
    ring = n + 1
    state = np.zeros(ring + RING_HEADER + n)
    for i in range(len(x)):
        newest = push(state, ring, n, x[i])
        out[i] = gaussian_mean(state, 0, ring, n, newest, x[i], n, offset, sigma)


@njit(error_model="numpy")
def _variable(x, n, m, out):
    state = np.zeros(4 + RING_HEADER + m + 1)
    for i in range(len(x)):
        newest = push(state, 4, m + 1, x[i])
        out[i] = variable_index_mean(state, 0, 4, m + 1, newest, x[i], n, m)


@njit(error_model="numpy")
def _dynamic(x, n, out):
    state = np.zeros(3)
    for i in range(len(x)):
        out[i] = dynamic_mean(state, 0, x[i], n)


def _run(loop: Any, x: Floats | list[float], *constants: float) -> Floats:
    out = np.empty(len(x))
    loop(np.asarray(x, dtype=np.float64), *constants, out)
    return out


def test_the_steps_declare_what_they_use() -> None:
    assert count_of(primitive_of(gaussian_mean).slots, (9, 0.85, 6.0)) == 10
    assert count_of(primitive_of(gaussian_mean).delay, (9, 0.85, 6.0)) == 8
    assert count_of(primitive_of(variable_index_mean).history, (12, 9)) == 9  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(_series, st.integers(2, 12), st.floats(0.0, 1.0), st.floats(0.05, 20.0))
def test_a_gaussian_mean_is_that_of_its_window(series: list[float], n: int, offset: float, sigma: float) -> None:
    results = _run(_gaussian, series, n, offset, sigma)
    weights = np.exp(-0.5 * ((np.arange(n) - offset * (n - 1)) / (n / sigma)) ** 2)
    weights /= weights.sum()
    for i, result in enumerate(results):
        if i < n - 1:
            assert math.isnan(result)
            continue
        window = np.array(series[i - n + 1 : i + 1])
        assert result == pytest.approx(math.fsum(weights * window), rel=1e-12, abs=1e-14 * window.max())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=50), st.integers(1, 20), st.integers(2, 12))
def test_a_variable_index_mean_is_chandes_recursion(series: list[float], n: int, m: int) -> None:
    results = _run(_variable, series, n, m)
    value = series[0]
    for i in range(1, len(series)):
        changes = np.diff(series[max(0, i - m) : i + 1])
        path = np.abs(changes).sum()
        value += 2.0 / (n + 1) * (abs(changes.sum()) / path if path > 0.0 else 0.0) * (series[i] - value)
        assert math.isnan(results[i]) if i < m else results[i] == pytest.approx(value, rel=1e-12)


def test_a_variable_index_mean_stands_still_on_a_price_that_does() -> None:
    series = np.concatenate([np.random.default_rng(1).normal(50, 1, 60), np.full(200, 50.1)])
    results = _run(_variable, series, 12, 9)
    assert (results[80:] == results[80]).all()


@settings(max_examples=150, deadline=None)
@given(_series, st.integers(1, 12))
def test_a_dynamic_mean_stays_between_itself_and_the_value(series: list[float], n: int) -> None:
    """Even where the price falls or rises by 18 orders of magnitude in a row."""
    results = _run(_dynamic, series, n)
    for i in range(n, len(series)):
        low, high = sorted((results[i - 1], series[i]))
        assert low * (1.0 - 1e-15) <= results[i] <= high * (1.0 + 1e-15)


def test_a_missing_value_leaves_no_trace() -> None:
    series = np.random.default_rng(6).normal(10, 1, 200)
    holed = np.insert(series, [0, 5, 6, 7, 40, 170, 199], np.nan)
    kept = ~np.isnan(holed)
    for loop, constants in ((_gaussian, (9, 0.85, 6.0)), (_variable, (12, 9)), (_dynamic, (10,))):
        results = _run(loop, holed, *constants)
        assert np.isnan(results[~kept]).all()
        np.testing.assert_array_equal(results[kept], _run(loop, series, *constants))
