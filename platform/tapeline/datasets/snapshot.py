"""One view of the database for all statements of a retrieval, over one connection or several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from tapeline.core.errors import UnavailableError
from tapeline.storage.postgres import beside

READERS_MAX = 4
"""Connections that one retrieval reads over."""

# What the session was told about which rows it sees, and for how long. The role comes last: what it may set is less.
_CARRIED = """
    SELECT name, current_setting(name) FROM unnest(ARRAY['search_path', 'row_security', 'statement_timeout', 'lock_timeout',
        'role']) WITH ORDINALITY AS wanted(name, place) ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a retrieval reads from.

    Attributes
    ----------
    connection
        In a transaction.
    readers
        How many connections may read at once; 1 in a caller's transaction, whose own rows nobody else sees.
    """

    connection: psycopg.Connection[Any]
    readers: int

    @classmethod
    @contextmanager
    def of(cls, connection: psycopg.Connection[Any]) -> Iterator[Snapshot]:
        """Take a snapshot, or stay in that of the transaction that the connection is in."""
        own = connection.info.transaction_status == TransactionStatus.IDLE
        with connection.transaction():
            if own:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            _prepare(connection)
            yield cls(connection, min(READERS_MAX, os.cpu_count() or 1) if own else 1)

    @contextmanager
    def connections(self, count: int) -> Iterator[list[psycopg.Connection[Any]]]:
        """So many connections that see the same as this one does, this one first; fewer if the server refuses some."""
        with ExitStack() as stack:
            with self.connection.cursor(row_factory=tuple_row) as cursor:
                row = cursor.execute("SELECT pg_export_snapshot()").fetchone()
                carried = sql.SQL(", ").join(
                    sql.SQL("set_config({0}, {1}, true)").format(sql.Literal(setting), sql.Literal(value))
                    for setting, value in cursor.execute(_CARRIED).fetchall()
                )
            name = str(row[0]) if row else ""
            opened = [self.connection]
            for _ in range(count - 1):
                try:
                    other = stack.enter_context(beside(self.connection))
                except UnavailableError:
                    break
                stack.enter_context(other.transaction(force_rollback=True))
                other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
                _prepare(other)
                other.execute(sql.SQL("SELECT {}").format(carried))
                opened.append(other)
            yield opened


def _prepare(connection: psycopg.Connection[Any]) -> None:
    # Compiling takes longer than these statements; no request is asked twice, so none is worth remembering; and
    # timestamps without a zone count as UTC.
    connection.execute(
        "SELECT set_config('jit', 'off', true), set_config('enable_memoize', 'off', true),"
        " set_config('timezone', 'UTC', true)"
    )
    # TimescaleDB's append in order of time proves for every lookup anew which chunks it may skip: twice a lookup's own work.
    connection.execute(
        "SELECT set_config(name, 'off', true) FROM (VALUES ('timescaledb.enable_ordered_append')) AS setting(name)"
        " WHERE current_setting(name, true) IS NOT NULL"
    )
