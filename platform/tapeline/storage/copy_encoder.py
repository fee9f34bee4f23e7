"""A vectorised encoder of Arrow tables as ``COPY … FROM STDIN (FORMAT binary)``. Pure encoding, no I/O.

The binary COPY format is, for each row, a big-endian int16 number of fields, then for each field an int32 length
(-1 for NULL) and that many bytes. The encoder lays a slice of rows out as a matrix of bytes in which every field has
the room of its widest value, fills it a column at a time, and then drops the bytes that shorter values and NULLs left
unused. Slices without either, which is most of market data, need no second step.

Source of the format: PostgreSQL documentation, COPY, "Binary Format", and the ``*_send`` functions of each type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, NaiveTimestampError

SLICE_BYTES = 1 << 21
"""Target size of one encoded slice: it stays in the processor's cache, and bounds the encoder's memory."""

FIRST_ROWS = 400
"""Rows of the first slice of a batch: the server inserts them while the next one is encoded."""

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01
_POSTGRES_EPOCH_DAYS = 10_957
_UTC_US = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class CopyType:
    """How a PostgreSQL type looks in Arrow and on the wire."""

    name: str
    arrow: pa.DataType
    wire: np.dtype[Any] | None  # None: variable length
    prefix: bytes = b""
    shift: int = 0  # added to the integer value
    element: int = 0  # OID of an array's elements


def _fixed(name: str, arrow: pa.DataType, wire: str, shift: int = 0) -> CopyType:
    return CopyType(name, arrow, np.dtype(wire), shift=shift)


_TYPES: dict[int, CopyType] = {
    16: _fixed("boolean", pa.bool_(), "u1"),
    17: CopyType("bytea", pa.large_binary(), None),
    20: _fixed("bigint", pa.int64(), ">i8"),
    21: _fixed("smallint", pa.int16(), ">i2"),
    23: _fixed("integer", pa.int32(), ">i4"),
    25: CopyType("text", pa.large_string(), None),
    114: CopyType("json", pa.large_string(), None),
    700: _fixed("real", pa.float32(), ">f4"),
    701: _fixed("double precision", pa.float64(), ">f8"),
    1042: CopyType("character", pa.large_string(), None),
    1043: CopyType("character varying", pa.large_string(), None),
    1082: _fixed("date", pa.date32(), ">i4", -_POSTGRES_EPOCH_DAYS),
    1184: _fixed("timestamp with time zone", _UTC_US, ">i8", -_POSTGRES_EPOCH_US),
    2950: _fixed("uuid", pa.binary(16), "V16"),
    3802: CopyType("jsonb", pa.large_string(), None, prefix=b"\x01"),
}
for _array, _element in {
    1000: 16, 1001: 17, 1005: 21, 1007: 23, 1009: 25, 1015: 1043, 1016: 20, 1021: 700, 1022: 701, 1182: 1082, 1185: 1184,
}.items():  # fmt: skip
    _TYPES[_array] = CopyType(
        f"{_TYPES[_element].name}[]", pa.large_list(_TYPES[_element].arrow), None, element=_element
    )


@dataclass(frozen=True, slots=True)
class _Field:
    """One column of a slice, ready to be laid out.

    ``lengths`` is -1 for NULL, else the bytes of the value, its prefix included. Fixed-width columns have ``values``;
    the others have ``starts`` into ``data``.
    """

    width: int
    lengths: NDArray[np.int64] | None  # None: all of `width`
    values: NDArray[Any] | None = None
    data: NDArray[np.uint8] | None = None
    starts: NDArray[np.int64] | None = None
    prefix: NDArray[np.uint8] | None = None  # (P,) for every row, or (rows, P)


def known_type(oid: int, column: str) -> CopyType:
    """The type of an OID.

    Raises
    ------
    InvalidDataError
        If it has no Arrow form; the message names the column.
    """
    if oid not in _TYPES:
        raise InvalidDataError(
            f"column {column} has a database type (OID {oid}) that has no Arrow form here",
            remedy=f"Use one of: {', '.join(kind.name for kind in _TYPES.values())}",
        )
    return _TYPES[oid]


def encode_arrow(table: pa.Table, names: Sequence[str], kinds: Sequence[CopyType]) -> Iterator[bytes]:
    """The pieces of a binary COPY stream, for columns that go to database columns of these types.

    Columns are cast at once, pieces are made as they are asked for.

    Raises
    ------
    NaiveTimestampError
        If a timestamp column has no time zone.
    InvalidDataError
        If a column cannot be cast to its database type without loss.
    """
    arrays = [_cast(table.column(name), kind, name) for name, kind in zip(names, kinds, strict=True)]
    numbers = [str(number) for number in range(len(arrays))]
    return _pieces(pa.table(arrays, names=numbers) if arrays else table, kinds)


def _pieces(table: pa.Table, kinds: Sequence[CopyType]) -> Iterator[bytes]:
    yield _SIGNATURE
    for batch in table.to_batches():
        yield from _slices(batch, kinds)
    yield _TRAILER


def _cast(column: pa.ChunkedArray, kind: CopyType, name: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        raise NaiveTimestampError(f"of type {column.type}", where=f"column {name}")
    if column.type == kind.arrow:
        return column
    narrows_text = kind.wire is None and not kind.element and not _is_textual(column.type)
    if narrows_text and not pa.types.is_null(column.type):
        raise InvalidDataError(f"column {name} is {column.type}, its database column is {kind.name}")
    try:
        return pc.cast(column, kind.arrow)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidDataError(
            f"column {name} is {column.type} and does not fit its database type {kind.name}: {error}"
        ) from error


def _is_textual(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
        )
    )  # fmt: skip


def _slices(batch: pa.RecordBatch, kinds: Sequence[CopyType]) -> Iterator[bytes]:
    """Slices of about ``SLICE_BYTES``; one that a long value makes wider than that is halved until it fits."""
    lead = np.frombuffer(len(kinds).to_bytes(2, "big"), dtype=np.uint8)
    rows = max(1, SLICE_BYTES // (2 + 16 * max(1, len(kinds))))
    first = min(FIRST_ROWS, rows)
    waiting = [batch.slice(0, first), *(batch.slice(start, rows) for start in range(first, batch.num_rows, rows))][::-1]
    while waiting:
        piece = waiting.pop()
        fields = [_field(array, kind) for array, kind in zip(piece.columns, kinds, strict=True)]
        width = len(lead) + sum(4 + field.width for field in fields)
        if width * piece.num_rows > 2 * SLICE_BYTES and piece.num_rows > 1:
            half = piece.num_rows // 2
            waiting += [piece.slice(half), piece.slice(0, half)]
            continue
        matrix, keep = _lay_out(fields, piece.num_rows, lead)
        yield _used(matrix, keep).tobytes()


def _lay_out(
    fields: Sequence[_Field], rows: int, lead: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Rows as a matrix of bytes with every field at its widest, and the mask of bytes in use (None: all)."""
    width = len(lead) + sum(4 + field.width for field in fields)
    template = np.zeros(width, dtype=np.uint8)
    template[: len(lead)] = lead
    at = len(lead)
    for field in fields:
        template[at : at + 4] = np.frombuffer(field.width.to_bytes(4, "big"), dtype=np.uint8)
        at += 4 + field.width
    matrix = np.empty((rows, width), dtype=np.uint8)
    if rows == 0:  # the elements of a column of empty arrays
        return matrix, None
    matrix[:] = template
    keep: NDArray[np.bool_] | None = None
    at = len(lead)
    for field in fields:
        room = matrix[:, at + 4 : at + 4 + field.width]
        if field.values is not None:
            _view(matrix, at + 4, field.values.dtype)[:] = field.values
        elif field.width:
            _fill_variable(room, field)
        if field.lengths is not None:
            _view(matrix, at, np.dtype(">i4"))[:] = field.lengths
            if keep is None:
                keep = np.ones((rows, width), dtype=np.bool_)
            used = field.lengths[:, None] > (0 if field.values is not None else np.arange(field.width))
            keep[:, at + 4 : at + 4 + field.width] = used
        at += 4 + field.width
    return matrix, keep


def _used(matrix: NDArray[np.uint8], keep: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    flat = matrix.reshape(-1)
    return flat if keep is None else flat[keep.reshape(-1)]  # numpy masks one dimension faster than two


def _view(matrix: NDArray[np.uint8], at: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The bytes from ``at`` on of every row, as one strided vector of ``dtype``."""
    rows, width = matrix.shape
    return np.ndarray((rows,), dtype=dtype, buffer=matrix, offset=at, strides=(width,))


def _fill_variable(room: NDArray[np.uint8], field: _Field) -> None:
    if field.data is None or field.starts is None:
        raise AssertionError("a variable-length field has data")
    lead = 0
    if field.prefix is not None:
        lead = field.prefix.shape[-1]
        room[:, :lead] = field.prefix
    if field.width == lead:
        return
    body = field.width - lead
    if field.lengths is None:  # all of one length, so they lie one behind the other
        start = int(field.starts[0])
        room[:, lead:] = field.data[start : start + len(room) * body].reshape(len(room), body)
        return
    index = field.starts[:, None] + np.arange(body)
    np.minimum(index, len(field.data) - 1, out=index)  # past a value's end anything may stand: it is dropped
    room[:, lead:] = field.data[index]


def _field(array: pa.Array, kind: CopyType) -> _Field:
    valid = None if array.null_count == 0 else np.asarray(array.is_valid().to_numpy(zero_copy_only=False))
    if kind.wire is not None:
        values = _fixed_values(array, kind)
        width = kind.wire.itemsize
        return _Field(width, None if valid is None else np.where(valid, width, -1), values=values)
    if kind.element:
        return _list_field(array, _TYPES[kind.element], kind.element, valid)
    buffers = array.buffers()
    offsets = _read(buffers[1], np.dtype(np.int64), array.offset, len(array) + 1)
    data = np.frombuffer(buffers[2], dtype=np.uint8) if buffers[2] is not None else np.empty(0, dtype=np.uint8)
    prefix = np.frombuffer(kind.prefix, dtype=np.uint8) if kind.prefix else None
    return _variable(offsets, data, prefix, valid)


def _fixed_values(array: pa.Array, kind: CopyType) -> NDArray[Any]:
    if pa.types.is_boolean(array.type):
        filled = array.fill_null(False) if array.null_count else array
        return np.asarray(filled.to_numpy(zero_copy_only=False)).view(np.uint8)
    if kind.wire is None:
        raise AssertionError("only fixed-width types have fixed values")
    # The buffer under null slots may hold anything: those bytes are dropped later.
    raw = _read(array.buffers()[1], kind.wire.newbyteorder("="), array.offset, len(array))
    if kind.shift:
        raw = raw + np.asarray(kind.shift, dtype=raw.dtype)
    return raw.astype(kind.wire)


def _read(buffer: pa.Buffer | None, dtype: np.dtype[Any], offset: int, count: int) -> NDArray[Any]:
    if buffer is None or buffer.size == 0:  # Arrow lets an empty array come without buffers
        return np.zeros(count, dtype=dtype)
    return np.frombuffer(buffer, dtype=dtype, count=offset + count)[offset:]


def _variable(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    prefix: NDArray[np.uint8] | None,
    valid: NDArray[np.bool_] | None,
) -> _Field:
    lead = 0 if prefix is None else prefix.shape[-1]
    lengths = np.diff(offsets) + lead
    if valid is not None:
        lengths = np.where(valid, lengths, -1)
    widest = max(int(lengths.max(initial=0)), 0)
    equal = len(lengths) == 0 or bool((lengths == widest).all())
    return _Field(widest, None if equal else lengths, data=data, starts=offsets[:-1], prefix=prefix)


def _list_field(array: pa.Array, kind: CopyType, oid: int, valid: NDArray[np.bool_] | None) -> _Field:
    """A PostgreSQL array: a head of five int32 (dimensions, has nulls, element OID, length, lower bound), elements."""
    offsets = _read(array.buffers()[1], np.dtype(np.int64), array.offset, len(array) + 1)
    first, last = int(offsets[0]), int(offsets[-1])
    elements = array.values.slice(first, last - first)
    field = _field(elements, kind)
    matrix, keep = _lay_out([field], len(elements), np.empty(0, dtype=np.uint8))
    data = _used(matrix, keep)
    sizes = np.full(len(elements), matrix.shape[1]) if keep is None else keep.sum(axis=1)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    counts = np.diff(offsets)
    head = np.empty((len(array), 5), dtype=">i4")
    head[:] = (1, int(elements.null_count > 0), oid, 0, 1)
    head[:, 3] = counts
    return _variable(ends[offsets - first], data, head.view(np.uint8).reshape(len(array), 20), valid)
