"""Tick, volume and dollar bars against bars made with lists; stream equals batch, cuts change nothing, adjustments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.kernels.bars import BAR_COLUMNS, BAR_STATE_SIZE, bar_adjust
from tapeline.kernels.bars_traded import MEASURES, Measure, traded_bar_flush, traded_bar_update, traded_bars_batch

from tests.kernels.test_bars import Trades, trades

Floats = NDArray[np.float64]
THRESHOLDS: dict[Measure, float] = {"tick": 3.0, "volume": 6.0, "dollar": 7.5}
measures = st.sampled_from(MEASURES)


def _directly(t: Trades, measure: Measure, *, flush: bool) -> list[list[float]]:
    """Bars by collecting trades in a list until their sum reaches the threshold."""
    bars: list[list[float]] = []
    open_bar: list[tuple[int, int, int, float, float]] = []

    def close() -> None:
        event, available, sequence, price, size = zip(*open_bar, strict=True)
        bars.append([
            event[0], event[-1], price[0], max(price), min(price), price[-1], sum(size), len(price),
            sequence[0], sequence[-1], max(available), 1.0, 1.0,
        ])  # fmt: skip
        open_bar.clear()

    for trade in zip(*(array.tolist() for array in t), strict=True):
        open_bar.append(trade)
        total = sum({"tick": 1.0, "volume": size, "dollar": price * size}[measure] for *_, price, size in open_bar)
        if total >= THRESHOLDS[measure]:
            close()
    if flush and open_bar:
        close()
    return bars


def _batch(t: Trades, measure: Measure, *, flush: bool, states: Floats | None = None) -> tuple[Floats, Floats]:
    bars, _, ends = traded_bars_batch(measure, THRESHOLDS[measure], *t, np.array([0, len(t[0])]), states, flush=flush)
    return bars, ends


@settings(max_examples=150, deadline=None)
@given(trades(), measures, st.booleans())
def test_bars_equal_those_made_with_lists(t: Trades, measure: Measure, flush: bool) -> None:
    bars, _ = _batch(t, measure, flush=flush)
    expected = np.array(_directly(t, measure, flush=flush), dtype=np.float64).reshape(-1, len(BAR_COLUMNS))
    np.testing.assert_array_equal(bars, expected)  # sizes and prices are exact in binary


@settings(max_examples=100, deadline=None)
@given(trades(), measures, st.data())
def test_stream_equals_batch_and_cuts_change_nothing(t: Trades, measure: Measure, data: st.DataObject) -> None:
    whole, ends = _batch(t, measure, flush=False)
    state, out, streamed = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS)), []
    for event, available, sequence, price, size in zip(*(array.tolist() for array in t), strict=True):
        number = MEASURES.index(measure)
        if traded_bar_update(state, number, THRESHOLDS[measure], event, available, sequence, price, size, out) == 1:
            streamed.append(out.copy())
    assert np.array(streamed).tobytes() == whole.tobytes()
    assert state.tobytes() == ends[0].tobytes()
    cut = data.draw(st.integers(0, len(t[0])))
    first, middle = _batch(tuple(a[:cut] for a in t), measure, flush=False)
    before = middle.copy()
    second, last = _batch(tuple(a[cut:] for a in t), measure, flush=False, states=middle)
    assert np.concatenate([first, second]).tobytes() == whole.tobytes()
    assert last.tobytes() == ends.tobytes()
    assert middle.tobytes() == before.tobytes()
    flushed, _ = _batch(t, measure, flush=True)
    if traded_bar_flush(state, out) == 1:
        np.testing.assert_array_equal(flushed[-1], out)


@settings(max_examples=50, deadline=None)
@given(st.tuples(trades(), trades(), trades()), measures)
def test_entities_do_not_touch_each_other(parts: tuple[Trades, ...], measure: Measure) -> None:
    joined = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    offsets = np.cumsum([0, *(len(part[0]) for part in parts)])
    bars, ends, _ = traded_bars_batch(measure, THRESHOLDS[measure], *joined, offsets, flush=True)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(bars[ends[number] : ends[number + 1]], _batch(part, measure, flush=True)[0])


def test_the_crossing_trade_belongs_to_its_bar_and_nothing_is_carried_over() -> None:
    event = np.array([1, 2, 2, 3, 9], dtype=np.int64)
    size = np.array([4.0, 5.0, 30.0, 1.0, 5.0])
    bars, _, states = traded_bars_batch(
        "volume", 6.0, event, event + 5, np.arange(5), np.array([10.0, 11.0, 12.0, 13.0, 14.0]), size, np.array([0, 5])
    )
    shown = {name: bars[:, BAR_COLUMNS.index(name)].tolist() for name in BAR_COLUMNS}
    assert shown["volume"] == [9.0, 30.0, 6.0]  # 4 + 5 passes 6; 30 is one bar, not five
    assert shown["open"] == [10.0, 12.0, 13.0]
    assert shown["start_us"] == [1.0, 2.0, 3.0]
    assert shown["end_us"] == [2.0, 2.0, 9.0]  # two bars close in one microsecond
    assert shown["last_sequence"] == [1.0, 2.0, 4.0]
    assert shown["available_us"] == [7.0, 7.0, 14.0]
    assert traded_bar_flush(states[0], np.empty(13)) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_a_split_inside_a_bar_changes_only_the_unit(measure: Measure) -> None:
    """Trades after a 4-for-1 split, and the bar they join, as if they had traded so from the beginning."""
    rng = np.random.default_rng(11)
    count, at = 60, 31
    event, number = np.arange(count), np.arange(count)
    price, size = rng.integers(8, 16, count) / 4.0, 4.0 * rng.integers(1, 5, count).astype(np.float64)
    threshold = {"tick": 7.0, "volume": 50.0, "dollar": 130.0}[measure]
    offsets = np.array([0, count])
    # Shares after the split are four times as many, so as many of them make a bar as a quarter of those before.
    after_threshold = threshold * 4.0 if measure == "volume" else threshold
    plain, _, _ = traded_bars_batch(
        measure, after_threshold, event, event, number, price / 4.0, size * 4.0, offsets, flush=True
    )
    head, _, states = traded_bars_batch(
        measure, threshold, event[:at], event[:at], number[:at], price[:at], size[:at], np.array([0, at])
    )
    assert states[0, BAR_COLUMNS.index("trade_count")] > 0.0
    assert bar_adjust(states[0], 4.0, 0.0, float(measure == "volume")) == 0
    tail, _, _ = traded_bars_batch(
        measure, after_threshold, event[at:], event[at:], number[at:], price[at:] / 4.0, size[at:] * 4.0,
        np.array([0, count - at]), states, flush=True,
    )  # fmt: skip
    split = BAR_COLUMNS.index("split_ratio")
    assert tail[:, split].tolist() == [4.0] + [1.0] * (len(tail) - 1)
    tail[0, split] = 1.0
    np.testing.assert_array_equal(tail, plain[len(head) :])


def test_a_dividend_inside_a_bar_brings_its_prices_to_the_basis_after_it() -> None:
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    for i, price in enumerate((40.0, 60.0, 50.0)):
        traded_bar_update(state, 0, 3.0, i, i, i, price, 2.0, out)
    traded_bar_update(state, 0, 3.0, 3, 3, 3, 48.0, 2.0, out)
    before = state.copy()
    assert bar_adjust(state, 1.0, 48.0, 0.0) == -1  # as much as the share itself: no dividend
    assert state.tobytes() == before.tobytes()
    assert bar_adjust(state, 1.0, 12.0, 0.0) == 0  # factor 48 / 36
    for i, price in ((4, 37.0), (5, 36.5)):
        code = traded_bar_update(state, 0, 3.0, i, i, i, price, 2.0, out)
    assert code == 1
    shown = dict(zip(BAR_COLUMNS, out.tolist(), strict=True))
    assert (shown["open"], shown["high"], shown["low"], shown["close"]) == (36.0, 37.0, 36.0, 36.5)
    assert (shown["volume"], shown["split_ratio"], shown["dividend_ratio"]) == (6.0, 1.0, 48.0 / 36.0)


def test_what_comes_before_the_first_trade_adjusts_nothing() -> None:
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    assert bar_adjust(state, 2.0, 1.0, 1.0) == 0
    assert not state.any()
    assert traded_bar_update(state, 0, 1.0, 1, 1, 1, 5.0, 1.0, out) == 1
    assert out[BAR_COLUMNS.index("split_ratio")] == 1.0


@pytest.mark.parametrize(
    ("price", "size"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, -1.0), (1.0, np.nan)]
)
def test_what_is_no_trade_is_refused_with_its_place(price: float, size: float) -> None:
    state = np.zeros(BAR_STATE_SIZE)
    assert traded_bar_update(state, 0, 2.0, 1, 1, 1, price, size, np.empty(13)) == -2
    assert not state.any()
    event = np.array([1, 2, 3])
    with pytest.raises(InvalidDataError, match="entity 1, trade 2"):
        traded_bars_batch(
            "tick", 2.0, event, event, event, np.array([1, 1, price]), np.array([1, 1, size]), np.array([0, 1, 3])
        )


def test_disorder_and_impossible_parameters_are_refused() -> None:
    event, one = np.array([1, 3, 2]), np.ones(3)
    with pytest.raises(OutOfOrderError, match="entity 0, trade 2"):
        traded_bars_batch("tick", 1.0, event, event, np.arange(3), one, one, np.array([0, 3]))
    for measure, threshold in (("tick", 0.0), ("volume", -1.0), ("dollar", np.nan), ("dollar", np.inf), ("money", 1.0)):
        with pytest.raises(ParameterError, match="cannot be made"):
            traded_bars_batch(measure, threshold, event, event, event, one, one, np.array([0, 3]))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="one length"):
        traded_bars_batch("tick", 1.0, event, event, event, one[:2], one, np.array([0, 3]))
    with pytest.raises(ParameterError, match="states must have shape"):
        traded_bars_batch("tick", 1.0, event, event, event, one, one, np.array([0, 3]), np.zeros((1, 3)))
