"""Random histories of raw rows, and what must be visible of their features at any moment, worked out the plain way.

The oracle selects rows with loops over dictionaries and computes each moment from scratch; only the kernels are shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import psycopg
from tapeline.compute.run import backfill
from tapeline.compute.sessions import session_times
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars, TradeBars
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
    run: int
    event_us: int
    available_us: int
    deleted: bool
    ratio: float


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
    newest: dict[int, Split] = {}
    for split in sorted(scenario.splits, key=lambda split: (split.available_us, split.run)):
        if split.available_us <= moment_us:
            newest[split.event_us] = split
    return [newest[key] for key in sorted(newest) if not newest[key].deleted]


def features_of_bars(
    spec: FeatureViewSpec, bars: Sequence[tuple[int, int, tuple[float, ...]]], splits: Sequence[Split]
) -> dict[tuple[int, int], np.ndarray]:
    """From-scratch features of (event, sequence, (start, open, high, low, close, volume)), by (event, sequence)."""
    plan = spec.plan
    state, found = plan.new_state(), {}
    previous = None
    for event_us, sequence, values in bars:
        ratio = 1.0
        for split in splits:
            if previous is not None and previous <= split.event_us < event_us:
                ratio *= split.ratio
        named = dict(zip(("start", "open", "high", "low", "close", "volume"), values, strict=True))
        named |= {"split_ratio": ratio, "session": _session(spec, values[0]) if "session" in plan.inputs else 0.0}
        out = np.empty(len(plan.outputs))
        plan.update(state, event_us, sequence, event_us, np.array([named[name] for name in plan.inputs]), out)
        out[np.isnan(out)] = np.nan
        found[(event_us, sequence)] = out
        previous = event_us
    return found


@cache
def _session(spec: FeatureViewSpec, start_us: float) -> float:
    return float(sum(1 for at in session_times(spec.rows.calendar).open_us.tolist() if at <= start_us) - 1)


def expected_bars(scenario: Scenario, moment_us: int) -> dict[tuple[int, int], np.ndarray]:
    """Features that a view over stored bars must show at a moment."""
    rows = [(row.event_us, row.sequence, row.values) for row in known_rows(scenario, moment_us)]
    return features_of_bars(BARS, rows, known_splits(scenario, moment_us))


def usable(row: Row) -> bool:
    return not row.deleted and row.values[0] > 0


def expected_trades(scenario: Scenario, moment_us: int) -> dict[tuple[int, int], np.ndarray]:
    """Features that a view over trades must show at a moment: of the bars that are over, from the trades known."""
    intervals: dict[int, list[Row]] = {}
    for row in known_rows(scenario, moment_us):
        end_us = row.event_us // MINUTE_US * MINUTE_US + MINUTE_US
        if usable(row) and end_us + scenario.lag_us <= moment_us and _is_shown_over(scenario, end_us):
            intervals.setdefault(end_us, []).append(row)
    bars = []
    for end_us, trades in sorted(intervals.items()):
        prices = [row.values[0] for row in trades]
        volume = 0.0
        for row in trades:
            volume += row.values[1]
        start_us = float(end_us - MINUTE_US)
        values = (start_us, prices[0], max(prices), min(prices), prices[-1], volume)
        bars.append((end_us, trades[-1].sequence, values))
    return features_of_bars(TRADES, bars, known_splits(scenario, moment_us))


def _is_shown_over(scenario: Scenario, end_us: int) -> bool:
    """Whether anything at all arrives that shows that the time of a bar has passed."""
    over_us = end_us + scenario.lag_us
    return any(
        (row.event_us >= end_us and usable(row)) or row.available_us >= over_us for row in arrivals(scenario)
    ) or any(split.event_us < end_us and split.available_us >= over_us for split in scenario.splits)


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
        if isinstance(spec.rows, TradeBars):
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
            " ratio, source, deleted) VALUES (%s, 'split', %s, %s, 0, %s, 'test', %s)",
            [(s, from_us(x.event_us), from_us(x.available_us), x.ratio, x.deleted) for s, x in splits],
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
    return sorted(times | {at - 1 for at in times})


def bits(values: Sequence[float | None] | np.ndarray | None) -> list[int] | None:
    """What bit-for-bit means; None for no value."""
    if values is None or any(value is None for value in values):
        return None
    return np.array(values, dtype=np.float64).view(np.int64).tolist()


def check_visible(connection: psycopg.Connection, spec: FeatureViewSpec, scenarios: Sequence[Scenario]) -> int:
    """Compare what the point-in-time rule picks with the oracle at every moment; returns the number of comparisons."""
    table = read_table(connection, spec)
    expected_at = expected_trades if isinstance(spec.rows, TradeBars) else expected_bars
    compared = 0
    for scenario in scenarios:
        rows = table.get(scenario.symbol, [])
        for moment_us in moments(scenario):
            expected = expected_at(scenario, moment_us)
            wanted = bits(expected[max(expected)]) if expected else None
            row = picked(rows, moment_us)
            given = bits(row[4]) if row else None
            assert given == wanted, (
                f"{scenario.symbol} at {from_us(moment_us)}: {row} instead of {expected}\n"
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
            (spec.rows.source, "trades" if isinstance(spec.rows, TradeBars) else "bars", scenarios[0].lag_us),
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
