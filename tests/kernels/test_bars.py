"""Time bars: batch equals stream, cuts change nothing, and a flush gives what the bar is so far."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.kernels.bars import (
    BAR_COLUMNS,
    BAR_STATE_SIZE,
    time_bar_flush,
    time_bar_update,
    time_bars_batch,
)

WIDTH_US = 60_000_000
Trades = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@st.composite
def trades(draw: st.DrawFn, max_size: int = 40) -> Trades:
    """Ordered trades, often at one moment or on a bar's edge, sometimes hours apart, some before 1970."""
    count = draw(st.integers(0, max_size))
    steps = draw(
        st.lists(
            st.sampled_from([0, 0, 1, 7_000_000, WIDTH_US // 2, WIDTH_US, 3_600_000_000]),
            min_size=count,
            max_size=count,
        )
    )
    event = np.cumsum(np.array([draw(st.sampled_from([-5 * WIDTH_US, 0, 1_377_986_400_083_000])), *steps], np.int64))[
        1:
    ]
    late = np.array(draw(st.lists(st.sampled_from([0, 5, 2 * WIDTH_US]), min_size=count, max_size=count)), np.int64)
    price = np.array(draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)), np.float64) / 4
    size = np.array(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)), np.float64)
    return event, event + late, np.arange(count, dtype=np.int64), price, size


def _directly(t: Trades) -> list[list[float]]:
    """Bars by grouping all trades by interval at once."""
    event, available, sequence, price, size = t
    bars = []
    for start in np.unique(event // WIDTH_US * WIDTH_US):
        i = np.flatnonzero(event // WIDTH_US * WIDTH_US == start)
        bars.append([
            start, start + WIDTH_US, price[i[0]], price[i].max(), price[i].min(), price[i[-1]], size[i].sum(), len(i),
            sequence[i[0]], sequence[i[-1]], max(available[i].max(), start + WIDTH_US), 1.0, 1.0,
        ])  # fmt: skip
    return bars


def _batch(t: Trades, *, flush: bool, states: NDArray[np.float64] | None = None):
    return time_bars_batch(WIDTH_US, *t, np.array([0, len(t[0])]), states, flush=flush)


@settings(max_examples=150, deadline=None)
@given(trades())
def test_bars_equal_the_direct_grouping(t: Trades) -> None:
    bars, offsets, _ = _batch(t, flush=True)
    expected = np.array(_directly(t)).reshape(-1, len(BAR_COLUMNS))
    np.testing.assert_array_equal(bars, expected)
    assert offsets.tolist() == [0, len(expected)]


@settings(max_examples=150, deadline=None)
@given(trades())
def test_stream_equals_batch(t: Trades) -> None:
    """A partial flush at the end of the stream gives what batch gives with a final flush."""
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    streamed = []
    for event, available, sequence, price, size in zip(*t, strict=True):
        code = time_bar_update(state, WIDTH_US, int(event), int(available), int(sequence), price, size, out)
        assert code in {0, 1}
        if code == 1:
            streamed.append(out.copy())
    finished, _, ends = _batch(t, flush=False)
    np.testing.assert_array_equal(np.array(streamed).reshape(-1, len(BAR_COLUMNS)), finished)
    assert state.tobytes() == ends[0].tobytes()
    if time_bar_flush(state, WIDTH_US, out) == 1:
        streamed.append(out.copy())
    flushed, _, _ = _batch(t, flush=True)
    np.testing.assert_array_equal(np.array(streamed).reshape(-1, len(BAR_COLUMNS)), flushed)


@settings(max_examples=100, deadline=None)
@given(trades(), st.data())
def test_cuts_change_nothing(t: Trades, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(t[0])))
    head, tail = tuple(a[:cut] for a in t), tuple(a[cut:] for a in t)
    first, _, states = _batch(head, flush=False)
    before = states.copy()
    second, _, ends = _batch(tail, flush=False, states=states)
    whole, _, whole_ends = _batch(t, flush=False)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    assert ends.tobytes() == whole_ends.tobytes()
    assert states.tobytes() == before.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.tuples(trades(), trades(), trades()))
def test_entities_do_not_touch_each_other(parts: tuple[Trades, ...]) -> None:
    joined = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    offsets = np.cumsum([0, *(len(part[0]) for part in parts)])
    bars, ends, _ = time_bars_batch(WIDTH_US, *joined, offsets, flush=True)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(bars[ends[number] : ends[number + 1]], _batch(part, flush=True)[0])


def test_a_trade_on_the_edge_opens_the_next_bar() -> None:
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    assert time_bar_update(state, WIDTH_US, WIDTH_US - 1, WIDTH_US - 1, 0, 2.0, 1.0, out) == 0
    assert time_bar_update(state, WIDTH_US, WIDTH_US, WIDTH_US, 1, 3.0, 1.0, out) == 1
    assert dict(zip(BAR_COLUMNS, out.tolist(), strict=True)) == {
        "start_us": 0, "end_us": WIDTH_US, "open": 2.0, "high": 2.0, "low": 2.0, "close": 2.0, "volume": 1.0,
        "trade_count": 1.0, "first_sequence": 0.0, "last_sequence": 0.0, "available_us": WIDTH_US,
        "split_ratio": 1.0, "dividend_ratio": 1.0,
    }  # fmt: skip
    assert time_bar_flush(state, WIDTH_US, out) == 1
    assert time_bar_flush(state, WIDTH_US, out) == 0


def test_a_trade_that_goes_back_is_refused_even_after_a_flush() -> None:
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    assert time_bar_update(state, WIDTH_US, 500, 500, 5, 2.0, 1.0, out) == 0
    before = state.tobytes()
    for event, sequence in ((499, 9), (500, 5), (500, 4)):
        assert time_bar_update(state, WIDTH_US, event, event, sequence, 2.0, 1.0, out) == -1
    assert state.tobytes() == before
    time_bar_flush(state, WIDTH_US, out)
    assert time_bar_update(state, WIDTH_US, 499, 499, 9, 2.0, 1.0, out) == -1


@pytest.mark.parametrize(
    ("price", "size"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, -1.0), (1.0, np.nan)]
)
def test_what_is_no_trade_is_refused_with_its_place(price: float, size: float) -> None:
    state, out = np.zeros(BAR_STATE_SIZE), np.empty(len(BAR_COLUMNS))
    assert time_bar_update(state, WIDTH_US, 1, 1, 1, price, size, out) == -2
    assert not state.any()
    event = np.array([1, 2, 3])
    with pytest.raises(InvalidDataError, match="entity 1, trade 2"):
        time_bars_batch(
            WIDTH_US, event, event, event, np.array([1, 1, price]), np.array([1, 1, size]), np.array([0, 1, 3])
        )


def test_disorder_and_wrong_shapes_are_refused() -> None:
    event, one = np.array([1, 3, 2]), np.ones(3)
    with pytest.raises(OutOfOrderError, match="entity 0, trade 2"):
        time_bars_batch(WIDTH_US, event, event, np.arange(3), one, one, np.array([0, 3]))
    with pytest.raises(ParameterError):
        time_bars_batch(0, event, event, event, one, one, np.array([0, 3]))
    with pytest.raises(ParameterError):
        time_bars_batch(WIDTH_US, event, event, event, one[:2], one, np.array([0, 3]))
    with pytest.raises(ParameterError):
        time_bars_batch(WIDTH_US, event, event, event, one, one, np.array([0, 2]))
    with pytest.raises(ParameterError):
        time_bars_batch(WIDTH_US, event, event, event, one, one, np.array([0, 3]), np.zeros((2, BAR_STATE_SIZE)))
