"""What a write that failed becomes: an error that says what to do, or another try where repeating is safe.

A write here is one transaction, so a failure leaves nothing half-written. Whether a transaction whose commit was not
answered took place cannot be known: only a write that changes nothing when it is repeated may be tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg

from tapeline.core.errors import DiskFullError, ParameterError, TapelineError, UnavailableError

T = TypeVar("T")

WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""How long to wait before each further try: long enough for a server to start again after a crash."""

# Besides a connection that broke, which has no code: connection exceptions, serialisation, deadlock, too many connections,
# and a server that shuts down, has crashed or is starting.
_TRANSIENT = ("08", "40001", "40P01", "53300", "57P01", "57P02", "57P03")


def is_transient(error: BaseException) -> bool:
    """Whether the same write may succeed on a new connection a little later."""
    if isinstance(error, UnavailableError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_TRANSIENT)


def write_fault(error: psycopg.Error, where: str | None = None) -> TapelineError | None:
    """The error to raise instead of one of the driver; none for what is a defect of the statement itself.

    Parameters
    ----------
    error
        What the driver raised.
    where
        The table that was written.
    """
    answer = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.DiskFull):
        return DiskFullError(
            f"PostgreSQL has no room left: {answer}",
            where=where,
            remedy="Make room on its disk (VACUUM gives back what the failed write took) and write again: nothing of it stands",
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return ParameterError(
            f"PostgreSQL refuses: {answer}", where=where, remedy="Give the user in TAPELINE_POSTGRES_URL that right"
        )
    if isinstance(error, psycopg.OperationalError):
        return UnavailableError(
            f"PostgreSQL went away: {answer}",
            where=where,
            remedy="See: tapeline status; then run it again: what was under way is there whole or not at all",
        )
    return None


@contextmanager
def write_faults(where: str) -> Iterator[None]:
    """Raise what the driver raises inside the block as an error of ours, where it is one that a user can act on.

    Raises
    ------
    DiskFullError
        If the server has no room left.
    UnavailableError
        If the connection was lost, the server shut down, or two writers stood in each other's way.
    ParameterError
        If the role may not write there.
    """
    try:
        yield
    except psycopg.Error as error:
        told = write_fault(error, where)
        if told is None:
            raise
        raise told from error


def write_with_retries(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
    write: Callable[[psycopg.Connection[Any]], T],
    *,
    where: str,
    waits_s: tuple[float, ...] = WAITS_S,
) -> T:
    """Run a write that may be repeated, each time on a new connection, until it succeeds or the tries are used up.

    A server that does not answer the very first time is an error at once.

    Parameters
    ----------
    connect
        Opens a connection.
    write
        Writes and commits. Called again after a lost connection, it must change nothing that it did before.
    where
        What is written, for the message.
    waits_s
        Seconds before each further try.

    Raises
    ------
    UnavailableError
        If the server stays away.
    DiskFullError
        If it has no room left; this is not tried again.
    """
    began = False
    for tries, wait_s in enumerate((*waits_s, None), start=1):
        try:
            with write_faults(where), connect() as connection:
                began = True
                return write(connection)
        except TapelineError as error:
            cause = error.__cause__ or error
            if wait_s is None and isinstance(error, UnavailableError):
                raise UnavailableError(
                    f"{error.what}, {tries} times in {sum(waits_s):.1f} s", where=where, remedy=error.remedy
                ) from error
            if wait_s is None or not began or not is_transient(cause):
                raise
        time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")
