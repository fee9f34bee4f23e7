"""Keeps the statistics of every feature and day: whoever writes rows marks their days, and these are computed again.

The mark stands in the transaction of the rows. Computing a day again is done from the table, over the newest row of each
key, so it does not matter how often it is done, nor in how many pieces the rows came, nor whether it was killed half-way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.features.versions import Integers
from tapeline.quality.block import key_order, new_keys
from tapeline.quality.statistics import FeatureStatistics, added, decode, encode, statistics_of
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.copy_reader import read_query
from tapeline.storage.feature_tables import RegisteredView

CELLS_MAX = 8_000_000
"""Values that are held in memory at once; a day with more is held whole."""
_EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True)
class ViewTable:
    """A registered view version, its table and its feature columns in order."""

    view: str
    version: int
    table: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], registered: RegisteredView) -> ViewTable:
        """The view's table as the database has it."""
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND atttypid = 'float8'::regtype ORDER BY attnum",
            (registered.table_name,),
        ).fetchall()
        return cls(registered.view, registered.version, registered.table_name, tuple(str(name) for (name,) in rows))

    def place_of(self, feature: str) -> int:
        """Place of a feature among the columns.

        Raises
        ------
        UnknownNameError
            If the view has none of that name.
        """
        if feature not in self.columns:
            raise UnknownNameError("feature", feature, self.columns, where=f"view {self.view}@{self.version}")
        return self.columns.index(feature)


def refresh(connection: psycopg.Connection[Any], table: ViewTable, on_day: Callable[[int], None] | None = None) -> int:
    """Compute the statistics of all marked days again.

    Parameters
    ----------
    connection
        Idle. Several processes may do this at once and take turns.
    table
        The view.
    on_day
        Called with a number of days each time so many are done.

    Returns
    -------
    int
        How many days were computed.
    """
    key = (f"tapeline:statistics:{table.table}",)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", key)
    try:
        return _refresh(connection, table, on_day)
    finally:
        if not connection.closed:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", key)


def _refresh(connection: psycopg.Connection[Any], table: ViewTable, on_day: Callable[[int], None] | None) -> int:
    names = (table.view, table.version)
    with connection.transaction():
        marks = connection.execute(
            "SELECT id, first_day, last_day FROM tapeline.stale_statistics WHERE view = %s AND version = %s ORDER BY 2, 3",
            names,
        ).fetchall()
    done = 0
    for first, last in _merged([(first, last) for _, first, last in marks]):
        with connection.transaction():  # days whose rows are gone, such as by retention, keep their statistics
            counts = connection.execute(_days_of(table, first, last)).fetchall()
        for days in _slices([(day, int(rows)) for day, rows in counts], len(table.columns)):
            _write(connection, table, _computed(connection, table, days[0], days[-1]))
            done += len(days)
            if on_day is not None:
                on_day(len(days))
    with connection.transaction():
        connection.execute("DELETE FROM tapeline.stale_statistics WHERE id = ANY(%s)", ([mark for mark, *_ in marks],))
    return done


def _merged(ranges: Sequence[tuple[date, date]]) -> Iterator[tuple[date, date]]:
    """The ranges without overlap, in order."""
    current: tuple[date, date] | None = None
    for first, last in sorted(ranges):
        if current is not None and first <= current[1] + timedelta(days=1):
            current = current[0], max(current[1], last)
        else:
            if current is not None:
                yield current
            current = first, last
    if current is not None:
        yield current


def _bounds(first: date, last: date) -> dict[str, sql.Composable]:
    return {
        "first": sql.Literal(f"{first.isoformat()} 00:00Z"),
        "end": sql.Literal(f"{(last + timedelta(days=1)).isoformat()} 00:00Z"),
    }


def _days_of(table: ViewTable, first: date, last: date) -> sql.Composed:
    return sql.SQL(
        "SELECT (event_timestamp AT TIME ZONE 'UTC')::date AS day, count(*) FROM {table}"
        " WHERE event_timestamp >= {first}::timestamptz AND event_timestamp < {end}::timestamptz GROUP BY 1 ORDER BY 1"
    ).format(table=sql.Identifier(*table.table.split(".")), **_bounds(first, last))


def _slices(days: Sequence[tuple[date, int]], width: int) -> Iterator[list[date]]:
    """Consecutive days that fit into memory together."""
    part: list[date] = []
    cells = 0
    for day, rows in days:
        if part and cells + rows * width > CELLS_MAX:
            yield part
            part, cells = [], 0
        part.append(day)
        cells += rows * width
    if part:
        yield part


def _computed(
    connection: psycopg.Connection[Any], table: ViewTable, first: date, last: date
) -> list[tuple[date, FeatureStatistics]]:
    """The statistics of each day that has rows, from the newest row of each key."""
    query = sql.SQL(
        "SELECT symbol, event_timestamp, sequence, available_timestamp, created_timestamp, {columns} FROM {table}"
        " WHERE event_timestamp >= {first}::timestamptz AND event_timestamp < {end}::timestamptz"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        table=sql.Identifier(*table.table.split(".")),
        **_bounds(first, last),
    )
    with connection.transaction():
        rows = read_query(connection, query)
    codes = _codes(rows.column("symbol"))
    event, sequence, available, created = (
        np.ascontiguousarray(rows.column(name).cast(pa.int64()).to_numpy())
        for name in ("event_timestamp", "sequence", "available_timestamp", "created_timestamp")
    )
    newest = _newest(codes, event, sequence, available, created)
    newest = newest[np.lexsort((codes[newest], sequence[newest], event[newest]))]
    days = event[newest] // DAY_US
    found, starts = np.unique(days, return_index=True)
    ends = [*starts[1:].tolist(), len(days)]
    values = np.empty((len(newest), len(table.columns)))
    nulls = np.empty(values.shape, dtype=np.bool_)
    for place, name in enumerate(table.columns):
        column = rows.column(name)
        values[:, place] = column.to_numpy()[newest]
        nulls[:, place] = column.is_null().to_numpy()[newest] if column.null_count else False
    return [
        (_EPOCH_DAY + timedelta(days=int(day)), statistics_of(values[start:end], nulls[start:end]))
        for day, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True)
    ]


def _codes(symbols: pa.ChunkedArray) -> Integers:
    """Each symbol's place among the sorted ones: rows are summed in one order, whatever the database gives them in."""
    encoded = symbols.cast(pa.string()).combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    place = np.empty(len(names), dtype=np.int64)
    place[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    codes: Integers = place[encoded.indices.to_numpy()]
    return codes


def _newest(entity: Integers, event: Integers, sequence: Integers, available: Integers, created: Integers) -> Integers:
    """Of each key, the row with the greatest (available, created)."""
    by_created = np.argsort(created, kind="stable")
    order = by_created[key_order(entity[by_created], event[by_created], sequence[by_created], available[by_created])]
    begins = new_keys(order, entity, event, sequence)
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = begins[1:]
    return order[last]


def _write(
    connection: psycopg.Connection[Any], table: ViewTable, computed: Sequence[tuple[date, FeatureStatistics]]
) -> None:
    if not computed:
        return
    days = [day for day, _ in computed]
    rows = pa.table(
        {
            "view": pa.array([table.view] * len(days)),
            "version": pa.array([table.version] * len(days), pa.int32()),
            "day": pa.array(days, pa.date32()),
            "rows": pa.array([one.rows for _, one in computed], pa.int64()),
            "statistics": pa.array([encode(one) for _, one in computed], pa.large_binary()),
        }
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM tapeline.feature_statistics WHERE view = %s AND version = %s AND day = ANY(%s)",
            (table.view, table.version, days),
        )
        copy_arrow(cursor, rows, "tapeline.feature_statistics")


def read_days(
    connection: psycopg.Connection[Any], table: ViewTable, start: date | None = None, end: date | None = None
) -> list[tuple[date, FeatureStatistics]]:
    """The statistics of each day from ``start`` on and before ``end``, in order; computed again first where they are stale.

    Raises
    ------
    ParameterError
        If the range is empty.
    """
    if start is not None and end is not None and start >= end:
        raise ParameterError(f"no day lies from {start} on and before {end}", remedy="Let the end come after the start")
    refresh(connection, table)
    with connection.transaction():
        rows = connection.execute(
            "SELECT day, statistics FROM tapeline.feature_statistics WHERE view = %s AND version = %s"
            " AND (%s::date IS NULL OR day >= %s) AND (%s::date IS NULL OR day < %s) ORDER BY day",
            (table.view, table.version, start, start, end, end),
        ).fetchall()
    return [(day, decode(bytes(data), len(table.columns))) for day, data in rows]


def reference(
    connection: psycopg.Connection[Any], table: ViewTable, start: date | None = None, end: date | None = None
) -> FeatureStatistics:
    """The statistics of a span of days together, to measure drift against.

    Raises
    ------
    EmptyDataError
        If there are no rows in it.
    """
    days = read_days(connection, table, start, end)
    if not days:
        raise EmptyDataError(
            f"{table.view}@{table.version} has no rows from {start or 'its beginning'} to {end or 'its end'}",
            remedy=f"Compute it first: tapeline backfill {table.view}",
        )
    return added([one for _, one in days])


def day_of(text: str) -> date:
    """A UTC day, written ``2013-03-01`` or as an ISO 8601 moment.

    Raises
    ------
    ParameterError, NaiveTimestampError
        If it is neither.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        return _EPOCH_DAY + timedelta(days=to_us(text) // DAY_US)
