"""How long do all microstructure features take for one trade or one change of the book?

One event: ``FeaturePlan.update`` called from Python, symbols in rotation, as a stream processor calls it; and the same call
inside compiled code. The peer is wickra's handles, for the features that both define alike; their results are compared
before anything is measured. Events come from a simulated book of five levels, a trade for every two changes of the book.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import wickra
from numba import njit
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import TICK_INPUTS, all_indicators
from tapeline.indicators.schema import ASK_SIZES, ASKS, BID_SIZES, BIDS
from tapeline.kernels import driver

from benchmarks.harness import Result, absolute, compare, interleave

GROUP = "walk"
SYMBOLS = 50
EVENTS = 2_000  # of each symbol; the warm-up is done before measuring
WARM_UP = 1_500
ROTATION = EVENTS - WARM_UP
CALLS = 1_000  # of a block, whose mean is one sample
BLOCKS = 100
SHARED = ("QUOTED_SPREAD", "QUEUE_IMBALANCE", "WEIGHTED_MID", "OFI", "TRADE_IMBALANCE")
WINDOW = 100

Floats = NDArray[np.float64]
Columns = dict[str, Floats]


def tape(seed: int) -> Columns:
    """Trades with their sides, and changes of a whole book of five levels."""
    rng = np.random.default_rng(seed)
    columns = {name: np.full(EVENTS, np.nan) for name in TICK_INPUTS}
    columns["time"] = 1.7e15 + np.cumsum(rng.integers(1, 2_000_000, EVENTS)).astype(np.float64)
    columns["split_ratio"] = np.ones(EVENTS)
    mid = 100.0 + 0.01 * np.cumsum(rng.integers(-2, 3, EVENTS))
    trades = rng.random(EVENTS) < 1 / 3
    trades[0] = False
    bid = ask = 0.0
    for i in range(EVENTS):
        if trades[i]:
            side = rng.choice([-1.0, 1.0])
            columns["price"][i] = ask if side > 0 else bid
            columns["size"][i] = float(rng.integers(1, 500))
            columns["side"][i] = side
            continue
        half = 0.01 * rng.integers(1, 4)
        bid, ask = mid[i] - half, mid[i] + half
        for level in range(len(BIDS)):
            columns[BIDS[level]][i], columns[ASKS[level]][i] = bid - 0.01 * level, ask + 0.01 * level
            columns[BID_SIZES[level]][i], columns[ASK_SIZES[level]][i] = rng.integers(100, 5_000, 2)
    return columns


class Updates:
    """A plan's states of all symbols, advanced event by event; once warm, the last events again and again."""

    def __init__(self, requests: list[FeatureRequest], tapes: list[Columns]) -> None:
        self.plan = FeaturePlan.of(requests).compile()
        self.rows = np.stack([np.column_stack([columns[name] for name in self.plan.inputs]) for columns in tapes])
        self.by_symbol = [list(rows) for rows in self.rows]
        self.states = [self.plan.new_state() for _ in range(SYMBOLS)]
        self.out = np.empty(len(self.plan.outputs))
        self.now = 0
        for _ in range(WARM_UP):
            self.advance(SYMBOLS)

    def advance(self, calls: int) -> None:
        """So many updates, symbols in rotation."""
        update, out = self.plan.update, self.out
        for _ in range(calls // SYMBOLS):
            now = self.now
            event = _event(now)
            for state, rows in zip(self.states, self.by_symbol, strict=True):
                update(state, now, 0, now, rows[event], out)
            self.now += 1


def _event(number: int) -> int:
    """Which event of the tape is the number-th: all of them once, then the last ones in rotation."""
    return number if number < WARM_UP else WARM_UP + (number - WARM_UP) % ROTATION


def inside_numba(updates: Updates) -> Callable[[], None]:
    """A block of the same updates called from compiled code."""
    update, handle = driver.update, updates.plan.compile().handle

    @njit
    def advance(states: Floats, rows: Floats, first: int, events: int, out: Floats) -> int:
        code = 0
        for now in range(first, first + events):
            event = now if now < WARM_UP else WARM_UP + (now - WARM_UP) % ROTATION
            for symbol in range(len(states)):
                code += update(handle, states[symbol], now, 0, now, rows[symbol, event], out)
        return code

    states, progress = np.stack(updates.states), [updates.now]

    def block() -> None:
        assert advance(states, updates.rows, progress[0], CALLS // SYMBOLS, updates.out) == 0
        progress[0] += CALLS // SYMBOLS

    return block


class Handles:
    """wickra's handles of all symbols, and each event's arguments made ready; a handle is called where an event concerns it."""

    def __init__(self, tapes: list[Columns]) -> None:
        self.symbols = [self._of(columns) for columns in tapes]
        self.now = 0
        for _ in range(WARM_UP):
            self.advance(SYMBOLS)

    @staticmethod
    def _of(
        columns: Columns,
    ) -> tuple[list[Callable[..., object]], list[Callable[..., object]], list[tuple[object, ...]]]:
        of_book = [
            wickra.QuotedSpread(), wickra.OrderBookImbalanceTop1(), wickra.Microprice(), wickra.OrderFlowImbalance(WINDOW),
        ]  # fmt: skip
        of_trades = [wickra.TradeImbalance(WINDOW)]
        events: list[tuple[object, ...]] = []
        for i in range(EVENTS):
            if np.isnan(columns["price"][i]):
                names = (("bid",), ("bid_size",), ("ask",), ("ask_size",))
                events.append(tuple([float(columns[name][i]) for name in group] for group in names))
            else:
                values = columns["price"][i], columns["size"][i], columns["side"][i]
                events.append((float(values[0]), float(values[1]), bool(values[2] > 0)))
        return [handle.update for handle in of_book], [handle.update for handle in of_trades], events

    def advance(self, calls: int) -> None:
        """So many events, symbols in rotation."""
        for _ in range(calls // SYMBOLS):
            event = _event(self.now)
            for of_book, of_trades, events in self.symbols:
                arguments = events[event]
                for update in of_book if len(arguments) == 4 else of_trades:
                    update(*arguments)
            self.now += 1

    def check(self, ours: Floats, symbol: int = 0) -> None:
        """Both agree after every event of a symbol, on handles of the check's own."""
        of_book, of_trades, events = self._of(tape(symbol))
        scale = (1e4, 1.0, 1.0, 1.0)  # wickra's spread is in basis points
        current: list[float] = [np.nan] * len(SHARED)
        for arguments, row in zip(events, ours, strict=True):
            updates = of_book if len(arguments) == 4 else of_trades
            for place, update in enumerate(updates, start=0 if len(arguments) == 4 else 4):
                value = update(*arguments)
                current[place] = np.nan if value is None else value / (*scale, 1.0)[place]
            known = ~np.isnan(current)
            np.testing.assert_allclose(row[known], np.array(current)[known], rtol=1e-9, atol=1e-9)


def blocks(block: Callable[[], None]) -> Floats:
    """Mean µs an event of each of many blocks."""
    samples = np.empty(BLOCKS)
    for number in range(-5, BLOCKS):
        begin = time.perf_counter()
        block()
        if number >= 0:
            samples[number] = (time.perf_counter() - begin) / CALLS * 1e6
    return samples


def all_questions(tapes: list[Columns]) -> Iterator[Result]:
    names = [indicator.name for indicator in all_indicators() if indicator.schema == "ticks"]
    updates = Updates([FeatureRequest(name) for name in names], tapes)
    sizes: dict[str, int | float | str] = {
        "features": len(names), "outputs": len(updates.plan.outputs), "symbols": SYMBOLS, "calls": CALLS,
        "state_bytes": 8 * updates.plan.state_size,
    }  # fmt: skip
    question = f"{len(names)} microstructure features, one event"
    from_python = blocks(lambda: updates.advance(CALLS))
    yield absolute(f"{question}, called from Python", ours=from_python, unit="µs", at_most=10.0, sizes=sizes)
    compiled = blocks(inside_numba(updates))
    yield absolute(f"{question}, called inside numba", ours=compiled, unit="µs", at_most=10.0, sizes=sizes)


def shared_question(tapes: list[Columns]) -> Result:
    updates = Updates([FeatureRequest(name) for name in SHARED], tapes)
    at = np.arange(EVENTS, dtype=np.int64)
    ours, _ = updates.plan.batch(at, np.zeros_like(at), at, updates.rows[0], np.array([0, EVENTS]))
    handles = Handles(tapes)
    handles.check(ours)
    mine, theirs = interleave(
        lambda _: updates.advance(CALLS), lambda _: handles.advance(CALLS), rounds=BLOCKS, warm_up=5
    )
    return compare(
        f"{len(SHARED)} features that both have, one event, called from Python",
        ours=mine / CALLS * 1e6, theirs=theirs / CALLS * 1e6, peer=f"wickra {wickra.__version__}", unit="µs",
        better="lower", goal_ratio=1.0, sizes={"features": len(SHARED), "symbols": SYMBOLS, "calls": CALLS},
        notes="ours: one call for all features; theirs: one for each that the event concerns, with arguments made ready",
    )  # fmt: skip


def run() -> Iterator[Result]:
    """All features, then those that the peer has."""
    tapes = [tape(symbol) for symbol in range(SYMBOLS)]
    yield from all_questions(tapes)
    yield shared_question(tapes)
