"""Half an hour of real orders: repaired, never crossed, and in agreement with the venue's own trades."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tapeline.features.order_book import BookCounters, OrderBook

from tests.microstructure.book import bitstamp
from tests.microstructure.book.slow import SlowBook


@cache
def rows_of(patience_us: int) -> tuple[np.ndarray, BookCounters]:
    """The rows of all events, and what was repaired."""
    book = OrderBook(8_192, 4_096, patience_us=patience_us, dense=False)
    time_us, *columns = bitstamp.events()
    rows, _, ends = book.batch(time_us, np.arange(len(time_us)), time_us, *columns, np.array([0, len(time_us)]))
    return rows, book.counters(ends[0])


@pytest.mark.parametrize("patience_us", [0, 10_000])
def test_is_never_crossed(patience_us: int) -> None:
    rows, _ = rows_of(patience_us)
    assert len(rows) == 314_057
    both = (rows[:, 4] > 0) & (rows[:, 5] > 0)
    assert both.mean() > 0.97
    assert (rows[both, 4] < rows[both, 5]).all()


def test_plain_replay_would_be_crossed_most_of_the_time() -> None:
    """What there is to repair: without it a lost deletion crosses everything after it."""
    best = {1: 0.0, -1: np.inf}
    orders: dict[int, tuple[int, float]] = {}
    prices: dict[int, dict[float, int]] = {1: {}, -1: {}}
    crossed = 0
    _, action, number, side, price, _ = (column.tolist() for column in bitstamp.events())
    deleted = set(bitstamp.last_events())
    for k in range(len(number)):
        if action[k] == 1 and price[k] > 0:
            orders[number[k]] = side[k], price[k]
            prices[side[k]][price[k]] = prices[side[k]].get(price[k], 0) + 1
            best[side[k]] = max(best[side[k]], price[k]) if side[k] > 0 else min(best[side[k]], price[k])
        elif k in deleted and number[k] in orders:
            which, level = orders.pop(number[k])
            prices[which][level] -= 1
            if not prices[which][level]:
                del prices[which][level]
                if level == best[which]:
                    best[which] = max(prices[1], default=0.0) if which > 0 else min(prices[-1], default=np.inf)
        crossed += best[1] >= best[-1]
    assert crossed > 0.85 * len(number)


def test_gives_the_venues_trades_and_no_others() -> None:
    rows, counters = rows_of(10_000)
    ours = rows[~np.isnan(rows[:, 1])][:, :4]
    theirs = np.column_stack(bitstamp.trades())
    assert len(ours) == len(theirs) == 284
    order = [np.lexsort(trades.T[::-1].round(8)) for trades in (ours, theirs)]
    np.testing.assert_array_equal(ours[order[0]][:, [0, 1, 3]], theirs[order[1]][:, [0, 1, 3]])
    np.testing.assert_allclose(ours[order[0]][:, 2], theirs[order[1]][:, 2], rtol=0, atol=1e-9)
    assert counters.crossed_orders <= 3
    assert counters.excess == 0


def test_trades_are_at_the_quote_before_them() -> None:
    """Those that begin a moment: 99 in 100 with patience, 3 in 10 if whatever is crossed is dropped at once."""
    time_us, price, _, side = bitstamp.trades()
    first = np.append(True, np.diff(time_us) > 0)
    shares = {}
    for patience_us in (0, 10_000):
        rows, _ = rows_of(patience_us)
        before = rows[np.searchsorted(rows[:, 0], time_us) - 1]
        shares[patience_us] = np.mean(np.where(side > 0, before[:, 5], before[:, 4])[first] == price[first])
    assert shares[10_000] > 0.98
    assert shares[0] < 0.5


def test_equals_the_slow_book_on_the_first_events() -> None:
    slow = SlowBook(5, 10_000)
    rows, _ = rows_of(10_000)
    columns = [column[:60_000].tolist() for column in bitstamp.events()]
    expected = np.array([slow.take(*event) for event in zip(*columns, strict=True)])
    np.testing.assert_allclose(rows[:60_000], expected, rtol=1e-12)
