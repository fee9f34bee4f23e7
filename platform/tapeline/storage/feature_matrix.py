"""The newest values of many entities as of a moment, from the table of newest rows that each view version has.

That table holds the greatest (event, sequence, available, created) of each entity, kept by the database in the transaction
that adds rows. If that row counts at the moment, no other can be greater, so it is the answer. If it does not yet, the
answer is found by a lookup in the view's own table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from tapeline.core.clock import LiveClock
from tapeline.core.errors import LimitError, ParameterError, SchemaError, UnknownNameError
from tapeline.core.timestamps import from_us, to_us
from tapeline.storage.feature_tables import SCHEMA, RegisteredView, registered_views

ENTITIES_MAX = 10_000
_ORDER = ("event_timestamp", "sequence", "available_timestamp", "created_timestamp")
_ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)
_UNLIMITED_TTL_US = 365 * 2_000 * 86_400_000_000


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of entities as known at a moment, a row for each entity that was asked for, in that order.

    Attributes
    ----------
    view, version
        Where they are from.
    symbols, features
        Names of the rows and columns.
    at_us
        The moment, microseconds UTC.
    values
        float64 (symbols, features); NaN where there is no value.
    found
        bool (symbols,): whether the entity has a row that counts.
    null
        bool (symbols, features): there is no value at all; False where NaN is the value: not warmed up, or not defined.
    event_us, available_us
        int64 (symbols,): of the row taken; −1 where there is none.
    """

    view: str
    version: int
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    at_us: int
    values: NDArray[np.float64]
    found: NDArray[np.bool_]
    null: NDArray[np.bool_]
    event_us: NDArray[np.int64]
    available_us: NDArray[np.int64]


class FeatureMatrixReader:
    """Reads the same features of a view again and again; the statement is planned by the server once.

    Parameters
    ----------
    connection
        The database; it is kept. In autocommit mode a read is one round trip.
    view
        ``name``, its promoted version, or ``name@2``.
    features
        Columns; all of the view's if not given.

    Raises
    ------
    UnknownNameError
        If the view or a feature does not exist.
    ParameterError
        If a feature is asked for twice.

    Notes
    -----
    Thread safety: as that of the connection.
    """

    def __init__(self, connection: psycopg.Connection[Any], view: str, features: Sequence[str] | None = None) -> None:
        self._connection = connection
        with connection.transaction():
            self._view, known = _view(connection, view)
        self.features = tuple(known if features is None else features)
        _check(self.features, known, self._view)
        ttl_us = int(self._view.definition.get("ttl_us", 0))
        self._ttl_us = ttl_us if ttl_us < _UNLIMITED_TTL_US else 0
        self._query = _Query(self._view, self.features)

    def read(self, symbols: Sequence[str], *, at_us: int | None = None, vintage_us: int | None = None) -> FeatureMatrix:
        """The newest values of entities that had become available by a moment.

        Parameters
        ----------
        symbols
            At most 10,000 entities.
        at_us
            The moment, microseconds UTC; now if not given.
        vintage_us
            Only rows recorded by this moment count; all if not given.

        Raises
        ------
        LimitError
            If there are too many symbols.
        SchemaError
            If the view's table has no table of newest rows.
        """
        if len(symbols) > ENTITIES_MAX:
            raise LimitError(f"{len(symbols)} symbols are more than {ENTITIES_MAX}", remedy="Ask in parts")
        at_us = LiveClock().now_us() if at_us is None else at_us
        rows = self._newest(symbols, at_us, vintage_us)
        if any(not counts for _, counts, *_ in rows):
            with _snapshot(self._connection):  # both statements see the same rows
                rows = self._newest(symbols, at_us, vintage_us)
                rows = [row for row in rows if row[1]] + self._lookup(symbols, rows, at_us, vintage_us)
        oldest_us = at_us - self._ttl_us if self._ttl_us else None
        return _matrix(self._view, tuple(symbols), self.features, at_us, rows, oldest_us)

    def _newest(self, symbols: Sequence[str], at_us: int, vintage_us: int | None) -> list[tuple[Any, ...]]:
        moments = (from_us(at_us), _ALWAYS if vintage_us is None else from_us(vintage_us))
        parameters = (*moments, list(symbols))
        idle = self._connection.info.transaction_status == TransactionStatus.IDLE
        own = self._connection.transaction() if idle and not self._connection.autocommit else nullcontext()
        try:
            with own, self._connection.cursor(row_factory=tuple_row, binary=True) as cursor:
                return cursor.execute(self._query.newest, parameters, prepare=True).fetchall()
        except psycopg.errors.UndefinedTable:
            raise SchemaError(
                "the view has no table of newest rows", where=self._view.table_name, remedy="Run: tapeline migrate"
            ) from None

    def _lookup(
        self, symbols: Sequence[str], rows: list[tuple[Any, ...]], at_us: int, vintage_us: int | None
    ) -> list[tuple[Any, ...]]:
        """What counts of the entities whose newest row does not count yet."""
        places = [place for place, counts, *_ in rows if not counts]
        statement = self._query.lookup(at_us, vintage_us, at_us - self._ttl_us if self._ttl_us else None)
        parameters = {"symbols": [symbols[place - 1] for place in places], "places": places}
        with self._connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            return cursor.execute(statement, parameters).fetchall()


def feature_matrix(
    connection: psycopg.Connection[Any],
    view: str,
    symbols: Sequence[str],
    features: Sequence[str] | None = None,
    *,
    at_us: int | None = None,
    vintage_us: int | None = None,
) -> FeatureMatrix:
    """The newest values of entities that had become available by a moment, asked for once.

    Parameters are those of :class:`FeatureMatrixReader` and its ``read``, and so is what is raised.
    """
    return FeatureMatrixReader(connection, view, features).read(symbols, at_us=at_us, vintage_us=vintage_us)


@contextmanager
def _snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    own = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction():
        if own:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def _view(connection: psycopg.Connection[Any], name: str) -> tuple[RegisteredView, list[str]]:
    base, _, version = name.partition("@")
    row = connection.execute(
        "SELECT view, version, v.lineage_hash, plan_hash, v.table_name, definition, ARRAY("
        " SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(v.table_name) AND attnum > 0"
        " AND NOT attisdropped AND atttypid = 'float8'::regtype ORDER BY attnum)"
        " FROM tapeline.feature_view_versions v JOIN tapeline.view_version_states s USING (view, version)"
        " WHERE view = %s AND CASE WHEN %s::text = '' THEN s.promoted ELSE version::text = %s END",
        (base, version, version.removeprefix("v")),
    ).fetchone()
    if row is None:
        raise UnknownNameError("view", name, [f"{r.view}@{r.version}" for r in registered_views(connection)])
    return RegisteredView(*row[:6]), list(row[6])


def _check(wanted: tuple[str, ...], known: list[str], registered: RegisteredView) -> None:
    where = f"feature view {registered.view}@{registered.version}"
    for name in wanted:
        if name not in known:
            raise UnknownNameError("feature", name, known, where=where)
    if len(set(wanted)) != len(wanted):
        raise ParameterError("a feature is asked for twice", where=where)


class _Query:
    """The two statements. Both give place, whether the row counts, its times, and the features."""

    def __init__(self, view: RegisteredView, features: tuple[str, ...]) -> None:
        table = view.table_name.rpartition(".")[2]
        self._table = sql.Identifier(SCHEMA, table)
        self._columns = sql.SQL(", ").join(
            sql.Identifier("s", name) for name in ("event_timestamp", "available_timestamp", *features)
        )
        self.newest = (
            sql.SQL(
                "SELECT a.place, greatest(s.event_timestamp, s.available_timestamp) <= %s AND s.created_timestamp <= %s, {}"
                " FROM unnest(%s::text[]) WITH ORDINALITY AS a (symbol, place) JOIN {} s ON s.symbol = a.symbol"
            )
            .format(self._columns, sql.Identifier("latest", table))
            .as_bytes(None)
        )  # written once, not with every read

    def lookup(self, at_us: int, vintage_us: int | None, oldest_us: int | None) -> sql.Composed:
        """The lookup in the view's own table, its times as constants: only chunks that can hold the row are opened."""
        bounds = [("event_timestamp <= {}", at_us), ("available_timestamp <= {}", at_us)]
        if vintage_us is not None:
            bounds.append(("created_timestamp <= {}", vintage_us))
        if oldest_us is not None:
            bounds.append(("event_timestamp >= {}", oldest_us))
        terms = [
            sql.SQL("s." + text).format(sql.SQL("{}::timestamptz").format(sql.Literal(from_us(us).isoformat())))
            for text, us in bounds
        ]
        return sql.SQL(
            "SELECT a.place, true, s.* FROM unnest(%(symbols)s::text[], %(places)s::bigint[]) AS a (symbol, place)"
            " CROSS JOIN LATERAL (SELECT {} FROM {} s WHERE s.symbol = a.symbol AND {} ORDER BY {} LIMIT 1) s"
        ).format(
            self._columns,
            self._table,
            sql.SQL(" AND ").join(terms),
            sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier("s", name)) for name in _ORDER),
        )


def _matrix(
    view: RegisteredView,
    symbols: tuple[str, ...],
    features: tuple[str, ...],
    at_us: int,
    rows: list[tuple[Any, ...]],
    oldest_us: int | None,
) -> FeatureMatrix:
    shape = (len(symbols), len(features))
    matrix = FeatureMatrix(
        view.view, view.version, symbols, features, at_us, np.full(shape, np.nan), np.zeros(shape[0], dtype=np.bool_),
        np.ones(shape, dtype=np.bool_), np.full(shape[0], -1, dtype=np.int64), np.full(shape[0], -1, dtype=np.int64),
    )  # fmt: skip
    for place, _, event, available, *values in rows:
        event_us = to_us(event)
        if oldest_us is not None and event_us < oldest_us:
            continue  # every other row that counts is older still
        at = int(place) - 1
        matrix.found[at] = True
        matrix.event_us[at], matrix.available_us[at] = event_us, to_us(available)
        matrix.values[at] = np.array(values, dtype=np.float64)  # None becomes NaN
        matrix.null[at] = [value is None for value in values]
    return matrix
