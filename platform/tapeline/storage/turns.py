"""Writers that wait for one another: one at a time for each name, among all processes of a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tapeline.core.errors import ParameterError


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
