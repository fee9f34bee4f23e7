"""Migrations on plain PostgreSQL: applied once, in order, refusing what does not fit."""

from __future__ import annotations

import psycopg
from tapeline.storage.migrations import migrate, migrations, require_schema


def test_a_fresh_database_gets_every_migration_once(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        assert migrate(connection) == [migration.name for migration in migrations()]
        assert migrate(connection) == []
        require_schema(connection)


def test_the_fixture_is_migrated(connection: psycopg.Connection, redis_url: str) -> None:
    require_schema(connection)
