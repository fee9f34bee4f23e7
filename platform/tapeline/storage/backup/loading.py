"""Puts a backup's tables into a database, in one transaction: either all of it is there afterwards, or what was before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from tapeline.core.errors import IntegrityError, ParameterError, SchemaError, UnavailableError
from tapeline.core.timestamps import format_us
from tapeline.storage.backup.catalogue import NOT_CARRIED, OWN_SCHEMA, SEEDED, create_table, describe_tables
from tapeline.storage.backup.hashed import HashedFile
from tapeline.storage.backup.manifest import BackupManifest, SavedPolicy, SavedTable, altered
from tapeline.storage.backup.writing import DERIVED_SCHEMAS, SCHEMAS
from tapeline.storage.migrations import CHUNK_INTERVAL_US, apply_migrations, fit_editions, migrations

_PIECE_BYTES = 1 << 20
_LOCK_TIMEOUT = "30s"


_OWN = "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = o.oid AND d.deptype IN ('e', 'i'))"
_OBJECTS = (
    f"""SELECT 'TABLE', o.oid::regclass::text FROM pg_class o
        WHERE o.relnamespace = %(schema)s::regnamespace AND o.relkind IN ('r', 'p') AND NOT o.relispartition AND {_OWN}""",
    f"""SELECT CASE o.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'SEQUENCE' END,
        o.oid::regclass::text FROM pg_class o
        WHERE o.relnamespace = %(schema)s::regnamespace AND o.relkind IN ('v', 'm', 'S') AND {_OWN}""",
    f"""SELECT CASE o.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
        o.oid::regprocedure::text FROM pg_proc o WHERE o.pronamespace = %(schema)s::regnamespace AND {_OWN}""",
    f"""SELECT 'TYPE', o.oid::regtype::text FROM pg_type o
        WHERE o.typnamespace = %(schema)s::regnamespace AND o.typtype IN ('d', 'e', 'r') AND {_OWN}""",
)
"""Kinds and names of what a schema holds that belongs to no extension."""


@dataclass(frozen=True)
class Loaded:
    """What a restore did.

    Attributes
    ----------
    tables, rows
        Restored.
    edition
        Of the database now.
    migrated
        Migrations that came after the backup and were applied to it.
    seconds
        Wall time.
    """

    tables: int
    rows: int
    edition: str
    migrated: tuple[str, ...]
    seconds: float


def load(
    connection: psycopg.Connection[Any],
    folder: Path,
    manifest: BackupManifest,
    *,
    overwrite: bool = False,
    chunk_interval_us: int = CHUNK_INTERVAL_US,
    advance: Callable[[int], object] = lambda _: None,
) -> Loaded:
    """Restore a backup's tables, recording times included.

    The schemas are made anew at the backup's version, filled, and brought up to this version, all in one transaction.

    Parameters
    ----------
    connection
        Idle, of a role that may create schemas.
    folder, manifest
        The backup, its files verified.
    overwrite
        Replace what the database holds.
    chunk_interval_us
        Time span of a TimescaleDB chunk, µs.
    advance
        Called with a number of compressed bytes each time so many are loaded.

    Raises
    ------
    ParameterError
        If the database holds rows and `overwrite` is not set, or the connection is in a transaction.
    SchemaError
        If the backup's schema is none that this version of Tapeline can build.
    IntegrityError
        If a file is not what was written; the message names it.
    UnavailableError
        If the server's clock is behind the backup's, or others keep the tables locked.
    """
    started = time.perf_counter()
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError("a restore needs an idle connection", remedy="Commit or roll back what it is doing first")
    _require_known(manifest)
    try:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            cursor.execute("SET LOCAL client_encoding TO 'UTF8'")
            _require_clock(cursor, manifest)
            _clear(connection, cursor, manifest, overwrite=overwrite)
            migrated = _fill(connection, cursor, folder, manifest, chunk_interval_us, advance)
            edition = _edition(cursor)
            if edition == manifest.edition == "community":
                for policy in manifest.policies:
                    _restore_policy(cursor, policy)
    except psycopg.errors.LockNotAvailable as error:
        raise UnavailableError(
            f"others keep the tables locked for more than {_LOCK_TIMEOUT}",
            remedy="End the sessions that pg_stat_activity shows, and restore again",
        ) from error
    with connection.transaction():
        for saved in manifest.tables:
            connection.execute(sql.SQL("ANALYZE {}").format(saved.table.identifier))
    return Loaded(len(manifest.tables), manifest.rows, edition, migrated, time.perf_counter() - started)


def _require_known(manifest: BackupManifest) -> None:
    known = migrations()
    for applied in manifest.migrations:
        if applied.number > len(known) or known[applied.number - 1].sha256 != applied.sha256:
            raise SchemaError(
                f"the backup's schema has migration {applied.name}, which this version of Tapeline does not know",
                remedy=f"Restore with Tapeline {manifest.tapeline_version} or newer",
            )


def _require_clock(cursor: psycopg.Cursor[Any], manifest: BackupManifest) -> None:
    row = cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    assert row is not None
    if row[0] < manifest.taken_us:
        raise UnavailableError(
            f"the server's clock is at {format_us(row[0])}, before the backup was taken at "
            f"{format_us(manifest.taken_us)}: later rows would be recorded before earlier ones",
            remedy="Set the clock right, or wait",
        )


def _edition(cursor: psycopg.Cursor[Any]) -> str:
    row = cursor.execute("SELECT tapeline.edition()").fetchone()
    assert row is not None
    return str(row[0])


def _clear(
    connection: psycopg.Connection[Any], cursor: psycopg.Cursor[Any], manifest: BackupManifest, *, overwrite: bool
) -> None:
    """Remove what is there, if it is nothing or may go."""
    others = [saved.table for saved in manifest.tables if saved.table.schema_name not in SCHEMAS]
    if not overwrite:
        found = cursor.execute(
            "SELECT format('%%I.%%I', nspname, relname), nspname || '.' || relname"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE (nspname = ANY (%s) OR nspname || '.' || relname = ANY (%s)) AND relkind IN ('r', 'p')"
            " AND NOT relispartition ORDER BY 1",
            (list(SCHEMAS), [table.full_name for table in others]),
        ).fetchall()
        for quoted, name in found:
            if name in NOT_CARRIED | SEEDED:
                continue
            if cursor.execute(f"SELECT 1 FROM {quoted} LIMIT 1").fetchone():
                raise ParameterError(
                    f"the database is not empty: {name} has rows",
                    where=f"database {connection.info.dbname}",
                    remedy="Restore into another database, or pass --overwrite to lose what is there",
                )
    for schema in (*DERIVED_SCHEMAS, *SCHEMAS):
        _drop_schema(cursor, schema)
    for table in others:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table.identifier))


def _drop_schema(cursor: psycopg.Cursor[Any], schema: str) -> None:
    """Drop a schema; one that an extension was created in is emptied of all else. TimescaleDB's is where a role is called
    like the schema, and a session cannot create it again.
    """
    extended = cursor.execute(
        "SELECT 1 FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE n.nspname = %s", (schema,)
    ).fetchone()
    if extended is None:
        cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
        return
    for query in _OBJECTS:
        while row := cursor.execute(query + " LIMIT 1", {"schema": schema}).fetchone():
            cursor.execute(f"DROP {row[0]} {row[1]} CASCADE")  # a cascade may take the next ones along


def _fill(
    connection: psycopg.Connection[Any],
    cursor: psycopg.Cursor[Any],
    folder: Path,
    manifest: BackupManifest,
    chunk_interval_us: int,
    advance: Callable[[int], object],
) -> tuple[str, ...]:
    last = len(manifest.migrations)
    apply_migrations(connection, last=last)
    if last == len(migrations()):  # empty tables are chunked at once; else when the later migrations are in
        fit_editions(connection, chunk_interval_us)
    for saved in manifest.tables:
        if saved.table.schema_name != OWN_SCHEMA:
            create_table(connection, saved.table)
    _require_same_columns(connection, manifest)
    triggered = _triggered(cursor)
    for saved in sorted(manifest.tables, key=lambda saved: saved.table.full_name not in triggered):
        _load_table(cursor, folder, saved, advance)
    migrated = tuple(apply_migrations(connection))
    fit_editions(connection, chunk_interval_us)  # what is kept beside the tables that were made meanwhile, too
    return migrated


def _require_same_columns(connection: psycopg.Connection[Any], manifest: BackupManifest) -> None:
    made = {
        table.full_name: {column.name: column.type for column in table.columns}
        for table in describe_tables(connection, sorted({saved.table.schema_name for saved in manifest.tables}))
    }
    for saved in manifest.tables:
        wanted = {column.name: column.type for column in saved.table.columns}
        if made.get(saved.table.full_name) != wanted:
            raise SchemaError(
                f"table {saved.table.full_name} of the backup has other columns than this version of Tapeline makes",
                remedy="Restore with the version that wrote the backup",
            )


def _triggered(cursor: psycopg.Cursor[Any]) -> set[str]:
    """Tables whose triggers write other tables: filled first, so that what they wrote can be replaced."""
    rows = cursor.execute(
        "SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND n.nspname = ANY (%s)",
        (list(SCHEMAS),),
    ).fetchall()
    return {name for (name,) in rows}


def _load_table(cursor: psycopg.Cursor[Any], folder: Path, saved: SavedTable, advance: Callable[[int], object]) -> None:
    path = folder / saved.file_name
    table = saved.table
    # What migrations or triggers put there goes; tables whose rows may not be deleted have none yet.
    if cursor.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(table.identifier)).fetchone() is not None:
        cursor.execute(sql.SQL("DELETE FROM {}").format(table.identifier))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table.identifier, table.column_list)
    file = HashedFile(path, "rb")
    try:
        told = 0
        try:
            with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
                with cursor.copy(statement) as copy:
                    while piece := stream.read(_PIECE_BYTES):
                        copy.write(piece)
                        advance(file.count - told)
                        told = file.count
                file.drain()
                read, actual = file.count, file.sha256
        except (OSError, psycopg.DataError) as error:
            raise IntegrityError(
                f"the file of table {table.full_name} cannot be read: {error}",
                where=str(path),
                remedy="Take another copy of the backup, or an older backup",
            ) from error
        if actual != saved.sha256:
            raise altered(saved, actual, path)
        advance(read - told)
    finally:
        file.close()
    if cursor.rowcount != saved.rows:
        raise IntegrityError(
            f"table {table.full_name} got {cursor.rowcount} rows where {saved.rows} are expected", where=str(path)
        )
    for sequence in saved.sequences:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence(%s, %s), %s, %s)",
            (table.identifier.as_string(cursor.connection), sequence.column, sequence.last_value, sequence.is_called),
        )


def _restore_policy(cursor: psycopg.Cursor[Any], saved: SavedPolicy) -> None:
    """Take away what operators had removed, and keep to the retention that they had set."""
    exists = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (saved.table,)).fetchone()
    if exists != (True,):
        return
    row = cursor.execute("SELECT tapeline.timescaledb_schema()").fetchone()
    assert row is not None
    remove = {
        "compression": "remove_compression_policy",
        "retention": "remove_retention_policy",
        "refresh": "remove_continuous_aggregate_policy",
    }[saved.policy]
    changed = saved.active and saved.policy == "retention" and saved.after is not None
    if not saved.active or changed:
        cursor.execute(
            sql.SQL("SELECT {}(%s::regclass, if_exists => true)").format(sql.Identifier(row[0], remove)),
            (saved.table,),
        )
    if changed:
        cursor.execute(
            sql.SQL("SELECT {}(%s::regclass, drop_after => %s::interval)").format(
                sql.Identifier(row[0], "add_retention_policy")
            ),
            (saved.table, saved.after),
        )
