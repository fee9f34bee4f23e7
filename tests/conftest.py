"""Fixtures of all tests: real PostgreSQL and Valkey, once a session, with a fresh database for each test that asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql
from tapeline.core.settings import Settings
from tapeline.storage.migrations import migrate
from tapeline.storage.postgres import Connection

from tests.editions.plugin import (  # noqa: F401 - fixtures and a hook
    _editions,
    apache_database,
    community_database,
    edition_database,
    pytest_terminal_summary,
)
from tests.support.session import SessionServers

_TEMPLATE = "tapeline_template"
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Property tests draw the same examples in every run; with a seed, as of ``make soak``, those of the seed."""
    if config.getoption("--hypothesis-seed", None) is None:
        hypothesis.settings.register_profile("same", derandomize=True)
        hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def servers() -> Iterator[SessionServers]:
    """The session's servers. They end with the test process, however it ends."""
    running = SessionServers()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def _template(servers: SessionServers) -> str:
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    with psycopg.connect(servers.postgres_url(_TEMPLATE)) as connection:
        migrate(connection)
    return _TEMPLATE


@pytest.fixture
def empty_database(servers: SessionServers) -> Iterator[str]:
    """URL of a fresh database without Tapeline's schema."""
    yield from _fresh_database(servers, "template0")


@pytest.fixture
def database(servers: SessionServers, _template: str) -> Iterator[str]:
    """URL of a fresh, migrated database of this test's own."""
    yield from _fresh_database(servers, _template)


def _fresh_database(servers: SessionServers, template: str) -> Iterator[str]:
    name = sql.Identifier(f"test_{next(_numbers)}")
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(name, sql.Identifier(template))
        )
    yield servers.postgres_url(name.as_string().strip('"'))
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def redis_url(servers: SessionServers) -> str:
    """URL of an empty logical database of the session's Valkey."""
    url = servers.redis_url(0)
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(tmp_path: Path, database: str, redis_url: str) -> Settings:
    """Settings that point to this test's own database, online store and data folder."""
    return Settings(home=tmp_path, postgres_url=database, redis_url=redis_url)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """An open connection to this test's database."""
    with Connection.connect(database, options="-c timezone=UTC") as opened:
        yield opened
