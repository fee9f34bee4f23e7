"""Whatever comes in: windowed sums against exact arithmetic, and plans over rows of any kind."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit
from tapeline.indicators import TICK_INPUTS
from tapeline.kernels.microstructure.realized import kernel_variance, parzen
from tapeline.kernels.moments import co_moments
from tapeline.kernels.rolling import RING_HEADER, push

from tests.indicators.market import same_bits
from tests.microstructure.ticks import START_US, everything

_SLOTS = 16
TINY = float(np.finfo(np.float64).tiny)  # below it, numbers have fewer digits
SQUARE_IS_ZERO = math.sqrt(TINY)
_magnitudes = st.sampled_from([1e-6, 1.0, 1e6])
_values = st.builds(lambda scale, x: scale * x, _magnitudes, st.floats(-2.0, 2.0))
_pairs = st.lists(st.tuples(_values, _values), min_size=1, max_size=40)


@cache
def _drivers():
    @njit(error_model="numpy")
    def regress(x, y, n, state, out):
        first, second = _SLOTS, _SLOTS + RING_HEADER + n + 1
        for i in range(len(x)):
            newest_x, newest_y = push(state, first, n + 1, x[i]), push(state, second, n + 1, y[i])
            out[i] = co_moments(state, 0, first, n + 1, newest_x, second, n + 1, newest_y, x[i], y[i], n)

    @njit(error_model="numpy")
    def kernel(x, n, lags, state, out):
        for i in range(len(x)):
            newest = push(state, _SLOTS, n + 1, x[i])
            out[i] = kernel_variance(state, 0, _SLOTS, n + 1, newest, x[i], n, lags)

    return regress, kernel


@settings(max_examples=150, deadline=None)
@given(_pairs, st.integers(2, 9))
@example(pairs=[(0.0, 2.7434247078937505e-213), (0.0, 0.0), (1e-06, 1.7407560442243788e-250)], n=2)
def test_co_moments_are_exact_but_for_rounding_on_any_mixture_of_scales(
    pairs: list[tuple[float, float]], n: int
) -> None:
    x, y = np.array(pairs).T.copy()
    out = np.empty((len(x), 5))
    _drivers()[0](x, y, n, np.zeros(_SLOTS + 2 * (RING_HEADER + n + 1)), out)
    assert np.isnan(out[: n - 1]).all()
    for i in range(n - 1, len(x)):
        xs, ys = ([Fraction(v) for v in series[i - n + 1 : i + 1].tolist()] for series in (x, y))
        mean_x, mean_y = sum(xs) / n, sum(ys) / n
        xx, yy = float(sum((v - mean_x) ** 2 for v in xs)), float(sum((v - mean_y) ** 2 for v in ys))
        xy = float(sum((a - mean_x) * (b - mean_y) for a, b in zip(xs, ys, strict=True)))
        # A window's values are given to half a unit in the last place of the largest; nothing can be sharper than that.
        grain_x, grain_y = (2.0**-50 * n * max(abs(float(v)) for v in values) for values in (xs, ys))
        root_x, root_y = math.sqrt(xx), math.sqrt(yy)
        # And squares of values below the root of the least normal number are zero, or rounded to its grain.
        coarse_x, coarse_y = max(grain_x, SQUARE_IS_ZERO), max(grain_y, SQUARE_IS_ZERO)
        slack = 1e-12 * root_x * root_y + coarse_x * root_y + coarse_y * root_x + coarse_x * coarse_y + TINY
        assert out[i, 0] == pytest.approx(xx, rel=1e-12, abs=2 * grain_x * root_x + grain_x**2)
        assert out[i, 1] == pytest.approx(xy, abs=slack)
        assert out[i, 2] == pytest.approx(yy, rel=1e-12, abs=2 * grain_y * root_y + grain_y**2)
        # A window whose squares are zero counts as constant.
        assert out[i, 3] == pytest.approx(float(mean_x), rel=1e-12, abs=coarse_x if xx < TINY else grain_x)


@settings(max_examples=150, deadline=None)
@given(st.lists(_values, min_size=1, max_size=40), st.integers(3, 9), st.data())
def test_a_realised_kernel_forgets_whatever_has_left(series: list[float], n: int, data: st.DataObject) -> None:
    lags = data.draw(st.integers(1, n - 1))
    out = np.empty(len(series))
    _drivers()[1](np.array(series), n, lags, np.zeros(_SLOTS + RING_HEADER + n + 1), out)
    for i in range(n - 1, len(series)):
        window = [Fraction(x) for x in series[i - n + 1 : i + 1]]
        gammas = [sum(a * b for a, b in zip(window[h:], window, strict=False)) for h in range(lags + 1)]
        weights = [Fraction(1), *(2 * Fraction(parzen(h / (lags + 1.0))) for h in range(1, lags + 1))]
        exact = float(sum(w * g for w, g in zip(weights, gammas, strict=True)))
        # Products are rounded once; the sums themselves are compensated. What has left must leave its rounding's trace only.
        # Products below the least normal number are rounded to its grain.
        largest = max(abs(x) for x in series[: i + 1])
        grain = n * (lags + 1) * math.ulp(0.0)
        assert out[i] == pytest.approx(
            exact, rel=1e-12, abs=1e-28 * largest**2 + 1e-14 * float(sum(x * x for x in window)) + 2 * grain
        )


_prices = st.sampled_from([math.nan, 0.0, -1.0, math.inf, 9.75, 10.0, 10.25, 10.5])
_sizes = st.sampled_from([math.nan, 0.0, -1.0, math.inf, 1.0, 3.0, 1e9])
_column = {"time": st.integers(0, 5_000_000).map(float), "side": st.sampled_from([math.nan, 1.0, -1.0, 0.3])}


def _row_of(name: str) -> st.SearchStrategy[float]:
    return _column.get(name, _sizes if "size" in name else _prices)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*map(_row_of, TICK_INPUTS)), min_size=1, max_size=80), st.data())
def test_any_rows_give_the_same_however_they_are_cut_and_nothing_infinite(
    ticks: list[tuple[float, ...]], data: st.DataObject
) -> None:
    """Absent, empty, crossed, impossible: all mixed."""
    plan, count = everything(), len(ticks)
    columns = dict(zip(TICK_INPUTS, np.array(ticks).T, strict=True))
    columns["time"] = START_US + np.cumsum(columns["time"])
    rows = np.ascontiguousarray(np.column_stack([*(columns[name] for name in plan.inputs[:-1]), np.ones(count)]))
    at, sequence = columns["time"].astype(np.int64), np.arange(count)
    whole, _ = plan.batch(at, sequence, at, rows, np.array([0, count]))
    assert not np.isinf(whole).any()
    end = data.draw(st.integers(0, count))
    head, states = plan.batch(at[:end], sequence[:end], at[:end], rows[:end], np.array([0, end]))
    tail, _ = plan.batch(at[end:], sequence[end:], at[end:], rows[end:], np.array([0, count - end]), states)
    assert same_bits(np.concatenate([head, tail]), whole)
