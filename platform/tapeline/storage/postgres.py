"""Connections to PostgreSQL, wherever the settings say it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from tapeline.core.errors import ConfigurationError, UnavailableError
from tapeline.core.settings import Settings, get_settings
from tapeline.storage.servers.place import Place

_SILENCE = {"keepalives_idle": "15", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "30000"}
"""A host that fell silent is noticed within half a minute; by the kernel's own settings that takes hours."""
_DEFAULTS = {"application_name": "tapeline", "connect_timeout": "5", "options": "-c timezone=UTC", **_SILENCE}


class Connection(psycopg.Connection[TupleRow]):
    """A connection with others beside it, which stay open as long as it does.

    A new session has to learn of each table, and of each chunk of a hypertable, before its first query of it, which takes
    about a millisecond. Were the others of a retrieval new ones every time, that would be most of their work where chunks are many.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: list[psycopg.Connection[TupleRow]] = []

    @contextmanager
    def beside(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Another connection to the same database, by the same login.

        Its user leaves the session as it was: what a transaction sets goes with that. What a session sets would stay.

        Raises
        ------
        UnavailableError
            If the server refuses.
        """
        try:
            other = self._idle.pop()
        except IndexError:  # asking first would let another thread take it in between
            other = None
        if other is None or not _answers(other):
            other = sibling(self)
        try:
            yield other
        except BaseException:
            other.close()
            raise
        if self.closed or other.autocommit or other.info.transaction_status != TransactionStatus.IDLE:
            other.close()
        else:
            self._idle.append(other)

    def close(self) -> None:
        """Close it and those beside it."""
        while self._idle:
            self._idle.pop().close()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit or roll back, and close: also where the commit fails, and what lies beside a connection that was lost."""
        try:
            super().__exit__(kind, error, trace)
        finally:
            if getattr(self, "_pool", None) is None:  # one of a pool goes back to it
                self.close()


def _answers(connection: psycopg.Connection[Any]) -> bool:
    """Whether a connection that lay idle is still there: servers end those after a while."""
    with suppress(psycopg.OperationalError):
        connection.execute("SELECT 1")
        connection.rollback()
        return True
    connection.close()
    return False


def postgres_url(settings: Settings | None = None) -> str:
    """Address of the database: as set, else that of the embedded server of the data folder.

    The embedded server's address depends on its data folder alone, so it stays the same when the server is restarted.
    """
    settings = settings or get_settings()
    return settings.postgres_url or Place.of_home(settings.home_path).postgres_url


def _reason(error: psycopg.OperationalError) -> str:
    """What libpq says, on one line, without its guesses at the cause."""
    text = " ".join(str(error).split()).removeprefix("connection is bad: ")
    return text.partition(" Is the server running")[0]


def connect(settings: Settings | None = None, *, autocommit: bool = False) -> Connection:
    """Open a connection to the database, its session's time zone set to UTC.

    Parameters
    ----------
    settings
        Where the database is; none: the process's settings.
    autocommit
        Whether each statement is its own transaction.

    Raises
    ------
    UnavailableError
        If the server cannot be reached, or refuses.
    ConfigurationError
        If the address is malformed.
    """
    settings = settings or get_settings()
    url = postgres_url(settings)
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"the PostgreSQL address is malformed: {str(error).strip()}",
            where="setting postgres_url",
            remedy="Write it like postgresql://user@host:5432/database",
        ) from None
    try:
        return Connection.connect(_completed(url, _DEFAULTS), autocommit=autocommit)
    except psycopg.OperationalError as error:
        host = parameters.get("host") or parameters.get("hostaddr") or "the default socket"
        raise UnavailableError(
            f"PostgreSQL does not answer: {_reason(error)}",
            where=f"database {parameters.get('dbname', '')} at {host}",
            remedy=(
                "Check the address in TAPELINE_POSTGRES_URL and that its server runs"
                if settings.postgres_url
                else "Start the servers of this data folder with: tapeline up"
            ),
        ) from error


def watched(address: str) -> str:
    """A connection string by which a host that fell silent is noticed, unless it says something of that itself."""
    return _completed(address, _SILENCE)


def _completed(address: str, defaults: Mapping[str, str]) -> str:
    given = conninfo_to_dict(address)
    return make_conninfo(address, **{name: value for name, value in defaults.items() if name not in given})


def address_of(connection: psycopg.Connection[Any]) -> str:
    """The connection string that opens another connection like this one."""
    password = connection.info.password
    return make_conninfo(connection.info.dsn, **({"password": password} if password else {}))


@contextmanager
def beside(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Another connection to the same database: a `Connection`'s own, which stays open; for others a new one.

    Raises
    ------
    UnavailableError
        If the server refuses.
    """
    with connection.beside() if isinstance(connection, Connection) else sibling(connection) as other:
        yield other


def sibling(connection: psycopg.Connection[Any]) -> psycopg.Connection[TupleRow]:
    """A new connection to the same database, as the same role.

    Raises
    ------
    UnavailableError
        If the server refuses.
    """
    try:
        return psycopg.connect(address_of(connection))
    except psycopg.OperationalError as error:
        raise UnavailableError(
            f"PostgreSQL refuses another connection: {_reason(error)}",
            where=f"database {connection.info.dbname}",
            remedy="End connections that are not needed, or raise max_connections",
        ) from error
