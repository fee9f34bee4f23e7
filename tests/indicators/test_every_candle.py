"""The battery for the candle patterns, which are a plan of their own: equal to TA-Lib on every row, not only near."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.leakage import find_leaks
from tapeline.indicators import Indicator

from tests.indicators.market import CANDLES, Columns, candles, compute, goog, msft, rows_of, same_bits, times
from tests.indicators.references import expected, talibs
from tests.indicators.references.candles import bars

each = pytest.mark.parametrize("indicator", CANDLES, ids=lambda indicator: indicator.name)
COUNT = 40_000


@cache
def _random_bars() -> tuple[Columns, NDArray[np.float64]]:
    columns = bars(COUNT, seed=21) | {"volume": np.ones(COUNT), "session": np.zeros(COUNT)}
    return columns, compute(candles(), columns)


@cache
def _results(stock: str) -> NDArray[np.float64]:
    return compute(candles(), goog() if stock == "GOOG" else msft())


def _of(results: NDArray[np.float64], indicator: Indicator) -> NDArray[np.float64]:
    return results[:, candles().outputs.index(*indicator.columns({}))]


def test_there_are_talibs_sixty_one() -> None:
    assert len(CANDLES) == 61
    assert {indicator.name for indicator in CANDLES} == set(_pattern_names())


def _pattern_names() -> list[str]:

    return list(talib.get_function_groups()["Pattern Recognition"])


@each
def test_equals_talib_on_real_bars(indicator: Indicator) -> None:
    for stock, columns in (("GOOG", goog()), ("MSFT", msft())):
        np.testing.assert_array_equal(_of(_results(stock), indicator), *expected(indicator, columns))


@each
def test_equals_talib_on_random_bars_where_it_comes_up(indicator: Indicator) -> None:
    columns, results = _random_bars()
    reference = expected(indicator, columns)[0]
    assert np.count_nonzero(np.nan_to_num(reference)) >= 10
    np.testing.assert_array_equal(_of(results, indicator), reference)


@each
def test_has_talibs_parameters_defaults_and_lookback(indicator: Indicator) -> None:
    function = talibs(indicator)
    assert {p.name: p.default for p in indicator.parameters} == dict(function.parameters)
    assert candles().warm_up[candles().outputs.index(*indicator.columns({}))] == function.lookback + 1


def test_other_penetrations_are_talibs_too() -> None:

    columns, _ = _random_bars()
    names = [indicator.name for indicator in CANDLES if indicator.parameters]
    assert len(names) == 7
    plan = FeaturePlan.of([FeatureRequest.of(name, penetration=0.1) for name in names])
    results = compute(plan, columns)
    prices = [columns[name] for name in ("open", "high", "low", "close")]
    for position, name in enumerate(names):
        reference = getattr(talib, name)(*prices, penetration=0.1)
        np.testing.assert_array_equal(results[14:, position], reference[14:])


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_bad_row_is_nan_and_otherwise_as_if_absent(column: str) -> None:
    at = [3, 40, 700, 1_500]
    values = goog()[column].copy()
    values[at] = [np.nan, np.inf, -1.0, 0.0]
    results = compute(candles(), goog() | {column: values})
    without = compute(candles(), {name: np.delete(x, at) for name, x in goog().items()})
    assert np.isnan(results[at]).all()
    assert same_bits(np.delete(results, at, axis=0), without)


@pytest.mark.parametrize("exponent", [-30, 10])
def test_prices_times_a_power_of_two_change_nothing(exponent: int) -> None:
    columns, reference = _random_bars()
    assert same_bits(compute(candles(), {k: v * 2.0**exponent for k, v in columns.items()}), reference)


def test_a_split_changes_nothing() -> None:
    columns, reference = _random_bars()
    after = np.arange(COUNT) >= COUNT // 2
    halved = {name: np.where(after, columns[name] / 2, columns[name]) for name in ("open", "high", "low", "close")}
    ratio = np.where(np.arange(COUNT) == COUNT // 2, 2.0, 1.0)
    assert same_bits(compute(candles(), columns | halved | {"split_ratio": ratio}), reference)


def test_the_same_rows_give_the_same_patterns_whatever_came_before() -> None:
    """After a spell of prices 1e12 times as high, whose rounding a running sum would keep for ever."""
    columns, reference = _random_bars()
    head = {name: np.concatenate([values * 1e12, values]) for name, values in bars(500, seed=22).items()}
    count = 1_000 + COUNT
    longer = {name: np.concatenate([head[name], columns[name]]) for name in head}
    longer |= {"volume": np.ones(count), "session": np.zeros(count)}
    assert same_bits(compute(candles(), longer)[1_000 + 20 :], reference[20:])


@pytest.mark.parametrize("price", [0.1, 1e-6, 1e6 / 3])
def test_constant_bars_are_numbers(price: float) -> None:
    columns = {name: np.full(100, price) for name in ("open", "high", "low", "close")}
    results = compute(candles(), columns)
    for position, warm_up in enumerate(candles().warm_up):
        assert np.isnan(results[: warm_up - 1, position]).all()
        assert np.isfinite(results[warm_up - 1 :, position]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(goog()["close"])))
def test_a_stream_from_any_saved_state_equals_the_batch(cut: int) -> None:
    plan, rows = candles(), rows_of(candles(), goog())
    at, sequence = times(len(rows)), np.zeros(len(rows), np.int64)
    head, ends = plan.batch(at[:cut], sequence[:cut], at[:cut], rows[:cut], np.array([0, cut]))
    state = plan.restore(plan.save(ends[0]))
    tail = np.empty((len(rows) - cut, len(plan.outputs)))
    for i in range(cut, len(rows)):
        plan.update(state, int(at[i]), 0, int(at[i]), rows[i], tail[i - cut])
    assert same_bits(np.concatenate([head, tail]), _results("GOOG"))


def test_nothing_looks_ahead() -> None:
    plan, rows = candles(), rows_of(candles(), goog())
    assert not find_leaks(plan, times(len(rows)), times(len(rows)), rows, cuts=[1, 2, 12, 15, 400, 1_999])
