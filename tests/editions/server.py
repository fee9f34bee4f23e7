"""One running PostgreSQL of a TimescaleDB edition, and fresh databases in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.editions import timescaledb_apache, timescaledb_community
from tests.support.session import QUICK, SessionServers

EDITIONS = ("apache", "community")
_SOCKET = "postgres-run/.s.PGSQL.5432"
_numbers = itertools.count(1)


class EditionServer:
    """A server of one edition; it dies with the test process.

    Raises
    ------
    EditionUnavailable
        If this machine cannot run it.
    """

    def __init__(self, edition: str) -> None:
        self.edition = edition
        if edition == "apache":
            programs, settings = timescaledb_apache.programs(), [*timescaledb_apache.SETTINGS, *QUICK]
            self._servers = SessionServers({"postgres": {"programs": str(programs), "settings": settings}})
        else:
            self._servers = SessionServers({"command": timescaledb_community.command(_SOCKET)})

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """URL of an empty database. The Community server has only one, so there the schemas are dropped."""
        if self.edition == "community":
            for schema in ("tapeline", "features", "latest"):
                self._execute("DROP SCHEMA IF EXISTS {} CASCADE", schema)
            yield self._servers.postgres_url("postgres")
            return
        name = f"edition_{next(_numbers)}"
        self._execute("CREATE DATABASE {}", name)
        yield self._servers.postgres_url(name)
        self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, name: str) -> None:
        with psycopg.connect(self._servers.postgres_url("postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def close(self) -> None:
        """End the server."""
        self._servers.close()
