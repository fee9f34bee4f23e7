"""The newest values of many entities as of a moment, from the table of newest rows that each view version has.

That table holds the greatest (event, sequence, available, created) of each entity, kept by the database in the transaction
that adds rows. If that row counts at the moment, no other can be greater, so it is the answer. If it does not yet, the
answer is found by a lookup in the view's own table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


def feature_matrix(
    connection: psycopg.Connection[Any],
    view: str,
    symbols: Sequence[str],
    features: Sequence[str] | None = None,
    *,
    at_us: int | None = None,
    vintage_us: int | None = None,
) -> FeatureMatrix:
    """The newest values of entities that had become available by a moment.

    Parameters
    ----------
    connection
        The database.
    view
        ``name``, its newest registered version, or ``name@2``.
    symbols
        At most 10,000 entities.
    features
        Columns; all of the view's if not given.
    at_us
        The moment, microseconds UTC; now if not given.
    vintage_us
        Only rows recorded by this moment count; all if not given.

    Raises
    ------
    UnknownNameError
        If the view or a feature does not exist.
    LimitError
        If there are too many symbols.
    ParameterError
        If a feature is asked for twice.
    SchemaError
        If the view's table has no table of newest rows.
    """
    if len(symbols) > ENTITIES_MAX:
        raise LimitError(f"{len(symbols)} symbols are more than {ENTITIES_MAX}", remedy="Ask in parts")
    at_us = LiveClock().now_us() if at_us is None else at_us
    with _snapshot(connection), connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        registered, known = _view(connection, view)
        wanted = tuple(known if features is None else features)
        _check(wanted, known, registered)
        query = _Query(registered, wanted, at_us, vintage_us)
        try:
            rows = cursor.execute(query.newest, {"symbols": list(symbols)}).fetchall()
        except psycopg.errors.UndefinedTable:
            raise SchemaError(
                "the view has no table of newest rows", where=registered.table_name, remedy="Run: tapeline migrate"
            ) from None
        hidden = [place for place, counts, *_ in rows if not counts]
        if hidden:
            rows = [row for row in rows if row[1]]
            parameters = {"symbols": [symbols[place - 1] for place in hidden], "places": hidden}
            rows += cursor.execute(query.lookup, parameters).fetchall()
    return _matrix(registered, tuple(symbols), wanted, at_us, rows, query.oldest_us)


@contextmanager
def _snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Both statements see the same rows."""
    own = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction():
        if own:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def _view(connection: psycopg.Connection[Any], name: str) -> tuple[RegisteredView, list[str]]:
    base, _, version = name.partition("@")
    row = connection.execute(
        "SELECT view, version, lineage_hash, plan_hash, table_name, definition, ARRAY("
        " SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(table_name) AND attnum > 0"
        " AND NOT attisdropped AND atttypid = 'float8'::regtype ORDER BY attnum)"
        " FROM tapeline.feature_view_versions WHERE view = %s AND (%s::text = '' OR version::text = %s)"
        " ORDER BY version DESC LIMIT 1",
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

    def __init__(self, view: RegisteredView, features: tuple[str, ...], at_us: int, vintage_us: int | None) -> None:
        ttl_us = int(view.definition.get("ttl_us", 0))
        self.oldest_us = at_us - ttl_us if 0 < ttl_us < _UNLIMITED_TTL_US else None
        table = view.table_name.rpartition(".")[2]
        at = sql.SQL("{}::timestamptz").format(sql.Literal(from_us(at_us).isoformat()))
        counts = [sql.SQL("s.event_timestamp <= {at} AND s.available_timestamp <= {at}").format(at=at)]
        if vintage_us is not None:
            recorded = sql.Literal(from_us(vintage_us).isoformat())
            counts.append(sql.SQL("s.created_timestamp <= {}::timestamptz").format(recorded))
        parts = {
            "columns": sql.SQL(", ").join(
                sql.Identifier("s", name) for name in ("event_timestamp", "available_timestamp", *features)
            ),
            "counts": sql.SQL(" AND ").join(counts),
            "latest": sql.Identifier("latest", table),
            "table": sql.Identifier(SCHEMA, table),
            "recent": sql.SQL("true")
            if self.oldest_us is None
            else sql.SQL("s.event_timestamp >= {}::timestamptz").format(
                sql.Literal(from_us(self.oldest_us).isoformat())
            ),
            "order": sql.SQL(", ").join(sql.SQL("{} DESC").format(sql.Identifier("s", name)) for name in _ORDER),
        }
        self.newest = sql.SQL(
            "SELECT a.place, {counts}, {columns} FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS a (symbol, place)"
            " JOIN {latest} s ON s.symbol = a.symbol"
        ).format(**parts)
        self.lookup = sql.SQL(
            "SELECT a.place, true, s.* FROM unnest(%(symbols)s::text[], %(places)s::bigint[]) AS a (symbol, place)"
            " CROSS JOIN LATERAL (SELECT {columns} FROM {table} s WHERE s.symbol = a.symbol AND {counts} AND {recent}"
            " ORDER BY {order} LIMIT 1) s"
        ).format(**parts)


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
