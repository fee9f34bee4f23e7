"""The book by price level: equal to a slow one, never crossed, and the contract of every state."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ContinuityError, IntegrityError, InvalidDataError, LimitError
from tapeline.features.order_book import LevelBook, OrderBook
from tapeline.indicators import TICK_INPUTS
from tapeline.kernels.book import ADD, BEGIN_SNAPSHOT, END_SNAPSHOT, SET, TRADE

from tests.microstructure.book.slow import SlowLevels

Event = tuple[int, int, int, float, float]  # time, action, side, price, size


@st.composite
def histories(draw: st.DrawFn, max_size: int = 60) -> list[Event]:
    """Few prices, so that levels cross, return and vanish; now and then something impossible or a snapshot."""
    one = st.tuples(
        st.integers(0, 3),
        st.sampled_from([SET] * 12 + [TRADE, BEGIN_SNAPSHOT, END_SNAPSHOT]),
        st.sampled_from([1, -1]),
        st.sampled_from([*(float(p) for p in range(1, 12)), nan, 0.0]),
        st.sampled_from([0.0, 0.0, 0.5, 1.0, 4.0, nan, -1.0, inf]),
    )
    events = draw(st.lists(one, max_size=max_size))
    times = np.cumsum([event[0] for event in events], dtype=np.int64)
    return [(int(now), *event[1:]) for now, event in zip(times, events, strict=True)]


def run(book: LevelBook, events: list[Event], state: np.ndarray | None = None, first: int = 0):
    """Batch over one entity; rows and the state as it ends."""
    now, action, side, price, size = (
        np.array([event[i] for event in events], dtype=np.int64 if i < 3 else np.float64) for i in range(5)
    )
    states = None if state is None else state[None]
    sequence = np.arange(first, first + len(events))
    rows, _, ends = book.batch(now, sequence, now, action, side, price, size, np.array([0, len(events)]), states)
    return rows, ends[0]


BOOK = LevelBook(12, 3)


@settings(max_examples=300, deadline=None)
@given(histories())
def test_equals_the_slow_book_and_is_never_crossed(events: list[Event]) -> None:
    slow = SlowLevels(3)
    rows, state = run(BOOK, events)
    np.testing.assert_array_equal(rows, np.array([slow.take(*event) for event in events]).reshape(-1, 16))
    both = (rows[:, 4] > 0) & (rows[:, 5] > 0)
    assert (rows[both, 4] < rows[both, 5]).all()
    counters = BOOK.counters(state)
    for name in ("crossed_levels", "crossed_size", "unknown", "refused"):
        assert getattr(counters, name) == slow.counts.get(name, 0), name
    for side in (1, -1):
        prices, sizes = BOOK.depth_of(state, side)
        assert dict(zip(prices, sizes, strict=True)) == slow.sides[side]


@settings(max_examples=100, deadline=None)
@given(histories(), st.data())
def test_stream_cuts_saves_and_the_future_change_nothing(events: list[Event], data: st.DataObject) -> None:
    rows, end = run(BOOK, events)
    state, out = BOOK.new_state(), np.empty(16)
    for k, (now, *rest) in enumerate(events):
        BOOK.update(state, now, k, now, *rest, out)
        assert out.tobytes() == rows[k].tobytes()
    assert state.tobytes() == end.tobytes()
    cut = data.draw(st.integers(0, len(events)))
    head, middle = run(BOOK, events[:cut])
    tail, last = run(BOOK, events[cut:], BOOK.restore(BOOK.save(middle)), first=cut)
    np.testing.assert_array_equal(np.concatenate([head, tail]), rows)
    assert last.tobytes() == end.tobytes()


@settings(max_examples=100, deadline=None)
@given(histories(100), st.integers(1, 4))
def test_a_small_book_errs_or_is_right(events: list[Event], levels: int) -> None:
    book, slow = LevelBook(levels, 3), SlowLevels(3)
    state, out, sequence = book.new_state(), np.empty(16), 0
    for now, *rest in events:
        before = state.tobytes()
        try:
            book.update(state, now, sequence, now, *rest, out)
        except LimitError:
            assert state.tobytes() == before
            side, price = rest[1], rest[2]
            assert len(slow.sides[side]) == levels
            assert price not in slow.sides[side]
            continue
        sequence += 1
        np.testing.assert_array_equal(out, slow.take(now, *rest))


def test_the_row_is_the_tick_row() -> None:
    assert LevelBook().outputs == TICK_INPUTS


def test_a_newer_level_drops_what_it_crosses_and_locks() -> None:
    asks: list[Event] = [(0, SET, -1, 5.0 + k, 1.0 + k) for k in range(4)]
    rows, state = run(BOOK, [*asks, (1, SET, 1, 6.0, 9.0), (2, SET, -1, 5.0, 0.0), (3, SET, -1, 4.0, 1.0)])
    assert rows[:, 4].tolist() == [0, 0, 0, 0, 6, 6, 0]
    assert rows[:, 5].tolist() == [5, 5, 5, 5, 7, 7, 4]
    counters = BOOK.counters(state)
    assert (counters.crossed_levels, counters.crossed_size, counters.unknown) == (3, 1.0 + 2.0 + 9.0, 1)


def test_a_gap_hides_the_quotes_until_the_next_snapshot() -> None:
    out, state, seen = np.empty(16), BOOK.new_state(), []
    for sequence, action in ((0, SET), (2, SET), (3, BEGIN_SNAPSHOT), (4, SET), (5, END_SNAPSHOT)):
        BOOK.update(state, 1, sequence, 1, action, 1, 5.0, 1.0, out)
        seen.append((out[4], BOOK.is_shown(state)))
    assert seen == [(5.0, True), (0.0, False), (0.0, False), (0.0, False), (5.0, True)]
    assert (BOOK.counters(state).gaps, BOOK.counters(state).missed) == (1, 1)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ((5, 9, 9, ADD, 1, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, 9, 1, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, SET, 0, 1.0, 1.0), InvalidDataError),
        ((4, 9, 9, SET, 1, 1.0, 1.0), ContinuityError),
        ((5, 7, 9, SET, 1, 1.0, 1.0), ContinuityError),
    ],
)
def test_what_cannot_be_is_refused(event: tuple, error: type[Exception]) -> None:
    state, out = BOOK.new_state(), np.empty(16)
    BOOK.update(state, 5, 7, 5, SET, 1, 1.0, 1.0, out)
    before = state.tobytes()
    with pytest.raises(error):
        BOOK.update(state, *event, out)
    assert state.tobytes() == before


def test_another_books_bytes_are_refused() -> None:
    with pytest.raises(IntegrityError):
        BOOK.restore(LevelBook(13, 3).save(LevelBook(13, 3).new_state()))
    with pytest.raises(IntegrityError):
        BOOK.restore(OrderBook().save(OrderBook().new_state()))
