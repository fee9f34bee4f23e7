"""The database that a long export reads: one snapshot where a vintage does not pin it, another connection when one is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from tapeline.core.errors import UnavailableError
from tapeline.storage.postgres import Connection, address_of

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long to wait before each further try to reach a server that went away."""

T = TypeVar("T")


class ReadDatabase:
    """Runs reads on a connection; where that is lost, again on a new one.

    What is read "as recorded by k" is the same however often it is read. Where some view cannot tell what was recorded by k,
    everything is read in one snapshot, and a lost connection ends the export.

    Parameters
    ----------
    connection
        The caller's; not inside a transaction. It is not closed.
    pinned
        Whether the vintage pins all that is read.
    """

    def __init__(self, connection: psycopg.Connection[Any], *, pinned: bool) -> None:
        self.connection = connection
        self._address = address_of(connection)
        self._own = False
        self._pinned = pinned

    @contextmanager
    def opened(self) -> Iterator[ReadDatabase]:
        """Hold the snapshot, where one is needed; close what was opened."""
        try:
            if self._pinned:
                yield self
            else:
                with self.connection.transaction():
                    self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    yield self
        finally:
            if self._own:
                self.connection.close()

    def run(self, read: Callable[[psycopg.Connection[Any]], T]) -> T:
        """The result of a function that only reads.

        Raises
        ------
        UnavailableError
            If the database was lost and did not come back, or with it the snapshot.
        """
        for wait_s in (*WAITS_S, None):
            try:
                return read(self.connection)
            except (psycopg.OperationalError, psycopg.InterfaceError, UnavailableError) as error:
                if not self.connection.closed and not isinstance(error, UnavailableError):
                    raise  # the server is there, and refuses
                if not self._pinned or wait_s is None:
                    raise _lost(error, pinned=self._pinned) from error
                time.sleep(wait_s)
                self._reconnect()
        raise AssertionError("the last try returns or raises")

    def _reconnect(self) -> None:
        if self._own:
            self.connection.close()
        try:
            self.connection = Connection.connect(self._address)
            self._own = True
        except psycopg.OperationalError:
            return  # the next try finds the old connection closed, and waits longer


def _lost(error: Exception, *, pinned: bool) -> UnavailableError:
    answer = " ".join(str(error).split())
    if pinned:
        return UnavailableError(
            f"the database went away: {answer}",
            remedy="Start it, and run the same command again: it goes on from there",
        )
    return UnavailableError(
        f"the database went away, and with it the snapshot that a view without a created column needs: {answer}",
        remedy="Run the same command again: it starts anew",
    )
