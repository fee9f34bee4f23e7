"""Rows of ticks: what NaN, 0 and impossible values mean, and that plans do not mix them with bars."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.core.errors import ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import INPUTS, TICK_INPUTS
from tapeline.indicators.schema import COLUMNS
from tapeline.indicators.specification import indicator

from tests.microstructure.ticks import START_US, Columns, compute

NAN = float("nan")


def _ticks(**given: list[float]) -> Columns:
    count = len(next(iter(given.values())))
    columns = {name: np.full(count, np.nan) for name in TICK_INPUTS}
    columns["time"] = START_US + np.arange(count, dtype=np.float64)
    return columns | {name: np.array(values) for name, values in given.items()}


def _plan(*names: str) -> FeaturePlan:
    return FeaturePlan.of([FeatureRequest(name) for name in names])


def test_columns_of_the_two_schemas_are_distinct_and_in_order() -> None:
    assert INPUTS == ("open", "high", "low", "close", "volume", "session")
    assert TICK_INPUTS[:8] == ("time", "price", "size", "side", "bid", "ask", "bid_size", "ask_size")
    assert len(TICK_INPUTS) == 4 + 5 * 4
    assert tuple(COLUMNS) == INPUTS + TICK_INPUTS


def test_a_plan_over_bars_and_ticks_is_refused() -> None:
    with pytest.raises(ParameterError, match="of bars: close; of ticks: bid, ask"):
        _plan("SMA", "QUOTED_SPREAD")
    assert _plan("QUOTED_SPREAD").inputs == ("bid", "ask", "split_ratio")
    assert _plan("SMA").inputs == ("close", "split_ratio")


def test_an_indicator_over_both_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="of bars and of ticks"):

        @indicator("MIXED", group="microstructure", outputs={"mixed": "ratio"}, source="none")
        def mixed(close, price):
            """Mixed."""


def test_what_an_event_does_not_carry_is_as_it_was() -> None:
    plan = _plan("QUOTED_SPREAD", "WEIGHTED_MID")
    ticks = _ticks(
        bid=[100.0, NAN, NAN, 100.5, NAN],
        ask=[NAN, 101.0, NAN, NAN, NAN],
        bid_size=[3.0, NAN, 2.0, NAN, NAN],
        ask_size=[NAN, 1.0, NAN, NAN, NAN],
        price=[NAN, NAN, NAN, NAN, 101.0],
    )
    spread, fair = compute(plan, ticks).T
    assert np.isnan([spread[0], fair[0]]).all()
    np.testing.assert_allclose(spread[1:], [1 / 100.5, 1 / 100.5, 0.5 / 100.75, 0.5 / 100.75], rtol=1e-15)
    np.testing.assert_allclose(fair[1:], [100.75, 100 + 2 / 3, 100.5 + 1 / 3, 100.5 + 1 / 3], rtol=1e-15)


def test_an_empty_side_has_no_spread_until_it_is_back() -> None:
    spread = compute(_plan("QUOTED_SPREAD"), _ticks(bid=[1.0, 0.0, NAN, 1.0], ask=[2.0, NAN, 2.0, NAN]))[:, 0]
    assert np.isnan(spread).tolist() == [False, True, True, False]
    assert spread[3] == spread[0]


def test_a_crossed_book_has_no_spread_and_a_locked_one_none_to_pay() -> None:
    spread = compute(_plan("QUOTED_SPREAD"), _ticks(bid=[2.1, 2.0, 1.0], ask=[2.0, 2.0, 2.0]))[:, 0]
    assert np.isnan(spread[0])
    assert spread[1] == 0.0
    assert spread[2] > 0.0


@pytest.mark.parametrize("bad", [-1.0, np.inf, -np.inf])
def test_an_impossible_value_makes_its_row_nan_and_is_forgotten(bad: float) -> None:
    spread = compute(_plan("QUOTED_SPREAD"), _ticks(bid=[1.0, bad, NAN], ask=[2.0, 1.5, NAN]))[:, 0]
    assert np.isnan(spread).tolist() == [False, True, False]
    assert spread[2] == spread[0]


def test_splits_work_on_quotes_and_sizes() -> None:
    plan = _plan("WEIGHTED_MID", "QUEUE_IMBALANCE")
    ticks = _ticks(bid=[100.0, NAN], ask=[102.0, 51.0], bid_size=[10.0, NAN], ask_size=[30.0, 60.0])
    results = compute(plan, ticks | {"split_ratio": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(results, [[100.5, -0.5], [50.25, -0.5]])
