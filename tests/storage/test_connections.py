"""A connection and those beside it: kept, replaced when they are gone, closed with it."""

from __future__ import annotations

import time

import psycopg
import pytest
from tapeline.core.errors import UnavailableError
from tapeline.core.settings import Settings
from tapeline.storage import postgres
from tapeline.storage.postgres import Connection, beside, connect


def sessions(url: str) -> int:
    """Open sessions of the database, but for the one that asks."""
    with psycopg.connect(url, autocommit=True) as asking:
        row = asking.execute("""
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND backend_type = 'client backend'
        """).fetchone()
    assert row is not None
    return int(row[0])


def require_sessions(url: str, count: int) -> None:
    """So many sessions stay open: a server's process ends a moment after its client has gone."""
    deadline = time.monotonic() + 10
    while sessions(url) != count:
        assert time.monotonic() < deadline, sessions(url)
        time.sleep(0.01)


def pid_beside(connection: psycopg.Connection) -> int:
    with beside(connection) as other:
        return other.info.backend_pid


def test_one_beside_stays_and_goes_with_its_connection(empty_database: str) -> None:
    with Connection.connect(empty_database) as connection:
        first = pid_beside(connection)
        assert pid_beside(connection) == first
        with beside(connection) as one, beside(connection) as two:
            assert len({one.info.backend_pid, two.info.backend_pid, connection.info.backend_pid}) == 3
        require_sessions(empty_database, 3)
    require_sessions(empty_database, 0)


def test_beside_a_connection_of_another_class_none_stays(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        pid_beside(connection)
        require_sessions(empty_database, 1)


def test_one_that_the_server_ended_is_replaced(empty_database: str) -> None:
    with Connection.connect(empty_database) as connection:
        first = pid_beside(connection)
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (first,))
        connection.commit()
        with beside(connection) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
            assert other.info.backend_pid != first
            other.rollback()


@pytest.mark.parametrize("left", ["raised", "in a transaction", "autocommit"])
def test_one_that_is_not_as_it_was_is_closed(empty_database: str, left: str) -> None:
    with Connection.connect(empty_database) as connection:
        try:
            with beside(connection) as other:
                if left == "raised":
                    raise KeyError(left)
                other.autocommit = left == "autocommit"
                other.execute("SELECT 1")
        except KeyError:
            pass
        assert other.closed
        require_sessions(empty_database, 1)


def test_nothing_stays_where_the_commit_fails(empty_database: str) -> None:
    connection = Connection.connect(empty_database)
    connection.execute("CREATE TABLE once (number int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    pid_beside(connection)
    connection.execute("INSERT INTO once VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation), connection:
        pass
    assert connection.closed
    require_sessions(empty_database, 0)


def test_nothing_stays_where_the_connection_was_lost(empty_database: str) -> None:
    with Connection.connect(empty_database) as connection:
        pid_beside(connection)
        with psycopg.connect(empty_database, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    require_sessions(empty_database, 0)


def test_a_refusal_is_an_error_of_ours(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Connection.connect(empty_database) as connection:
        monkeypatch.setattr(postgres, "address_of", lambda _: empty_database + "_absent")
        with pytest.raises(UnavailableError, match="refuses another connection"):
            pid_beside(connection)


@pytest.mark.parametrize(("given", "timeout"), [("", "30000"), ("&tcp_user_timeout=4000", "4000")])
def test_a_host_that_falls_silent_is_noticed_by_all_its_connections(
    empty_database: str, given: str, timeout: str
) -> None:
    with connect(Settings(postgres_url=empty_database + given)) as connection, beside(connection) as other:
        for one in (connection, other):
            parameters = one.info.get_parameters()
            assert parameters["tcp_user_timeout"] == timeout
            assert [parameters[f"keepalives_{name}"] for name in ("idle", "interval", "count")] == ["15", "5", "3"]
