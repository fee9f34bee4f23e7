"""Averages and trend away from their defaults, and what the general battery cannot know of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import talib
import talib.abstract
import wickra
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import ParameterError
from tapeline.features import FeaturePlan, FeatureRequest

from tests.indicators.market import Columns, compute, goog, msft
from tests.indicators.references.averages import frama

Floats = NDArray[np.float64]

CASES: tuple[tuple[str, dict[str, float]], ...] = (
    *((name, {"timeperiod": n}) for name in ("TRIMA", "HMA", "RMA", "ZLEMA", "VWMA") for n in (2, 3, 7, 64)),
    ("T3", {"timeperiod": 2, "vfactor": 1.0}),
    ("T3", {"timeperiod": 13, "vfactor": 0.0}),
    ("MAMA", {"fastlimit": 0.9, "slowlimit": 0.01}),
    ("MAMA", {"fastlimit": 0.1, "slowlimit": 0.3}),
    ("ADXR", {"timeperiod": 2}),
    ("ADXR", {"timeperiod": 30}),
    ("PLUS_DM", {"timeperiod": 2}),
    ("PLUS_DM", {"timeperiod": 5}),
    ("MINUS_DM", {"timeperiod": 2}),
    ("PLUS_DI", {"timeperiod": 2}),
    ("MINUS_DI", {"timeperiod": 40}),
    ("SAR", {"acceleration": 0.3, "maximum": 0.1}),
    ("SAREXT", {"startvalue": 200.0}),
    ("SAREXT", {"startvalue": -50.0, "offsetonreverse": 0.05}),
    ("SAREXT", {"accelerationinitlong": 0.05, "accelerationlong": 0.01, "accelerationmaxlong": 0.1}),
    ("SAREXT", {"accelerationinitshort": 0.3, "accelerationshort": 0.5, "accelerationmaxshort": 0.1}),
    ("VORTEX", {"timeperiod": 2}),
    ("VORTEX", {"timeperiod": 50}),
    ("SUPERTREND", {"timeperiod": 2, "multiplier": 0.0}),
    ("SUPERTREND", {"timeperiod": 22, "multiplier": 1.5}),
    ("VHF", {"timeperiod": 2}),
    ("VHF", {"timeperiod": 100}),
    ("QSTICK", {"timeperiod": 1}),
    ("QSTICK", {"timeperiod": 33}),
)


REQUESTS = tuple(FeatureRequest.of(name, **parameters) for name, parameters in CASES)


@cache
def _plan() -> FeaturePlan:
    return FeaturePlan.of(REQUESTS)


@cache
def _features() -> Floats:
    return compute(_plan(), goog())


def _talib(name: str, parameters: dict[str, float], columns: Columns) -> list[Floats]:
    inputs = {key: columns[key] for key in ("open", "high", "low", "close", "volume")}
    result = talib.abstract.Function(name)(inputs, **parameters)
    return [np.asarray(a, dtype=np.float64) for a in (result if isinstance(result, list | tuple) else [result])]


def _assert_agrees(ours: Floats, theirs: Floats) -> None:
    known = ~np.isnan(ours)
    if not np.isnan(theirs).any() and not known.all():
        theirs = np.where(known, theirs, np.nan)  # whole numbers: TA-Lib's are 0 before the first
    assert np.array_equal(known, ~np.isnan(theirs))
    np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-9, atol=1e-9 * np.median(np.abs(theirs[known])))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.columns[0])
def test_agrees_with_talib_at_other_parameters(request_: FeatureRequest) -> None:
    results = _features()[:, [_plan().outputs.index(column) for column in request_.columns]].T
    for ours, theirs in zip(results, _talib(request_.name, dict(request_.parameters), goog()), strict=True):
        _assert_agrees(ours, theirs)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_every_average_type_is_talibs(n: int) -> None:
    """Through BBANDS, whose middle line is the average of the type from the row on where its deviation is known too."""
    requests = [FeatureRequest.of("BBANDS", timeperiod=n, matype=matype) for matype in range(10)]
    plan = FeaturePlan.of(requests)
    results = compute(plan, msft())
    for matype, request in enumerate(requests):
        middle = results[:, plan.outputs.index(request.columns[1])]
        theirs = talib.MA(msft()["close"], n, matype)
        assert np.isnan(theirs[: n - 1]).all()
        _assert_agrees(middle, theirs)


def test_the_whole_hilbert_family_computes_one_chain() -> None:
    names = ["MAMA", "HT_TRENDLINE", "HT_TRENDMODE", "HT_DCPERIOD", "HT_DCPHASE", "HT_PHASOR", "HT_SINE"]
    source = FeaturePlan.of([FeatureRequest(name) for name in names])._program.source
    for step in ("dominant_cycle", "smoothed", "cycle_phase", "cycle_trend", "sine_waves"):
        assert source.count(f" {step}(") == 1, step


def test_a_plan_without_the_family_carries_none_of_it() -> None:
    small, large = (FeaturePlan.of([FeatureRequest(name)]) for name in ("EMA", "HT_DCPERIOD"))
    assert small.state_size < 20
    assert large.state_size < 120


def test_mcginley_survives_a_crash() -> None:
    """A close far below the mean: the formula as printed would jump below zero and then to infinity."""
    columns = goog() | {"close": goog()["close"].copy()}
    columns["close"][500:] *= 0.05
    values = compute(FeaturePlan.of([FeatureRequest("MCGINLEY")]), columns)[:, 0]
    assert np.isfinite(values[9:]).all()
    assert (values[9:] > 0.0).all()
    assert values[500] == columns["close"][500]


def test_frama_keeps_its_dimension_where_a_half_has_no_range() -> None:
    stairs = np.repeat(goog()["close"][::7], 7)
    columns = dict.fromkeys(("open", "high", "low", "close"), stairs)
    ours = compute(FeaturePlan.of([FeatureRequest.of("FRAMA", timeperiod=10)]), columns)[:, 0]
    _assert_agrees(ours, frama(stairs, stairs, stairs, 10))


def test_frama_of_closes_alone_is_wickras() -> None:
    """wickra takes one price where Ehlers takes highs and lows: the two meet where a bar is one price."""
    close = goog()["close"]
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    ours = compute(FeaturePlan.of([FeatureRequest.of("FRAMA")]), columns)[:, 0]
    _assert_agrees(ours, np.asarray(wickra.FRAMA(16).batch(close)))


def test_frama_refuses_an_odd_period() -> None:
    with pytest.raises(ParameterError, match="17 is odd"):
        FeaturePlan.of([FeatureRequest.of("FRAMA", timeperiod=17)])


def test_alma_of_a_constant_is_the_constant_at_any_width() -> None:
    columns = {name: np.full(300, 0.1) for name in ("open", "high", "low", "close")}
    requests = [
        FeatureRequest.of("ALMA", timeperiod=n, offset=offset, sigma=sigma)
        for n, offset, sigma in ((2, 0.0, 100.0), (9, 0.5, 0.01), (200, 1.0, 6.0))
    ]
    results = compute(FeaturePlan.of(requests), columns)
    assert (results[199:] == 0.1).all()


_TIES = (
    FeatureRequest.of("SAR"),
    FeatureRequest.of("SAREXT", startvalue=-12.0, offsetonreverse=0.25),
    FeatureRequest.of("PLUS_DM", timeperiod=3),
    FeatureRequest.of("MINUS_DM", timeperiod=3),
    FeatureRequest.of("DX", timeperiod=3),
    FeatureRequest.of("VORTEX", timeperiod=3),
    FeatureRequest.of("VHF", timeperiod=3),
    FeatureRequest.of("QSTICK", timeperiod=3),
)


@cache
def _tied_plan() -> FeaturePlan:
    return FeaturePlan.of(_TIES)


_bars = st.tuples(st.integers(8, 12), st.integers(0, 2), st.integers(0, 2), st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=150, deadline=None)
@given(st.lists(_bars, min_size=8, max_size=40))
def test_agrees_with_talib_on_bars_full_of_ties(bars: list[tuple[int, int, int, int, int]]) -> None:
    """Equal highs, lows and closes, bars without range, touched stops: every comparison is met at equality."""
    middle, up, down, first, last = np.array(bars, dtype=np.float64).T
    high, low = middle + up, middle - down
    columns = {"high": high, "low": low, "open": low + (high - low) * first / 4, "close": low + (high - low) * last / 4}
    results = compute(_tied_plan(), columns)
    for request in _TIES:
        ours = results[:, [_tied_plan().outputs.index(column) for column in request.columns]].T
        inputs = columns | {"volume": np.ones(len(bars))}
        for mine, theirs in zip(ours, _talib(request.name, dict(request.parameters), inputs), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12, err_msg=request.name)
