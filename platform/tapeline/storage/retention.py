"""Retention with a guard: what is old is dropped, but nothing that a data set, a model in use or a state still needs.

The guard is in the database (``tapeline.drop_before``), so that every way leads through it, the scheduled job of the
Community edition too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.timestamps import to_us

KEEP_DAYS_MAX = 365_000


@dataclass(frozen=True, slots=True)
class Need:
    """Somebody who needs old rows: ``kind`` is ``data set``, ``model`` or ``state``; ``from_us`` none: all of them."""

    kind: str
    name: str
    from_us: int | None


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What applying a table's rule now would do.

    Attributes
    ----------
    table
        With its schema.
    keep
        How long rows are kept.
    cutoff_us
        Rows of earlier events are to go.
    drop_before_us
        Up to when they can; none: nothing can.
    needs
        Who holds the rest back.
    """

    table: str
    keep: timedelta
    cutoff_us: int
    drop_before_us: int | None
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """What applying a table's rule did; ``dropped`` counts rows, or chunks of a hypertable."""

    table: str
    cutoff_us: int
    dropped_before_us: int | None
    dropped: int
    held_by: tuple[str, ...]


def set_retention(connection: psycopg.Connection[Any], table: str, keep: timedelta | None) -> None:
    """Set how long a table's rows are kept, or with none for ever. Under Community a daily job applies it.

    Raises
    ------
    UnknownNameError
        If there is no such table.
    ParameterError
        If the table has no retention, or the time is not positive or above 1,000 years.
    """
    if keep is not None and not timedelta(0) < keep <= timedelta(days=KEEP_DAYS_MAX):
        raise ParameterError(f"rows cannot be kept for {keep}", remedy="Give a positive time, such as 730d")
    with _explained(connection, table):
        connection.execute("SELECT tapeline.set_retention(%s::regclass, %s)", (table, keep))


def retention_rules(connection: psycopg.Connection[Any]) -> dict[str, timedelta]:
    """How long each table's rows are kept, of those that have a rule."""
    with connection.transaction():
        return dict(connection.execute("SELECT table_name, keep FROM tapeline.retention_rules ORDER BY 1").fetchall())


def plan_retention(
    connection: psycopg.Connection[Any], table: str, keep: timedelta, *, now: datetime | None = None
) -> RetentionPlan:
    """What a rule would drop now, and who holds what back. Nothing is changed.

    Raises
    ------
    UnknownNameError
        If there is no such table.
    """
    with _explained(connection, table):
        row = connection.execute("SELECT coalesce(%s, now()) - %s", (now, keep)).fetchone()
        assert row is not None
        cutoff = row[0]
        rows = connection.execute(
            "SELECT kind, name, CASE WHEN isfinite(needed_from) THEN needed_from END"
            " FROM tapeline.retention_needs(%s::regclass, %s) ORDER BY 1, 2",
            (table, cutoff),
        ).fetchall()
    needs = tuple(Need(kind, name, None if since is None else to_us(since)) for kind, name, since in rows)
    moments = [need.from_us for need in needs]
    cutoff_us = to_us(cutoff)
    drop_before = None if None in moments else min([cutoff_us, *(us for us in moments if us is not None)])
    return RetentionPlan(table, keep, cutoff_us, drop_before, needs)


def apply_retention(connection: psycopg.Connection[Any], table: str) -> RetentionResult:
    """Drop what a table's rule says and nobody needs, in one transaction.

    Raises
    ------
    UnknownNameError
        If there is no such table.
    ParameterError
        If the table has no rule.
    """
    with _explained(connection, table):
        row = connection.execute(
            "SELECT cutoff, CASE WHEN isfinite(dropped_before) THEN dropped_before END, dropped, held_by"
            " FROM tapeline.apply_retention(%s::regclass)",
            (table,),
        ).fetchone()
    if row is None or row[0] is None:
        raise ParameterError("the table has no rule", where=table, remedy="Set one with: tapeline retention set")
    cutoff, dropped_before, dropped, held_by = row
    reached = None if dropped_before is None else to_us(dropped_before)
    return RetentionResult(table, to_us(cutoff), reached, dropped, tuple(held_by))


def forget_dataset(connection: psycopg.Connection[Any], named: str) -> str:
    """Release a data set from the guard; returns its SHA-256. It may not be possible to rebuild it afterwards.

    Parameters
    ----------
    connection
        The database.
    named
        At least eight first digits of the SHA-256.

    Raises
    ------
    UnknownNameError
        If they do not name one data set.
    ParameterError
        If a model in use was trained on it.
    """
    try:
        with connection.transaction():
            row = connection.execute("SELECT tapeline.forget_dataset(%s)", (named,)).fetchone()
    except psycopg.errors.UndefinedObject:
        known = connection.execute("SELECT DISTINCT left(content_sha256, 12) FROM tapeline.datasets").fetchall()
        raise UnknownNameError("data set", named, [sha for (sha,) in known], where="tapeline.datasets") from None
    except psycopg.errors.ObjectInUse as error:
        raise ParameterError(str(error.diag.message_primary), remedy=str(error.diag.message_hint)) from None
    assert row is not None
    return str(row[0])


@contextmanager
def _explained(connection: psycopg.Connection[Any], table: str) -> Iterator[None]:
    """A transaction over a table that must exist and have retention."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname IN ('tapeline', 'features') AND c.relkind = 'r' ORDER BY 1"
        ).fetchall()
        if (table,) not in rows:
            raise UnknownNameError("table", table, [name for (name,) in rows])
        try:
            yield
        except psycopg.errors.WrongObjectType as error:
            raise ParameterError(str(error.diag.message_primary), remedy=str(error.diag.message_hint)) from None
