"""The fingerprint of a data set: one SHA-256 for one content, however its Arrow buffers happen to be laid out.

Rows are put in the order of their entity keys and time, columns in the order of their names. Each column contributes its
name, its type, its validity and its values as little-endian fixed-width integers or IEEE doubles, or as lengths and UTF-8
bytes. There is one NaN, values under a null are zero, and dictionaries, chunks, slices and padding leave no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, ParameterError

_HEADER = b"tapeline fingerprint 1\n"


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 of a whole table and of each of its columns, hexadecimal."""

    sha256: str
    columns: dict[str, str]


def fingerprint(table: pa.Table, keys: Sequence[str]) -> Fingerprint:
    """The fingerprint of a table.

    Parameters
    ----------
    table
        Columns of floats, integers, booleans, strings, binaries, dates and timestamps.
    keys
        The columns that identify a row; rows are ordered by them, in this order of columns.

    Raises
    ------
    InvalidDataError
        If two rows have the same keys: their order would be undefined.
    ParameterError
        If a column has a type that has no canonical form here.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
    ordered = table.sort_by([(key, "ascending") for key in keys])
    _refuse_repeats(ordered, keys)
    whole = hashlib.sha256(_HEADER + f"{ordered.num_rows} rows, {ordered.num_columns} columns\n".encode())
    columns: dict[str, str] = {}
    for name in sorted(ordered.column_names):
        digest = hashlib.sha256()
        for piece in _canonical(name, ordered.column(name)):
            whole.update(piece)
            digest.update(piece)
        columns[name] = digest.hexdigest()
    return Fingerprint(whole.hexdigest(), columns)


def _refuse_repeats(ordered: pa.Table, keys: Sequence[str]) -> None:
    if ordered.num_rows < 2:
        return
    same = np.ones(ordered.num_rows - 1, dtype=bool)
    for key in keys:
        column = ordered.column(key).combine_chunks()
        equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
        same &= equal.fill_null(False).to_numpy(zero_copy_only=False)
    if same.any():
        row = int(np.flatnonzero(same)[0])
        where = ", ".join(f"{key} {ordered.column(key)[row].as_py()}" for key in keys)
        raise InvalidDataError(
            f"{int(same.sum())} entity rows occur more than once", where=where, remedy="Keep each entity row once"
        )


def _canonical(name: str, column: pa.ChunkedArray) -> Iterator[bytes]:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk at all
        array = pa.array([], type=column.type)
    kind = array.type
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    yield f"{name}\n{_type_name(name, kind)}\n".encode()
    yield np.packbits(valid, bitorder="little").tobytes()
    if pa.types.is_floating(kind):
        values = np.where(valid, array.fill_null(0.0).to_numpy(zero_copy_only=False).astype("<f8"), 0.0)
        values[np.isnan(values)] = np.nan
        yield _bytes(values)
    elif pa.types.is_boolean(kind):
        yield _bytes(array.fill_null(False).to_numpy(zero_copy_only=False).astype("<i8"))
    elif pa.types.is_integer(kind):
        yield _bytes(array.fill_null(0).to_numpy(zero_copy_only=False).astype("<i8"))
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        whole = pa.timestamp("us", tz=getattr(kind, "tz", None))
        yield _bytes(array.cast(whole).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype("<i8"))
    else:
        text = array.cast(pa.large_binary()).fill_null(b"")
        yield _bytes(pc.binary_length(text).to_numpy(zero_copy_only=False).astype("<i8"))
        yield b"".join(text.to_pylist())


def _bytes(values: NDArray[Any]) -> bytes:
    return values.tobytes()


def _type_name(name: str, kind: pa.DataType) -> str:
    """One name for every width of a kind: a data set does not change because a library widened its integers."""
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "integer"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "moment" if kind.tz else "local time"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    raise ParameterError(
        f"a column of type {kind} has no canonical form", where=f"column {name}", remedy="Cast it to a number or text"
    )
