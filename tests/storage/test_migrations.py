"""Migrations on plain PostgreSQL: applied once, in order, whole or not at all, refusing what does not fit."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import psycopg
import pytest
from tapeline.core.errors import ParameterError, SchemaError
from tapeline.storage.migrations import migrate, migrations, require_schema, schema_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to be tampered with."""
    copy = tmp_path / "sql"
    copy.mkdir()
    for migration in migrations():
        shutil.copy(migration.path, copy / migration.name)
    return copy


def test_a_fresh_database_gets_every_migration_once(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        assert schema_version(connection) == 0
        assert migrate(connection) == [migration.name for migration in migrations()]
        assert migrate(connection) == []
        require_schema(connection)
        assert schema_version(connection) == len(migrations())
    with psycopg.connect(empty_database) as another:
        require_schema(another)  # it was committed


def test_several_at_once_take_turns(empty_database: str) -> None:
    applied: list[list[str]] = []
    start = threading.Barrier(4)

    def one() -> None:
        with psycopg.connect(empty_database) as connection:
            start.wait()
            applied.append(migrate(connection))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(applied) == 4
    assert sorted(name for names in applied for name in names) == [migration.name for migration in migrations()]


def test_a_file_that_fails_leaves_nothing_of_itself(empty_database: str, folder: Path) -> None:
    number = len(migrations()) + 1
    bad = folder / f"{number:04}_bad.sql"
    bad.write_text("CREATE TABLE tapeline.half (a integer);\n\nSELECT no_such_column;\n")
    with psycopg.connect(empty_database) as connection:
        with pytest.raises(
            SchemaError, match=rf"{bad.name} failed: .*no_such_column.*line 3.*tapeline migrate"
        ) as caught:
            migrate(connection, folder=folder)
        assert isinstance(caught.value.__cause__, psycopg.Error)
        assert schema_version(connection) == number - 1
        assert connection.execute("SELECT to_regclass('tapeline.half')").fetchone() == (None,)
        connection.rollback()
        bad.write_text("CREATE TABLE tapeline.half (a integer);\n")
        assert migrate(connection, folder=folder) == [bad.name], "mended, it goes on where it stopped"


def test_a_database_that_is_ahead_is_refused(connection: psycopg.Connection, folder: Path) -> None:
    newer = folder / f"{len(migrations()) + 1:04}_newer.sql"
    newer.write_text("SELECT 1;\n")
    migrate(connection, folder=folder)
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=r"newer\.sql.*Use the version of Tapeline"):
            check(connection)


def test_an_applied_file_that_was_edited_is_refused(connection: psycopg.Connection, folder: Path) -> None:
    with (folder / "0002_raw.sql").open("a") as file:
        file.write("-- a thought that came later\n")
    with pytest.raises(SchemaError, match=r"migration 2 was applied.*0002_raw\.sql.*new migration"):
        migrate(connection, folder=folder)


def test_a_renamed_file_is_refused(connection: psycopg.Connection, folder: Path) -> None:
    (folder / "0002_raw.sql").rename(folder / "0002_other.sql")
    with pytest.raises(SchemaError, match=r"applied as 0002_raw\.sql"):
        migrate(connection, folder=folder)


def test_a_database_that_is_behind_names_the_command(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        with pytest.raises(SchemaError, match=r"schema is at 0.*tapeline migrate"):
            require_schema(connection)
        migrate(connection)
        connection.execute("DELETE FROM tapeline.schema_migrations WHERE number = %s", (len(migrations()),))
        with pytest.raises(SchemaError, match=rf"schema is at {len(migrations()) - 1}"):
            require_schema(connection)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "no migrations"),
        (["0001_a.sql", "0003_c.sql"], "without gap"),
        (["0001_a.sql", "0001_b.sql"], "without gap or repeat"),
        (["0001_a.sql", "2_b.sql"], "2_b.sql is no name"),
        (["0001_With Space.sql"], "no name of a migration"),
    ],
)
def test_a_folder_in_disorder_is_refused(tmp_path: Path, names: list[str], complaint: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(SchemaError, match=complaint):
        migrations(tmp_path)


def test_a_connection_in_the_middle_of_something_is_refused(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")
    with pytest.raises(ParameterError, match="idle"):
        migrate(connection)


def test_raw_rows_are_stamped_by_the_database(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence) "
        "VALUES ('test', 'ES', now() - interval '1 day', now(), 0)"
    )
    assert connection.execute("SELECT created_timestamp = now() FROM tapeline.trades").fetchone() == (True,)


class TestSafeHorizon:
    """The latest moment whose rows are all committed, or never will be."""

    @staticmethod
    def horizon(connection: psycopg.Connection) -> float:
        row = connection.execute("SELECT extract(epoch FROM tapeline.safe_horizon())::float8").fetchone()
        connection.rollback()
        assert row is not None
        return row[0]

    def test_it_follows_the_clock_when_nobody_writes(self, connection: psycopg.Connection) -> None:
        assert time.time() - 2 < self.horizon(connection) < time.time()

    def test_an_open_transaction_holds_it_back_until_it_ends(
        self, database: str, connection: psycopg.Connection
    ) -> None:
        with psycopg.connect(database) as writer:
            row = writer.execute("SELECT extract(epoch FROM now())::float8").fetchone()
            assert row is not None
            time.sleep(0.05)
            assert self.horizon(connection) < row[0], "rows it writes will be stamped with its start"
            writer.commit()
            time.sleep(0.02)
            assert self.horizon(connection) > row[0]

    def test_it_is_taken_anew_within_one_transaction(self, database: str, connection: psycopg.Connection) -> None:
        first = connection.execute("SELECT tapeline.safe_horizon()").fetchone()
        with psycopg.connect(database) as writer:
            started = writer.execute("SELECT now()").fetchone()
            time.sleep(0.05)
            second = connection.execute("SELECT tapeline.safe_horizon()").fetchone()
        assert first is not None
        assert second is not None
        assert started is not None
        assert first[0] < second[0] < started[0]

    def test_it_refuses_when_other_roles_hide_their_transactions(self, database: str) -> None:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("CREATE ROLE blinkered")
            try:
                admin.execute("ALTER FUNCTION tapeline.safe_horizon() OWNER TO blinkered")
                with psycopg.connect(database) as other, psycopg.connect(database) as reader:
                    other.execute("SELECT 1")
                    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="hide") as caught:
                        reader.execute("SELECT tapeline.safe_horizon()")
                    assert caught.value.diag.message_hint == "As a superuser: GRANT pg_read_all_stats TO blinkered"
                    reader.rollback()
                    admin.execute("GRANT pg_read_all_stats TO blinkered")
                    assert reader.execute("SELECT tapeline.safe_horizon()").fetchone() is not None
            finally:
                admin.execute("ALTER FUNCTION tapeline.safe_horizon() OWNER TO tapeline")
                admin.execute("DROP ROLE blinkered")
