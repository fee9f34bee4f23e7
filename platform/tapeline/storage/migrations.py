"""Numbered SQL files, applied in order, each once, each in its own transaction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tapeline.core.errors import ParameterError, SchemaError
from tapeline.core.timestamps import DAY_US

CHUNK_INTERVAL_US = 30 * DAY_US
"""Default time span of a TimescaleDB chunk, µs."""

_FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('tapeline:migrations'))"
_BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS tapeline;
CREATE TABLE IF NOT EXISTS tapeline.schema_migrations (
    number              integer PRIMARY KEY CHECK (number > 0),
    name                text NOT NULL,
    sha256              text NOT NULL,
    applied_timestamp   timestamptz NOT NULL DEFAULT now()
)
"""
_UNDESCRIBED = """
SELECT EXISTS (SELECT FROM tapeline.feature_view_versions v WHERE NOT EXISTS (
    SELECT FROM tapeline.feature_definitions d WHERE d.view = v.view AND d.version = v.version))
"""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file.

    Attributes
    ----------
    number
        Its place in the order: 1, 2, 3, …
    path
        The file.
    """

    number: int
    path: Path

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @cached_property
    def sql(self) -> str:
        """Content."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path | None = None) -> list[Migration]:
    """The migrations of a folder in their order; by default those of this version of Tapeline.

    Raises
    ------
    SchemaError
        If there are none, a file is not named like ``0001_what_it_does.sql``, or the numbers have a gap or repeat.
    """
    folder = folder or _packaged_folder()
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.match(path.name)
        if match is None:
            raise SchemaError(f"{path.name} is no name of a migration", where=str(folder), remedy="Like 0001_bars.sql")
        found.append(Migration(int(match[1]), path))
    if not found:
        raise SchemaError("there are no migrations", where=str(folder), remedy="Install Tapeline again")
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise SchemaError(
            f"migrations are numbered {numbers}",
            where=str(folder),
            remedy="Number them 1, 2, 3, … without gap or repeat",
        )
    return found


def migrate(
    connection: psycopg.Connection[Any], *, chunk_interval_us: int = CHUNK_INTERVAL_US, folder: Path | None = None
) -> list[str]:
    """Bring a database's schema up to this version of Tapeline.

    Each file is applied in a transaction of its own and recorded with its SHA-256; several processes may do this at once and
    take turns. Afterwards the tables are fitted to the database's TimescaleDB edition, which may have changed since, and the
    features of views that an earlier version registered are described.

    Parameters
    ----------
    connection
        An idle connection, of a role that may create schemas.
    chunk_interval_us
        Time span of a TimescaleDB chunk, µs; holds for chunks made from now on. Plain PostgreSQL ignores it.
    folder
        Where the files are; none: this version's.

    Returns
    -------
    list of str
        Names of the files applied now; empty if there was nothing to do.

    Raises
    ------
    SchemaError
        If an applied file was edited since, the database is ahead of this version, or a file fails.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError("migrations need an idle connection", remedy="Commit or roll back what it is doing first")
    names = apply_migrations(connection, folder=folder)
    with connection.transaction():
        connection.execute(_TAKE_TURNS)
        fit_editions(connection, chunk_interval_us)
    described = connection.execute("SELECT to_regclass('tapeline.feature_definitions') IS NOT NULL").fetchone()
    if described == (True,) and connection.execute(_UNDESCRIBED).fetchone() == (True,):
        from tapeline.storage.feature_definitions import describe_registered  # compilers, for an older database only

        connection.commit()
        describe_registered(connection)
    connection.commit()
    return names


def apply_migrations(
    connection: psycopg.Connection[Any], *, last: int | None = None, folder: Path | None = None
) -> list[str]:
    """Apply the files that are still to be applied, perhaps only up to one; see `migrate`.

    In a transaction of the caller's, they all belong to that.
    """
    known = migrations(folder)
    with connection.transaction():
        connection.execute(_TAKE_TURNS)
        connection.execute(_BOOKKEEPING)
        _check(known, _applied(connection))
    return [migration.name for migration in known[:last] if _apply(connection, migration)]


def fit_editions(connection: psycopg.Connection[Any], chunk_interval_us: int) -> None:
    """Fit the tables of a fully migrated database to its TimescaleDB edition, in the caller's transaction."""
    _set_local(connection, "tapeline.chunk_interval", f"{chunk_interval_us} microseconds")
    connection.execute("SELECT tapeline.fit_edition()")
    found = connection.execute("SELECT to_regprocedure('tapeline.fit_edition_store()') IS NOT NULL").fetchone()
    if found == (True,):  # a folder of earlier migrations has no such tables
        connection.execute("SELECT tapeline.fit_edition_store()")


def require_schema(connection: psycopg.Connection[Any]) -> None:
    """Make sure that the database has exactly the schema of this version of Tapeline.

    Raises
    ------
    SchemaError
        If it has none, is behind or ahead, or was made from edited files.
    """
    known = migrations()
    with connection.transaction():
        applied = _applied(connection) if _has_bookkeeping(connection) else {}
    _check(known, applied)
    if len(applied) < len(known):
        raise SchemaError(
            f"the database's schema is at {max(applied, default=0)}, this version of Tapeline needs {len(known)}",
            where=f"database {connection.info.dbname}",
            remedy="Run: tapeline migrate",
        )


def schema_version(connection: psycopg.Connection[Any]) -> int:
    """Number of the last migration applied, 0 if none."""
    with connection.transaction():
        return max(_applied(connection), default=0) if _has_bookkeeping(connection) else 0


def _packaged_folder() -> Path:
    packaged = Path(__file__).parent / "sql"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "sql"


def _has_bookkeeping(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT to_regclass('tapeline.schema_migrations') IS NOT NULL").fetchone()
    assert row is not None
    return bool(row[0])


def _applied(connection: psycopg.Connection[Any]) -> dict[int, tuple[str, str]]:
    rows = connection.execute("SELECT number, name, sha256 FROM tapeline.schema_migrations").fetchall()
    return {number: (name, sha256) for number, name, sha256 in rows}


def _check(known: list[Migration], applied: dict[int, tuple[str, str]]) -> None:
    ahead = max(applied, default=0)
    if ahead > len(known):
        raise SchemaError(
            f"the database's schema is at {ahead} ({applied[ahead][0]}), this version of Tapeline knows {len(known)}",
            remedy="Use the version of Tapeline that migrated it, or a newer one",
        )
    for migration in known:
        name, sha256 = applied.get(migration.number, (migration.name, migration.sha256))
        if (name, sha256) != (migration.name, migration.sha256):
            raise SchemaError(
                f"migration {migration.number} was applied as {name} with SHA-256 {sha256[:12]}…, and the file is now"
                f" {migration.name} with {migration.sha256[:12]}…",
                where=str(migration.path),
                remedy="Restore the file and put the change into a new migration",
            )


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> bool:
    """Apply one file unless another process has by now."""
    with connection.transaction():
        connection.execute(_TAKE_TURNS)
        if migration.number in _applied(connection):
            return False
        try:
            connection.execute(migration.sql)
        except psycopg.Error as error:
            raise SchemaError(
                f"migration {migration.name} failed: {error.diag.message_primary or error}",
                where=_line_of(error, migration),
                remedy="Nothing of it was applied; mend the cause and run again: tapeline migrate",
            ) from error
        connection.execute(
            "INSERT INTO tapeline.schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
            (migration.number, migration.name, migration.sha256),
        )
    return True


def _line_of(error: psycopg.Error, migration: Migration) -> str:
    position = error.diag.statement_position
    if position is None:
        return str(migration.path)
    return f"{migration.path}, line {migration.sql.count(chr(10), 0, int(position)) + 1}"


def _set_local(connection: psycopg.Connection[Any], name: str, value: str) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", (name, value))
