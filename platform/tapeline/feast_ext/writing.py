"""Rows into tables: pushes to a source's table, saved data sets, logged features."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pyarrow as pa
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LOG_TIMESTAMP_FIELD, REQUEST_ID_FIELD
from psycopg import sql

from tapeline.core.clock import Clock
from tapeline.core.errors import InvalidDataError, LimitError
from tapeline.feast_ext.source import TimescaleSource
from tapeline.feast_ext.types import postgres_type
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.keyed_rows import ROWS_MAX, KeyedTable, append_keyed
from tapeline.storage.raw import AppendCounts
from tapeline.storage.retrying import write_faults, write_with_retries
from tapeline.storage.turns import turn

Connect = Callable[[], psycopg.Connection[Any]]


def write_rows(
    connect: Connect,
    source: TimescaleSource,
    table: str,
    join_keys: Sequence[str],
    rows: pa.Table,
    clock: Clock,
    judge: Callable[[psycopg.Connection[Any], pa.Table], None],
) -> AppendCounts:
    """Append rows to the table of a source, those that are new or changed; a lost connection is tried again.

    Parameters
    ----------
    connect
        Opens a connection.
    source
        Names the columns of times and order.
    table
        Its table.
    join_keys
        Columns that identify an entity, by the view's names.
    rows
        Columns by the table's names or the view's.
    clock
        Says when they arrive.
    judge
        Asked about the rows, by the table's names, in the transaction that writes them; an error of it ends that.

    Raises
    ------
    InvalidDataError, NaiveTimestampError, LimitError, SchemaError, DiskFullError, UnavailableError
        See `tapeline.storage.keyed_rows.append_keyed`.
    """
    # Feast gives the columns the view's names before it hands the rows over; the table has the source's.
    column_of = source.column_of
    rows = with_documents(rows.rename_columns([column_of.get(name, name) for name in rows.column_names]), table)
    target = KeyedTable(
        table=table,
        entity_columns=tuple(column_of.get(name, name) for name in join_keys),
        event_column=source.timestamp_field,
        available_column=source.available_timestamp_column,
        created_column=source.created_timestamp_column or None,
        sequence_column=source.sequence_column,
    )
    return write_with_retries(connect, lambda c: append_keyed(c, target, rows, clock=clock, judge=judge), where=table)


def write_log(connect: Connect, table: str, schema: pa.Schema, rows: pa.Table) -> int:
    """Append logged features to their table, made if need be; what it holds already is not added again.

    A row is known again by its request id, its moment and all that was logged with it. Rows that are alike within a
    batch (a request that asked for an entity twice) are kept as often as they come. A lost connection is tried again.

    Returns
    -------
    int
        Rows added.

    Raises
    ------
    InvalidDataError, NaiveTimestampError
        If a column does not fit the table.
    LimitError
        If there are too many rows.
    DiskFullError, UnavailableError
        If the server has no room or stays away; nothing of the batch is in the table then.
    """
    if rows.num_rows > ROWS_MAX:
        raise LimitError(
            f"{rows.num_rows:,} rows in one batch; at most {ROWS_MAX:,} can be logged together",
            where=table,
            remedy="Write them in several batches",
        )

    def write(connection: psycopg.Connection[Any]) -> int:
        with turn(connection, f"log:{table}"), connection.transaction(), connection.cursor() as cursor:
            create(connection, table, schema, exists_ok=True)
            return _append_new(cursor, table, rows)

    return write_with_retries(connect, write, where=table)


def _append_new(cursor: psycopg.Cursor[Any], table: str, rows: pa.Table) -> int:
    words = {
        "table": sql.Identifier(*table.split(".")),
        "columns": sql.SQL(", ").join(map(sql.Identifier, rows.column_names)),
        "moment": sql.Identifier(LOG_TIMESTAMP_FIELD),
        "request": sql.Identifier(REQUEST_ID_FIELD),
    }
    missing = [name for name in (LOG_TIMESTAMP_FIELD, REQUEST_ID_FIELD) if name not in rows.column_names]
    if missing:
        raise InvalidDataError(f"the logged rows lack {', '.join(missing)}", where=table)
    cursor.execute(
        sql.SQL("CREATE INDEX IF NOT EXISTS {index} ON {table} ({moment}, {request})").format(
            index=sql.Identifier(f"{table.rpartition('.')[2]}_request"), **words
        )
    )
    stage = sql.SQL("CREATE TEMP TABLE logged ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA")
    try:
        cursor.execute(stage.format(**words), prepare=False)
    except psycopg.errors.UndefinedColumn as error:
        raise InvalidDataError(f"the log's table does not fit: {error.diag.message_primary}", where=table) from error
    copy_arrow(cursor, rows, "pg_temp.logged")
    cursor.execute("ANALYZE pg_temp.logged", prepare=False)
    # EXCEPT ALL counts: of rows that are alike, only those beyond the stored ones remain.
    new = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM pg_temp.logged EXCEPT ALL"
        " SELECT {columns} FROM {table} t"
        " WHERE {moment} BETWEEN (SELECT min({moment}) FROM pg_temp.logged) AND (SELECT max({moment}) FROM pg_temp.logged)"
        " AND EXISTS (SELECT FROM pg_temp.logged l WHERE l.{request} IS NOT DISTINCT FROM t.{request})"
    )
    return cursor.execute(new.format(**words), prepare=False).rowcount


def append(connection: psycopg.Connection[Any], table: str, rows: pa.Table) -> None:
    """Append rows to a table as they are, in the caller's transaction.

    Raises
    ------
    NaiveTimestampError
        If a time has no zone.
    InvalidDataError
        If a column does not fit its table column, or a row breaks a rule of the table.
    DiskFullError, UnavailableError
        If the server has no room or goes away.
    """
    with connection.cursor() as cursor, write_faults(table):
        try:
            copy_arrow(cursor, rows, table)
        except psycopg.errors.IntegrityError as error:
            raise InvalidDataError(f"a row was refused: {error.diag.message_primary}", where=table) from error


def create(
    connection: psycopg.Connection[Any], table: str, schema: pa.Schema, *, exists_ok: bool, replace: bool = False
) -> None:
    """Create a table for rows of an Arrow schema, in the caller's transaction.

    Parameters
    ----------
    connection
        The database.
    table
        Name, possibly with its schema.
    schema
        Columns and types.
    exists_ok
        Keep a table of this name as it is.
    replace
        Drop a table of this name first.

    Raises
    ------
    SavedDatasetLocationAlreadyExists
        If the table exists and neither is asked for. It is Feast's own error, as its callers expect.
    InvalidDataError
        If a column type has no PostgreSQL form.
    """
    name = sql.Identifier(*table.split("."))
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(postgres_type(field.type))) for field in schema
    )
    if replace:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    only = sql.SQL("IF NOT EXISTS ") if exists_ok else sql.SQL("")
    try:
        connection.execute(sql.SQL("CREATE TABLE {}{} ({})").format(only, name, columns))
    except psycopg.errors.DuplicateTable:
        raise SavedDatasetLocationAlreadyExists(table) from None


def with_documents(rows: pa.Table, where: str) -> pa.Table:
    """The rows with each struct and map as a JSON text, as which a jsonb column takes it: Feast's Map and Struct features.

    Raises
    ------
    InvalidDataError
        If a value in one has no form in JSON: bytes, a time.
    """
    for number, field in enumerate(rows.schema):
        if pa.types.is_struct(field.type) or pa.types.is_map(field.type):
            try:
                texts = [None if v is None else json.dumps(dict(v)) for v in rows.column(number).to_pylist()]
            except TypeError as error:
                raise InvalidDataError(f"column {field.name} holds what JSON cannot: {error}", where=where) from error
            rows = rows.set_column(number, field.name, pa.array(texts, pa.string()))
    return rows


def with_zones(rows: pa.Table) -> pa.Table:
    """The rows with UTC on every timestamp that has no zone; for times that Feast itself wrote."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            zoned = rows.column(number).cast(pa.timestamp(field.type.unit, tz="UTC"))
            rows = rows.set_column(number, field.name, zoned)
    return rows
