"""The same battery for every feature over ticks: nobody has to remember to test a new one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.features.leakage import find_leaks
from tapeline.indicators import SPLIT_EXPONENT, TICK_INPUTS, Indicator
from tapeline.indicators.schema import ASK_SIZES, ASKS, BID_SIZES, BIDS

from tests.indicators.market import same_bits
from tests.microstructure.tape import tape_of
from tests.microstructure.ticks import (
    BOOK,
    INDICATORS,
    Columns,
    Floats,
    compute,
    cut,
    everything,
    market,
    market_features,
    order_of,
    positions,
    rows_of,
)

each = pytest.mark.parametrize("indicator", INDICATORS, ids=lambda indicator: indicator.name)

BY_THE_CLOCK = {"REALIZED_SPREAD", "PRICE_IMPACT", "HASBROUCK_LAMBDA", "VPIN", "BVC"}
"""Those whose first value waits for time or volume to pass, not for rows alone."""
SIGN_RULES = {"LEE_READY", "EMO", "CLNV"}
"""Those that ask whether prices are equal: rounding each price may answer otherwise."""
PHASED = {"VPIN", "BVC"}
"""Those whose buckets are cut from the first trade on."""
UNDEFINED_ON_CONSTANT_PRICES = {"VARIANCE_RATIO"}
PRICES = ("price", *BIDS, *ASKS)
SIZES = ("size", *BID_SIZES, *ASK_SIZES)
PRICE_POWER = {"price": 1.0, "price per share": 1.0, "per root money": -0.5}
SIZE_POWER = {"shares": 1.0, "price per share": -1.0, "per root money": -0.5}


def _stream(rows: Floats, columns: Columns) -> Floats:
    plan, (at, sequence) = everything(), order_of(columns)
    state, out = plan.new_state(), np.empty((len(rows), len(plan.outputs)))
    for i in range(len(rows)):
        plan.update(state, int(at[i]), int(sequence[i]), int(at[i]), rows[i], out[i])
    return out


def test_stream_equals_batch_bit_for_bit() -> None:
    assert same_bits(_stream(rows_of(everything(), market()), market()), market_features())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(market()["time"])))
def test_a_saved_and_restored_state_continues_bit_for_bit(at_row: int) -> None:
    plan, rows, (at, sequence) = everything(), rows_of(everything(), market()), order_of(market())
    head, ends = plan.batch(at[:at_row], sequence[:at_row], at[:at_row], rows[:at_row], np.array([0, at_row]))
    restored = plan.restore(plan.save(ends[0]))
    rest = len(rows) - at_row
    tail, _ = plan.batch(
        at[at_row:], sequence[at_row:], at[at_row:], rows[at_row:], np.array([0, rest]), restored[np.newaxis]
    )
    assert same_bits(np.concatenate([head, tail]), market_features())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_neighbours_change_anything(threads: int) -> None:
    plan, rows, (at, sequence) = everything(), rows_of(everything(), market()), order_of(market())
    offsets = np.array([0, 2_000, 2_000, 3_500])
    parts = [slice(0, 2_000), slice(0, 1_500)]
    order = np.concatenate([np.arange(2_000), np.arange(1_500)])
    features, _ = plan.batch(at[order], sequence[order], at[order], rows[order], offsets, threads=threads)
    assert same_bits(features, np.concatenate([market_features()[part] for part in parts]))


def test_no_feature_looks_ahead() -> None:
    rows, (at, _) = rows_of(everything(), market()), order_of(market())
    assert find_leaks(everything(), at, at, rows, (1, 2, 40, 700, 3_000, 5_999)) == ()


@pytest.mark.parametrize("column", TICK_INPUTS)
def test_an_impossible_value_is_nan_in_its_row_and_otherwise_as_if_the_row_had_not_been(column: str) -> None:
    bad = {"side": [0.5, 2.0, np.inf]}.get(column, [np.inf, -np.inf if column == "time" else -1.0, np.inf])
    at_rows = [40, 700, 4_000]
    values = market()[column].copy()
    values[at_rows] = bad
    plan, (at, sequence) = everything(), order_of(market())
    results, _ = plan.batch(at, sequence, at, rows_of(plan, market() | {column: values}), np.array([0, len(at)]))
    without = compute(plan, {name: np.delete(series, at_rows) for name, series in market().items()})
    readers = 0
    for indicator in INDICATORS:
        for position in positions(indicator):
            if column not in indicator.inputs:
                assert same_bits(results[:, position], market_features()[:, position]), indicator.name
                continue
            readers += 1
            assert np.isnan(results[at_rows, position]).all(), indicator.name
            assert same_bits(np.delete(results[:, position], at_rows), without[:, position]), indicator.name
    assert readers


@each
def test_a_value_stays_until_an_event_that_it_is_about(indicator: Indicator) -> None:
    """Trades leave the book's features alone, changes of the book those of trades; time alone completes what waits for it."""
    is_trade = ~np.isnan(market()["price"])
    about_trades = "price" in indicator.inputs
    idle = ~is_trade if about_trades else is_trade
    idle[0] = False
    rows = np.flatnonzero(idle)
    if indicator.name in BY_THE_CLOCK and "time" in indicator.inputs:
        return
    for position in positions(indicator):
        values = market_features()[:, position]
        assert same_bits(values[rows], values[rows - 1])
        assert len(np.unique(values[~np.isnan(values)])) > 1


def _both() -> Columns:
    """The market with every row both a trade and a change of the book."""
    columns = {name: values.copy() for name, values in market().items()}
    for name, values in columns.items():
        known = np.flatnonzero(~np.isnan(values))
        place = np.maximum(np.searchsorted(known, np.arange(len(values)), side="right") - 1, 0)
        columns[name] = values[known[place]]
    rng = np.random.default_rng(1)
    centre = 1_600.0 + 0.25 * np.cumsum(rng.choice([-1, 0, 1], len(values)))
    columns["price"] = centre + 0.25 * rng.choice([-1, 1], len(values))
    for level in range(len(BIDS)):
        columns[BIDS[level]], columns[ASKS[level]] = centre - 0.25 * (level + 1), centre + 0.25 * (level + 1)
    for name in (*BID_SIZES, *ASK_SIZES):
        columns[name] = np.maximum(columns[name], 2.0)
    return columns


@each
def test_is_nan_exactly_until_it_is_warm(indicator: Indicator) -> None:
    """Where every row carries everything, warm-up is in rows."""
    results = compute(everything(), _both())
    for position in positions(indicator):
        values, warm_up = results[:, position], everything().warm_up[position]
        first = int(np.argmax(~np.isnan(values)))
        assert np.isfinite(values[first:]).all()
        assert first >= warm_up - 1
        if indicator.name not in BY_THE_CLOCK:
            allowed = 2 if indicator.name in {"EFFECTIVE_SPREAD", "OFI", "MLOFI"} else 1
            assert first < warm_up + allowed  # a trade meets the quotes, and flow is a change, of a row before


@each
@pytest.mark.parametrize("exponent", [-30, 10])
def test_prices_and_sizes_times_powers_of_two_change_no_other_bit(indicator: Indicator, exponent: int) -> None:
    """Around 1e-6 and 1e6 a share; sizes by 64 alone where a unit of size has no meaning of its own."""
    factor = 2.0**exponent
    results = compute(everything(), market() | {name: market()[name] * factor for name in PRICES})
    for position, unit in zip(positions(indicator), indicator.outputs.values(), strict=True):
        reference = market_features()[:, position] * factor ** PRICE_POWER.get(unit, 0.0)
        assert same_bits(results[:, position], reference)
    if indicator.name in PHASED | {"BOOK_SLOPE"}:  # a bucket and a logarithm of a size have a unit
        return
    results = compute(everything(), market() | {name: market()[name] * 64.0 for name in SIZES})
    for position, unit in zip(positions(indicator), indicator.outputs.values(), strict=True):
        assert same_bits(results[:, position], market_features()[:, position] * 64.0 ** SIZE_POWER.get(unit, 0.0))


@pytest.mark.parametrize("factor", [1e-9, 1e3])
def test_prices_near_a_millionth_and_a_million_are_as_accurate(factor: float) -> None:
    told = market() | {"side": market()["side"].copy()}
    for trade in tape_of(market()).trades:
        told["side"][trade.row] = trade.sign or 1.0
    reference = compute(everything(), told)
    results = compute(everything(), told | {name: told[name] * factor for name in PRICES})
    for indicator in INDICATORS:
        if indicator.name in SIGN_RULES:
            continue
        for position, unit in zip(positions(indicator), indicator.outputs.values(), strict=True):
            expected = reference[:, position] * factor ** PRICE_POWER.get(unit, 0.0)
            typical = np.nanmedian(np.abs(expected))
            np.testing.assert_allclose(
                results[:, position], expected, rtol=1e-9, atol=1e-9 * typical, err_msg=indicator.name
            )


def test_a_split_changes_units_and_no_bit() -> None:
    at_row, ratio = 3_000, 2.0
    after = np.arange(len(market()["time"])) >= at_row
    columns = dict(market())
    for name in PRICES:
        columns[name] = np.where(after, market()[name] / ratio, market()[name])
    for name in SIZES:
        columns[name] = np.where(after, market()[name] * ratio, market()[name])
    columns["split_ratio"] = np.where(np.arange(len(after)) == at_row, ratio, 1.0)
    results = compute(everything(), columns)
    for position, unit in enumerate(everything().units):
        expected = market_features()[:, position].copy()
        expected[at_row:] *= ratio ** SPLIT_EXPONENT.get(unit, 0)
        if unit == "per root money":
            assert SPLIT_EXPONENT.get(unit, 0) == 0  # money is what it was
        assert same_bits(results[:, position], expected), everything().outputs[position]


def test_nothing_drifts_and_an_absurd_spell_leaves_no_trace() -> None:
    tail = market()
    plan, count = everything(), len(market()["time"])
    absurd = {
        name: values[:2_000] * (1e9 if name in PRICES else 1e6 if name in SIZES else 1.0)
        for name, values in market().items()
    }
    parts = [*([tail] * 20), absurd, tail]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in TICK_INPUTS}
    shift = np.repeat(np.arange(len(parts)) * 86_400e6 * 2, [len(part["time"]) for part in parts])
    columns["time"] = columns["time"] + shift - shift[-1]  # the last part has the very times of the market
    long = compute(plan, columns)[-1_000:]
    checked = 0
    for indicator in INDICATORS:
        if indicator.name in PHASED:
            continue
        for position in positions(indicator):
            reference = market_features()[count - 1_000 :, position]
            typical = np.nanmedian(np.abs(reference))
            np.testing.assert_allclose(
                long[:, position], reference, rtol=1e-11, atol=1e-11 * typical, err_msg=indicator.name
            )
            checked += 1
    assert checked >= 30


@pytest.mark.parametrize("price", [0.1, 1e-6, 1e6 / 3])
def test_constant_prices_give_finite_numbers(price: float) -> None:
    columns = {name: values.copy() for name, values in _both().items()}
    columns["price"][:] = price
    for level in range(len(BIDS)):
        columns[BIDS[level]][:] = price * (1 - 1e-3 * (level + 1))
        columns[ASKS[level]][:] = price * (1 + 1e-3 * (level + 1))
    columns["side"] = np.random.default_rng(2).choice([-1.0, 1.0], len(columns["time"]))
    results = compute(everything(), columns)[-500:]
    for indicator in INDICATORS:
        for position in positions(indicator):
            if indicator.name in UNDEFINED_ON_CONSTANT_PRICES:
                assert np.isnan(results[:, position]).all(), indicator.name
            else:
                assert np.isfinite(results[:, position]).all(), indicator.name
    by_name = dict(zip(everything().outputs, results.T, strict=True))
    for name in ("roll_spread_100", "kyle_lambda_100", "realized_variance_100", "jump_share_100", "vpin_200_10"):
        assert (by_name[name] == 0.0).all(), name


def test_a_history_of_one_row_and_a_gap_of_days() -> None:
    for row in (0, int(np.argmax(~np.isnan(market()["price"])))):
        one = compute(everything(), cut(market(), slice(row, row + 1)))
        assert not np.isinf(one).any()
    late = {name: values.copy() for name, values in market().items()}
    late["time"][3_000:] += 5 * 86_400e6
    results = compute(everything(), late)
    unmoved = [p for i in INDICATORS if "time" not in i.inputs for p in positions(i)]
    assert same_bits(np.ascontiguousarray(results[:, unmoved]), np.ascontiguousarray(market_features()[:, unmoved]))
    assert not np.isinf(results).any()


def test_ticks_with_nothing_in_them_change_nothing() -> None:
    """A row that carries no column but its time: a heartbeat."""
    columns = cut(market(), slice(0, 500))
    idle = {name: np.repeat(values, 2) for name, values in columns.items()}
    for name in (*BOOK, "price", "size", "side"):
        idle[name][1::2] = np.nan
    results = compute(everything(), idle)
    for indicator in INDICATORS:
        if "time" in indicator.inputs:
            continue
        for position in positions(indicator):
            assert same_bits(results[::2, position], market_features()[:500, position])
            assert same_bits(results[1::2, position], market_features()[:500, position])


def test_units_are_known_to_the_rules_above() -> None:
    assert {unit for i in INDICATORS for unit in i.outputs.values()} <= {*PRICE_POWER, *SIZE_POWER, "ratio", "flag"}
