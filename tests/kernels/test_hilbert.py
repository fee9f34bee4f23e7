"""The dominant-cycle chain: known cycles are found, and its two beginnings become one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import talib
from numba import njit
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.kernels.hilbert import (
    EARLY,
    LATE,
    cycle_phase,
    cycle_trend,
    dominant_cycle,
    phase_adaptive_means,
    smoothed,
)
from tapeline.kernels.primitive import primitive_of
from tapeline.kernels.rolling import RING_HEADER, push

SLOTS = int(primitive_of(dominant_cycle).slots)
MET = 1  # slot: the two lanes have met


@njit(error_model="numpy")
def _chain(x, apart, state, out, met):
    ring = SLOTS
    for i in range(len(x)):
        newest = push(state, ring, 4, x[i])
        smooth = smoothed(state, 0, ring, 4, newest, x[i])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = dominant_cycle(state, 0, smooth)
        met[i] = state[MET] != 0.0
        if apart:
            state[MET] = 0.0


def _run(x: NDArray[np.float64], *, apart: bool = False) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The chain's results and whether its lanes have met; ``apart`` makes it go on with both for ever."""
    out, met = np.empty((len(x), 4)), np.empty(len(x), dtype=np.bool_)
    _chain(x, apart, np.zeros(SLOTS + RING_HEADER + 4), out, met)
    return out, met


def _walk(seed: int, count: int) -> NDArray[np.float64]:
    walk: NDArray[np.float64] = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, count)))
    return walk


@pytest.mark.parametrize("seed", range(20))
def test_the_two_beginnings_become_one_and_nothing_is_lost_by_it(seed: int) -> None:
    """Keeping both lanes for ever gives the same bits, so that one may be dropped when they meet."""
    prices = _walk(seed, 3_000)
    results, met = _run(prices)
    both, _ = _run(prices, apart=True)
    np.testing.assert_array_equal(results, both)
    first = int(np.argmax(met))
    assert met.any()
    assert 200 < first < 2_000
    assert not np.array_equal(results[100:first, 2], results[100:first, 3])
    np.testing.assert_array_equal(results[first:, 2], results[first:, 3])


def test_values_begin_where_the_chain_does() -> None:
    results, _ = _run(_walk(1, 200))
    first = [int(np.argmax(~np.isnan(results[:, k]))) for k in range(4)]
    assert first == [3 + EARLY] * 3 + [3 + LATE]


@pytest.mark.parametrize("period", [10, 15, 20, 30, 40])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_finds_the_period_of_a_sine(period: int, scale: float) -> None:
    """Ehlers' discriminator is within about a tenth of the true period of a pure cycle."""
    prices = scale * (10.0 + np.sin(np.arange(1_000) * 2.0 * math.pi / period))
    results, _ = _run(prices)
    assert np.median(results[500:, 2]) == pytest.approx(period, rel=0.12)
    assert (results[500:, 2] <= 50.0).all()


def test_a_missing_value_leaves_no_trace() -> None:
    prices = _walk(2, 400)
    gaps = [0, 2, 14, 40, 41, 300]
    holed = np.insert(prices, gaps, np.nan)
    kept = ~np.isnan(holed)
    results, _ = _run(holed)
    assert np.isnan(results[~kept]).all()
    np.testing.assert_array_equal(results[kept], _run(prices)[0])


@njit(error_model="numpy")
def _series(x, period, phases, trends):
    one, other = np.zeros(400), np.zeros(400)
    for i in range(len(x)):
        phases[i] = cycle_phase(one, 0, x[i], period[i])
        trends[i] = cycle_trend(other, 0, x[i], period[i])


def test_phase_and_trend_are_those_of_whole_windows() -> None:
    """Against NumPy's Fourier transform and mean over the last n values, n changing from row to row."""
    prices = _walk(3, 600)
    period = np.random.default_rng(4).uniform(6.0, 50.0, 600)
    phases, trends = np.empty(600), np.empty(600)
    _series(prices, period, phases, trends)
    means = np.full(600, np.nan)
    for i in range(60, 600):
        window = prices[i - int(period[i] + 0.5) + 1 : i + 1][::-1]
        means[i] = window.mean()
        bin_ = np.fft.fft(window)[1]
        expected = math.degrees(math.atan(-bin_.imag / bin_.real)) + 90.0 + 360.0 / period[i]
        expected += 180.0 if bin_.real < 0.0 else 0.0
        expected -= 360.0 if expected > 315.0 else 0.0
        assert phases[i] == pytest.approx(expected, abs=1e-8)
    weights = (means[63:] * 4 + means[62:-1] * 3 + means[61:-2] * 2 + means[60:-3]) / 10
    np.testing.assert_allclose(trends[63:], weights, rtol=1e-14)


@njit(error_model="numpy")
def _adaptive(x, inphase, quadrature, out):
    state = np.zeros(3)
    for i in range(len(x)):
        out[i, 0], out[i, 1] = phase_adaptive_means(state, 0, x[i], inphase[i], quadrature[i], 0.5, 0.05)


def _factor(before: float, after: float) -> Any:
    """MAMA's factor when the phase goes from one value to another, in degrees."""
    out = np.empty((2, 2))
    angles = np.radians(np.array([before, after]))
    _adaptive(np.array([0.0, 1.0]), np.cos(angles), np.sin(angles), out)
    return pytest.approx(float(out[1, 0]), rel=1e-9)


def test_the_adaptive_factor_follows_the_rate_of_phase() -> None:
    assert _factor(40.0, 30.0) == 0.05  # 0.5 over 10 degrees
    assert _factor(40.0, 38.0) == 0.25
    assert _factor(40.0, 40.5) == 0.5  # a phase that goes back counts as one degree
    assert _factor(80.0, -80.0) == 0.05  # never below the slow limit


@pytest.mark.parametrize("seed", range(40))
def test_the_trendline_reaches_back_beyond_its_first_period(seed: int) -> None:
    """On some walks the first cycles are so long that their windows begin before there is a period."""
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.01, 200)))
    plan = FeaturePlan.of([FeatureRequest("HT_TRENDLINE")])
    at = np.arange(len(close), dtype=np.int64)
    rows = np.column_stack([close, np.ones(len(close))])
    ours, _ = plan.batch(at, at, at, rows, np.array([0, len(close)]))
    np.testing.assert_allclose(ours[:, 0], talib.HT_TRENDLINE(close), rtol=1e-10)
