"""The book by order: equal to a slow one, never crossed, nothing lost, and the contract of every state."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import (
    ContinuityError,
    IntegrityError,
    InvalidDataError,
    LimitError,
    OutOfOrderError,
    ParameterError,
)
from tapeline.features.order_book import OrderBook
from tapeline.indicators import TICK_INPUTS
from tapeline.kernels.book import ADD, BEGIN_SNAPSHOT, CANCEL, END_SNAPSHOT, EXECUTE, MODIFY, SET, TRADE

from tests.microstructure.book.slow import SlowBook

Event = tuple[int, int, int, int, float, float]  # time, action, order, side, price, size
PRICES = [float(p) for p in range(1, 12)]
SIZES = [0.25, 0.5, 1.0, 3.0]


def _event(now: int, kind: int, number: int, side: int, price: float, size: float) -> Event:
    return now, kind, number, side, price, size


@st.composite
def histories(draw: st.DrawFn, max_size: int = 60) -> list[Event]:
    """Few ids and prices, so that everything meets everything; now and then something impossible or a snapshot."""
    actions = [ADD] * 8 + [CANCEL] * 3 + [MODIFY] * 3 + [EXECUTE] * 3 + [TRADE, BEGIN_SNAPSHOT, END_SNAPSHOT]
    steps = st.sampled_from([0, 0, 0, 1, 2, 5, 100])
    one = st.builds(
        _event, steps, st.sampled_from(actions), st.integers(-4, 8), st.sampled_from([1, -1]),
        st.sampled_from([*PRICES, *PRICES, nan, 0.0, -1.0]), st.sampled_from([*SIZES, *SIZES, nan, 0.0, inf]),
    )  # fmt: skip
    events = draw(st.lists(one, max_size=max_size))
    times = np.cumsum([event[0] for event in events], dtype=np.int64)
    return [(int(now), *event[1:]) for now, event in zip(times, events, strict=True)]


def run(book: OrderBook, events: list[Event], state: np.ndarray | None = None, first: int = 0):
    """Batch over one entity; rows and the state as it ends."""
    now, action, number, side, price, size = (
        np.array([event[i] for event in events], dtype=np.int64 if i < 4 else np.float64) for i in range(6)
    )
    sequence = np.arange(first, first + len(events))
    states = None if state is None else state[None]
    rows, available, ends = book.batch(
        now, sequence, now + 3, action, number, side, price, size, np.array([0, len(events)]), states
    )
    assert np.array_equal(available, now + 3)
    return rows, ends[0]


def book_of(patience_us: int = 3, **changes: int | bool) -> OrderBook:
    return OrderBook(**({"orders": 16, "levels": 12, "depth": 3, "patience_us": patience_us} | changes))


patiences = st.sampled_from([0, 2, 50, 10_000])


@settings(max_examples=300, deadline=None)
@given(histories(), patiences)
def test_equals_the_slow_book(events: list[Event], patience_us: int) -> None:
    book, slow = book_of(patience_us), SlowBook(3, patience_us)
    rows, state = run(book, events)
    expected = np.array([slow.take(*event) for event in events]).reshape(-1, 16)
    np.testing.assert_array_equal(rows, expected)
    counters = book.counters(state)
    for name in (
        "crossed_levels",
        "crossed_orders",
        "crossed_size",
        "withheld",
        "unknown",
        "duplicate",
        "excess",
        "refused",
    ):
        assert getattr(counters, name) == slow.counts.get(name, 0), name
    for side in (1, -1):
        prices, sizes, counts = book.depth_of(state, side)
        assert prices.tolist() == sorted(slow.prices[side], reverse=side > 0)
        members = [slow.levels[side][price] for price in prices]
        assert counts.tolist() == [len(m) for m in members]
        assert sizes.tolist() == [sum(slow.orders[n].size for n in m) for m in members]


@settings(max_examples=200, deadline=None)
@given(histories(), patiences)
def test_is_never_crossed_nor_locked(events: list[Event], patience_us: int) -> None:
    rows, _ = run(book_of(patience_us), events)
    both = (rows[:, 4] > 0) & (rows[:, 5] > 0)
    assert (rows[both, 4] < rows[both, 5]).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, -1]), st.sampled_from(PRICES), st.sampled_from(SIZES)), max_size=14))
def test_size_is_conserved_but_for_what_is_dropped(orders: list[tuple[int, float, float]]) -> None:
    """Adds, then half of each order is executed or cancelled: what went in is there, taken, or counted as dropped."""
    events: list[Event] = [(k, ADD, k, *order) for k, order in enumerate(orders)]
    book = book_of(patience_us=0)
    _, before = run(book, events)
    alive = sum(book.depth_of(before, side)[1].sum() for side in (1, -1))
    assert alive + book.counters(before).crossed_size == sum(size for _, _, size in orders)
    taken = [(100 + k, EXECUTE if k % 2 else CANCEL, k, 1, nan, order[2] / 2) for k, order in enumerate(orders)]
    if taken:
        _, after = run(book, taken, before, first=len(events))
        assert sum(book.depth_of(after, side)[1].sum() for side in (1, -1)) == alive / 2


@settings(max_examples=100, deadline=None)
@given(histories(), patiences)
def test_stream_equals_batch(events: list[Event], patience_us: int) -> None:
    book = book_of(patience_us)
    rows, end = run(book, events)
    state, out = book.new_state(), np.empty(16)
    for k, (now, *rest) in enumerate(events):
        book.update(state, now, k, now + 3, *rest, out)
        assert out.tobytes() == rows[k].tobytes()
    assert state.tobytes() == end.tobytes()


@settings(max_examples=100, deadline=None)
@given(histories(), patiences, st.data())
def test_cuts_saves_and_the_future_change_nothing(events: list[Event], patience_us: int, data: st.DataObject) -> None:
    book = book_of(patience_us)
    cut = data.draw(st.integers(0, len(events)))
    rows, end = run(book, events)
    head, middle = run(book, events[:cut])
    np.testing.assert_array_equal(head, rows[:cut])
    again = book.restore(book.save(middle))
    assert again.tobytes() == middle.tobytes()
    tail, last = run(book, events[cut:], again, first=cut)
    np.testing.assert_array_equal(tail, rows[cut:])
    assert last.tobytes() == end.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(histories(20), min_size=2, max_size=3))
def test_entities_do_not_touch_each_other(parts: list[list[Event]]) -> None:
    book = book_of()
    joined = [event for part in parts for event in part]
    columns = [np.array([event[i] for event in joined], dtype=np.int64 if i < 4 else np.float64) for i in range(6)]
    sequence = np.concatenate([np.arange(len(part)) for part in parts]).astype(np.int64)
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    rows, _, ends = book.batch(columns[0], sequence, columns[0] + 3, *columns[1:], offsets)
    for k, part in enumerate(parts):
        alone, end = run(book, part)
        np.testing.assert_array_equal(rows[offsets[k] : offsets[k + 1]], alone)
        assert ends[k].tobytes() == end.tobytes()


@pytest.mark.parametrize("exponent", [-24, 16])
@settings(max_examples=30, deadline=None)
@given(events=histories())
def test_prices_of_any_scale(exponent: int, events: list[Event]) -> None:
    factor = 2.0**exponent
    rows, _ = run(book_of(), events)
    scaled, _ = run(book_of(), [(*event[:4], event[4] * factor, event[5]) for event in events])
    for k, name in enumerate(book_of().outputs):
        price = name == "price" or (name.split("_")[0] in {"bid", "ask"} and "size" not in name)
        np.testing.assert_array_equal(scaled[:, k], rows[:, k] * (factor if price else 1.0))


def test_the_row_is_the_tick_row() -> None:
    assert OrderBook().outputs == TICK_INPUTS


def test_what_trades_at_once_leaves_the_book_as_it_is() -> None:
    """A buyer up to 9 meets two of three asks; his order never shows, and the third ask stays."""
    asks: list[Event] = [(0, ADD, k, -1, 5.0 + k, 1.0) for k in range(3)]
    buyer: list[Event] = [(1, ADD, 9, 1, 9.0, 2.0), (1, EXECUTE, 0, -1, nan, 1.0), (1, EXECUTE, 9, 1, 5.0, 1.0)]
    buyer += [(1, EXECUTE, 1, -1, nan, 1.0), (1, EXECUTE, 9, 1, 6.0, 1.0)]
    book = book_of(patience_us=10)
    rows, state = run(book, [*asks, *buyer, (100, TRADE, 0, 0, 6.5, 1.0)])
    assert rows[3:, 5].tolist() == [5.0, 6.0, 6.0, 7.0, 7.0, 7.0]
    assert (rows[3:, 4] == 0.0).all()
    traded = rows[~np.isnan(rows[:, 1])]
    np.testing.assert_array_equal(traded[:, 1:4], [[5.0, 1.0, 1.0], [6.0, 1.0, 1.0], [6.5, 1.0, nan]])
    assert book.counters(state).crossed_orders == 0
    rows, state = run(book_of(patience_us=0), [*asks, *buyer])
    assert book.counters(state).crossed_orders == 3


def test_what_stays_longer_than_patience_wins() -> None:
    book = book_of(patience_us=10)
    events: list[Event] = [(0, ADD, 1, -1, 5.0, 2.0), (0, ADD, 2, -1, 8.0, 1.0), (1, ADD, 3, 1, 5.0, 4.0)]
    rows, state = run(book, [*events, (10, TRADE, 0, 1, 5.0, 1.0), (11, TRADE, 0, 1, 5.0, 1.0)])
    assert rows[:, 4].tolist() == [0.0, 0.0, 0.0, 0.0, 5.0]
    assert rows[:, 5].tolist() == [5.0, 5.0, 5.0, 5.0, 8.0]
    counters = book.counters(state)
    assert (counters.crossed_levels, counters.crossed_orders, counters.crossed_size) == (1, 1, 2.0)
    assert counters.withheld == 1


def test_a_gap_hides_the_quotes_until_the_next_snapshot() -> None:
    book, out = book_of(), np.empty(16)
    state = book.new_state()
    bid = (1, 5.0, 1.0)
    steps = [(0, ADD, 1, *bid), (1, ADD, 2, *bid), (5, ADD, 3, *bid), (6, ADD, 4, *bid)]
    seen = []
    for sequence, *event in [
        *steps,
        (7, BEGIN_SNAPSHOT, 0, 0, nan, nan),
        (8, ADD, 1, *bid),
        (9, END_SNAPSHOT, 0, 0, 0, 0),
    ]:
        book.update(state, 10, sequence, 10, *event, out)
        seen.append((out[4], book.is_shown(state)))
    assert seen == [(5.0, True), (5.0, True), (0.0, False), (0.0, False), (0.0, False), (0.0, False), (5.0, True)]
    counters = book.counters(state)
    assert (counters.gaps, counters.missed, counters.duplicate) == (1, 3, 0)
    loose = book_of(dense=False)
    state = loose.new_state()
    for sequence, *event in steps:
        loose.update(state, 10, sequence, 10, *event, out)
    assert out[4] == 5.0
    assert loose.counters(state).gaps == 0


def test_an_overflow_is_an_error_and_leaves_the_state_as_it_was() -> None:
    book, out = book_of(orders=3, levels=2), np.empty(16)
    state = book.new_state()
    book.update(state, 0, 0, 0, ADD, 1, 1, 1.0, 1.0, out)
    book.update(state, 0, 1, 0, ADD, 2, 1, 2.0, 1.0, out)
    before = state.tobytes()
    with pytest.raises(LimitError, match=r"level.*Give it more levels="):
        book.update(state, 0, 2, 0, ADD, 3, 1, 3.0, 1.0, out)
    assert state.tobytes() == before
    book.update(state, 0, 2, 0, MODIFY, 2, 1, 3.0, 1.0, out)  # takes the place of its own level
    book.update(state, 0, 3, 0, ADD, 3, -1, 3.0, 1.0, out)  # withheld: it counts as an order
    before = state.tobytes()
    with pytest.raises(LimitError, match=r"order.*Give it more orders="):
        book.update(state, 0, 4, 0, ADD, 4, -1, 9.0, 1.0, out)
    assert state.tobytes() == before
    columns = [np.array(x) for x in ([0, 0, 0], [0, 1, 2], [0, 0, 0], [ADD] * 3, [1, 2, 3], [1] * 3)]
    with pytest.raises(LimitError, match="entity 0, event 2"):
        book.batch(*columns, np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([0, 3]))


@settings(max_examples=100, deadline=None)
@given(histories(100), st.integers(1, 5), st.integers(1, 4), patiences)
def test_a_small_book_errs_or_is_right(events: list[Event], orders: int, levels: int, patience_us: int) -> None:
    book, slow = OrderBook(orders, levels, 3, patience_us=patience_us), SlowBook(3, patience_us)
    state, out, sequence = book.new_state(), np.empty(16), 0
    for now, *rest in events:
        before = state.tobytes()
        try:
            book.update(state, now, sequence, now, *rest, out)
        except LimitError:
            assert state.tobytes() == before
            continue
        sequence += 1
        np.testing.assert_array_equal(out, slow.take(now, *rest))
        assert len(slow.orders) <= orders
        assert max(len(slow.prices[1]), len(slow.prices[-1])) <= levels


def test_ids_of_any_pattern_are_found_again() -> None:
    """Steps of powers of two are the usual ids, and what a table of powers of two fears."""
    book, out = OrderBook(4_096, 8, 3, dense=False), np.empty(16)
    state = book.new_state()
    ids = [*(k << 32 for k in range(1, 2_000)), *(-k for k in range(1, 2_000)), 2**63 - 1, -(2**63)]
    for k, number in enumerate(ids):
        book.update(state, 0, k, 0, ADD, number, 1, 1.0, 1.0, out)
    assert out[6] == len(ids)
    for k, number in enumerate(ids[::-1]):
        book.update(state, 1, k, 0, CANCEL, number, 1, nan, nan, out)
    assert book.counters(state).unknown == 0
    assert out[4] == 0.0


def test_sizes_do_not_drift_and_dust_does_not_stay() -> None:
    book, out = book_of(dense=False), np.empty(16)
    state = book.new_state()
    book.update(state, 0, 0, 0, ADD, 1, 1, 1.0, 0.3, out)
    for k in range(1, 200_001, 2):
        book.update(state, 0, k, 0, ADD, 2, 1, 1.0, 1e9 / 3 if k % 4 == 1 else 0.1, out)
        book.update(state, 0, k + 1, 0, CANCEL, 2, 1, nan, nan, out)
    assert out[6] == 0.3
    for k in range(3):
        book.update(state, 1, k, 0, EXECUTE, 1, 1, nan, 0.1, out)
    assert (out[4], book.counters(state).excess) == (0.0, 0)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ((5, 9, 9, SET, 1, 1, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, 0, 1, 1, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, 9, 1, 1, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, ADD, 1, 0, 1.0, 1.0), InvalidDataError),
        ((5, 9, 9, ADD, 1, 2, 1.0, 1.0), InvalidDataError),
        ((4, 9, 9, ADD, 1, 1, 1.0, 1.0), ContinuityError),
        ((5, 7, 9, ADD, 1, 1, 1.0, 1.0), ContinuityError),
    ],
)
def test_what_cannot_be_is_refused(event: tuple, error: type[Exception]) -> None:
    book, out = book_of(), np.empty(16)
    state = book.new_state()
    book.update(state, 5, 7, 5, ADD, 1, 1, 1.0, 1.0, out)
    before = state.tobytes()
    with pytest.raises(error):
        book.update(state, *event, out)
    assert state.tobytes() == before


def test_wrong_arrays_parameters_and_saves_are_refused() -> None:
    book, out = book_of(), np.empty(16)
    event = (0, 0, 0, ADD, 1, 1, 1.0, 1.0)
    for state, row in ((np.zeros(3, np.int64), out), (book.new_state(), np.empty(3)), (np.zeros(book.state_size), out)):
        with pytest.raises(ParameterError):
            book.update(state, *event, row)
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(OutOfOrderError, match="entity 0, event 1"):
        book.batch(two, two, two, two + ADD, two, two + 1, two + 1.0, two + 1.0, np.array([0, 2]))
    with pytest.raises(ParameterError, match="offsets"):
        book.batch(one, one, one, one + ADD, one, one + 1, one + 1.0, one + 1.0, np.array([0, 2]))
    with pytest.raises(ParameterError, match="size must have shape"):
        book.batch(one, one, one, one + ADD, one, one + 1, one + 1.0, np.ones(2), np.array([0, 1]))
    columns = (one, one, one, one + ADD, one, one + 1, one + 1.0, one + 1.0)
    with pytest.raises(ParameterError, match="states must have shape"):
        book.batch(*columns, np.array([0, 1]), np.zeros((1, 3), np.int64))
    for bad in ({"orders": 0}, {"levels": 0}, {"depth": 0}, {"depth": 51}, {"patience_us": -1}, {"levels": 1.5}):
        with pytest.raises(ParameterError):
            book_of(**bad)
    with pytest.raises(ParameterError, match="side 0"):
        book.depth_of(book.new_state(), 0)
    with pytest.raises(ParameterError, match="a state of this book"):
        book.save(np.zeros(3, np.int64))
    saved = book.save(book.new_state())
    with pytest.raises(IntegrityError, match="another"):
        book_of(patience_us=4).restore(saved)
    with pytest.raises(IntegrityError, match="damaged"):
        book.restore(saved[:-1] + b"\1")
