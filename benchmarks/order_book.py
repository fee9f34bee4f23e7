"""How long does an order book take for one event, inside compiled code, with a thousand levels on each side?

By order: adds, cancels, executions and changes of orders at prices anywhere in the book, most near the best. By level: levels
set to sizes likewise. All rows of five levels are written. A block of events is one sample; its mean is a sample's value.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tapeline.features.order_book import LevelBook, OrderBook
from tapeline.kernels.book import ADD, CANCEL, EXECUTE, MODIFY, SET

from benchmarks.harness import Result, absolute

GROUP = "microstructure"
LEVELS = 1_000
ORDERS = 5_000
EVENTS = 20_000  # of a block
BLOCKS = 30
GOAL_US = 1.0

Columns = tuple[NDArray[np.int64] | NDArray[np.float64], ...]


def _prices(rng: np.random.Generator, side: NDArray[np.int64]) -> NDArray[np.float64]:
    """Three in four within ten levels of the best, the others anywhere among a thousand."""
    count = len(side)
    away = np.where(rng.random(count) < 0.75, rng.integers(1, 11, count), rng.integers(1, LEVELS + 1, count))
    return (10_000.0 - side * away) / 4


def by_order(count: int) -> Columns:
    """Action, order, side, price, size: fills the book first, then keeps it full; ids leave in random order."""
    rng = np.random.default_rng(3)
    side = rng.choice(np.array([1, -1]), count)
    price, size = _prices(rng, side), rng.integers(1, 100, count).astype(np.float64)
    price[: 2 * LEVELS] = (10_000.0 + np.repeat([-1, 1], LEVELS) * np.tile(np.arange(1, LEVELS + 1), 2)) / 4
    side[: 2 * LEVELS] = np.repeat([1, -1], LEVELS)
    action, order = np.full(count, ADD), np.arange(count)
    alive = list(range(min(ORDERS, count)))
    for k in range(ORDERS, count):
        if k % 5 in {1, 3}:
            alive.append(k)
            continue
        place = int(rng.integers(2 * LEVELS, len(alive)))
        action[k], order[k] = MODIFY if k % 5 == 4 else rng.choice([CANCEL, CANCEL, EXECUTE]), alive[place]
        side[k] = side[order[k]]
        price[k] = price[order[k]] if action[k] != MODIFY else _prices(rng, side[k : k + 1])[0]
        if action[k] != MODIFY:
            size[k] = size[order[k]]
            alive[place] = alive[-1]
            alive.pop()
        else:
            size[order[k]] = size[k]
    return action, order, side, price, size


def by_level(count: int) -> Columns:
    """Action, side, price, size: the book is filled first; then one in three removes a level."""
    rng = np.random.default_rng(4)
    side = rng.choice(np.array([1, -1]), count)
    price, size = _prices(rng, side), rng.integers(0, 3, count).astype(np.float64)
    price[: 2 * LEVELS] = (10_000.0 + np.repeat([-1, 1], LEVELS) * np.tile(np.arange(1, LEVELS + 1), 2)) / 4
    side[: 2 * LEVELS] = np.repeat([1, -1], LEVELS)
    size[: 2 * LEVELS] = 1.0
    return np.full(count, SET), side, price, size


def measure(book: OrderBook | LevelBook, columns: Columns, filled: int) -> NDArray[np.float64]:
    """Mean µs of an event, for each block after the first events have filled the book."""
    count = len(columns[0])
    at = np.arange(count)
    _, _, states = book.batch(*(c[:filled] for c in (at, at, at, *columns)), np.array([0, filled]))
    assert len(book.depth_of(states[0], 1)[0]) == LEVELS
    samples = []
    for first in range(filled, count, EVENTS):
        part = tuple(c[first : first + EVENTS] for c in (at, at, at, *columns))
        begin = time.perf_counter()
        _, _, states = book.batch(*part, np.array([0, len(part[0])]), states)
        samples.append((time.perf_counter() - begin) / len(part[0]) * 1e6)
    assert len(book.depth_of(states[0], 1)[0]) > LEVELS * 0.6
    counters = book.counters(states[0])
    assert counters.crossed_levels == 0
    return np.array(samples[1:])


def run() -> Iterator[Result]:
    """By order, then by level."""
    orders = OrderBook(8 * ORDERS, 2 * LEVELS, patience_us=0)
    samples = measure(orders, by_order(ORDERS + BLOCKS * EVENTS), ORDERS)
    yield absolute(
        "order book by order, one event inside numba", ours=samples, unit="µs", at_most=GOAL_US,
        sizes={"levels a side": LEVELS, "events": EVENTS},
    )  # fmt: skip
    levels = LevelBook(2 * LEVELS)
    samples = measure(levels, by_level(2 * LEVELS + BLOCKS * EVENTS), 2 * LEVELS)
    yield absolute(
        "order book by level, one event inside numba", ours=samples, unit="µs", at_most=GOAL_US,
        sizes={"levels a side": LEVELS, "events": EVENTS},
    )  # fmt: skip
