"""What holds for every feature of a plan, for the fitted ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, ParameterError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.leakage import find_leaks
from tapeline.indicators import all_indicators
from tapeline.kernels.estimated.information_share import fit_shares
from tapeline.kernels.estimated.micro_price import fit_adjustments

from tests.microstructure.book.estimated_market import (
    CLASSES,
    LAGS,
    MICRO,
    PIN,
    REQUESTS,
    SHARE,
    SPREADS,
    Columns,
    changes,
    compute,
    empty,
    features,
    held,
    market,
    plan,
    rows_of,
    samples,
)

AGES = [PIN.stop - 1, SHARE.stop - 1, MICRO.stop - 1]
VALUES = [k for k in range(MICRO.stop) if k not in AGES]


def _cut(columns: Columns, keep: slice | np.ndarray) -> Columns:
    return {name: values[keep] for name, values in columns.items()}


def test_all_fitted_features_are_here() -> None:
    fitted = {i.name for i in all_indicators() if i.build.__module__.endswith("microstructure.estimated")}
    assert fitted == {request.name for request in REQUESTS}
    for indicator in all_indicators():
        if indicator.name in fitted:
            assert list(indicator.outputs)[-1].endswith("_age")
            assert indicator.source


def test_stream_equals_batch() -> None:
    count = 2_500
    state, out = plan().new_state(), np.empty(len(plan().outputs))
    at, rows = market()["time"].astype(np.int64), rows_of(market())
    for i in range(count):
        plan().update(state, int(at[i]), i, int(at[i]), rows[i], out)
        assert out.tobytes() == features()[i].tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4_000))
def test_a_saved_state_goes_on_bit_for_bit(cut: int) -> None:
    head, ends = compute(_cut(market(), slice(0, cut)))
    again = plan().restore(plan().save(ends[0]))
    tail, last = compute(_cut(market(), slice(cut, None)), again[None], first=cut)
    assert np.concatenate([head, tail]).tobytes() == features().tobytes()
    assert last.tobytes() == compute(market())[1].tobytes()


def test_the_future_changes_nothing() -> None:
    at = market()["time"].astype(np.int64)
    assert find_leaks(plan(), at, at, rows_of(market()), [1, 900, 1_701, 2_600, 3_999]) == ()


def test_entities_and_threads_change_nothing() -> None:
    halves = [_cut(market(), slice(0, 2_300)), _cut(market(), slice(900, 4_000))]
    joined = {name: np.concatenate([half[name] for half in halves]) for name in market()}
    at, rows = joined["time"].astype(np.int64), rows_of(joined)
    sequence, offsets = np.arange(len(at)), np.array([0, 2_300, 5_400])
    for threads in (1, 2):
        both, _ = plan().batch(at, sequence, at, rows, offsets, threads=threads)
        for part, half in zip((both[:2_300], both[2_300:]), halves, strict=True):
            assert part.tobytes() == compute(half)[0].tobytes()


@pytest.mark.parametrize("column", ["time", "price", "side", "bid", "ask", "bid_size", "ask_size"])
def test_an_impossible_value_makes_its_row_nan_and_is_as_if_absent(column: str) -> None:
    """But time itself, which a plan takes as it is: there only a missing one can be told."""
    bad = {"time": [np.nan], "side": [0.5, np.inf, 2.0]}.get(column, [-1.0, np.inf, -np.inf])
    at = np.array([700, 1_900, 3_100])[: len(bad)]
    values = market()[column].copy()
    values[at] = bad
    times = market()["time"].astype(np.int64)
    rows = rows_of(market() | {column: values})
    results, _ = plan().batch(times, np.arange(len(times)), times, rows, np.array([0, len(times)]))
    kept = np.delete(np.arange(len(times)), at)
    without, _ = compute(_cut(market(), kept))
    readers = {"price": [PIN, SHARE], "side": [PIN], "bid_size": [MICRO], "ask_size": [MICRO]}
    for part in readers.get(column, [PIN, SHARE, MICRO]):
        if column != "time":
            assert np.isnan(results[at, part]).all()
        assert results[kept, part].tobytes() == without[:, part].tobytes()


def test_the_age_counts_rows_since_the_fit() -> None:
    for column in AGES:
        age = features()[:, column]
        known = np.flatnonzero(~np.isnan(age))
        assert (np.diff(known) == 1).all()
        assert age[known[0]] == 0.0
        assert np.isin(np.diff(age[known]), [1.0]).sum() + (age[known[1:]] == 0.0).sum() == len(known) - 1
        assert (age[known] == 0.0).sum() > 10
    for part in (PIN, SHARE):
        values = features()[:, part]
        moved = np.flatnonzero((np.diff(values[:, :-1], axis=0) != 0).any(axis=1) & ~np.isnan(values[:-1, 0])) + 1
        assert (values[moved, -1] == 0.0).all()


@pytest.mark.parametrize("exponent", [-30, 12])
def test_prices_times_a_power_of_two_change_no_other_bit(exponent: int) -> None:
    factor = 2.0**exponent
    scaled, _ = compute(market() | {name: market()[name] * factor for name in ("price", "bid", "ask")})
    expected = features().copy()
    expected[:, MICRO.start] *= factor
    assert scaled.tobytes() == expected.tobytes()


@pytest.mark.parametrize("factor", [1e-9, 1e4])
def test_prices_near_a_millionth_and_a_million_are_as_accurate(factor: float) -> None:
    scaled, _ = compute(market() | {name: market()[name] * factor for name in ("price", "bid", "ask")})
    expected = features().copy()
    expected[:, MICRO.start] *= factor
    np.testing.assert_allclose(scaled[:, PIN], expected[:, PIN], rtol=0)
    np.testing.assert_allclose(scaled[:, MICRO], expected[:, MICRO], rtol=1e-9)
    # A price of 1e-7 with 16 digits has moves of 1e-9 with 14: they bound what a regression on moves can give back.
    np.testing.assert_allclose(scaled[:, SHARE][:, :3], expected[:, SHARE][:, :3], rtol=1e-7, atol=1e-9)


def test_only_the_window_matters() -> None:
    """After long other histories, an absurd one among them, the fits of the same windows are the same, bit for bit."""
    tail = _cut(market(), slice(1_000, None))
    absurd = {name: market()[name] * (1e9 if name in {"price", "bid", "ask"} else 1.0) for name in market()}
    shift = market()["time"][-1] - market()["time"][0] + 3_600e6
    before = absurd | {"time": absurd["time"] - shift}
    whole, _ = compute({name: np.concatenate([before[name], tail[name]]) for name in tail})
    alone, _ = compute(tail)
    whole = whole[len(before["time"]) :]
    prices = np.flatnonzero((whole[:, PIN.stop - 1] == 0) & (alone[:, PIN.stop - 1] == 0))
    assert len(prices) > 3
    assert whole[prices, PIN].tobytes() == alone[prices, PIN].tobytes()


@pytest.mark.parametrize("turned", [1, 77, 249])
def test_where_a_window_begins_in_its_ring_changes_no_bit(turned: int) -> None:
    prices, _ = samples(market())
    window = prices[-250:].T
    expected = fit_shares(np.concatenate([window.ravel(), np.zeros(200)]), 0, 250, 249, LAGS, 500)
    ring = np.roll(window, turned, axis=1)
    assert fit_shares(np.concatenate([ring.ravel(), np.zeros(200)]), 0, 250, turned - 1, LAGS, 500) == expected
    history = np.array(changes(market())[0][-250:], dtype=float)
    tables = []
    for shift in (0, turned):
        state = np.concatenate([np.roll(history, shift, axis=0).ravel(), np.zeros(100)])
        fit_adjustments(state, 0, 250, shift, CLASSES, SPREADS, 750)
        tables.append(state[750 : 750 + CLASSES // 2 * SPREADS].tobytes())
    assert tables[0] == tables[1]


@pytest.mark.parametrize("price", [0.1, 1e-6, 1e6 / 3])
def test_constant_quotes_have_no_information_and_no_other_fair_price(price: float) -> None:
    columns = empty(1_500)
    columns["bid"][:], columns["ask"][:] = price, price * 1.25
    columns["price"][::2] = price
    columns["side"][::2] = -1.0
    columns["bid_size"][:] = np.where(np.arange(1_500) % 3, 10.0, 90.0)
    columns["ask_size"][:] = 50.0
    results, _ = compute(columns)
    assert np.isnan(results[:, SHARE][:, :3]).all()
    assert not np.isnan(results[-1, SHARE.stop - 1])
    fair = results[-100:, MICRO.start]
    assert (np.isnan(fair) | (np.abs(fair - price * 1.125) < 1e-12 * price)).all()
    assert results[-1, PIN.start] == 0.0 or np.isfinite(results[-1, PIN]).all()


def test_short_silent_and_sided_histories_are_nan_never_wrong() -> None:
    one, _ = compute(_cut(market(), slice(0, 1)))
    assert np.isnan(one).all()
    silent, _ = compute(empty(3_000))
    assert np.isnan(silent).all()
    trades_only = empty(3_000) | {"price": held(market()["price"])[1_000:4_000], "side": np.resize([1.0, -1.0], 3_000)}
    results, _ = compute(trades_only)
    assert np.isnan(results[:, SHARE.start :]).all()
    assert np.isfinite(results[-1, PIN]).all()


def test_splits_scale_the_micro_price_and_nothing_else() -> None:
    """A two-for-one split, with prices as traded after it half as high and sizes twice as large, changes nothing."""
    ratio = np.ones(4_000)
    ratio[2_000] = 2.0
    after = np.where(np.arange(4_000) >= 2_000, 2.0, 1.0)
    columns = {name: market()[name] / after if name in {"price", "bid", "ask"} else market()[name] for name in market()}
    columns |= {name: market()[name] * after for name in ("bid_size", "ask_size")} | {"split_ratio": ratio}
    expected = features().copy()
    expected[:, MICRO.start] /= after
    assert compute(columns)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("name", "parameters", "match"),
    [
        ("MICRO_PRICE", {"classes": 5}, "is odd"),
        ("INFORMATION_SHARE", {"samples": 100, "lags": 5}, "Give at least 110"),
        ("PIN", {"periods": 0}, "out of bounds"),
        ("PIN", {"period_s": 0}, "out of bounds"),
        ("MICRO_PRICE", {"every": 0}, "out of bounds"),
    ],
)
def test_impossible_parameters_are_refused(name: str, parameters: dict[str, int], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        FeaturePlan.of([FeatureRequest.of(name, **parameters)])


def test_another_plans_state_is_refused() -> None:
    saved = plan().save(plan().new_state())
    other = FeaturePlan.of([*REQUESTS[:2], FeatureRequest.of("MICRO_PRICE")])
    with pytest.raises(IntegrityError):
        other.restore(saved)
