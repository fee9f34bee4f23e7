"""Writes the tables of one snapshot into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from tapeline import __version__
from tapeline.core.errors import ParameterError, UnavailableError
from tapeline.storage.backup.catalogue import TableDescription, describe_tables
from tapeline.storage.backup.hashed import HashedFile
from tapeline.storage.backup.manifest import (
    TABLES_FOLDER,
    AppliedMigration,
    BackupManifest,
    SavedPolicy,
    SavedSequence,
    SavedTable,
)
from tapeline.storage.migrations import require_schema

SCHEMAS = ("tapeline", "features", "feast")
"""What a backup holds unless more is asked for: Tapeline's tables, feature values, Feast's registry."""
_PIECE_BYTES = 1 << 20
_ATTEMPTS_MAX = 3
_US = "(extract(epoch FROM {}) * 1000000)::bigint"
DERIVED_SCHEMAS = ("latest",)
"""Schemas that triggers fill from the others: not saved, made again by a restore."""


def dump(
    connection: psycopg.Connection[Any],
    folder: Path,
    *,
    schemas: Sequence[str] = SCHEMAS,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[BackupManifest, list[str]]:
    """Write every table of some schemas, as one snapshot shows them, to ``tables/`` in a folder.

    Parameters
    ----------
    connection
        Idle, to a database with this version's schema. One transaction reads everything; memory stays bounded.
    folder
        An existing folder that nobody reads yet.
    schemas
        Which.
    advance
        Called with a number of rows each time so many are written.

    Returns
    -------
    tuple
        The manifest, not yet written, and the addresses of the model bundles that the snapshot's registry names.

    Raises
    ------
    SchemaError
        If the database has another schema, or a table that cannot be described.
    UnavailableError
        If tables keep being made or dropped meanwhile.
    ParameterError
        If the connection is in a transaction.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise ParameterError("a backup needs an idle connection", remedy="Commit or roll back what it is doing first")
    require_schema(connection)
    (folder / TABLES_FOLDER).mkdir()
    for _ in range(_ATTEMPTS_MAX):
        with connection.transaction():
            horizon_us = _number(connection, _US.format("tapeline.safe_horizon()"))
            expected = describe_tables(connection, schemas)
        with _snapshot(connection, expected):
            tables = describe_tables(connection, schemas)
            if [table.full_name for table in tables] != [table.full_name for table in expected]:
                continue
            return _dump(connection, folder, tables, horizon_us, advance)
    raise UnavailableError(
        "tables were made or dropped while the backup began", remedy="Let that end, and run the backup again"
    )


@contextmanager
def _snapshot(connection: psycopg.Connection[Any], tables: Sequence[TableDescription]) -> Iterator[None]:
    """A transaction that sees one state of the tables. The locks come before the snapshot, so none can be emptied or
    dropped between the two.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        names = sql.SQL(", ").join(table.identifier for table in tables)
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        connection.execute("SET LOCAL client_encoding TO 'UTF8'")
        yield


def _dump(
    connection: psycopg.Connection[Any],
    folder: Path,
    tables: Sequence[TableDescription],
    horizon_us: int,
    advance: Callable[[int], object],
) -> tuple[BackupManifest, list[str]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        taken_us = _number(connection, _US.format("clock_timestamp()"))
        edition = cursor.execute("SELECT tapeline.edition()").fetchone()
        applied = cursor.execute("SELECT number, name, sha256 FROM tapeline.schema_migrations ORDER BY 1").fetchall()
        policies = _policies(cursor) if edition == ("community",) else []
        saved = [_dump_table(cursor, folder, table, advance) for table in tables]
        bundles = cursor.execute("SELECT DISTINCT bundle_sha256 FROM tapeline.models ORDER BY 1").fetchall()
    assert edition is not None
    manifest = BackupManifest(
        taken_us=taken_us,
        safe_horizon_us=horizon_us,
        edition=edition[0],
        server_version=connection.info.server_version,
        tapeline_version=__version__,
        migrations=tuple(AppliedMigration(number=row[0], name=row[1], sha256=row[2]) for row in applied),
        tables=tuple(saved),
        policies=tuple(policies),
    )
    return manifest, [address for (address,) in bundles]


def _number(connection: psycopg.Connection[Any], expression: str) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(f"SELECT {expression}").fetchone()
    assert row is not None
    return int(row[0])


def _dump_table(
    cursor: psycopg.Cursor[Any], folder: Path, table: TableDescription, advance: Callable[[int], object]
) -> SavedTable:
    path = folder / TABLES_FOLDER / f"{table.full_name}.copy.zst"
    # Of a hypertable, only a query sees the rows.
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(
        table.column_list, table.identifier
    )
    file = HashedFile(path, "xb")
    try:
        with pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd") as stream:
            piece, rows = bytearray(), 0
            with cursor.copy(statement) as copy:
                for message in copy:
                    piece += message
                    rows += 1
                    if len(piece) >= _PIECE_BYTES:
                        stream.write(bytes(piece))
                        advance(rows)
                        piece, rows = bytearray(), 0
            stream.write(bytes(piece))
            advance(rows)
    finally:
        file.close()
    return SavedTable(
        table=table,
        rows=cursor.rowcount,
        bytes=file.count,
        sha256=file.sha256,
        sequences=tuple(_sequences(cursor, table)),
    )


def _sequences(cursor: psycopg.Cursor[Any], table: TableDescription) -> Iterator[SavedSequence]:
    for column in table.columns:
        if not (column.identity or column.serial):
            continue
        name = cursor.execute(
            "SELECT pg_get_serial_sequence(%s, %s)", (table.identifier.as_string(cursor.connection), column.name)
        ).fetchone()
        if name is None or name[0] is None:
            continue
        row = cursor.execute(f"SELECT last_value, is_called FROM {name[0]}").fetchone()
        assert row is not None
        yield SavedSequence(column=column.name, last_value=row[0], is_called=row[1])


def _policies(cursor: psycopg.Cursor[Any]) -> list[SavedPolicy]:
    """What operators left of the policies that were set once: what they removed is not to come back with a restore."""
    rows = cursor.execute("""
        SELECT noted.table_name, noted.policy, job.job_id IS NOT NULL,
            coalesce(job.config ->> 'drop_after', job.config ->> 'compress_after')
        FROM tapeline.edition_policies noted
        LEFT JOIN timescaledb_information.continuous_aggregates summary
            ON summary.view_schema || '.' || summary.view_name = noted.table_name
        LEFT JOIN timescaledb_information.jobs job
            ON job.hypertable_schema || '.' || job.hypertable_name IN (noted.table_name,
                summary.materialization_hypertable_schema || '.' || summary.materialization_hypertable_name)
            AND job.proc_name = CASE noted.policy WHEN 'refresh' THEN 'policy_refresh_continuous_aggregate'
                                ELSE 'policy_' || noted.policy END
        ORDER BY 1, 2
    """).fetchall()
    return [SavedPolicy(table=row[0], policy=row[1], active=row[2], after=row[3]) for row in rows]
