"""Vintages: reading the store as it had been recorded by a moment k, and which moments are settled enough for it.

``created_timestamp`` is the start of the transaction that wrote a row. A transaction that is still open may commit rows
stamped earlier than rows that are visible already, so "as recorded by k" is repeatable only for a k before the start of
the oldest open writer: the safe horizon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from tapeline.core.errors import SchemaError, VintageError
from tapeline.core.timestamps import format_us, to_us
from tapeline.datasets.plan import ViewSelection

_current: ContextVar[int | None] = ContextVar("tapeline_vintage", default=None)

# The connection's own transaction counts as a writer too: what it may still write is stamped with its start, now().
_HORIZON = """
    SELECT (extract(epoch FROM least(tapeline.safe_horizon(), now() - interval '1 microsecond')) * 1000000)::bigint
"""


@contextmanager
def as_of(moment: datetime | str | int) -> Iterator[int]:
    """Retrieve everything inside the block as it had been recorded by a moment.

    Holds for the current thread or asyncio task, and for every retrieval that is *asked for* inside the block, however
    late its result is fetched. Whether the moment is settled is checked by the retrieval, in its database.

    Parameters
    ----------
    moment
        An aware datetime, an ISO 8601 text with its zone, or microseconds since the epoch, UTC.

    Yields
    ------
    int
        The moment in microseconds since the epoch, UTC.

    Raises
    ------
    NaiveTimestampError, ParameterError
        If the moment has no time zone or is no timestamp.

    Examples
    --------
    >>> with as_of("2013-03-01T22:00:00+00:00") as vintage_us:
    ...     vintage_us
    1362175200000000
    """
    moment_us = moment if isinstance(moment, int) else to_us(moment, where="as_of")
    token = _current.set(moment_us)
    try:
        yield moment_us
    finally:
        _current.reset(token)


def current_vintage() -> int | None:
    """The vintage of the innermost `as_of` block around the caller, in microseconds UTC; none outside of one."""
    return _current.get()


def safe_horizon(connection: psycopg.Connection[Any]) -> int:
    """The latest vintage that can no longer change, in microseconds since the epoch, UTC.

    It lies before the start of every open transaction of this database, `connection`'s own included.

    Raises
    ------
    SchemaError
        If the database has no Tapeline schema, which holds the function that sees every role's transactions.
    """
    try:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(_HORIZON).fetchone()
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        raise SchemaError(
            "this database cannot tell its safe horizon", remedy="Run `tapeline migrate` on it to use vintages"
        ) from None
    if row is None:
        raise AssertionError("a SELECT without FROM gives one row")
    return int(row[0])


def require_created(selections: Iterable[ViewSelection]) -> None:
    """Refuse views of which nobody can tell what had been recorded by a moment that somebody asked for.

    Raises
    ------
    VintageError
        If a view has no created column.
    """
    for selection in selections:
        if selection.created_column is None:
            raise VintageError(
                "its source has no created column, so nothing tells what had been recorded by a vintage",
                where=f"feature view {selection.view}@{selection.version}",
                remedy="Name the source's created_timestamp_column, or ask for no vintage",
            )


def resolve_vintage(connection: psycopg.Connection[Any], vintage_us: int | None) -> int:
    """The vintage to use: the one asked for, or the safe horizon.

    Raises
    ------
    VintageError
        If the vintage asked for is later than the safe horizon.
    SchemaError
        If the database has no Tapeline schema.
    """
    horizon_us = safe_horizon(connection)
    if vintage_us is None:
        return horizon_us
    if vintage_us > horizon_us:
        raise VintageError(
            f"vintage {format_us(vintage_us)} is later than the safe horizon {format_us(horizon_us)}",
            remedy="Rows recorded by then may still appear: ask for an earlier moment, or end the transactions that "
            "have been open since the horizon (see pg_stat_activity) and try again",
        )
    return vintage_us
