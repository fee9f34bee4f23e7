"""A PostgreSQL of its own, that may be killed, and the databases of one seed on it: one to be disturbed, one in quiet."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from tapeline.compute import backfill
from tapeline.core.timestamps import to_us
from tapeline.storage.feature_tables import register_view
from tapeline.storage.migrations import migrate
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.postgres_server import running_postgres, start_postgres, stop_postgres
from tapeline.storage.servers.processes import processes_inside

from tests.crash.batches import Batch, Kind, Stored
from tests.crash.roles import NAMESPACE, RATES, SOURCE, SPEC, send
from tests.support.session import SessionServers

_TEMPLATE = "crash_template"
_RETURN_S = 60.0
_STORED = {
    "bars": "SELECT symbol, event_timestamp, sequence, available_timestamp, deleted, open, high, low, close, volume"
    " FROM tapeline.bars",
    "push": "SELECT symbol, event_timestamp, sequence, available_timestamp, false, rate FROM public.rates",
    "values": "SELECT entity, event_timestamp, sequence, available_timestamp, false, value FROM tapeline.feature_values"
    f" WHERE namespace = '{NAMESPACE}'",
}


class Server:
    """The server, durable as users run it: nothing that was acknowledged hangs on the system's goodwill."""

    def __init__(self) -> None:
        self._watched = SessionServers({})
        self.place = self._watched.place
        self.place.own()
        self.start()
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {_TEMPLATE}")
        with psycopg.connect(self.url(_TEMPLATE)) as connection:
            migrate(connection)
            connection.execute(RATES)
            connection.execute(
                "INSERT INTO tapeline.sources (source, kind, calendar) VALUES (%s, 'bars', 'XNYS')", (SOURCE,)
            )
            connection.commit()
            register_view(connection, SPEC)

    def url(self, database: str) -> str:
        """Address of a database."""
        return self._watched.postgres_url(database)

    def start(self) -> None:
        """Start it; after a kill this is the recovery."""
        start_postgres(
            self.place, ServerOptions(postgres_settings=(("shared_buffers", "64MB"), ("min_wal_size", "64MB")))
        )

    def kill(self, what: str, choice: random.Random) -> int:
        """SIGKILL to the main process, to any one of its processes, or to all; how many were hit."""
        running = list(processes_inside(self.place.cluster))
        main = running_postgres(self.place)
        chosen = {
            "postmaster": [one for one in running if one == main],
            "server process": [choice.choice(running)],
            "server": running,
        }[what]
        for one in chosen:
            one.send(signal.SIGKILL)
        return len(chosen)

    def come_back(self) -> None:
        """Wait until it answers; start it where it does not recover by itself."""
        deadline = time.monotonic() + _RETURN_S
        while True:
            try:
                with psycopg.connect(self.url("postgres"), connect_timeout=5) as connection:
                    connection.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            if running_postgres(self.place) is None:
                self.start()
            time.sleep(0.02)

    @contextmanager
    def databases(self, seed: int) -> Iterator[tuple[str, str]]:
        """URLs of a fresh database to be disturbed, and of one that is not."""
        names = (f"disturbed_{seed}", f"quiet_{seed}")
        for name in names:
            self._admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
            self._admin("CREATE DATABASE {} TEMPLATE " + _TEMPLATE, name)
        yield self.url(names[0]), self.url(names[1])
        for name in names:
            self._admin("DROP DATABASE {} WITH (FORCE)", name)

    def _admin(self, statement: str, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL(statement).format(sql.Identifier(name)))  # type: ignore[arg-type]

    def close(self) -> None:
        """End it and remove its folder."""
        stop_postgres(self.place, immediate=True)
        self._watched.close()


def stored_rows(connection: psycopg.Connection[Any]) -> dict[Kind, Counter[Stored]]:
    """What stands in the three tables that the writer fills, each row as often as it does."""
    found: dict[Kind, Counter[Stored]] = {}
    for kind, statement in _STORED.items():
        rows = connection.execute(statement).fetchall()
        found[kind] = Counter(  # type: ignore[index]
            Stored((symbol, to_us(event), sequence), to_us(available), tuple(content), deleted)
            for symbol, event, sequence, available, deleted, *content in rows
        )
    connection.rollback()
    return found


def expected_rows(sent: list[Batch]) -> dict[Kind, Counter[Stored]]:
    """What must stand there after these batches, each row once."""
    expected: dict[Kind, Counter[Stored]] = {"bars": Counter(), "push": Counter(), "values": Counter()}
    for batch in sent:
        expected[batch.kind].update(batch.adds)
    return expected


def feature_rows(connection: psycopg.Connection[Any]) -> list[str]:
    """All rows of the view, without the moment at which they were written, in one order; their newest ones after them."""
    rows = []
    for schema in ("features", "latest"):
        rows += connection.execute(
            f"SELECT '{schema}', symbol, event_timestamp, sequence, available_timestamp, {', '.join(SPEC.columns)}"
            f" FROM {schema}.killed__v1 ORDER BY symbol, event_timestamp, sequence, available_timestamp, created_timestamp"
        ).fetchall()
    connection.rollback()
    return [repr(row) for row in rows]


def go_on_in_quiet(url: str, sent: list[Batch]) -> list[str]:
    """Send the batches to the other database and compute once; its feature rows."""
    with psycopg.connect(url) as connection:
        for batch in sent:
            if batch.kind == "bars":
                send(connection, url, batch)
        backfill(connection, SPEC)
        return feature_rows(connection)
