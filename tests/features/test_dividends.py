"""Dividends: where a plan is adjusted for them, features go on across one in terms of the prices of the day."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tapeline.core.errors import InvalidDataError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.versions import LAST_CLOSE_SIZE, Actions, dividend_ratios

from tests.indicators.market import Columns, goog, same_bits, times

of = FeatureRequest.of
REQUESTS = (
    of("SMA", timeperiod=5),
    of("RETURN"),
    of("OBV"),
    of("VWAP", timeperiod=5),
    of("ATR", timeperiod=5),
    of("SMA", frame="1d/partial", timeperiod=3),
)
AT, COUNT = 400, 600
POWER = {"price": 0.5, "price squared": 0.25, "money": 0.5}
PRICES = ("open", "high", "low", "close")


def _features(plan: FeaturePlan, columns: Columns) -> NDArray[np.float64]:
    full = {"split_ratio": np.ones(COUNT), "dividend_ratio": np.ones(COUNT)} | {
        n: c[:COUNT] for n, c in columns.items()
    }
    rows = np.ascontiguousarray(np.column_stack([full[name] for name in plan.inputs]))
    at = times(COUNT)
    return plan.batch(at, np.zeros(COUNT, np.int64), at, rows, np.array([0, COUNT]))[0]


def test_a_dividend_of_half_the_price_halves_what_is_in_prices_and_nothing_else() -> None:
    plan, plain = FeaturePlan.of(REQUESTS, dividends=True), FeaturePlan.of(REQUESTS)
    after = np.arange(len(goog()["close"])) >= AT
    columns = goog() | {name: np.where(after, goog()[name] / 2, goog()[name]) for name in PRICES}
    columns["dividend_ratio"] = np.where(np.arange(len(after)) == AT, 2.0, 1.0)
    reference, given = _features(plain, goog()), _features(plan, columns)
    for position, unit in enumerate(plain.units):
        wanted = reference[:, position] * np.where(after[:COUNT], POWER.get(unit, 1.0), 1.0)
        same = same_bits(given[:, position], wanted)
        assert same or np.array_equal(given[:, position], wanted, equal_nan=True), plain.outputs[position]
    assert {"price", "shares", "ratio"} <= set(plain.units)
    unadjusted = _features(plain, columns)
    assert unadjusted[AT, plain.outputs.index("return_1")] < -0.4  # without the choice the price falls


def test_without_dividends_a_plan_has_no_such_column_and_the_same_values() -> None:
    plan, plain = FeaturePlan.of(REQUESTS, dividends=True), FeaturePlan.of(REQUESTS)
    assert set(plan.inputs) - set(plain.inputs) == {"dividend_ratio"}
    assert plan.hash != plain.hash
    assert np.array_equal(_features(plan, goog()), _features(plain, goog()), equal_nan=True)


@pytest.mark.parametrize("ratio", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_ratio_is_refused_with_its_place(ratio: float) -> None:
    plan = FeaturePlan.of(REQUESTS, dividends=True)
    state, row = plan.new_state(), np.ones(len(plan.inputs))
    row[plan.inputs.index("dividend_ratio")] = ratio
    before = state.copy()
    with pytest.raises(InvalidDataError, match="dividend_ratio"):
        plan.update(state, 1, 0, 1, row, np.empty(len(plan.outputs)))
    assert same_bits(state, before)
    rows = np.ones((3, len(plan.inputs)))
    rows[2] = row
    at = times(3)
    with pytest.raises(InvalidDataError, match="entity 0, row 2"):
        plan.batch(at, np.zeros(3, np.int64), at, rows, np.array([0, 3]))


def test_the_ratio_is_that_of_the_close_before_on_the_basis_since() -> None:
    event = np.array([10, 20, 30, 40, 50], dtype=np.int64)
    close = np.array([100.0, np.nan, 48.0, 50.0, 50.0])
    actions = Actions(
        np.array([5, 20, 20, 40, 45, 60], dtype=np.int64),
        np.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0]),
        np.array([9.0, 0.0, 2.0, 1.0, 1.0, 9.0]),
    )
    ratios, last = dividend_ratios(None, np.zeros(LAST_CLOSE_SIZE), event, close, actions)
    # Nothing lies before the first; 100 is 50 after the split; two on one bar; the one at 60 waits.
    np.testing.assert_allclose(ratios, [1.0, 1.0, 50 / 48, 1.0, 50 / 48], rtol=1e-15)
    assert last.tolist() == [50.0, 50.0]
    later, _ = dividend_ratios(50, last, np.array([70]), np.array([41.0]), actions)
    assert later.tolist() == [50.0 / 41.0]
    with pytest.raises(InvalidDataError, match="dividend of 9"):
        dividend_ratios(50, np.array([9.0, 50.0]), np.array([70]), np.array([41.0]), actions)
