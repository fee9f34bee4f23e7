"""Arrow into PostgreSQL by binary COPY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.errors import InvalidDataError
from tapeline.storage.copy_encoder import CopyType, encode_arrow, known_type

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
