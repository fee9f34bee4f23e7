"""One server for all tests of this package that only ask; tests that stop or starve a server start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql
from tapeline.core.settings import Settings
from tapeline.storage.migrations import migrate
from tapeline_client import Client

from tests.serving import world
from tests.support.session import SessionServers

DATABASE = "serving_tests"


class Writer(redis.Redis):
    """A client after whose commands Redis has told everybody of what they changed.

    It sends that word in one turn with the acknowledgement, but after it; the reply to the next command comes after both.
    """

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        reply = super().execute_command(*arguments, **options)
        super().execute_command("PING")
        return reply


@dataclass
class Served:
    settings: Settings
    store: redis.Redis
    client: Client
    server: world.RunningServer
    bundle_sha256: str


CACHES = {"plain": "none", "cached": "shared"}


@pytest.fixture(scope="session")
def _served(servers: SessionServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """Servers by kind, each started when it is first asked for and kept: pytest would start a parametrized one for every file."""
    with ExitStack() as stack:

        @cache
        def served(kind: str) -> Served:
            return stack.enter_context(_serving(servers, tmp_path_factory.mktemp("serving"), kind))

        yield served


@contextmanager
def _serving(servers: SessionServers, folder: Path, kind: str) -> Iterator[Served]:
    number = [*CACHES].index(kind)
    database = f"{DATABASE}_{number}"
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    settings = Settings(
        home=folder,
        postgres_url=servers.postgres_url(database),
        redis_url=servers.redis_url(7 + number),
        entities_per_request_max=50,
        live_rows_per_request_max=500,
    )
    with psycopg.connect(settings.postgres_url) as connection:
        migrate(connection)
    sha256 = world.register_model(settings, folder, (world.DAILY, world.INTRADAY))
    limits = {"TAPELINE_ENTITIES_PER_REQUEST_MAX": "50", "TAPELINE_LIVE_ROWS_PER_REQUEST_MAX": "500"}
    limits |= {"TAPELINE_REQUEST_BYTES_MAX": "65536", "TAPELINE_CACHE": CACHES[kind]}
    with (
        Writer.from_url(settings.redis_url) as store,
        world.running_server(settings, folder, **limits) as server,
        Client(server.target) as client,
    ):
        yield Served(settings, store, client, server, sha256)


@pytest.fixture(params=[*CACHES])
def served(request: pytest.FixtureRequest, _served: Callable[[str], Served]) -> Served:
    """A server of the model `small` over both views, with nothing in its online store yet.

    Without caches and with all of them: what a test says must hold either way.
    """
    found = _served(request.param)
    found.store.flushdb()
    return found


@pytest.fixture
def store(settings: Settings) -> Iterator[redis.Redis]:
    """The online store of a test's own settings."""
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


def logged(settings: Settings) -> list[dict]:
    """All rows of the log of served vectors."""
    with (
        psycopg.connect(settings.postgres_url) as connection,
        connection.cursor(row_factory=psycopg.rows.dict_row) as cursor,
    ):
        return cursor.execute("SELECT * FROM tapeline.served_vectors ORDER BY served_timestamp, entity").fetchall()
