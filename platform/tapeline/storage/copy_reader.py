"""Query results as Arrow by ``COPY (…) TO STDOUT (FORMAT binary)``, on the caller's connection and in its snapshot.

psycopg starts and ends the COPY; the rows between are decoded by :mod:`tapeline.kernels.copy_rows`, which takes them from
psycopg's own libpq. A row costs an eighth of the processor time that ADBC needs for it.

Source of the format: PostgreSQL documentation, COPY, "Binary Format", and the ``*_send`` functions of each type.
"""

from __future__ import annotations

import ctypes
import select
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import generators, sql
from psycopg.pq import ExecStatus, Format, __impl__
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row

from tapeline.core.errors import SchemaError
from tapeline.storage.postgres import sibling

ROWS_PER_BATCH = 65_536
"""Rows of one record batch."""

_TEXT_ROOM = 16
"""Bytes a text is first expected to have on average."""
_POLL_MS = 100
_GATHER_S = 0.0003
"""Being woken for every few rows costs more than decoding them, so after the first batch some are let gather."""

_FIRST_ROWS = 2_048
_GROWTH = 4
"""Rows of the first batch, and how much more those after it have, up to the full size: to clear memory for a full one takes longer than
a short query."""


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


_FIXED: dict[int, tuple[int, pa.DataType]] = {
    16: (1, pa.bool_()),
    20: (8, pa.int64()),
    21: (2, pa.int16()),
    23: (4, pa.int32()),
    700: (4, pa.float32()),
    701: (8, pa.float64()),
    1082: (4, pa.date32()),
    1114: (8, pa.timestamp("us")),
    1184: (8, pa.timestamp("us", tz="UTC")),
}
"""Bytes on the wire, and the Arrow type, of each type of fixed width."""
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
    """Names and types of a query's columns; the query is parsed, neither planned nor run."""
    pgconn, encoding = connection.pgconn, connection.info.encoding
    with connection.transaction():
        pgconn.send_prepare(b"", query.as_bytes(connection))
        _finished(connection)
        pgconn.send_describe_prepared(b"")
        found = _finished(connection)
    return [Column((found.fname(place) or b"").decode(encoding), found.ftype(place)) for place in range(found.nfields)]


def _finished(connection: psycopg.Connection[Any]) -> PGresult:
    """The result of what was sent."""
    result: PGresult = connection.wait(generators.execute(connection.pgconn))[-1]
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, encoding=connection.info.encoding)
    return result


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

    Raises
    ------
    SchemaError
        If the result does not have these columns.
    """
    return pa.Table.from_batches(stream_copy(connection, query, columns), schema=arrow_schema(columns))


def stream_copy(
    connection: psycopg.Connection[Any],
    query: sql.Composable,
    columns: Sequence[Column],
    rows_per_batch: int = ROWS_PER_BATCH,
) -> Generator[pa.RecordBatch]:
    """The same, a record batch of at most so many rows at a time. Until it ends, the connection can do nothing else.

    A signal interrupts the wait for rows. Closing the iterator early cancels the query.
    """
    from tapeline.kernels import copy_rows

    schema = arrow_schema(columns)
    state = np.zeros(copy_rows.STATE_SIZE, dtype=np.int64)
    state[copy_rows.CONNECTION] = getattr(connection.pgconn, "pgconn_ptr")  # noqa: B009  its stub lacks it
    state[[copy_rows.GET_COPY_DATA, copy_rows.CONSUME_INPUT, copy_rows.FREE]] = _libpq()
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with connection.cursor(row_factory=tuple_row) as cursor, cursor.copy(statement) as copy:
        room = min(_FIRST_ROWS, rows_per_batch)
        block = _Block(columns, room)
        try:
            while (reason := block.fill(state)) != copy_rows.DONE:
                if reason == copy_rows.FULL:
                    yield block.batch(connection, room, schema)
                    room = min(_GROWTH * room, rows_per_batch)
                    block = _Block(columns, room)
                    state[copy_rows.ROWS] = 0
                elif reason == copy_rows.WAIT:
                    _await_rows(connection, gather=room > _FIRST_ROWS)
                elif reason == copy_rows.NO_ROOM:
                    block.widen(int(state[copy_rows.COLUMN]), int(state[copy_rows.NEEDED]))
                elif reason == copy_rows.ENDED:
                    raise _failure(connection)
                else:
                    raise SchemaError(
                        f"the query does not give the {len(columns)} columns that were described",
                        where="binary COPY",
                        remedy="Run it again: its tables changed in between",
                    )
        finally:
            copy_rows.release(state)
        while copy.read():
            pass
        if state[copy_rows.ROWS]:
            yield block.batch(connection, int(state[copy_rows.ROWS]), schema)


class _Block:
    """Room for the columns of one batch."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        from tapeline.kernels import copy_rows

        self._columns = columns
        kinds = {16: copy_rows.BOOLEAN, 1114: copy_rows.MOMENT, 1184: copy_rows.MOMENT, 1082: copy_rows.DAY}
        fixed = [column.oid in _FIXED for column in columns]
        self._kinds = np.array(
            [kinds.get(c.oid, copy_rows.NUMBER) if f else copy_rows.TEXT for c, f in zip(columns, fixed, strict=True)],
            dtype=np.int64,
        )
        self._widths = np.array([_FIXED[c.oid][0] if f else 0 for c, f in zip(columns, fixed, strict=True)], np.int64)
        self._values = np.empty((len(columns), rows), dtype=np.int64)
        self._nulls = np.empty((len(columns), rows), dtype=np.uint8)
        texts = 0 if all(fixed) else rows + 1
        self._offsets = np.zeros((len(columns), texts), dtype=np.int64)
        self._texts = [np.empty(0 if f else rows * _TEXT_ROOM, dtype=np.uint8) for f in fixed]
        self._find_texts()

    def _find_texts(self) -> None:
        self._addresses = np.array([text.ctypes.data for text in self._texts], dtype=np.int64)
        self._rooms = np.array([text.size for text in self._texts], dtype=np.int64)

    def fill(self, state: NDArray[np.int64]) -> int:
        """Decode on; why it stopped."""
        from tapeline.kernels import copy_rows

        return copy_rows.read_rows(
            state, self._kinds, self._widths, self._values, self._nulls, self._offsets, self._addresses, self._rooms
        )

    def widen(self, column: int, needed: int) -> None:
        """Make room in a text column, for at least so many bytes."""
        wider = np.empty(max(needed, 2 * self._texts[column].size), dtype=np.uint8)
        wider[: self._texts[column].size] = self._texts[column]
        self._texts[column] = wider
        self._find_texts()

    def batch(self, connection: psycopg.Connection[Any], rows: int, schema: pa.Schema) -> pa.RecordBatch:
        """The first so many rows; their memory is the block's own."""
        arrays = []
        for place, column in enumerate(self._columns):
            absent = self._nulls[place, :rows]
            count = int(np.count_nonzero(absent))
            validity = pa.py_buffer(np.packbits(absent == 0, bitorder="little")) if count else None
            if column.oid in _FIXED:
                array = _fixed_array(self._values[place, :rows], column.oid, validity, count)
            elif column.oid in _ARRAYS:
                array = self._loaded(connection, place, rows)
            else:
                kind = pa.large_binary() if column.oid in _BINARY else pa.large_string()
                buffers = [validity, pa.py_buffer(self._offsets[place, : rows + 1]), pa.py_buffer(self._texts[place])]
                array = pa.Array.from_buffers(kind, rows, buffers, count).cast(_arrow_type(column.oid))
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _loaded(self, connection: psycopg.Connection[Any], place: int, rows: int) -> pa.Array:
        """Arrays are rare as features: psycopg's own loaders take them, a cell at a time."""
        oid = self._columns[place].oid
        loader = psycopg.adapt.Transformer(connection).get_loader(oid, Format.BINARY)
        data, ends = self._texts[place].data, self._offsets[place].tolist()
        cells: list[Any] = [
            None if self._nulls[place, row] else loader.load(bytes(data[ends[row] : ends[row + 1]]))
            for row in range(rows)
        ]
        return pa.array(cells, type=pa.list_(_ARRAYS[oid]))


def _fixed_array(values: NDArray[np.int64], oid: int, validity: pa.Buffer | None, nulls: int) -> pa.Array:
    kind = _FIXED[oid][1]
    if oid == 16:
        data = pa.py_buffer(np.packbits(values != 0, bitorder="little"))
    elif kind.bit_width == 64:
        data = pa.py_buffer(values)
    else:
        data = pa.py_buffer(values.astype(np.int16 if kind.bit_width == 16 else np.int32))
    return pa.Array.from_buffers(kind, len(values), [validity, data], nulls)


def _await_rows(connection: psycopg.Connection[Any], *, gather: bool) -> None:
    """Wait until the server has sent something; where rows flow, until some more have gathered."""
    if gather:
        time.sleep(_GATHER_S)
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    while not waiting.poll(_POLL_MS):
        pass


def _failure(connection: psycopg.Connection[Any]) -> Exception:
    """What the server said when it ended the rows early."""
    results = connection.wait(generators.fetch_many(connection.pgconn))
    return psycopg.errors.error_from_result(results[-1], encoding=connection.info.encoding)


@cache
def _libpq() -> tuple[int, ...]:
    """Addresses of the functions of libpq that `copy_rows` calls, in the library that psycopg itself uses."""
    if __impl__ == "python":
        library = import_module("psycopg.pq._pq_ctypes").pq
    else:  # its symbols are found through the extension module that was linked with it
        library = ctypes.CDLL(import_module(f"psycopg_{__impl__}.pq").__file__)
    functions = (library.PQgetCopyData, library.PQconsumeInput, library.PQfreemem)
    return tuple(int(ctypes.cast(function, ctypes.c_void_p).value or 0) for function in functions)


def read_query(connection: psycopg.Connection[Any], query: sql.Composable) -> pa.Table:
    """Run any query on the caller's connection and fetch its result as an Arrow table.

    Types without an Arrow form come as text, exact decimals as double.

    Raises
    ------
    SchemaError
        If the query is wrong, or reads what does not exist.
    """
    return read_copy(connection, *_readable_query(connection, query))


@contextmanager
def stream_query(connection: psycopg.Connection[Any], query: sql.Composable) -> Iterator[pa.RecordBatchReader]:
    """The same on a connection of its own, which may only read and where timestamps without a zone count as UTC.

    Yields a stream of record batches, never whole in memory.

    Raises
    ------
    UnavailableError
        If the server refuses another connection.
    SchemaError
        If the query is wrong, or reads what does not exist.
    """
    with sibling(connection) as other:
        other.read_only = True
        other.execute("SET TIME ZONE 'UTC'")
        statement, columns = _readable_query(other, query)
        with closing(stream_copy(other, statement, columns)) as batches:
            yield pa.RecordBatchReader.from_batches(arrow_schema(columns), batches)


def _readable_query(connection: psycopg.Connection[Any], query: sql.Composable) -> tuple[sql.Composable, list[Column]]:
    """A query whose columns all can be read, and these."""
    try:
        found = describe(connection, query)
    except psycopg.ProgrammingError as error:
        raise SchemaError(f"the query cannot be run: {str(error).strip()}") from error
    casts = [readable(column.oid) for column in found]
    if not any(casts):
        return query, found
    chosen, columns = [], []
    for column, cast in zip(found, casts, strict=True):
        value = sql.SQL("q.{}").format(sql.Identifier(column.name))
        chosen.append(sql.SQL("{}::{}").format(value, sql.SQL(cast)) if cast else value)
        columns.append(Column(column.name, CAST_OIDS[cast] if cast else column.oid))
    return sql.SQL("SELECT {} FROM ({}) AS q").format(sql.SQL(", ").join(chosen), query), columns


def _arrow_type(oid: int) -> pa.DataType:
    if oid in _FIXED:
        return _FIXED[oid][1]
    if oid in _BINARY:
        return pa.binary()
    return pa.list_(_ARRAYS[oid]) if oid in _ARRAYS else pa.string()
