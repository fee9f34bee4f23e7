"""Random histories of raw rows, and what must be visible of their features at any moment, worked out the plain way.

The oracle selects rows with loops over dictionaries and computes each moment from scratch; only the kernels are shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import psycopg
from tapeline.compute.run import backfill
from tapeline.compute.sessions import session_times
from tapeline.core.timestamps import DAY_US, HOUR_US, MINUTE_US, from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars, TradeBars, TradedBars, Trades
from tapeline.storage.feature_tables import qualified_name

FIRST_US = to_us("2010-01-04T00:00:00+00:00")

BARS = FeatureViewSpec(
    "bars_view",
    1,
    SessionBars("bars-source", "XNYS"),
    (
        FeatureRequest.of("EMA", timeperiod=2),
        FeatureRequest.of("ATR", timeperiod=2),
        FeatureRequest.of("OBV"),
        FeatureRequest.of("RETURN", timeperiod=1),
    ),
    0,
)
TRADES = FeatureViewSpec(
    "trades_view",
    1,
    TradeBars("trades-source", "CMES", MINUTE_US),
    (FeatureRequest.of("EMA", timeperiod=2), FeatureRequest.of("OBV"), FeatureRequest.of("VWAP_SESSION")),
    0,
)
TRADED = {
    measure: replace(TRADES, name=f"{measure}_view", rows=TradedBars("trades-source", "CMES", measure, threshold))
    for measure, threshold in (("tick", 3), ("volume", 9), ("dollar", 900))
}
TRADED["each trade"] = FeatureViewSpec(
    "each_trade_view",
    1,
    Trades("trades-source", "CMES"),
    (
        FeatureRequest.of("TICK_RULE"),
        FeatureRequest.of("REALIZED_VARIANCE", window=3),
        FeatureRequest.of("KYLE_LAMBDA", window=4),
        FeatureRequest.of("VPIN", bucket_size=9.0, window=2),
        FeatureRequest.of("HASBROUCK_LAMBDA", interval_s=60.0, window=3),
    ),
    0,
)
LONGER = replace(BARS, name="hours_view", rows=LongerBars("bars-source", "XNYS", TimeFrame.parse("1h")))


@dataclass(frozen=True)
class Row:
    """One stored version of a bar or trade; ``run`` is when it was recorded."""

    run: int
    event_us: int
    sequence: int
    available_us: int
    deleted: bool
    values: tuple[float, ...]


@dataclass(frozen=True)
class Split:
    """A split or, with a ratio of 1, a dividend."""

    run: int
    event_us: int
    available_us: int
    deleted: bool
    ratio: float
    dividend: float = 0.0


@dataclass(frozen=True)
class Scenario:
    symbol: str
    rows: tuple[Row, ...]
    splits: tuple[Split, ...]
    lag_us: int = 0

    def recorded_by(self, run: int) -> Scenario:
        return Scenario(
            self.symbol,
            tuple(row for row in self.rows if row.run <= run),
            tuple(split for split in self.splits if split.run <= run),
            self.lag_us,
        )


def bar_scenario(symbol: str, rng: np.random.Generator, runs: int) -> Scenario:
    """Daily bars with late first sightings, corrections, retractions, and splits known early or late."""
    rows: dict[tuple[int, int, int], Row] = {}
    for day in range(int(rng.integers(1, 14))):
        if rng.random() < 0.15:
            continue
        event_us = FIRST_US + day * DAY_US
        available_us = event_us + int(rng.choice([0, 1, 60, DAY_US, 3 * DAY_US + 7], p=[0.2, 0.4, 0.2, 0.1, 0.1]))
        for _ in range(1 + int(rng.integers(0, 3)) * int(rng.random() < 0.4)):
            run = int(rng.integers(0, runs))
            row = Row(run, event_us, 0, available_us, bool(rng.random() < 0.2), _bar_values(event_us, rng))
            rows[(run, event_us, available_us)] = row
            available_us += int(rng.choice([0, 1, DAY_US, 4 * DAY_US + 3]))
    splits: dict[tuple[int, int], Split] = {}  # one version of a split can be recorded in one transaction
    for _ in range(int(rng.integers(0, 4))):
        event_us = FIRST_US + int(rng.integers(-1, 13)) * DAY_US + int(rng.choice([-1, 0, DAY_US // 2]))
        run, available_us = int(rng.integers(0, runs)), event_us + int(rng.integers(-3, 6)) * DAY_US + 11
        ratio = float(rng.choice([2.0, 3.0, 7.0, 0.5]))
        splits[(run, event_us)] = Split(run, event_us, available_us, bool(rng.random() < 0.15), ratio)
    return Scenario(symbol, tuple(rows.values()), tuple(splits.values()))


def trade_scenario(symbol: str, rng: np.random.Generator, runs: int, lag_us: int = 0) -> Scenario:
    """Trades of a few minutes, some late, corrected or busted."""
    rows: dict[tuple[int, int, int, int], Row] = {}
    event_us = FIRST_US
    for sequence in range(int(rng.integers(1, 25))):
        event_us += int(rng.choice([0, 1, 10, 25, 70, 200])) * 1_000_000
        available_us = event_us + lag_us
        available_us += (
            int(rng.choice([0, 5, 90, 400, -lag_us // 1_500_000], p=[0.6, 0.15, 0.1, 0.1, 0.05])) * 1_000_000
        )
        for _ in range(1 + int(rng.random() < 0.2) + int(rng.random() < 0.1)):
            run = int(rng.integers(0, runs))
            price = float(rng.choice([math.nan, 100.0 + rng.normal()], p=[0.03, 0.97]))
            rows[(run, event_us, sequence, available_us)] = Row(
                run, event_us, sequence, available_us, bool(rng.random() < 0.12), (price, float(rng.integers(1, 9)))
            )
            available_us += int(rng.choice([0, 1, 40, 300])) * 1_000_000
    splits = []
    if rng.random() < 0.3:
        at = FIRST_US + int(rng.integers(0, 12)) * MINUTE_US + int(rng.choice([0, 17_000_000]))
        known_us = at + int(rng.integers(-5, 8)) * MINUTE_US
        splits.append(Split(int(rng.integers(0, runs)), at, known_us, False, 3.0))
    return Scenario(symbol, tuple(rows.values()), tuple(splits), lag_us)


def longer_scenario(symbol: str, rng: np.random.Generator, runs: int, lag_us: int = 0) -> Scenario:
    """Bars of twenty minutes over some hours, with gaps, some late, corrected or retracted, and splits."""
    rows: dict[tuple[int, int, int], Row] = {}
    for number in range(int(rng.integers(1, 22))):
        if rng.random() < 0.2:
            continue
        event_us = FIRST_US + (number + 1) * 20 * MINUTE_US
        # No delay is a multiple of 20 minutes: whether a row that arrives when its bar is over is late would be moot.
        delays = [0, 7, 90, 25 * 60, 61 * 60]
        available_us = event_us + lag_us + 1_000_000 * int(rng.choice(delays, p=[0.6, 0.1, 0.1, 0.1, 0.1]))
        for _ in range(1 + int(rng.random() < 0.2) + int(rng.random() < 0.1)):
            run = int(rng.integers(0, runs))
            opened, high, low, close, volume = _bar_values(event_us, rng)[1:]
            values = (float(event_us - 20 * MINUTE_US), opened, high, low, close, volume)
            rows[(run, event_us, available_us)] = Row(run, event_us, 0, available_us, bool(rng.random() < 0.12), values)
            available_us += 1_000_000 * int(rng.choice([0, 1, 40, 300, 3_700]))
    splits = []
    if rng.random() < 0.5:
        at = FIRST_US + int(rng.integers(0, 24)) * 20 * MINUTE_US + int(rng.choice([0, 17_000_000]))
        known_us = at + int(rng.integers(-90, 200)) * MINUTE_US + 333
        splits.append(Split(int(rng.integers(0, runs)), at, known_us, False, float(rng.choice([2.0, 3.0]))))
    return Scenario(symbol, tuple(rows.values()), tuple(splits), lag_us)


def with_dividends(scenario: Scenario, rng: np.random.Generator, runs: int) -> Scenario:
    """The scenario with some cash dividends among its rows, early or late, some corrected or retracted."""
    last_us = max(row.event_us for row in scenario.rows)
    span_us = max(last_us - FIRST_US, 4)
    found: dict[tuple[int, int], Split] = {}
    for _ in range(int(rng.integers(0, 4))):
        event_us = FIRST_US + int(rng.integers(0, span_us))
        if rng.random() < 0.3:
            event_us = int(rng.choice([row.event_us for row in scenario.rows]))
        for _ in range(1 + int(rng.random() < 0.3)):
            run, known_us = int(rng.integers(0, runs)), event_us + int(rng.integers(-span_us, span_us)) + 5
            amount, deleted = float(rng.choice([0.5, 1.25, 3.0])), bool(rng.random() < 0.15)
            found[(run, event_us)] = Split(run, event_us, known_us, deleted, 1.0, amount)
    return replace(scenario, splits=(*scenario.splits, *found.values()))


def _bar_values(event_us: int, rng: np.random.Generator) -> tuple[float, ...]:
    close = 100.0 * float(np.exp(0.1 * rng.normal()))
    opened = close * float(np.exp(0.02 * rng.normal()))
    high, low = 1.01 * max(opened, close), 0.99 * min(opened, close)
    if rng.random() < 0.05:
        close = math.nan
    return (float(event_us - DAY_US // 4), opened, high, low, close, float(rng.integers(0, 1_000)))


# What is known -------------------------------------------------------------------------------------------------------


def known_rows(scenario: Scenario, moment_us: int) -> list[Row]:
    """The newest version of each key available by a moment, retractions left out, in the order of keys."""
    newest: dict[tuple[int, int], Row] = {}
    for row in sorted(scenario.rows, key=lambda row: (row.available_us, row.run)):
        if row.available_us <= moment_us:
            newest[(row.event_us, row.sequence)] = row
    return [newest[key] for key in sorted(newest) if not newest[key].deleted]


def known_splits(scenario: Scenario, moment_us: int) -> list[Split]:
    """Splits and dividends in order of time, at one time splits first."""
    newest: dict[tuple[int, bool], Split] = {}
    for split in sorted(scenario.splits, key=lambda split: (split.available_us, split.run)):
        if split.available_us <= moment_us:
            newest[(split.event_us, split.dividend > 0.0)] = split
    return [newest[key] for key in sorted(newest) if not newest[key].deleted]


@dataclass(frozen=True)
class Bar:
    """A bar with its key, (start, open, high, low, close, volume), and ratios since the bar before."""

    event_us: int
    sequence: int
    values: tuple[float, ...]
    split_ratio: float = 1.0
    dividend_ratio: float = 1.0
    complete: bool = True


def features_of(spec: FeatureViewSpec, bars: Sequence[Bar]) -> dict[tuple[int, int], np.ndarray]:
    """From-scratch features of bars, by (event, sequence)."""
    plan = spec.plan
    state, found = plan.new_state(), {}
    for bar in bars:
        named = dict(zip(("start", "open", "high", "low", "close", "volume"), bar.values, strict=True))
        named |= {"split_ratio": bar.split_ratio, "dividend_ratio": bar.dividend_ratio}
        named |= {"price": bar.values[4], "size": bar.values[5], "time": float(bar.event_us)}
        named |= {"session": _session(spec, bar.values[0]) if "session" in plan.inputs else 0.0}
        out = np.empty(len(plan.outputs))
        row = np.array([named.get(name, np.nan) for name in plan.inputs])
        plan.update(state, bar.event_us, bar.sequence, bar.event_us, row, out)
        out[np.isnan(out)] = np.nan
        found[(bar.event_us, bar.sequence)] = out
    return found


def features_of_bars(
    spec: FeatureViewSpec, bars: Sequence[tuple[int, int, tuple[float, ...]]], splits: Sequence[Split]
) -> dict[tuple[int, int], np.ndarray]:
    """From-scratch features of stored bars: (event, sequence, (start, open, high, low, close, volume))."""
    made = []
    previous, price = None, 0.0
    for event_us, sequence, values in bars:
        ratio = dividend_ratio = 1.0
        for split in splits:
            if previous is not None and previous <= split.event_us < event_us:
                ratio *= split.ratio
                if spec.dividends and price > 0.0:
                    price /= split.ratio
                    if split.dividend > 0.0:
                        dividend_ratio *= price / (price - split.dividend)
                    price -= split.dividend
        made.append(Bar(event_us, sequence, values, ratio, dividend_ratio))
        price = values[4] if values[4] > 0.0 else price
        previous = event_us
    return features_of(spec, made)


@cache
def _session(spec: FeatureViewSpec, start_us: float) -> float:
    return float(sum(1 for at in session_times(spec.rows.calendar).open_us.tolist() if at <= start_us) - 1)


def usable(row: Row) -> bool:
    return not row.deleted and (len(row.values) > 2 or row.values[0] > 0)


def bars_of(spec: FeatureViewSpec, rows: Sequence[Row], splits: Sequence[Split]) -> list[Bar]:
    """Bars of all usable rows, made by keeping the rows of the open bar in a list, on the basis of the last one."""
    kind: Any = spec.rows
    if isinstance(kind, Trades):  # what a trade is: a bar of its own
        kind = TradedBars(kind.source, kind.calendar, "tick", 1.0)
    bars: list[Bar] = []
    open_bar: list[tuple[Row, list[float]]] = []
    price, ratios, waiting, finished_us = 0.0, [1.0, 1.0], list(splits), -1
    after = 0 if kind.raw == "bars" else -1

    def close(end_us: int, *, complete: bool) -> None:
        nonlocal ratios, finished_us
        columns = list(zip(*(values for _, values in open_bar), strict=True))
        o, h, low, c, v = ([x for x in column if not math.isnan(x)] for column in columns)
        volume = 0.0
        for x in v:
            volume += x
        start_us = {
            TradeBars: lambda: float(end_us - MINUTE_US),
            TradedBars: lambda: float(open_bar[0][0].event_us),
            LongerBars: lambda: open_bar[0][0].values[0],
        }[type(kind)]()
        some = (o[0], max(h), min(low), c[-1] if c else math.nan, volume)
        given = ratios if bars else [1.0, 1.0]
        bars.append(Bar(end_us, open_bar[-1][0].sequence, (start_us, *some), *given, complete))
        open_bar.clear()
        ratios, finished_us = [1.0, 1.0], end_us

    def end_of(row: Row) -> int:
        width_us = 60 * MINUTE_US if isinstance(kind, LongerBars) else MINUTE_US
        moment_us = row.event_us - 1 if isinstance(kind, LongerBars) else row.event_us
        return moment_us // width_us * width_us + width_us

    for row in rows:
        if not usable(row):
            continue
        if open_bar and not isinstance(kind, TradedBars) and end_of(row) > end_of(open_bar[0][0]):
            close(end_of(open_bar[0][0]), complete=False)
        while waiting and waiting[0].event_us + after < row.event_us:
            split = waiting.pop(0)
            if price == 0.0 or (split.dividend > 0.0 and not spec.dividends):
                continue
            before = price / split.ratio
            kept = (before - split.dividend) / before
            for _, values in open_bar:
                values[:4] = [x / split.ratio * kept for x in values[:4]]
                values[4] *= split.ratio
            price = price / split.ratio * kept
            ratios = [ratios[0] * split.ratio, before / (before - split.dividend) * ratios[1]]
        values = list(row.values[1:]) if kind.raw == "bars" else [row.values[0]] * 4 + [row.values[1]]
        open_bar.append((row, values))
        price = price if math.isnan(values[3]) else values[3]
        if isinstance(kind, TradedBars):
            total = 0.0
            for at, (*_, v) in open_bar:
                total += {"tick": 1.0, "volume": v, "dollar": at.values[0] * at.values[1]}[kind.measure]
            if total >= kind.threshold:
                close(row.event_us, complete=True)
        elif isinstance(kind, LongerBars) and row.event_us == end_of(row):
            close(row.event_us, complete=True)
    if open_bar and not isinstance(kind, TradedBars):
        close(end_of(open_bar[0][0]), complete=False)
    return bars


def expected(spec: FeatureViewSpec, scenario: Scenario, moment_us: int) -> dict[tuple[int, int], np.ndarray]:
    """Features that a view must show at a moment: of the bars that are finished or over, from the rows known."""
    rows, splits = known_rows(scenario, moment_us), known_splits(scenario, moment_us)
    if isinstance(spec.rows, SessionBars):
        return features_of_bars(spec, [(row.event_us, row.sequence, row.values) for row in rows], splits)
    made = bars_of(spec, rows, splits)
    return features_of(spec, [bar for bar in made if bar.complete or _is_over(spec, scenario, bar, moment_us)])


def _is_over(spec: FeatureViewSpec, scenario: Scenario, bar: Bar, moment_us: int) -> bool:
    """Whether the time of a bar has passed, and anything at all ever arrives that shows that it has."""
    over_us = bar.event_us + scenario.lag_us
    if over_us > moment_us:
        return False
    at_its_end = 1 if isinstance(spec.rows, LongerBars) else 0  # a row that ends there is in it
    return any(
        (row.event_us >= bar.event_us + at_its_end and usable(row)) or row.available_us >= over_us + at_its_end
        for row in arrivals(scenario)
    ) or any(
        split.available_us >= over_us
        and (split.dividend == 0.0 or spec.dividends)
        and any(
            usable(row) and row.available_us < split.available_us and row.event_us >= split.event_us + at_its_end
            for row in arrivals(scenario)
        )
        for split in scenario.splits
    )


@cache
def arrivals(scenario: Scenario) -> tuple[Row, ...]:
    """Versions that changed something when they became known: usable ones, and retractions of usable ones."""
    arrived: list[Row] = []
    lives: set[tuple[int, int]] = set()
    for moment_us in sorted({row.available_us for row in scenario.rows}):
        newest: dict[tuple[int, int], Row] = {}
        for row in sorted(scenario.rows, key=lambda row: row.run):
            if row.available_us == moment_us:
                newest[(row.event_us, row.sequence)] = row
        for key, row in newest.items():
            if usable(row):
                lives.add(key)
                arrived.append(row)
            elif key in lives:
                lives.remove(key)
                arrived.append(row)
    return tuple(arrived)


# The database --------------------------------------------------------------------------------------------------------


def record(connection: psycopg.Connection, spec: FeatureViewSpec, scenarios: Sequence[Scenario], run: int) -> None:
    """Store what was recorded in one run, in one transaction."""
    source = spec.rows.source
    rows = [(s.symbol, row) for s in scenarios for row in s.rows if row.run == run]
    splits = [(s.symbol, split) for s in scenarios for split in s.splits if split.run == run]
    keys = [(source, s, from_us(r.event_us), r.sequence, from_us(r.available_us), r.deleted) for s, r in rows]
    with connection.transaction(), connection.cursor() as cursor:
        if spec.rows.raw == "trades":
            cursor.executemany(
                "INSERT INTO tapeline.trades (source, symbol, event_timestamp, sequence, available_timestamp, deleted,"
                " price, size) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [(*key, *row.values) for key, (_, row) in zip(keys, rows, strict=True)],
            )
        else:
            cursor.executemany(
                "INSERT INTO tapeline.bars (source, symbol, event_timestamp, sequence, available_timestamp, deleted,"
                " start_timestamp, open, high, low, close, volume)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (*key, from_us(int(row.values[0])), *row.values[1:])
                    for key, (_, row) in zip(keys, rows, strict=True)
                ],
            )
        cursor.executemany(
            "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, sequence,"
            " ratio, amount, source, deleted) VALUES (%s, %s, %s, %s, 0, %s, %s, 'test', %s)",
            [
                (
                    s,
                    "dividend" if x.dividend else "split",
                    from_us(x.event_us),
                    from_us(x.available_us),
                    None if x.dividend else x.ratio,
                    x.dividend or None,
                    x.deleted,
                )
                for s, x in splits
            ],
        )


Table = dict[str, list[tuple[int, int, int, int, tuple[float | None, ...]]]]


def read_table(connection: psycopg.Connection, spec: FeatureViewSpec) -> Table:
    """All rows by symbol: event, sequence, available, created, values."""
    rows = connection.execute(
        f"SELECT symbol, event_timestamp, sequence, available_timestamp, created_timestamp, {', '.join(spec.columns)}"
        f" FROM {qualified_name(spec)}"
    ).fetchall()
    connection.commit()
    table: Table = {}
    for symbol, event, sequence, available, created, *values in rows:
        table.setdefault(symbol, []).append((to_us(event), sequence, to_us(available), to_us(created), tuple(values)))
    return table


def picked(rows: Sequence[tuple[int, int, int, int, tuple[float | None, ...]]], moment_us: int) -> tuple | None:
    """The point-in-time rule: greatest (event, sequence, available, created) available by a moment."""
    return max((row for row in rows if row[2] <= moment_us), key=lambda row: row[:4], default=None)


def moments(scenario: Scenario) -> list[int]:
    """Every moment at which something may change, and just before."""
    times = {row.available_us for row in scenario.rows} | {split.available_us for split in scenario.splits}
    times |= {row.event_us // MINUTE_US * MINUTE_US + MINUTE_US + scenario.lag_us for row in scenario.rows}
    times |= {(row.event_us - 1) // HOUR_US * HOUR_US + HOUR_US + scenario.lag_us for row in scenario.rows}
    return sorted(times | {at - 1 for at in times})


def bits(values: Sequence[float | None] | np.ndarray | None) -> list[int] | None:
    """What bit-for-bit means; None for no value."""
    if values is None or any(value is None for value in values):
        return None
    return np.array(values, dtype=np.float64).view(np.int64).tolist()


def check_visible(connection: psycopg.Connection, spec: FeatureViewSpec, scenarios: Sequence[Scenario]) -> int:
    """Compare what the point-in-time rule picks with the oracle at every moment; returns the number of comparisons."""
    table = read_table(connection, spec)
    compared = 0
    for scenario in scenarios:
        rows = table.get(scenario.symbol, [])
        told: dict[tuple[int, int, int], list[int] | None] = {}
        for row in sorted(rows, key=lambda row: row[3]):
            key, content = row[:3], bits(row[4])
            assert key not in told or told[key] != content, f"{scenario.symbol}: a row was added twice: {row}"
            told[key] = content
        for moment_us in moments(scenario):
            right = expected(spec, scenario, moment_us)
            wanted = bits(right[max(right)]) if right else None
            row = picked(rows, moment_us)
            given = bits(row[4]) if row else None
            assert given == wanted, (
                f"{scenario.symbol} at {from_us(moment_us)}: {row} instead of {right}\n"
                + "\n".join(str(r) for r in sorted(scenario.rows, key=lambda r: (r.available_us, r.event_us)))
                + "\n"
                + "\n".join(str(s) for s in scenario.splits)
            )
            compared += 1
    return compared


def run_all(
    connection: psycopg.Connection,
    spec: FeatureViewSpec,
    scenarios: Sequence[Scenario],
    runs: int,
    raw_rows_max: int = 10**6,
) -> int:
    """Record run by run, back-fill after each, and check all that is visible after each; returns comparisons."""
    compared = 0
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us) VALUES (%s, %s, %s)",
            (spec.rows.source, spec.rows.raw, scenarios[0].lag_us),
        )
    for run in range(runs):
        record(connection, spec, scenarios, run)
        present = [s.recorded_by(run) for s in scenarios if any(row.run <= run for row in s.rows)]
        if not present:
            continue
        backfill(connection, spec, raw_rows_max=raw_rows_max)
        compared += check_visible(connection, spec, present)
        assert backfill(connection, spec).rows_added == 0
    return compared
