"""How fast are indicators: one bar of all of them, a cross-section of symbols, single ones, a million bars; and how big?

One bar: ``FeaturePlan.update`` called from Python as a server calls it, and the same call inside compiled code, symbols in
rotation. The peers get the indicators that they have too, and ours is then the plan of just these: TA-Lib's O(1) interface,
``talib.stream`` handles, in this process; wickra, talipp and pandas-ta-classic in an environment of their own, their rounds
between ours. Many bars: ``FeaturePlan.batch`` over 50 symbols of 20,000 bars. TA-Lib's results are compared with ours
before anything is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import talib
import talib.stream
from numba import njit
from tapeline.features import FeaturePlan
from tapeline.indicators import Indicator
from tapeline.kernels import driver

from benchmarks.harness import Result, absolute, compare, interleave
from benchmarks.market import (
    BARS,
    PRICES,
    ROTATION,
    SYMBOLS,
    SYMBOLS_AT_ONCE,
    WARM_UP,
    Batches,
    Columns,
    Floats,
    Handles,
    Updates,
    forty,
    full,
    rows_of,
    shared,
    talib_call,
    walk,
)
from benchmarks.peers.indicators import names
from benchmarks.peers.indicators.environment import Rounds, peer

GROUP = ("walk", "kernels")
PEER = "TA-Lib"
CALLS = 1_000  # of a block, whose mean is one sample
BLOCKS = 60
SIMPLE = ("SMA", "EMA", "RSI", "MOM", "ATR", "OBV", "TRANGE", "RETURN")
COMPLEX = ("CCI", "STOCH", "SAR", "ADX", "ULTOSC", "HT_DCPERIOD", "SUPERTREND", "PERCENTRANK", "KLINGER", "YANG_ZHANG")
PANDAS_SYMBOLS = 1  # of a round: its functions take a hundred times as long
STATE_KIB_MAX, STATES, STATES_MIB_MAX = 64.0, 10_000, 1_024.0
FIRST_CALLS = 5
CODE = (
    "each section of the program alone and hot, they add up to 1.9 µs; one after another they are 100 KB of machine code, three"
    " times the instruction cache, and in some processes lie so that they take 4.2 instead of 2.4 µs throughout"
    " (docs/acceptance/kernels.md, the misses)"
)
CALL = "what the same takes inside numba, and 0.7 µs for a call from Python with three arrays; " + CODE
COLUMNS_AND_ROWS = (
    "TA-Lib walks one column at a time with a recursion's state in registers; a row of ours reads and writes it in the"
    " nearest cache, and checks every input"
)


def inside_numba(plan: FeaturePlan) -> Callable[[Floats, Floats, int, int, Floats], int]:
    """The same update called from compiled code, symbols in rotation."""
    update, handle = driver.update, plan.compile().handle

    @njit
    def advance(states: Floats, rows: Floats, first: int, bars: int, out: Floats) -> int:
        code = 0
        for bar in range(first, first + bars):
            for symbol in range(len(states)):
                row = rows[symbol, bar if bar < WARM_UP else WARM_UP + bar % ROTATION]
                code += update(handle, states[symbol], bar, 0, bar, row, out)
        return code

    return advance  # type: ignore[no-any-return]


def stacked(updates: Updates) -> Floats:
    """Rows of all symbols, shape (SYMBOLS, bars, inputs)."""
    return np.stack([rows_of(updates.plan, columns) for columns in updates.columns])


def compiled_blocks(updates: Updates) -> Floats:
    """µs of an update inside compiled code, of each block."""
    advance = inside_numba(updates.plan)
    states, rows, progress = np.tile(updates.plan.new_state(), (SYMBOLS, 1)), stacked(updates), [0]

    def block() -> None:
        bars = CALLS // SYMBOLS
        assert advance(states, rows, progress[0], bars, updates.out) == 0
        progress[0] += bars

    for _ in range(WARM_UP * SYMBOLS // CALLS):
        block()
    return blocks(block, CALLS)


def cross_section_blocks(updates: Updates) -> Floats:
    """µs a symbol of one call for all symbols, of each block of calls."""
    plan, rows = updates.plan, np.ascontiguousarray(stacked(updates).transpose(1, 0, 2))
    states = np.tile(plan.new_state(), (SYMBOLS, 1))
    out = np.empty((SYMBOLS, len(plan.outputs)))
    at, sequence = np.empty(SYMBOLS, np.int64), np.zeros(SYMBOLS, np.int64)
    now = 0

    def bars(count: int) -> None:
        nonlocal now
        for _ in range(count):
            at.fill(now)
            plan.update_many(states, at, sequence, at, rows[now if now < WARM_UP else WARM_UP + now % ROTATION], out)
            now += 1

    bars(WARM_UP)
    return blocks(lambda: bars(CALLS // SYMBOLS), CALLS)


def update_questions() -> Iterator[Result]:
    """The full vector, and the 40 of the whole path's acceptance."""
    for indicators, goals in ((full(), (1.5, 3.0)), (forty(), (1.0, 2.0))):
        updates = Updates(indicators)
        sizes: dict[str, int | float | str] = {
            "indicators": len(indicators), "outputs": len(updates.plan.outputs), "symbols": SYMBOLS, "calls": CALLS,
        }  # fmt: skip
        what = f"{len(indicators)} indicators, {len(updates.plan.outputs)} outputs, one bar"
        yield absolute(
            f"{what}, inside numba",
            ours=compiled_blocks(updates),
            unit="µs",
            at_most=goals[0],
            sizes=sizes,
            if_missed=CODE,
        )
        from_python = blocks(lambda u=updates: u.ours(CALLS), CALLS)  # type: ignore[misc]
        yield absolute(
            f"{what}, from Python", ours=from_python, unit="µs", at_most=goals[1], sizes=sizes, if_missed=CALL
        )
        if goals == (1.5, 3.0):
            yield absolute(
                f"{what} of {SYMBOLS} symbols in one call, per symbol",
                ours=cross_section_blocks(updates), unit="µs", at_most=2.0, sizes=sizes,
                if_missed="as inside numba; and the states of all symbols, 1.6 MB, pass through the second cache",
            )  # fmt: skip
            yield from size_questions(updates.plan, sizes)


def size_questions(plan: FeaturePlan, sizes: dict[str, int | float | str]) -> Iterator[Result]:
    kib = plan.state_size * 8 / 1024
    yield absolute("state of the full plan, per symbol", ours=[kib], unit="KiB", at_most=STATE_KIB_MAX, sizes=sizes)
    yield absolute(
        f"states of {STATES:,} symbols", ours=[kib * STATES / 1024], unit="MiB", at_most=STATES_MIB_MAX, sizes=sizes
    )


FIRST_CALL = """
import json, sys, time
import numpy as np
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.indicators import all_indicators
names = json.loads(sys.argv[1])
begin = time.perf_counter()
plan = FeaturePlan.of([FeatureRequest(name) for name in names])
row, out = np.ones(len(plan.inputs)), np.empty(len(plan.outputs))
plan.update(plan.new_state(), 1, 0, 1, row, out)
print(time.perf_counter() - begin)
"""


def first_call_questions() -> Iterator[Result]:
    """Seconds from asking for the full plan to its first values in new processes: the first compiles, the others load."""
    request = json.dumps([indicator.name for indicator in full()])
    with tempfile.TemporaryDirectory() as home:
        taken = [
            float(
                subprocess.run(
                    [sys.executable, "-c", FIRST_CALL, request],
                    env=os.environ | {"TAPELINE_HOME": home}, capture_output=True, text=True, check=True,
                ).stdout
            )
            for _ in range(1 + FIRST_CALLS)
        ]  # fmt: skip
    sizes: dict[str, int | float | str] = {"indicators": len(full())}
    yield absolute("first call in a new process, kernels cached", ours=taken[1:], unit="s", at_most=1.0, sizes=sizes)
    yield absolute(
        "first call ever: compiles and fills the cache", ours=taken[:1], unit="s", at_most=180.0, sizes=sizes,
        notes="no goal of the issue; bounded so that a deployment knows what to expect",
    )  # fmt: skip


def single_questions() -> Iterator[Result]:
    """Single indicators inside numba: the slowest of the simple and of the complex ones."""
    known = {indicator.name: indicator for indicator in full()}
    for kind, chosen, goal in (("simple", SIMPLE, 0.1), ("complex", COMPLEX, 1.0)):
        each = {name: compiled_blocks(Updates([known[name]])) for name in chosen if name in known}
        slowest = max(each, key=lambda name: float(np.median(each[name])))
        yield absolute(
            f"{kind} single indicators inside numba, the slowest of {len(each)}: {slowest}",
            ours=each[slowest], unit="µs", at_most=goal, sizes={"indicators": ", ".join(each)},
        )  # fmt: skip


def peer_questions() -> Iterator[Result]:
    """One bar against wickra and talipp: each with the indicators that both have."""
    tables = {"wickra": (names.WICKRA, 5.0), "talipp": (names.TALIPP, 80.0)}
    for library, (table, goal) in tables.items():
        indicators = [indicator for indicator in full() if indicator.name in table]
        updates = Updates(indicators)
        bars = np.stack([np.column_stack([c[name] for name in PRICES]) for c in updates.columns])
        chosen = [indicator.name for indicator in indicators]
        with peer(library, chosen, bars, warm_up=WARM_UP, rotation=ROTATION) as theirs:
            mine, other = alternate(lambda u=updates: u.ours(CALLS), theirs, CALLS // SYMBOLS, rounds=20)  # type: ignore[misc]
        yield compare(
            f"{len(indicators)} indicators that both have, one bar, called from Python",
            ours=mine / CALLS * 1e6, theirs=other / CALLS * 1e6, peer=library, unit="µs", better="lower", goal_ratio=goal,
            sizes={"indicators": len(indicators), "outputs": len(updates.plan.outputs), "symbols": SYMBOLS},
            notes="ours: one call for all indicators; theirs: one call for each",
        )  # fmt: skip


def alternate(ours: Callable[[], None], theirs: Rounds, count: int, *, rounds: int) -> tuple[Floats, Floats]:
    """Seconds of each round of both, in turn; the peer measures itself in its own process."""
    mine, other = np.empty(rounds), np.empty(rounds)
    for number in range(-1, rounds):
        begin = time.perf_counter()
        ours()
        elapsed = time.perf_counter() - begin
        taken = theirs(count)
        if number >= 0:
            mine[number], other[number] = elapsed, taken
    return mine, other


def stream_question() -> Result:
    indicators = shared()
    updates = Updates(indicators)
    handles = Handles(indicators, updates.columns)
    check_stream(indicators, updates)
    mine, theirs = interleave(lambda _: updates.ours(CALLS), lambda _: handles.theirs(CALLS), rounds=BLOCKS, warm_up=3)
    return compare(
        f"{len(indicators)} indicators that both have, one bar, called from Python",
        ours=mine / CALLS * 1e6, theirs=theirs / CALLS * 1e6, peer=f"{PEER} stream", unit="µs", better="lower",
        goal_ratio=25.0,
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
    columns = [walk(seed, BARS) for seed in range(SYMBOLS)]
    batches = Batches(indicators, columns)
    calls = [(getattr(talib, name), inputs, parameters) for name, inputs, parameters in map(talib_call, indicators)]

    def theirs() -> None:
        for symbol in columns:
            for function, inputs, parameters in calls:
                function(*(symbol[name] for name in inputs), **parameters)

    check_batch(batches.plan, calls, columns[0], batches.rows[0][:BARS])
    sizes: dict[str, int | float | str] = {"indicators": len(indicators), "symbols": SYMBOLS, "bars": BARS}
    for threads, goal in ((1, 0.8), (2, 1.6)):
        mine, other = interleave(lambda _, n=threads: batches.ours(n), lambda _: theirs(), rounds=5)  # type: ignore[misc]
        yield compare(
            f"{len(indicators)} indicators that both have, {SYMBOLS} × {BARS:,} bars, {threads} thread{'s' * (threads > 1)}",
            ours=mine * 1e9 / (SYMBOLS * BARS), theirs=other * 1e9 / (SYMBOLS * BARS), peer=PEER, unit="ns a bar",
            better="lower", goal_ratio=goal, sizes=sizes | {"threads": threads}, if_missed=COLUMNS_AND_ROWS,
            notes="ours writes rows into a buffer that is used again; TA-Lib has one thread and makes new columns",
        )  # fmt: skip


def pandas_question() -> Result:
    """Batch against pandas-ta-classic; a round of theirs is one symbol, of ours ten, both counted per bar."""
    indicators = [indicator for indicator in full() if indicator.name in names.PANDAS_TA]
    columns = [walk(seed, BARS) for seed in range(SYMBOLS_AT_ONCE)]
    batches = Batches(indicators, columns)
    bars = np.stack([np.column_stack([c[name] for name in PRICES]) for c in columns[:PANDAS_SYMBOLS]])
    with peer("pandas-ta-classic", [indicator.name for indicator in indicators], bars) as theirs:
        mine, other = alternate(lambda: batches.ours(1), theirs, PANDAS_SYMBOLS, rounds=5)
    return compare(
        f"{len(indicators)} indicators that both have, {BARS:,} bars a symbol, 1 thread",
        ours=mine * 1e9 / (SYMBOLS_AT_ONCE * BARS), theirs=other * 1e9 / (PANDAS_SYMBOLS * BARS), peer="pandas-ta-classic",
        unit="ns a bar", better="lower", goal_ratio=50.0, sizes={"indicators": len(indicators), "bars": BARS},
        if_missed="12 ns an indicator and bar, spread over the checks of every input and sums that stay exact; no spot holds 2 %",
        notes="pandas-ta-classic without TA-Lib in its environment: with it, most of its functions call TA-Lib",
    )  # fmt: skip


def check_batch(
    plan: FeaturePlan,
    calls: list[tuple[Callable[..., object], tuple[str, ...], dict[str, float]]],
    symbol: Columns,
    rows: Floats,
) -> None:
    """Equal results before times are compared, from where ours begin: TA-Lib has zeros before, where it gives whole numbers."""
    at = np.arange(BARS, dtype=np.int64)
    ours, _ = plan.batch(at, np.zeros_like(at), at, rows, np.array([0, BARS]))
    theirs: list[Floats] = []
    for function, inputs, parameters in calls:
        result = function(*(symbol[name] for name in inputs), **parameters)
        theirs += result if isinstance(result, tuple) else [result]  # type: ignore[list-item]
    for column, reference, first in zip(ours.T, theirs, plan.warm_up, strict=True):
        assert np.isnan(column[: first - 1]).all()
        typical = float(np.nanmedian(np.abs(reference)))
        np.testing.assert_allclose(column[first - 1 :], reference[first - 1 :], rtol=1e-7, atol=1e-7 * typical)


def run() -> Iterator[Result]:
    """One bar, many symbols, single indicators, many bars, and the first call."""
    yield from update_questions()
    yield stream_question()
    yield from peer_questions()
    yield from single_questions()
    yield from batch_questions()
    yield pandas_question()
    yield from first_call_questions()
