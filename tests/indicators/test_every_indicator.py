"""The same battery for every registered indicator: nobody has to remember to test a new one."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import INPUTS, SPLIT_EXPONENT, Indicator

from tests.indicators.market import (
    INDICATORS,
    Columns,
    compute,
    everything,
    goog,
    goog_features,
    positions,
    same_bits,
)
from tests.indicators.references import (
    DEPENDS_ON_THE_UNIT_OF_PRICES,
    DISCRETE,
    ENDLESS,
    RECURSIVE,
    UNDEFINED_ON_CONSTANT_BARS,
    UNDEFINED_WITHOUT_VOLUME,
    expected,
    talibs,
)

each = pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: indicator.name)


def test_there_are_forty_over_all_groups() -> None:
    assert len(INDICATORS) >= 40
    assert {i.group for i in INDICATORS} >= {
        "averages", "oscillators", "trend", "volatility", "volume", "statistics", "momentum", "composites",
    }  # fmt: skip


@each
def test_agrees_with_its_oracle(indicator: Indicator) -> None:
    """To 1e-9 of the value, or of a typical value where it crosses zero and the oracle itself cancels."""
    results = goog_features()[:, positions(indicator)].T
    references = expected(indicator, goog())
    assert len(references) == len(results)
    for ours, theirs in zip(results, references, strict=True):
        assert np.array_equal(np.isnan(ours), np.isnan(theirs))
        known = ~np.isnan(theirs)
        typical = np.median(np.abs(theirs[known]))
        np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-9, atol=1e-9 * typical)


@each
def test_has_talibs_parameters_and_defaults(indicator: Indicator) -> None:
    if indicator.oracle != "TA-Lib":
        return
    function = talibs(indicator)
    assert {p.name: p.default for p in indicator.parameters} == dict(function.parameters)
    assert len(indicator.outputs) == len(function.output_names)


@each
def test_is_nan_exactly_until_it_is_warm(indicator: Indicator) -> None:
    for position in positions(indicator):
        values, warm_up = goog_features()[:, position], everything().warm_up[position]
        assert np.isnan(values[: warm_up - 1]).all()
        assert np.isfinite(values[warm_up - 1 :]).all()


def _with_bad_rows(column: str) -> tuple[Columns, list[int]]:
    """GOOG with four impossible values in one column, before and after every warm-up."""
    bad = [np.nan, np.inf, -1.0, 0.0]
    if column == "volume":
        bad = [np.nan, np.inf, -1.0, -np.inf]
    if column == "session":
        bad = [np.nan, np.inf, np.nan, -np.inf]
    at = [3, 40, 700, 1_500]
    values = goog()[column].copy()
    values[at] = bad
    return goog() | {column: values}, at


@pytest.mark.parametrize("column", INPUTS)
def test_a_bad_row_is_nan_and_otherwise_as_if_absent(column: str) -> None:
    """Whoever reads the column skips the row; whoever does not, does not notice."""
    columns, at = _with_bad_rows(column)
    results = compute(everything(), columns)
    without = compute(everything(), {name: np.delete(values, at) for name, values in goog().items()})
    for indicator in INDICATORS:
        for position in positions(indicator):
            if column not in indicator.inputs:
                assert same_bits(results[:, position], goog_features()[:, position]), indicator.name
                continue
            assert np.isnan(results[at, position]).all(), indicator.name
            assert same_bits(np.delete(results[:, position], at), without[:, position]), indicator.name


def _scaled(factor: float) -> Columns:
    prices = {name: goog()[name] * factor for name in ("open", "high", "low", "close")}
    return goog() | prices


def _price_power(unit: str) -> int:
    return {
        "price": 1, "price squared": 2, "price per share": 1, "price squared per share": 2, "money": 1,
        "per money": -1,
    }.get(unit, 0)  # fmt: skip


@pytest.mark.parametrize("exponent", [-30, 10])
def test_prices_times_a_power_of_two_change_no_other_bit(exponent: int) -> None:
    """Around 1e-7 and 1e5 a share: every step is homogeneous, so nothing may be lost, not even a rounding."""
    factor = 2.0**exponent
    results = compute(everything(), _scaled(factor))
    for indicator in INDICATORS:
        if indicator.name in DEPENDS_ON_THE_UNIT_OF_PRICES:
            continue
        for position, unit in zip(positions(indicator), indicator.outputs.values(), strict=True):
            reference = goog_features()[:, position] * factor ** _price_power(unit)
            assert same_bits(results[:, position], reference), indicator.name


@pytest.mark.parametrize("factor", [1e-9, 1e4])
def test_prices_near_a_millionth_and_a_million_are_as_accurate(factor: float) -> None:
    """But for those that compare computed numbers: rounding each price may answer otherwise."""
    results = compute(everything(), _scaled(factor))
    for indicator in INDICATORS:
        if indicator.name in DISCRETE | DEPENDS_ON_THE_UNIT_OF_PRICES:
            continue
        for position, unit in zip(positions(indicator), indicator.outputs.values(), strict=True):
            reference = goog_features()[:, position] * factor ** _price_power(unit)
            typical = np.nanmedian(np.abs(reference))
            np.testing.assert_allclose(
                results[:, position], reference, rtol=1e-10, atol=1e-10 * typical, err_msg=indicator.name
            )


@pytest.mark.parametrize("factor", [2.0**-30, 1.0, 1e4])
def test_the_angle_of_a_line_is_that_of_its_slope_in_the_prices_given(factor: float) -> None:
    """And on from a split in those of the new share: an angle is not in proportion to prices."""
    count = len(goog()["close"])
    ratio = np.where(np.arange(count) == 900, 2.0, 1.0)
    shares = np.cumprod(ratio)
    columns = _scaled(factor) | {"split_ratio": ratio}
    columns |= {name: columns[name] / shares for name in ("open", "high", "low", "close")}
    results = compute(FeaturePlan.of([FeatureRequest("LINEARREG_ANGLE"), FeatureRequest("LINEARREG_SLOPE")]), columns)
    np.testing.assert_allclose(results[:, 0], np.degrees(np.arctan(results[:, 1])), rtol=1e-14)


def test_nothing_drifts_over_a_million_rows() -> None:
    """The end of a long history, with an absurd spell in it, equals the same rows alone: only memory may differ."""
    tail = {name: values[-700:] for name, values in goog().items()}
    count = 1_000_000
    rng = np.random.default_rng(7)
    close = 1e-3 * np.exp(np.cumsum(rng.normal(0, 0.01, count) - np.linspace(-2e-5, 2e-5, count)))
    close[count // 2 : count // 2 + 300] *= 1e12
    before = {
        "open": close * 1.001, "high": close * 1.01, "low": close * 0.99, "close": close,
        "volume": rng.integers(0, 10**9, count).astype(float), "session": np.arange(count) - count,
    }  # fmt: skip
    long = compute(everything(), {name: np.concatenate([before[name], tail[name]]) for name in before})[-300:]
    short = compute(everything(), tail)[-300:]
    checked = 0
    for indicator in INDICATORS:
        if indicator.name in ENDLESS | RECURSIVE:
            continue
        for position in positions(indicator):
            reference = short[:, position]
            typical = np.median(np.abs(reference))
            np.testing.assert_allclose(
                long[:, position], reference, rtol=1e-11, atol=1e-11 * typical, err_msg=indicator.name
            )
            checked += 1
    assert checked >= 25


@pytest.mark.parametrize("price", [0.1, 1e-6, 1e6 / 3])
def test_constant_bars_give_constant_numbers(price: float) -> None:
    count = 400
    columns = {name: np.full(count, price) for name in ("open", "high", "low", "close")}
    columns |= {"volume": np.full(count, 1e5), "session": np.zeros(count)}
    results = compute(everything(), columns)
    by_name = dict(zip(everything().outputs, results.T, strict=True))
    for indicator in INDICATORS:
        for position in positions(indicator):
            values = results[everything().warm_up[position] - 1 :, position]
            if indicator.name in UNDEFINED_ON_CONSTANT_BARS:
                assert np.isnan(values).all(), indicator.name
            else:
                assert np.isfinite(values).all(), indicator.name
    for name in ("stddev_5", "cci_14", "correl_30", "rsi_14", "adx_14", "linearreg_slope_14", "parkinson_20"):
        warm = by_name[name][~np.isnan(by_name[name])]
        assert len(warm) > 300
        assert (warm == 0.0).all(), name
    assert (by_name["bbands_upper_20_2_2"][19:] == price).all()


def test_zero_volume_is_a_number_or_undefined_never_infinite() -> None:
    results = compute(everything(), goog() | {"volume": np.zeros(len(goog()["close"]))})
    for indicator in INDICATORS:
        for position in positions(indicator):
            values = results[everything().warm_up[position] - 1 :, position]
            if indicator.name in UNDEFINED_WITHOUT_VOLUME:
                assert np.isnan(values).all(), indicator.name
            else:
                assert np.isfinite(values).all(), indicator.name


def test_units_are_known_to_the_split_rule_or_free_of_shares() -> None:
    free = {"money", "per money", "percent", "ratio", "logarithm", "degrees", "rows", "flag"}
    assert {unit for i in INDICATORS for unit in i.outputs.values()} <= set(SPLIT_EXPONENT) | free
