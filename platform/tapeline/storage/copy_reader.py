"""Query results as Arrow by ``COPY (…) TO STDOUT (FORMAT binary)``, decoded a column at a time.

ADBC reads a little faster but needs a connection of its own, which sees neither the caller's temporary tables nor the
caller's snapshot. Here the query runs on the caller's connection. PostgreSQL sends one message per row, so the rows'
starts are known, and each column is gathered from all rows of a batch at once.

Source of the format: PostgreSQL documentation, COPY, "Binary Format", and the ``*_send`` functions of each type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.abc import Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row

from tapeline.core.errors import SchemaError

ROWS_PER_BATCH = 65_536
"""Rows decoded at once: it bounds the memory that undecoded messages take."""

_HEADER_BYTES = 19
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01
_POSTGRES_EPOCH_DAYS = 10_957
_INT64_MAX = np.iinfo(np.int64).max
_Message: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a query's result.

    Parameters
    ----------
    name
        Its name.
    oid
        OID of its PostgreSQL type.
    """

    name: str
    oid: int


_FIXED: dict[int, tuple[str, pa.DataType]] = {
    16: ("u1", pa.bool_()),
    20: (">i8", pa.int64()),
    21: (">i2", pa.int16()),
    23: (">i4", pa.int32()),
    700: (">f4", pa.float32()),
    701: (">f8", pa.float64()),
    1082: (">i4", pa.date32()),
    1114: (">i8", pa.timestamp("us")),
    1184: (">i8", pa.timestamp("us", tz="UTC")),
}
_TEXT = frozenset({18, 19, 25, 114, 1042, 1043})
_BINARY = frozenset({17})
_ARRAYS: dict[int, pa.DataType] = {
    1000: pa.bool_(), 1001: pa.binary(), 1005: pa.int16(), 1007: pa.int32(), 1009: pa.string(), 1015: pa.string(),
    1016: pa.int64(), 1021: pa.float32(), 1022: pa.float64(), 1115: pa.timestamp("us"), 1182: pa.date32(),
    1185: pa.timestamp("us", tz="UTC"),
}  # fmt: skip
_NUMERIC = {1700: "float8", 1231: "float8[]"}
_AS_TEXT_ARRAYS = {2951: "text[]", 199: "text[]", 3807: "text[]", 1014: "text[]"}  # uuid, json, jsonb, char


CAST_OIDS = {"float8": 701, "float8[]": 1022, "text": 25, "text[]": 1009}
"""OIDs of the types that `readable` names."""


def readable(oid: int) -> str | None:
    """The type to which SQL must cast a column of this type before it can be read here; none: it can as it is.

    Exact decimals become double, as Feast's own type map has it; everything without an Arrow form becomes text.
    """
    if oid in _FIXED or oid in _TEXT or oid in _BINARY or oid in _ARRAYS:
        return None
    return _NUMERIC.get(oid) or _AS_TEXT_ARRAYS.get(oid) or "text"


def describe(connection: psycopg.Connection[Any], query: sql.Composable) -> list[Column]:
    """Names and types of a query's columns; the query is planned, not run."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(sql.SQL("SELECT * FROM ({}) AS described LIMIT 0").format(query))
        return [Column(column.name, column.type_code) for column in cursor.description or ()]


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema in which `read_copy` gives these columns."""
    return pa.schema([(column.name, _arrow_type(column.oid)) for column in columns])


def read_copy(connection: psycopg.Connection[Any], query: sql.Composable, columns: Sequence[Column]) -> pa.Table:
    """Run a query on the caller's connection and fetch its result as an Arrow table.

    Parameters
    ----------
    connection
        The query sees what its transaction sees.
    query
        A SELECT, complete with its values.
    columns
        Names to give the result's columns, and their types (see `describe` and `readable`).

    Returns
    -------
    pyarrow.Table
        ``timestamptz`` as ``timestamp[us, UTC]``; times past Arrow's range (``infinity``) as its greatest or least.
    """
    schema = arrow_schema(columns)
    batches: list[pa.RecordBatch] = []
    rows: list[_Message] = []
    header_left = True
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with connection.cursor(row_factory=tuple_row) as cursor, cursor.copy(statement) as copy:
        for message in copy:
            row: _Message = message
            if header_left:
                header_left = False
                row = row[_HEADER_BYTES + int.from_bytes(row[15:19], "big") :]
            if len(row) <= 2 and row[:2] in (b"", b"\xff\xff"):  # a header alone, or the trailer
                continue
            rows.append(row)
            if len(rows) == ROWS_PER_BATCH:
                batches.append(_decode(connection, rows, columns, schema))
                rows = []
    if rows:
        batches.append(_decode(connection, rows, columns, schema))
    return pa.Table.from_batches(batches, schema=schema)


def read_query(connection: psycopg.Connection[Any], query: sql.Composable) -> pa.Table:
    """Run any query on the caller's connection and fetch its result as an Arrow table.

    Types without an Arrow form come as text, exact decimals as double.

    Raises
    ------
    SchemaError
        If the query is wrong, or reads what does not exist.
    """
    try:
        with connection.transaction():
            found = describe(connection, query)
    except psycopg.ProgrammingError as error:
        raise SchemaError(f"the query cannot be run: {str(error).strip()}") from error
    casts = [readable(column.oid) for column in found]
    if not any(casts):
        return read_copy(connection, query, found)
    chosen, columns = [], []
    for column, cast in zip(found, casts, strict=True):
        value = sql.SQL("q.{}").format(sql.Identifier(column.name))
        chosen.append(sql.SQL("{}::{}").format(value, sql.SQL(cast)) if cast else value)
        columns.append(Column(column.name, CAST_OIDS[cast] if cast else column.oid))
    return read_copy(connection, sql.SQL("SELECT {} FROM ({}) AS q").format(sql.SQL(", ").join(chosen), query), columns)


def _arrow_type(oid: int) -> pa.DataType:
    if oid in _FIXED:
        return _FIXED[oid][1]
    if oid in _BINARY:
        return pa.binary()
    return pa.list_(_ARRAYS[oid]) if oid in _ARRAYS else pa.string()


def _decode(
    connection: psycopg.Connection[Any],
    rows: Sequence[_Message],
    columns: Sequence[Column],
    schema: pa.Schema,
) -> pa.RecordBatch:
    sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    joined = b"".join((*rows, bytes(8)))  # room for a gather that starts at a NULL in the last field
    whole = _decode_whole(joined, sizes, columns)
    if whole is not None:
        arrays = [_fixed_array(values, column.oid, None) for values, column in zip(whole, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    data = np.frombuffer(joined, dtype=np.uint8)
    at = np.cumsum(sizes) - sizes + 2
    arrays = []
    for column in columns:
        lengths = _gather(data, at, 4).view(">i4").reshape(-1).astype(np.int64)
        at = at + 4
        null = lengths < 0
        lengths = np.where(null, 0, lengths)
        missing = null if null.any() else None
        if column.oid in _FIXED:
            dtype = np.dtype(_FIXED[column.oid][0])
            values = _gather(data, at, dtype.itemsize).view(dtype).reshape(-1)
            arrays.append(_fixed_array(values, column.oid, missing))
        elif column.oid in _ARRAYS:
            loader = psycopg.adapt.Transformer(connection).get_loader(column.oid, Format.BINARY)
            arrays.append(_loaded_array(loader, joined, at, lengths, _ARRAYS[column.oid]))
        else:
            arrays.append(_text_array(data, at, lengths, missing, _arrow_type(column.oid)))
        at = at + lengths
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _decode_whole(joined: bytes, sizes: NDArray[np.int64], columns: Sequence[Column]) -> list[NDArray[Any]] | None:
    """The columns as strided views, if every field of every row has its full fixed width; else none."""
    if any(column.oid not in _FIXED for column in columns):
        return None
    fields: list[tuple[str, str]] = [("count", ">i2")]
    for number, column in enumerate(columns):
        fields += [(f"length{number}", ">i4"), (f"value{number}", _FIXED[column.oid][0])]
    layout = np.dtype(fields)
    if not bool((sizes == layout.itemsize).all()):
        return None
    records = np.frombuffer(joined, dtype=layout, count=len(sizes))
    # A NULL elsewhere could give a row the same size: each length is read where the one before it, checked, put it.
    for number, column in enumerate(columns):
        if not bool((records[f"length{number}"] == np.dtype(_FIXED[column.oid][0]).itemsize).all()):
            return None
    return [records[f"value{number}"] for number in range(len(columns))]


def _gather(data: NDArray[np.uint8], starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    return np.lib.stride_tricks.sliding_window_view(data, width)[starts]


def _fixed_array(values: NDArray[Any], oid: int, null: NDArray[np.bool_] | None) -> pa.Array:
    native: NDArray[Any] = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    kind = _FIXED[oid][1]
    if oid == 16:
        return pa.array(native.astype(np.bool_), mask=null)
    if oid == 1082:
        return pa.array(native + np.int32(_POSTGRES_EPOCH_DAYS), mask=null).cast(kind)
    if oid in (1114, 1184):
        # `infinity` is the greatest int64 already; adding the epoch would make it a moment long ago.
        native = np.where(native > _INT64_MAX - _POSTGRES_EPOCH_US, _INT64_MAX, native + _POSTGRES_EPOCH_US)
        return pa.array(native, mask=null).view(kind)
    return pa.array(native, type=kind, mask=null, from_pandas=False)


def _text_array(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    null: NDArray[np.bool_] | None,
    kind: pa.DataType,
) -> pa.Array:
    ends = np.cumsum(lengths)
    source = np.repeat(starts - (ends - lengths), lengths) + np.arange(int(ends[-1]), dtype=np.int64)
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    validity = None
    if null is not None:
        validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(data[source])]
    return pa.Array.from_buffers(kind, len(lengths), buffers)


def _loaded_array(
    loader: Loader, joined: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64], element: pa.DataType
) -> pa.Array:
    """Arrays are rare as features: psycopg's own loaders take them, a cell at a time. No array is NULL at length 0."""
    cells: list[Any] = [
        loader.load(joined[start : start + length]) if length else None
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    return pa.array(cells, type=pa.list_(element))
