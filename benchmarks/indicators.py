"""How long do 40 indicators take for one new bar, and for a million bars, against TA-Lib?

One bar: ``FeaturePlan.update`` called from Python, symbols in rotation, as a server calls it; and the same call inside
compiled code. The peer is TA-Lib's own O(1) interface, ``talib.stream`` handles, for the names that both have. Many bars:
``FeaturePlan.batch`` against TA-Lib's functions over 50 symbols of 20,000 bars. Results are compared before anything is
measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import talib
import talib.stream
from numba import njit
from numpy.typing import NDArray
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import Indicator, all_indicators

from benchmarks.harness import Result, absolute, compare, interleave

GROUP = "walk"
PEER = "TA-Lib"
SYMBOLS = 50
BARS = 20_000
SYMBOLS_AT_ONCE = 10  # of a batch: bounds memory
WARM_UP = 300
ROTATION = 20  # different bars of each symbol while measuring: as hot in the cache as a request that has just come in
CALLS = 1_000  # of a block, whose mean is one sample
BLOCKS = 60
PRICES = ("open", "high", "low", "close", "volume")
TALIB_INPUTS = {"CORREL": ("high", "low"), "OBV": ("close", "volume")}

Floats = NDArray[np.float64]
Columns = dict[str, Floats]


def walk(seed: int, bars: int) -> Columns:
    """Bars of a geometric random walk."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    opened = close * np.exp(rng.normal(0, 0.005, bars))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.004, bars)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.004, bars)))
    return {
        "open": opened, "high": high, "low": low, "close": close,
        "volume": rng.integers(1_000, 1_000_000, bars).astype(np.float64),
        "split_ratio": np.ones(bars),
    }  # fmt: skip


def shared() -> list[Indicator]:
    """Indicators that TA-Lib has too."""
    return [indicator for indicator in all_indicators() if indicator.oracle == "TA-Lib"]


def forty() -> list[Indicator]:
    """TA-Lib's and the first of our own up to 40 (without those that need sessions)."""
    own = [i for i in all_indicators() if i.oracle != "TA-Lib" and i.schema == "bars" and "session" not in i.inputs]
    return [*shared(), *own][:40]


def plan_of(indicators: list[Indicator]) -> FeaturePlan:
    return FeaturePlan.of([FeatureRequest(indicator.name) for indicator in indicators]).compile()


def rows_of(plan: FeaturePlan, columns: Columns) -> Floats:
    return np.ascontiguousarray(np.column_stack([columns[name] for name in plan.inputs]))


def talib_call(indicator: Indicator) -> tuple[str, tuple[str, ...], dict[str, float]]:
    """Name, input columns and parameters of TA-Lib's function."""
    inputs = TALIB_INPUTS.get(indicator.name, indicator.inputs)
    return indicator.name, inputs, indicator.complete({})


class Updates:
    """Both libraries' states of all symbols, advanced to the same bar."""

    def __init__(self, indicators: list[Indicator]) -> None:
        self.plan = plan_of(indicators)
        self.columns = [walk(seed, WARM_UP + ROTATION) for seed in range(SYMBOLS)]
        self.rows = [list(rows_of(self.plan, columns)) for columns in self.columns]
        self.states = [self.plan.new_state() for _ in range(SYMBOLS)]
        self.out = np.empty(len(self.plan.outputs))
        self.now = 0
        for _ in range(WARM_UP):
            self.ours(SYMBOLS)

    def ours(self, calls: int) -> None:
        """So many updates, symbols in rotation."""
        update, out = self.plan.update, self.out
        for _ in range(calls // SYMBOLS):
            now = self.now
            bar = now if now < WARM_UP else WARM_UP + now % ROTATION
            for state, rows in zip(self.states, self.rows, strict=True):
                update(state, now, 0, now, rows[bar], out)
            self.now += 1


class Handles:
    """TA-Lib's stream handles of all symbols, each with the tuple of values that its update takes for every bar."""

    def __init__(self, indicators: list[Indicator], columns: list[Columns]) -> None:
        self.symbols = []
        for symbol in columns:
            entries = []
            for name, inputs, parameters in map(talib_call, indicators):
                history = [symbol[column][:WARM_UP] for column in inputs]
                handle = getattr(talib.stream, name)(*history, **parameters)
                entries.append((handle.update, list(zip(*(symbol[column].tolist() for column in inputs), strict=True))))
            self.symbols.append(entries)
        self.now = WARM_UP

    def theirs(self, calls: int) -> None:
        """So many bars, symbols in rotation, every indicator for each."""
        for _ in range(calls // SYMBOLS):
            bar = WARM_UP + self.now % ROTATION
            for entries in self.symbols:
                for update, values in entries:
                    update(*values[bar])
            self.now += 1


def inside_numba(plan: FeaturePlan) -> Callable[[Floats, Floats, int, int, Floats], int]:
    """The same update called from compiled code, symbols in rotation."""
    update = plan.compiled_update

    @njit
    def advance(states: Floats, rows: Floats, first: int, bars: int, out: Floats) -> int:
        code = 0
        for bar in range(first, first + bars):
            for symbol in range(len(states)):
                code += update(
                    states[symbol], bar, 0, bar, rows[symbol, bar if bar < WARM_UP else WARM_UP + bar % ROTATION], out
                )
        return code

    return advance  # type: ignore[no-any-return]


def update_questions() -> Iterator[Result]:
    indicators = forty()
    updates = Updates(indicators)
    sizes: dict[str, int | float | str] = {
        "indicators": len(indicators), "outputs": len(updates.plan.outputs), "symbols": SYMBOLS, "calls": CALLS,
    }  # fmt: skip
    from_python = blocks(lambda: updates.ours(CALLS), CALLS)
    yield absolute(
        f"{len(indicators)} indicators, one bar, called from Python",
        ours=from_python,
        unit="µs",
        at_most=2.0,
        sizes=sizes,
    )
    advance = inside_numba(updates.plan)
    states = np.tile(updates.plan.new_state(), (SYMBOLS, 1))
    rows = np.stack([rows_of(updates.plan, columns) for columns in updates.columns])
    progress = [0]

    def compiled() -> None:
        bars = CALLS // SYMBOLS
        assert advance(states, rows, progress[0], bars, updates.out) == 0
        progress[0] += bars

    for _ in range(WARM_UP * SYMBOLS // CALLS):
        compiled()
    yield absolute(
        f"{len(indicators)} indicators, one bar, called inside numba",
        ours=blocks(compiled, CALLS), unit="µs", at_most=1.0, sizes=sizes,
    )  # fmt: skip


def stream_question() -> Result:
    indicators = shared()
    updates = Updates(indicators)
    handles = Handles(indicators, updates.columns)
    check_stream(indicators, updates)
    mine, theirs = interleave(lambda _: updates.ours(CALLS), lambda _: handles.theirs(CALLS), rounds=BLOCKS, warm_up=3)
    return compare(
        f"{len(indicators)} indicators that both have, one bar, called from Python",
        ours=mine / CALLS * 1e6, theirs=theirs / CALLS * 1e6, peer=f"{PEER} stream", unit="µs", better="lower",
        goal_ratio=1.0,
        sizes={"indicators": len(indicators), "outputs": len(updates.plan.outputs), "symbols": SYMBOLS, "calls": CALLS},
        notes="ours: one call for all indicators; theirs: one call for each",
    )  # fmt: skip


def check_stream(indicators: list[Indicator], updates: Updates) -> None:
    """Both give the same for the next bar of the first symbol, on states and handles of the check's own."""
    plan, bar = updates.plan, WARM_UP
    out = np.empty(len(plan.outputs))
    plan.update(updates.states[0].copy(), bar, 0, bar, updates.rows[0][bar], out)
    theirs: list[float] = []
    for indicator in indicators:
        name, inputs, parameters = talib_call(indicator)
        history = [updates.columns[0][column][:WARM_UP] for column in inputs]
        handle = getattr(talib.stream, name)(*history, **parameters)
        result = handle.update(*(float(updates.columns[0][column][bar]) for column in inputs))
        theirs += result if isinstance(result, tuple) else [result]
    np.testing.assert_allclose(out, theirs, rtol=1e-7, atol=1e-7)


def blocks(block: Callable[[], None], calls: int) -> Floats:
    """Mean µs a call of each of many blocks."""
    samples = np.empty(BLOCKS)
    for number in range(-3, BLOCKS):
        begin = time.perf_counter()
        block()
        if number >= 0:
            samples[number] = (time.perf_counter() - begin) / calls * 1e6
    return samples


def batch_questions() -> Iterator[Result]:
    indicators = shared()
    plan = plan_of(indicators)
    columns = [walk(seed, BARS) for seed in range(SYMBOLS)]
    rows = [
        np.concatenate([rows_of(plan, symbol) for symbol in columns[first : first + SYMBOLS_AT_ONCE]])
        for first in range(0, SYMBOLS, SYMBOLS_AT_ONCE)
    ]
    at = np.tile(np.arange(BARS, dtype=np.int64), SYMBOLS_AT_ONCE)
    sequence = np.zeros_like(at)
    offsets = np.arange(SYMBOLS_AT_ONCE + 1, dtype=np.int64) * BARS
    out = np.empty((len(at), len(plan.outputs)))
    available = np.empty(len(at), np.int64)
    calls = [(getattr(talib, name), inputs, parameters) for name, inputs, parameters in map(talib_call, indicators)]

    def ours(threads: int) -> None:
        for part in rows:
            plan.batch(at, sequence, at, part, offsets, out=out, available_out=available, threads=threads)

    def theirs() -> None:
        for symbol in columns:
            for function, inputs, parameters in calls:
                function(*(symbol[name] for name in inputs), **parameters)

    check_batch(plan, calls, columns[0], rows[0][:BARS])
    sizes: dict[str, int | float | str] = {"indicators": len(indicators), "symbols": SYMBOLS, "bars": BARS}
    for threads, goal in ((1, 0.8), (2, 1.6)):
        mine, other = interleave(lambda _, n=threads: ours(n), lambda _: theirs(), rounds=5)  # type: ignore[misc]
        yield compare(
            f"{len(indicators)} indicators that both have, {SYMBOLS} × {BARS:,} bars, {threads} thread{'s' * (threads > 1)}",
            ours=mine * 1e9 / (SYMBOLS * BARS), theirs=other * 1e9 / (SYMBOLS * BARS), peer=PEER, unit="ns a bar",
            better="lower", goal_ratio=goal, sizes=sizes | {"threads": threads},
            notes="ours writes rows into a buffer that is used again; TA-Lib has one thread and makes new columns",
        )  # fmt: skip


def check_batch(
    plan: FeaturePlan,
    calls: list[tuple[Callable[..., object], tuple[str, ...], dict[str, float]]],
    symbol: Columns,
    rows: Floats,
) -> None:
    """Equal results before times are compared."""
    at = np.arange(BARS, dtype=np.int64)
    ours, _ = plan.batch(at, np.zeros_like(at), at, rows, np.array([0, BARS]))
    theirs: list[Floats] = []
    for function, inputs, parameters in calls:
        result = function(*(symbol[name] for name in inputs), **parameters)
        theirs += result if isinstance(result, tuple) else [result]  # type: ignore[list-item]
    for column, reference in zip(ours.T, theirs, strict=True):
        typical = float(np.nanmedian(np.abs(reference)))
        np.testing.assert_allclose(column, reference, rtol=1e-7, atol=1e-7 * typical)


def run() -> Iterator[Result]:
    """One bar, then many."""
    yield from update_questions()
    yield stream_question()
    yield from batch_questions()
