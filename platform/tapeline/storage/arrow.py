"""Arrow in and out of PostgreSQL: appends by binary COPY, reads by ADBC."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.errors import InvalidDataError, ParameterError, SchemaError, UnavailableError
from tapeline.storage.copy_encoder import CopyType, encode_arrow, known_type
from tapeline.storage.postgres import address_of

_MESSAGE_BYTES = 1 << 18
"""The server works on a message once it has all of it: short ones let it work while the next slice is encoded."""


def copy_arrow(
    cursor: psycopg.Cursor[Any], table: pa.Table | pa.RecordBatch, target: str, columns: Sequence[str] | None = None
) -> int:
    """Append an Arrow table to a database table by binary COPY.

    Columns are matched by name and cast to the type of their database column where no value changes by it.

    Parameters
    ----------
    cursor
        A cursor inside the caller's transaction.
    table
        The rows. Floats keep NaN and infinities; Arrow nulls become NULL.
    target
        Table name, possibly with its schema: ``tapeline.bars``.
    columns
        The columns to write; all of ``table``'s if not given. Others take their defaults.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    NaiveTimestampError
        If a timestamp column has no time zone.
    InvalidDataError
        If a column is missing on either side, or cannot be cast to its database type without loss.
    """
    names = tuple(columns) if columns is not None else tuple(table.column_names)
    types = _target_types(cursor, target, names)
    absent = [name for name in names if name not in table.schema.names]
    if absent:
        raise InvalidDataError(f"the table to copy lacks {', '.join(absent)}", where=target)
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        _identifier(target), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    pieces = encode_arrow(table, names, types)
    with cursor.copy(statement) as copy:
        for piece in pieces:
            whole = memoryview(piece)
            for start in range(0, len(whole), _MESSAGE_BYTES):
                copy.write(whole[start : start + _MESSAGE_BYTES])
    return int(table.num_rows)


def read_arrow(
    source: str | psycopg.Connection[Any],
    query: str | sql.Composable,
    parameters: Sequence[object] | Mapping[str, object] = (),
) -> pa.Table:
    """Run a query and fetch its result as one Arrow table, by ADBC.

    Parameters
    ----------
    source
        A PostgreSQL URL or connection string, or a psycopg connection to take it from. The query runs on a
        connection of its own, so it sees what is committed.
    query
        SQL with psycopg's placeholders, ``%s`` or ``%(name)s``.
    parameters
        Values for them; written into the query as literals.

    Returns
    -------
    pyarrow.Table
        ``timestamptz`` columns are ``timestamp[us, UTC]``, ``float8`` double, ``text`` string.

    Raises
    ------
    UnavailableError
        If the database cannot be reached.
    """
    from adbc_driver_manager import OperationalError
    from adbc_driver_postgresql import dbapi

    text = _inline(query, parameters)
    address = source if isinstance(source, str) else address_of(source)
    try:
        connection = dbapi.connect(address, autocommit=True)
    except OperationalError as error:
        raise UnavailableError(f"PostgreSQL cannot be reached: {error}", remedy="Try `tapeline status`") from error
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetch_arrow_table()


@contextmanager
def stream_arrow(connection: psycopg.Connection[Any], query: str | sql.Composable) -> Iterator[pa.RecordBatchReader]:
    """Run a query that only reads, and yield its result as a stream of Arrow batches, never whole in memory.

    Parameters
    ----------
    connection
        Where the database is. The query runs on a connection of its own, so it sees what is committed; timestamps
        without a zone count as UTC in it.
    query
        SQL, complete with its values.

    Raises
    ------
    UnavailableError
        If the database cannot be reached.
    SchemaError
        If the query is wrong, reads what does not exist, or writes.
    """
    from adbc_driver_manager import Error, OperationalError
    from adbc_driver_postgresql import dbapi

    text = query if isinstance(query, str) else query.as_string(None)
    try:
        opened = dbapi.connect(address_of(connection))
    except OperationalError as error:
        raise UnavailableError(f"PostgreSQL cannot be reached: {error}", remedy="Try `tapeline status`") from error
    with opened, opened.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SET TRANSACTION READ ONLY")
        try:
            cursor.execute(text)
            reader = cursor.fetch_record_batch()
        except Error as error:
            raise SchemaError(f"the query cannot be run: {' '.join(str(error).split())}") from error
        yield reader


def _inline(query: str | sql.Composable, parameters: Sequence[object] | Mapping[str, object]) -> str:
    text = query if isinstance(query, str) else query.as_string(None)
    if not parameters:
        return text
    remaining = iter(parameters) if not isinstance(parameters, Mapping) else iter(())

    def literal(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        name = match[1]
        try:
            value = parameters[name] if isinstance(parameters, Mapping) else next(remaining)
        except (KeyError, StopIteration):
            raise ParameterError(f"the query has no value for {match[0]}") from None
        return sql.Literal(value).as_string(None)

    return re.sub(r"%%|%s|%\((\w+)\)s", literal, text)


def _identifier(target: str) -> sql.Identifier:
    return sql.Identifier(*target.split("."))


def _target_types(cursor: psycopg.Cursor[Any], target: str, columns: Sequence[str]) -> list[CopyType]:
    # A Composable keeps the caller's row factory out of this look-up.
    with cursor.connection.cursor(row_factory=psycopg.rows.tuple_row) as lookup:
        lookup.execute(
            "SELECT attname, atttypid::bigint FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (_identifier(target).as_string(cursor.connection),),
        )
        stored: dict[str, int] = dict(lookup.fetchall())
    unknown = [name for name in columns if name not in stored]
    if unknown:
        raise InvalidDataError(
            f"{target} has no column {', '.join(unknown)}", remedy=f"It has: {', '.join(map(str, stored))}"
        )
    return [known_type(stored[name], name) for name in columns]
