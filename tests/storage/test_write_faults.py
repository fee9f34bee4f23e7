"""Writes whose server goes away, starts again or has no room: nothing half-written, and repeated where that is safe."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from tapeline.core.errors import DiskFullError, ParameterError, UnavailableError
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.keyed_rows import KeyedTable, append_keyed
from tapeline.storage.raw import AppendCounts
from tapeline.storage.retrying import is_transient, write_faults, write_with_retries
from tapeline.storage.servers.account import postgres_account
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.postgres_server import running_postgres, start_postgres, stop_postgres

from tests.support.session import SessionServers

ROWS = 200_000
CREATE = """
    CREATE TABLE public.rates (symbol text NOT NULL, at timestamptz NOT NULL, known timestamptz NOT NULL,
        created timestamptz NOT NULL DEFAULT now(), rate float8)
"""
RATES = KeyedTable("public.rates", ("symbol",), "at", "known", "created")


def rows(count: int = ROWS) -> pa.Table:
    at = pa.array(np.arange(count) * 1_000_000, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"symbol": ["A"] * count, "at": at, "known": at, "rate": np.arange(count, dtype=np.float64)})


class Server:
    """A PostgreSQL of this test's own."""

    def __init__(self, watched: SessionServers) -> None:
        self.place = watched.place
        self.place.own()
        self.url = watched.postgres_url("tapeline")
        self.start()

    def start(self) -> None:
        start_postgres(self.place, ServerOptions(durable=False))

    def stop(self) -> None:
        stop_postgres(self.place, immediate=True)

    def crash(self) -> None:
        """As `kill -9` of one of its processes: the server ends all sessions and recovers."""
        with self.connect() as connection:
            found = connection.execute("SELECT pid FROM pg_stat_progress_copy").fetchone()
        assert found is not None
        os.kill(found[0], 9)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, connect_timeout=5)

    def count(self) -> int:
        with self.connect() as connection:
            row = connection.execute("SELECT count(*) FROM public.rates").fetchone()
        assert row is not None
        return int(row[0])

    def when_copying(self, act: Callable[[], None]) -> threading.Thread:
        """Do something once rows are on their way."""

        def wait() -> None:
            with self.connect() as connection:
                connection.autocommit = True
                while not connection.execute(
                    "SELECT FROM pg_stat_progress_copy WHERE tuples_processed > 1000"
                ).fetchall():
                    time.sleep(0.002)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    watched = SessionServers({})
    server = Server(watched)
    yield server
    stop_postgres(server.place, immediate=True)
    watched.close()


@pytest.fixture
def server(own_server: Server) -> Server:
    with own_server.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS public.rates")
        connection.execute(CREATE)
    return own_server


def append(connection: psycopg.Connection[Any]) -> AppendCounts:
    return append_keyed(connection, RATES, rows())


def test_a_connection_lost_during_copy_is_an_error_and_leaves_nothing(server: Server) -> None:
    def end_it() -> None:
        with server.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy")

    cut = server.when_copying(end_it)
    with (
        server.connect() as connection,
        pytest.raises(UnavailableError, match=r"went away.*public\.rates.*whole or not"),
    ):
        append(connection)
    cut.join()
    assert server.count() == 0
    cut = server.when_copying(end_it)
    with (
        server.connect() as connection,
        pytest.raises(UnavailableError, match=r"public\.rates"),
        write_faults(RATES.table),
    ):
        copy_arrow(connection.cursor(), rows(), RATES.table)
    cut.join()
    assert server.count() == 0


def test_a_lost_connection_is_tried_again_and_the_rows_stand_once(server: Server) -> None:
    attempts = []

    def write(connection: psycopg.Connection[Any]) -> AppendCounts:
        attempts.append(connection.info.backend_pid)
        counts = append(connection)
        if len(attempts) == 2:  # committed, and the answer lost
            raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")
        return counts

    crash = server.when_copying(server.crash)
    counts = write_with_retries(server.connect, write, where=RATES.table)
    crash.join()
    assert len(attempts) == 3
    assert counts == AppendCounts(unchanged=ROWS)
    assert server.count() == ROWS


def test_a_server_that_restarts_during_copy_gets_the_rows_once(server: Server) -> None:
    def restart() -> None:
        server.stop()
        time.sleep(0.3)
        server.start()

    restarting = server.when_copying(restart)
    assert write_with_retries(server.connect, append, where=RATES.table) == AppendCounts(added=ROWS)
    restarting.join()
    assert server.count() == ROWS


def test_a_server_that_stays_away_is_named_after_so_many_tries(server: Server) -> None:
    stopping = server.when_copying(server.stop)
    with pytest.raises(UnavailableError, match=r"went away.*3 times in 0\.3 s.*tapeline status"):
        write_with_retries(server.connect, append, where=RATES.table, waits_s=(0.1, 0.2))
    stopping.join()
    assert running_postgres(server.place) is None
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="went away"):  # never there: said at once
        write_with_retries(server.connect, append, where=RATES.table)
    assert time.monotonic() - began < 2
    server.start()
    assert server.count() == 0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 12 MB."""
    with pytest.MonkeyPatch.context():
        folder = Path("/tmp") / f"tapeline-small-disk-{os.getpid()}"
        folder.mkdir()
        account = postgres_account()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=12m,uid={account.uid},gid={account.gid},mode=700", "none", folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if mounted.returncode:
            folder.rmdir()
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
        yield folder
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_a_full_disk_is_named_and_nothing_is_written(server: Server, small_disk: Path) -> None:
    with server.connect() as connection:
        connection.autocommit = True
        connection.execute("DROP TABLE public.rates")
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.execute(CREATE + "TABLESPACE small")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(2_000_000))
        connection.autocommit = False
        assert append_keyed(connection, RATES, rows(1_000)).added == 1_000
        for write in (append, lambda c: copy_arrow(c.cursor(), rows(), RATES.table)):
            with pytest.raises(DiskFullError, match=r"no room left.*No space left.*public\.rates.*Make room"):
                write_with_retries(server.connect, write, where=RATES.table)
            assert server.count() == 1_000
        filler.unlink()
        connection.autocommit = True
        connection.execute("VACUUM public.rates")  # what the failed writes took
        connection.autocommit = False
        assert append_keyed(connection, RATES, rows(1_001)) == AppendCounts(
            added=1, unchanged=1_000
        )  # room for one more
        connection.autocommit = True
        connection.execute("DROP TABLE public.rates")
        connection.execute("DROP TABLESPACE small")
        connection.execute(CREATE)


def test_what_is_tried_again_and_what_is_not(server: Server) -> None:
    again: list[type[psycopg.Error]] = [
        psycopg.OperationalError, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected,
        psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow,
        psycopg.errors.TooManyConnections, psycopg.errors.ConnectionFailure,
    ]  # fmt: skip
    never: list[type[psycopg.Error]] = [
        psycopg.errors.DiskFull, psycopg.errors.QueryCanceled, psycopg.errors.OutOfMemory, psycopg.errors.CheckViolation,
        psycopg.errors.UndefinedTable,
    ]  # fmt: skip
    assert all(is_transient(error("")) for error in again)
    assert not any(is_transient(error("")) for error in never)
    with server.connect() as connection:
        connection.execute("CREATE ROLE reader")
        connection.execute("GRANT USAGE ON SCHEMA public TO reader")
        connection.execute("SET ROLE reader")
        with pytest.raises(ParameterError, match=r"permission denied.*public\.rates"), write_faults(RATES.table):
            copy_arrow(connection.cursor(), rows(1), RATES.table)
        connection.rollback()
