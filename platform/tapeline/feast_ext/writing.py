"""Rows into tables: pushes to a source's table, saved data sets, logged features."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
from feast.errors import SavedDatasetLocationAlreadyExists
from psycopg import sql

from tapeline.core.errors import InvalidDataError
from tapeline.feast_ext.types import postgres_type
from tapeline.storage.arrow import copy_arrow


def append(connection: psycopg.Connection[Any], table: str, rows: pa.Table) -> None:
    """Append rows to a table, in the caller's transaction.

    Raises
    ------
    NaiveTimestampError
        If a time has no zone.
    InvalidDataError
        If a column does not fit its table column, or a row breaks a rule of the table.
    """
    with connection.cursor() as cursor:
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


def with_zones(rows: pa.Table) -> pa.Table:
    """The rows with UTC on every timestamp that has no zone; for times that Feast itself wrote."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            zoned = rows.column(number).cast(pa.timestamp(field.type.unit, tz="UTC"))
            rows = rows.set_column(number, field.name, zoned)
    return rows
