"""One server for all tests that only ask; tests that stop or starve a server start their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
from tapeline.core.settings import Settings
from tapeline_client import Client

from tests.serving import world


@dataclass
class Served:
    settings: Settings
    redis: redis.Redis
    client: Client
    server: world.RunningServer
    bundle_sha256: str


@pytest.fixture
def store(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


@pytest.fixture
def served(settings: Settings, store: redis.Redis, tmp_path: Path) -> Iterator[Served]:
    """A server of the model `small` over both views, with nothing in the online store yet."""
    sha256 = world.register_model(settings, tmp_path, (world.DAILY, world.INTRADAY))
    with world.running_server(settings, tmp_path) as server, Client(server.target) as client:
        yield Served(settings, store, client, server, sha256)


def logged(settings: Settings) -> list[dict]:
    """All rows of the log of served vectors."""
    with (
        psycopg.connect(settings.postgres_url) as connection,
        connection.cursor(row_factory=psycopg.rows.dict_row) as c,
    ):
        return c.execute("SELECT * FROM tapeline.served_vectors ORDER BY served_timestamp, entity").fetchall()
