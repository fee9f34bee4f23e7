"""A small market of trades, and what must be the same of stream, tables and online store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import psycopg
import redis
from tapeline.compute import backfill
from tapeline.core.timestamps import MINUTE_US, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, TradeBars, TradedBars, Trades
from tapeline.storage.feature_tables import qualified_name
from tapeline.storage.keys import entity_key_sorted
from tapeline.storage.online_reader import OnlineReader, ReadPlan
from tapeline.storage.packed import Layout
from tapeline.streaming.codec import EventKind, Events, make_events
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.worker import Worker

FIRST_US = to_us("2024-01-02T14:30:00+00:00")
LAG_US = 1_000_000

BARS = FeatureViewSpec(
    "minutes",
    1,
    TradeBars("tape", "XNYS", MINUTE_US),
    (
        FeatureRequest.of("EMA", timeperiod=3),
        FeatureRequest.of("ATR", timeperiod=3),
        FeatureRequest.of("OBV"),
        FeatureRequest.of("VWAP_SESSION"),
    ),
    0,
)
VOLUME = FeatureViewSpec(
    "volumes",
    1,
    TradedBars("tape", "XNYS", "volume", 40.0),
    (FeatureRequest.of("EMA", timeperiod=2), FeatureRequest.of("RETURN", timeperiod=1)),
    0,
)
EACH = FeatureViewSpec(
    "ticks",
    1,
    Trades("tape", "XNYS"),
    (
        FeatureRequest.of("TICK_RULE"),
        FeatureRequest.of("KYLE_LAMBDA", window=4),
        FeatureRequest.of("VPIN", bucket_size=9.0, window=2),
    ),
    0,
)
VIEWS = (BARS, VOLUME, EACH)


def plan(**changes: object) -> StreamPlan:
    return StreamPlan(**{"name": "live", "source": "tape", "partitions": 4, "project": "test"} | changes)  # type: ignore[arg-type]


def add_source(connection: psycopg.Connection, name: str = "tape", kind: str = "trades", lag_us: int = LAG_US) -> None:
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, %s, %s, 'XNYS')",
            (name, kind, lag_us),
        )


def trades(symbols: Sequence[str], count: int, seed: int, *, first_us: int = FIRST_US, first: int = 0) -> Events:
    """Trades of a few symbols in the order of time, some without a usable price."""
    rng = np.random.default_rng(seed)
    event_us = first_us + np.cumsum(rng.integers(0, 3_000_000, count))
    names = [symbols[i] for i in rng.integers(0, len(symbols), count)]
    price = 100 + np.cumsum(rng.normal(0, 0.01, count))
    price[rng.random(count) < 0.02] = np.nan
    return make_events(
        EventKind.trades,
        names,
        event_us,
        np.arange(first, first + count),
        event_us + rng.integers(0, 900_000, count),
        np.column_stack([price, rng.integers(1, 20, count)]),
        side=rng.integers(-1, 2, count),
    )


def disordered(seed: int, count: int, disorder: float) -> Events:
    """Trades of three symbols; some are late, some repeat, correct or retract an earlier one."""
    rng = np.random.default_rng(seed)
    event_us = FIRST_US + np.cumsum(rng.integers(0, 9_000_000, count))
    sequence = np.arange(count)
    symbols = [("A", "B", "C")[i] for i in rng.integers(0, 3, count)]
    price, size = 100 + rng.normal(0, 1, count), rng.integers(1, 20, count).astype(float)
    change = np.zeros(count, dtype=np.int64)
    arrival_us = event_us + rng.integers(0, LAG_US, count)
    for i in np.flatnonzero(rng.random(count) < disorder).tolist():
        kind = rng.integers(0, 4)
        earlier = int(rng.integers(max(0, i - 40), i + 1))
        if kind == 0:  # late, or of a bar that was over
            event_us[i] -= int(rng.integers(0, 3 * MINUTE_US))
        elif earlier < i:
            event_us[i], sequence[i], symbols[i] = event_us[earlier], sequence[earlier], symbols[earlier]
            if kind == 1:  # a producer's second try
                price[i], size[i], change[i] = price[earlier], size[earlier], 0
            else:
                change[i] = kind - 1
    arrival_us = np.maximum(arrival_us, event_us)
    return make_events(
        EventKind.trades, symbols, event_us, sequence, arrival_us, np.column_stack([price, size]), change=change
    )


def empty(connection: psycopg.Connection) -> None:
    with connection.transaction():
        for name in (
            "trades",
            "quotes",
            "book_events",
            "bars",
            "news",
            "sources",
            "stream_positions",
            "stream_repairs",
            "state_snapshots",
            "backfill_progress",
        ):
            connection.execute(f"DELETE FROM tapeline.{name}")
        for spec in VIEWS:
            if connection.execute("SELECT to_regclass(%s)", (f"features.{spec.table}",)).fetchone() != (None,):
                connection.execute(f"DELETE FROM features.{spec.table}")


def table_rows(connection: psycopg.Connection, spec: FeatureViewSpec) -> list[tuple[object, ...]]:
    """All feature rows with the bits of their values, in the order of their keys."""
    names = ", ".join(f"encode(float8send({name}), 'hex')" for name in spec.columns)
    with connection.transaction():
        return connection.execute(
            f"SELECT symbol, event_timestamp, sequence, available_timestamp, {names} FROM {qualified_name(spec)}"
            " ORDER BY 1, 2, 3, 4, created_timestamp"
        ).fetchall()


def newest_rows(connection: psycopg.Connection, spec: FeatureViewSpec) -> list[tuple[object, ...]]:
    """Of the rows of each key and available time, the one that was written last."""
    return list({row[:4]: row for row in table_rows(connection, spec)}.values())


def require_all(connection: psycopg.Connection, events: Events) -> None:
    """Every trade that was sent stands in the database."""
    keys = {(events.symbols[row["symbol"]], row["event_us"], row["sequence"]) for row in events.records}
    with connection.transaction():
        found = connection.execute("SELECT DISTINCT symbol, event_timestamp, sequence FROM tapeline.trades").fetchall()
    assert {(symbol, to_us(event), sequence) for symbol, event, sequence in found} == keys


def raw_rows(connection: psycopg.Connection, table: str = "trades") -> list[tuple[object, ...]]:
    with connection.transaction():
        return connection.execute(
            f"SELECT symbol, event_timestamp, sequence, available_timestamp, float8send(price), float8send(size), side, deleted"
            f" FROM tapeline.{table} ORDER BY 1, 2, 3, 4, created_timestamp"
        ).fetchall()


def recomputed(connection: psycopg.Connection, specs: Sequence[FeatureViewSpec]) -> dict[str, list[tuple[object, ...]]]:
    """What a back-fill makes of the raw rows when it knows nothing else; the tables are emptied for it."""
    with connection.transaction():
        connection.execute("DELETE FROM tapeline.state_snapshots")
        connection.execute("DELETE FROM tapeline.backfill_progress")
        for spec in specs:
            connection.execute(f"DELETE FROM {qualified_name(spec)}")
    for spec in specs:
        backfill(connection, spec)
    return {spec.name: table_rows(connection, spec) for spec in specs}


def require_same(
    connection: psycopg.Connection, client: redis.Redis, stream: StreamPlan, specs: Sequence[FeatureViewSpec] = VIEWS
) -> int:
    """Stream = offline = online = batch, bit for bit; returns the number of feature values compared."""
    for spec in specs:
        assert backfill(connection, spec).rows_added == 0, spec.name
        require_replaced_in_time(connection, spec)
    streamed = {spec.name: newest_rows(connection, spec) for spec in specs}
    for spec in specs:
        require_online(connection, client, stream, spec)
    for name, batch in recomputed(connection, specs).items():
        assert sorted(batch) == sorted(streamed[name]), name
    return sum(len(streamed[spec.name]) * len(spec.columns) for spec in specs)


def require_replaced_in_time(connection: psycopg.Connection, spec: FeatureViewSpec) -> None:
    """A row beneath another of its key and available time was replaced before it was available.

    A bar may be computed before its time: a trade ends it, and the lag has not passed. What changed it must have been
    recorded between the two, available in time, and before any usable trade of its symbol that was available as late as the
    row. None stands there twice with the same values.
    """
    assert all(one != other for one, other in pairwise(table_rows(connection, spec))), spec.name
    usable = "b.price > 0 AND b.price < 'Infinity' AND b.size >= 0 AND b.size < 'Infinity'"
    with connection.transaction():
        unexplained = connection.execute(
            f"SELECT f.* FROM (SELECT symbol, event_timestamp, sequence, available_timestamp, created_timestamp, lead("
            " created_timestamp) OVER (PARTITION BY symbol, event_timestamp, sequence, available_timestamp"
            f" ORDER BY created_timestamp) AS replaced FROM {qualified_name(spec)}) f"
            " WHERE f.replaced IS NOT NULL AND NOT EXISTS ("
            "  SELECT FROM tapeline.trades r WHERE r.source = %s AND r.symbol = f.symbol"
            "  AND r.available_timestamp <= f.available_timestamp AND r.event_timestamp < f.event_timestamp"
            "  AND r.created_timestamp > f.created_timestamp AND r.created_timestamp <= f.replaced"
            "  AND NOT EXISTS (SELECT FROM tapeline.trades b WHERE b.source = r.source AND b.symbol = r.symbol"
            f"  AND b.created_timestamp < r.created_timestamp AND b.available_timestamp >= f.available_timestamp AND {usable}))",
            (spec.rows.source,),
        ).fetchall()
    assert not unexplained, (spec.name, unexplained)


def require_online(
    connection: psycopg.Connection, client: redis.Redis, stream: StreamPlan, spec: FeatureViewSpec
) -> None:
    with connection.transaction():
        newest = connection.execute(
            f"SELECT DISTINCT ON (symbol) symbol, event_timestamp, sequence, available_timestamp, {', '.join(spec.columns)}"
            f" FROM {qualified_name(spec)} ORDER BY symbol, event_timestamp DESC, sequence DESC,"
            " available_timestamp DESC, created_timestamp DESC"
        ).fetchall()
    if not newest:
        return
    reader = OnlineReader(client, ReadPlan(stream.project, [Layout.of_floats(spec.name, spec.version, spec.columns)]))
    read = reader.read([entity_key_sorted([row[0]]) for row in newest])
    reader.close()
    expected = np.array([[np.nan if v is None else v for v in row[4:]] for row in newest], dtype=np.float64)
    assert read.values.tobytes() == expected.tobytes()
    times = np.array([[to_us(row[1]), row[2], to_us(row[3])] for row in newest])
    assert np.array_equal(read.times[:, 0, :3], times)


def work(worker: Worker, until: Callable[[], bool]) -> None:
    while not until():
        worker.step(block_ms=1)


def vanish(worker: Worker) -> None:
    """End a worker without a word, and let the time pass after which others notice."""
    worker.give_up()
    for partition in sorted(worker.leases.owned):
        worker.leases.release(partition)
    worker.leases.leave()
