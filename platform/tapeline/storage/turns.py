"""Writers that wait for one another: one at a time for each name, among all processes of a database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tapeline.core.errors import ConfigurationError, ParameterError, UnavailableError


def require_idle(connection: psycopg.Connection[Any]) -> None:
    """Refuse a connection that is inside a transaction.

    Raises
    ------
    ParameterError
        If it is.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError(
            "rows can only be appended outside a transaction", remedy="Commit first, or use a connection of its own"
        )


@contextmanager
def turn(connection: psycopg.Connection[Any], name: str) -> Iterator[None]:
    """Wait until nobody else holds the turn of this name, and hold it for the block.

    The lock is the session's, not the transaction's: taken inside the transaction, a writer that had to wait would
    stamp its correction with a moment before the row that it corrects. It ends with the connection, too.

    Parameters
    ----------
    connection
        Idle; the block begins its own transactions.
    name
        What is written, such as ``tapeline.barsus-daily``.

    Raises
    ------
    ParameterError
        If the connection is inside a transaction.
    """
    require_idle(connection)
    key = (f"tapeline:{name}",)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", key)
    try:
        yield
    finally:
        if not connection.closed:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", key)


@dataclass(frozen=True)
class Turn:
    """A turn that is held, as those who do a part of its work must know it.

    Attributes
    ----------
    name
        Its name.
    token
        Key of a lock that the holder's session keeps from before the first part begins until after the last has ended.
    database
        What the database that it is held in can be told by.
    """

    name: str
    token: int
    database: str


@contextmanager
def shared_turn(connection: psycopg.Connection[Any], name: str) -> Iterator[Turn]:
    """Hold a turn whose work others may do in parts, each under :func:`part_of_turn`.

    A holder that dies leaves its turn to the next one while its parts may still be at work, here or on other machines. So
    the next one waits for those that have begun, and those that begin later find the token gone.

    Parameters
    ----------
    connection, name
        As for :func:`turn`.

    Raises
    ------
    ParameterError
        If the connection is inside a transaction.
    """
    # The lock keys of turns are hashes of 32 bits: no token is one.
    held = Turn(name, (1 << 32) + secrets.randbits(62), _database(connection))
    with turn(connection, name):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_lock(hashtext(%s), 0)", (_parts(name),))
        with connection.transaction():
            connection.execute("SELECT pg_advisory_unlock(hashtext(%s), 0)", (_parts(name),))
            connection.execute("SELECT pg_advisory_lock(%s::bigint)", (held.token,))
        try:
            yield held
        finally:
            if not connection.closed:
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_unlock(%s::bigint)", (held.token,))


@contextmanager
def part_of_turn(connection: psycopg.Connection[Any], held: Turn, part: int) -> Iterator[None]:
    """Do one part of the work of a turn that another session holds; one at a time for each part.

    A process that was killed may leave its server session at work for a while: whoever does the part again waits for that.
    For this to hold, all that the part writes must be written on ``connection``.

    Parameters
    ----------
    connection
        Idle.
    held
        The turn.
    part
        Its number, from 1.

    Raises
    ------
    ConfigurationError
        If the connection is to another database than the holder's.
    UnavailableError
        If the turn is not held any more.
    ParameterError
        If the connection is inside a transaction, or the number is impossible.
    """
    require_idle(connection)
    if not 0 < part < 1 << 31:
        raise ParameterError(f"a part of a turn cannot have the number {part}", remedy="Count from 1")
    here = _database(connection)
    if here != held.database:
        raise ConfigurationError(
            f"the turn {held.name} is held in another database",
            where=f"{held.database}; this process is connected to {here}",
            remedy="Give all processes the same TAPELINE_POSTGRES_URL",
        )
    parts = _parts(held.name)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock_shared(hashtext(%s), 0)", (parts,))
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_lock(hashtext(%s), %s)", (parts, part))
        try:
            _require_held(connection, held)
            yield
        finally:
            _unlock(connection, "SELECT pg_advisory_unlock(hashtext(%s), %s)", (parts, part))
    finally:
        _unlock(connection, "SELECT pg_advisory_unlock_shared(hashtext(%s), 0)", (parts,))


def _require_held(connection: psycopg.Connection[Any], held: Turn) -> None:
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_xact_lock_shared(%s::bigint)", (held.token,)).fetchone()
    assert row is not None
    if row[0]:
        raise UnavailableError(
            f"the turn {held.name} is not held any more: its holder has ended, or lost its connection",
            remedy="Run it again: what was written is whole",
        )


def _unlock(connection: psycopg.Connection[Any], statement: str, parameters: tuple[object, ...]) -> None:
    if not connection.closed:
        with connection.transaction():
            connection.execute(statement, parameters)


def _parts(name: str) -> str:
    """What the locks of a turn's parts are named after; they have two keys, those of turns have one."""
    return f"tapeline:{name}"


def _database(connection: psycopg.Connection[Any]) -> str:
    with connection.transaction():
        row = connection.execute(
            "SELECT current_database() || ', its server started at ' || extract(epoch FROM pg_postmaster_start_time())"
        ).fetchone()
    assert row is not None
    return str(row[0])
