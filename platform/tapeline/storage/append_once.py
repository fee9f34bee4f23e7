"""Idempotent append to tables of values: same key and content, nothing happens; other content, a correction.

A row's key is its entity, event time and sequence, with what else tells rows apart. Where several members make up a row,
as the features of a namespace do, they are compared and written together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.clock import Clock, LiveClock
from tapeline.core.errors import InvalidDataError, LimitError
from tapeline.core.timestamps import from_us
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.raw import AppendCounts
from tapeline.storage.turns import require_idle

ROWS_MAX = 1_000_000
"""Of one call."""


@dataclass(frozen=True, slots=True)
class ValueTable:
    """A table that values are appended to.

    Attributes
    ----------
    name
        With its schema.
    key
        Columns that identify a row.
    content
        Columns that a correction may change.
    member
        The column that tells the parts of a row apart, if it has several.
    """

    name: str
    key: tuple[str, ...]
    content: tuple[str, ...]
    member: str | None = None


def append_once(
    connection: psycopg.Connection[Any],
    target: ValueTable,
    rows: pa.Table,
    *,
    lag_us: int = 0,
    clock: Clock | None = None,
) -> AppendCounts:
    """Append what is new or changed, in one transaction.

    Parameters
    ----------
    connection
        Not inside a transaction: the batch waits for its turn before its transaction begins, so that
        ``created_timestamp`` grows in the order of corrections.
    target
        The table.
    rows
        At most a million: its key, its content and perhaps ``available_timestamp`` (null: not said). A first sighting
        whose availability is not said counts as available `lag_us` after its event; a correction never before what it
        corrects, and at its arrival unless a later moment is said.
    lag_us
        Microseconds.
    clock
        Says when a correction arrived; the machine's if none.

    Raises
    ------
    LimitError
        If there are too many rows.
    InvalidDataError
        If a column is missing, a key comes twice with different content, or a row breaks a rule of the table.
    NaiveTimestampError
        If a timestamp has no time zone.
    ParameterError
        If the connection is inside a transaction.
    """
    if rows.num_rows > ROWS_MAX:
        raise LimitError(f"{rows.num_rows} rows are more than {ROWS_MAX} at once", remedy="Append in parts")
    require_idle(connection)
    if rows.num_rows == 0:
        return AppendCounts()
    if "available_timestamp" not in rows.column_names:
        rows = rows.append_column("available_timestamp", pa.nulls(rows.num_rows, pa.timestamp("us", tz="UTC")))
    now_us = (clock or LiveClock()).now_us()
    try:
        with _turn(connection, target), connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            _stage(cursor, target, rows)
            return _append(cursor, target, rows, lag_us, now_us)
    except psycopg.errors.UniqueViolation as error:
        raise InvalidDataError(
            f"a key comes twice with different content: {error.diag.message_detail}", where=target.name
        ) from error
    except (psycopg.errors.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
        detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
        raise InvalidDataError(f"a row was refused: {error.diag.message_primary}{detail}", where=target.name) from error


@contextmanager
def _turn(connection: psycopg.Connection[Any], target: ValueTable) -> Iterator[None]:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (f"tapeline:{target.name}",))
    try:
        yield
    finally:
        if not connection.closed:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", (f"tapeline:{target.name}",))


def _names(names: tuple[str, ...], alias: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)


def _stage(cursor: psycopg.Cursor[Any], target: ValueTable, rows: pa.Table) -> None:
    columns = (*target.key, *((target.member,) if target.member else ()), *target.content)
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise InvalidDataError(
            f"rows for {target.name} lack {', '.join(missing)}", where=f"columns {rows.column_names}"
        )
    cursor.execute(
        sql.SQL(
            "CREATE TEMP TABLE incoming_values ON COMMIT DROP AS SELECT {}, available_timestamp FROM {} s WITH NO DATA"
        ).format(_names(columns, "s"), sql.Identifier(*target.name.split("."))),
        prepare=False,
    )
    copy_arrow(cursor, rows.select([*columns, "available_timestamp"]), "pg_temp.incoming_values")
    cursor.execute("ANALYZE pg_temp.incoming_values", prepare=False)


_STATEMENT = """
    WITH given AS MATERIALIZED (
        SELECT {key_i}, max(i.available_timestamp) AS said,
            jsonb_object_agg({member_i}, jsonb_build_array({content_i})) AS content
        FROM (SELECT DISTINCT * FROM pg_temp.incoming_values) i GROUP BY {key_i}
    ), matched AS MATERIALIZED (
        SELECT g.*, n.available_timestamp AS before, n.content IS NOT NULL AS known,
            g.content IS DISTINCT FROM n.content AS changed
        FROM given g LEFT JOIN LATERAL (
            SELECT s.available_timestamp, jsonb_object_agg({member_s}, jsonb_build_array({content_s})) AS content
            FROM {table} s WHERE {same_s} AND s.event_timestamp BETWEEN {first} AND {last}
            GROUP BY s.available_timestamp, s.created_timestamp
            ORDER BY s.available_timestamp DESC, s.created_timestamp DESC LIMIT 1) n ON true
    ), written AS (
        INSERT INTO {table} ({columns}, available_timestamp)
        SELECT {columns_i}, CASE
            WHEN NOT m.known THEN coalesce(m.said, m.event_timestamp + {lag} * interval '1 us')
            WHEN m.said > m.before THEN m.said
            ELSE greatest({now}, m.before, m.event_timestamp) END
        FROM matched m JOIN (SELECT DISTINCT {columns_j} FROM pg_temp.incoming_values j) i ON {same_m}
        WHERE m.changed
    )
    SELECT count(*) FILTER (WHERE NOT known), count(*) FILTER (WHERE known AND changed), count(*)
    FROM matched
"""


def _append(cursor: psycopg.Cursor[Any], target: ValueTable, rows: pa.Table, lag_us: int, now_us: int) -> AppendCounts:
    columns = (*target.key, *((target.member,) if target.member else ()), *target.content)
    times = pc.min_max(rows.column("event_timestamp")).as_py()

    def member(alias: str) -> sql.Composable:
        return sql.Identifier(alias, target.member) if target.member else sql.SQL("''::text")

    def same(one: str, other: str) -> sql.Composable:
        return sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name)) for name in target.key
        )

    statement = sql.SQL(_STATEMENT).format(
        key_i=_names(target.key, "i"),
        member_i=member("i"),
        member_s=member("s"),
        content_i=_names(target.content, "i"),
        content_s=_names(target.content, "s"),
        table=sql.Identifier(*target.name.split(".")),
        same_s=same("s", "g"),
        same_m=same("m", "i"),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        columns_i=_names(columns, "i"),
        columns_j=_names(columns, "j"),
        first=sql.Literal(times["min"]),
        last=sql.Literal(times["max"]),
        lag=sql.Literal(lag_us),
        now=sql.Literal(from_us(now_us)),
    )
    added, corrections, given = cursor.execute(statement, prepare=False).fetchone() or (0, 0, 0)
    cursor.execute("DROP TABLE pg_temp.incoming_values", prepare=False)
    return AppendCounts(added=added, corrections=corrections, unchanged=given - added - corrections)
