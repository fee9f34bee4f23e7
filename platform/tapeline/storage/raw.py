"""Idempotent append of raw market data: bars, trades, quotes, order-book events; and of corporate actions.

A row's key is (source, symbol, event time, sequence); of a corporate action, whoever reports it, (symbol, kind, event time,
sequence). A key that was never seen is a first sighting; a key whose newest
stored row says something else gets a correction, a newer row; a key whose newest stored row says the same gets nothing.
So an ingest may be repeated, or killed and started again, and the tables come out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import InvalidDataError
from tapeline.core.timestamps import from_us
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.raw_tables import RAW_TABLES, RawKind, RawTable
from tapeline.storage.retrying import write_faults
from tapeline.storage.turns import turn

_SPARSE_ROWS = 5_000
"""Batches up to this size look their keys up one by one; larger ones read the stored rows of their time span."""


@dataclass(frozen=True, slots=True)
class AppendCounts:
    """What an append did with each row it was given.

    Parameters
    ----------
    added
        First sightings.
    corrections
        Rows whose key was known with other content.
    unchanged
        Rows that the table held already, and exact repetitions within the batch.
    retractions
        Known rows that were withdrawn.
    unmatched
        Retractions of rows that are not there, or are withdrawn already.
    """

    added: int = 0
    corrections: int = 0
    unchanged: int = 0
    retractions: int = 0
    unmatched: int = 0

    def __add__(self, other: AppendCounts) -> AppendCounts:
        return AppendCounts(
            self.added + other.added,
            self.corrections + other.corrections,
            self.unchanged + other.unchanged,
            self.retractions + other.retractions,
            self.unmatched + other.unmatched,
        )


def append_bars(
    connection: psycopg.Connection[Any],
    rows: pa.Table | pl.DataFrame,
    source: str,
    *,
    declared_lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append bars: symbol, start_timestamp, event_timestamp, open, high, low, close, volume. See :func:`append_rows`."""
    return append_rows(connection, "bars", rows, source, declared_lag_us=declared_lag_us, clock=clock)


def append_trades(
    connection: psycopg.Connection[Any],
    rows: pa.Table | pl.DataFrame,
    source: str,
    *,
    declared_lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append trades: symbol, event_timestamp, sequence, price, size and perhaps side. See :func:`append_rows`."""
    return append_rows(connection, "trades", rows, source, declared_lag_us=declared_lag_us, clock=clock)


def append_quotes(
    connection: psycopg.Connection[Any],
    rows: pa.Table | pl.DataFrame,
    source: str,
    *,
    declared_lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append quotes: symbol, event_timestamp, sequence, bid and ask price and size. See :func:`append_rows`."""
    return append_rows(connection, "quotes", rows, source, declared_lag_us=declared_lag_us, clock=clock)


def append_book_events(
    connection: psycopg.Connection[Any],
    rows: pa.Table | pl.DataFrame,
    source: str,
    *,
    declared_lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append order-book events: symbol, event_timestamp, sequence, action, side, … See :func:`append_rows`."""
    return append_rows(connection, "book_events", rows, source, declared_lag_us=declared_lag_us, clock=clock)


def append_rows(
    connection: psycopg.Connection[Any],
    kind: RawKind,
    rows: pa.Table | pl.DataFrame,
    source: str,
    *,
    declared_lag_us: int = 0,
    clock: Clock | None = None,
    also: Callable[[psycopg.Cursor[Any], AppendCounts], None] | None = None,
) -> AppendCounts:
    """Append one batch of raw rows in one transaction, adding only what is new or changed.

    ``available_timestamp`` of a first sighting is its ``published_timestamp`` if the rows have that column and it is
    not null, else its event time plus the source's declared lag. Of a correction it is its publication if that lies
    after the row it corrects became available, else its arrival here; never before its event, nor before the row it
    corrects. A corporate action may be available before its event: once it is published, or by its arrival if nothing
    says when that was.

    Parameters
    ----------
    connection
        Not inside a transaction: the batch waits for its turn before its transaction begins, so that
        ``created_timestamp``, a transaction's start, grows in the order in which corrections were made.
    kind
        Which table.
    rows
        Columns by their names in the table; missing content columns become NULL (``side`` 0). A true ``deleted``
        marks a retraction, which needs no more than the key.
    source
        Name of the source.
    declared_lag_us
        The source's declared lag, µs.
    clock
        Says when a correction arrived; the machine's clock if none.
    also
        Called in the same transaction with what the append did; an error of it ends that, and nothing is written.

    Raises
    ------
    InvalidDataError
        If a column is missing, one key comes twice with different content, or a row lies before what retention dropped.
    NaiveTimestampError
        If a timestamp column has no time zone.
    ParameterError
        If the connection is inside a transaction.
    """
    table = RAW_TABLES[kind]
    frame = rows if isinstance(rows, pl.DataFrame) else _frame(rows)
    frame, repeated = _prepare(frame, table)
    if frame.is_empty() and also is None:
        return AppendCounts(unchanged=repeated)
    retracted = frame.filter("deleted")
    kept = frame.filter(~pl.col("deleted"))
    now_us = (clock or LiveClock()).now_us()
    counts = AppendCounts(unchanged=repeated)
    name = f"{table.name}{source if table.by_source else ''}"
    with (
        write_faults(table.name),
        turn(connection, name),
        connection.transaction(),
        connection.cursor(row_factory=tuple_row) as cursor,
    ):
        if not frame.is_empty():
            refuse_dropped(cursor, table, frame.select(pl.col("event_timestamp").min()).item())
        if not kept.is_empty():
            counts += _append(cursor, table, kept, source, declared_lag_us, now_us)
        if not retracted.is_empty():
            counts += _retract(cursor, table, retracted, source, now_us)
        if also is not None:
            also(cursor, counts)
    return counts


def refuse_dropped(cursor: psycopg.Cursor[Any], table: RawTable, first: datetime) -> None:
    """Refuse rows from before what retention dropped: features could not be computed with them."""
    found = cursor.execute(
        "SELECT refused_before FROM tapeline.retention_horizons WHERE table_name = %s AND refused_before > %s",
        (table.name, first),
    ).fetchone()
    if found is not None:
        raise InvalidDataError(
            f"a row of {first} lies before {found[0]}, up to where retention dropped rows that features would need to take"
            " it in",
            where=table.name,
            remedy="Leave such rows out, as with: tapeline ingest SOURCE --since",
        )


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _prepare(frame: pl.DataFrame, table: RawTable) -> tuple[pl.DataFrame, int]:
    """Complete the columns and drop exact repetitions; returns also how many those were."""
    if table.sequence_default is not None and "sequence" not in frame.columns:
        frame = frame.with_columns(sequence=pl.lit(table.sequence_default, pl.Int64))
    needed = table.key
    missing = [name for name in (*needed, *table.needed) if name not in frame.columns]
    if missing:
        raise InvalidDataError(f"rows for {table.name} lack {', '.join(missing)}", where=f"columns {frame.columns}")
    extra = []
    if "deleted" not in frame.columns:
        extra.append(pl.lit(False).alias("deleted"))
    if "published_timestamp" not in frame.columns:
        extra.append(pl.lit(None, pl.Datetime("us", "UTC")).alias("published_timestamp"))
    extra += [pl.lit(None).alias(name) for name in table.content if name not in frame.columns]
    frame = frame.with_columns(extra)
    if "side" in table.content:
        frame = frame.with_columns(pl.col("side").cast(pl.Int16).fill_null(0))
    columns = (*needed, "published_timestamp", *table.content, "deleted")
    frame = frame.select(columns).with_columns(pl.col("deleted").fill_null(False))
    if not frame.select(pl.struct(needed).is_duplicated().any()).item():
        return frame, 0
    unique = frame.unique(subset=(*needed, *table.content, "deleted"), keep="first", maintain_order=True)
    twice = unique.filter(pl.struct(needed).is_duplicated())
    if not twice.is_empty():
        row = twice.row(0, named=True)
        raise InvalidDataError(
            f"one key comes twice with different content: {row['symbol']} at {row['event_timestamp']},"
            f" sequence {row['sequence']}",
            where=table.name,
            remedy="Send the correction as a batch of its own, after the row it corrects",
        )
    return unique, len(frame) - len(unique)


def _stage(cursor: psycopg.Cursor[Any], table: RawTable, frame: pl.DataFrame) -> None:
    cursor.execute(
        sql.SQL(
            "CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {}, available_timestamp AS published_timestamp, {},"
            " deleted FROM {} WITH NO DATA"
        ).format(_columns(table.key), _columns(table.content), sql.Identifier(*table.name.split("."))),
        prepare=False,
    )
    copy_arrow(cursor, frame.to_arrow(), "pg_temp.incoming")
    cursor.execute("ANALYZE pg_temp.incoming", prepare=False)


def _columns(names: tuple[str, ...], alias: str | None = None) -> sql.Composed:
    parts = [sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names]
    return sql.SQL(", ").join(parts)


def _same(names: tuple[str, ...], alias: str) -> sql.Composed:
    """That a row of ``incoming i`` has these columns in common with another."""
    parts = [sql.SQL("{} = {}").format(sql.Identifier(alias, name), sql.Identifier("i", name)) for name in names]
    return sql.SQL(" AND ").join(parts)


def _newest(table: RawTable, frame: pl.DataFrame, source: str) -> sql.Composed:
    """A join of ``incoming i`` with the newest stored row ``n`` of each key.

    Constant bounds on the time let a hypertable leave out the chunks that cannot hold any of the keys.
    """
    first, last = frame.select(first=pl.col("event_timestamp").min(), last=pl.col("event_timestamp").max()).row(0)
    parts = {
        "table": sql.Identifier(*table.name.split(".")),
        "columns": _columns((*table.key, "available_timestamp", "deleted", *table.content)),
        "key": _columns(table.key),
        "latest": sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier(name)) for name in table.key[1:]),
        "same_source": sql.SQL("source = {}").format(sql.Literal(source)) if table.by_source else sql.SQL("true"),
        "first": sql.Literal(first),
        "last": sql.Literal(last),
        "symbols": sql.Literal(frame["symbol"].unique().to_list()),
        "same_stored": _same(table.key, "s"),
        "same_newest": _same(table.key, "n"),
    }
    if len(frame) <= _SPARSE_ROWS:
        text = """LEFT JOIN LATERAL (
            SELECT {columns} FROM {table} s
            WHERE {same_source} AND {same_stored} AND s.event_timestamp BETWEEN {first} AND {last}
            ORDER BY s.created_timestamp DESC, s.available_timestamp DESC LIMIT 1) n ON true"""
    else:
        text = """LEFT JOIN (
            SELECT DISTINCT ON ({key}) {columns} FROM {table}
            WHERE {same_source} AND symbol = ANY({symbols}) AND event_timestamp BETWEEN {first} AND {last}
            ORDER BY symbol, {latest}, created_timestamp DESC, available_timestamp DESC) n ON {same_newest}"""
    return sql.SQL(text).format(**parts)


def _arrived(table: RawTable, now_us: int, alias: str | None = None) -> sql.Composable:
    """When a correction that arrives now can be used: not before its event, unless such rows are announced."""
    now = sql.Literal(from_us(now_us))
    return now if table.announced else sql.SQL("greatest({}, {})").format(now, _columns(("event_timestamp",), alias))


def _append(
    cursor: psycopg.Cursor[Any], table: RawTable, frame: pl.DataFrame, source: str, lag_us: int, now_us: int
) -> AppendCounts:
    _stage(cursor, table, frame)
    sighted = "event_timestamp + {lag} * interval '1 us'"
    if table.announced:  # here it is, whenever its event may be
        sighted = f"least({sighted}, {{now}})"
    # A row of the same content as a withdrawn one stays withdrawn: sending a file again brings no busted trade back.
    statement = sql.SQL("""
        WITH matched AS MATERIALIZED (
            SELECT i.*, n.symbol IS NOT NULL AS known, n.available_timestamp,
                n.symbol IS NULL OR ({incoming}) IS DISTINCT FROM ({stored}) AS changed
            FROM pg_temp.incoming i {newest}),
        written AS (
            INSERT INTO {table} (source, {key}, available_timestamp, {content})
            SELECT {source}, {key},
                CASE
                    WHEN NOT known THEN coalesce(published_timestamp, {sighted})
                    WHEN published_timestamp > available_timestamp THEN published_timestamp
                    ELSE greatest({arrived}, available_timestamp)
                END,
                {content}
            FROM matched WHERE changed)
        SELECT count(*) FILTER (WHERE NOT known), count(*) FILTER (WHERE known AND changed) FROM matched
    """).format(
        table=sql.Identifier(*table.name.split(".")),
        content=_columns(table.content),
        incoming=_columns(table.content, "i"),
        stored=_columns(table.content, "n"),
        source=sql.Literal(source),
        key=_columns(table.key),
        sighted=sql.SQL(sighted).format(lag=sql.Literal(lag_us), now=sql.Literal(from_us(now_us))),
        arrived=_arrived(table, now_us),
        newest=_newest(table, frame, source),
    )
    added, corrections = cursor.execute(statement, prepare=False).fetchone() or (0, 0)
    cursor.execute("DROP TABLE pg_temp.incoming", prepare=False)
    return AppendCounts(added=added, corrections=corrections, unchanged=len(frame) - added - corrections)


def _retract(
    cursor: psycopg.Cursor[Any], table: RawTable, frame: pl.DataFrame, source: str, now_us: int
) -> AppendCounts:
    """Tombstones: the row as it last was, with ``deleted``; known from its publication, else from its arrival."""
    _stage(cursor, table, frame)
    statement = sql.SQL("""
        INSERT INTO {table} (source, {key}, available_timestamp, deleted, {content})
        SELECT {source}, {stored_key},
            CASE WHEN i.published_timestamp > n.available_timestamp THEN i.published_timestamp
                 ELSE greatest({arrived}, n.available_timestamp) END,
            true, {stored}
        FROM pg_temp.incoming i {newest}
        WHERE n.symbol IS NOT NULL AND NOT n.deleted
    """).format(
        table=sql.Identifier(*table.name.split(".")),
        content=_columns(table.content),
        stored=_columns(table.content, "n"),
        source=sql.Literal(source),
        key=_columns(table.key),
        stored_key=_columns(table.key, "n"),
        arrived=_arrived(table, now_us, "n"),
        newest=_newest(table, frame, source),
    )
    withdrawn = cursor.execute(statement, prepare=False).rowcount
    cursor.execute("DROP TABLE pg_temp.incoming", prepare=False)
    return AppendCounts(retractions=withdrawn, unmatched=len(frame) - withdrawn)
