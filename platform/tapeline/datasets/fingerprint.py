"""The fingerprint of a data set: one SHA-256 for one content, however its Arrow buffers happen to be laid out.

Rows count in the data set's own order, and come as they are made: a table at a time, of any sizes. Each column has a
SHA-256 of its own, over blocks of 65,536 rows: their validity, one bit a row, then their values as little-endian 64-bit
integers or IEEE doubles, or as lengths and UTF-8 bytes. There is one NaN, values under a null are zero, and
dictionaries, chunks, slices and padding leave no trace. The whole is the SHA-256 of the names, types and digests of all
columns in the order of their names, and of the number of rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, ParameterError

FINGERPRINT_FORMAT: Literal[2] = 2
BLOCK_ROWS = 65_536
_HEADER = f"tapeline fingerprint {FINGERPRINT_FORMAT}\n".encode()
_THREADS_MAX = 4


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 of a whole data set and of each of its columns, hexadecimal."""

    sha256: str
    columns: dict[str, str]


class StreamingFingerprint:
    """Takes a data set's rows in its own order, a table at a time. Use as a context manager: columns have threads.

    Parameters
    ----------
    schema
        Columns of floats, integers, booleans, strings, binaries, dates and timestamps.

    Raises
    ------
    ParameterError
        If a column has a type that has no canonical form here.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._columns = {one.name: _Column(type_name(one.name, one.type)) for one in schema}
        threads = max(1, min(_THREADS_MAX, os.cpu_count() or 1, len(self._columns)))
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fingerprint")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def update(self, table: pa.Table) -> None:
        """Add the next rows.

        Raises
        ------
        InvalidDataError
            If the table has other columns than the schema.
        """
        if set(table.column_names) != set(self._columns):
            raise InvalidDataError(
                f"the columns are {', '.join(table.column_names)}, not {', '.join(self._columns)}", where="fingerprint"
            )
        for name, column in self._columns.items():
            given = type_name(name, table.schema.field(name).type)
            if given != column.kind:
                raise InvalidDataError(f"the column holds {given}, not {column.kind}", where=f"column {name}")
        self.rows += table.num_rows
        for done in [self._threads.submit(one.update, table.column(name)) for name, one in self._columns.items()]:
            done.result()

    def result(self) -> Fingerprint:
        """The fingerprint of all rows; nothing can be added after it."""
        whole = hashlib.sha256(_HEADER)
        digests = {name: self._columns[name].finish() for name in sorted(self._columns)}
        columns = [[name, self._columns[name].kind, digest] for name, digest in digests.items()]
        whole.update(json.dumps([self.rows, columns], ensure_ascii=True, separators=(",", ":")).encode())
        return Fingerprint(whole.hexdigest(), digests)


def fingerprint(table: pa.Table, keys: Sequence[str] = ()) -> Fingerprint:
    """The fingerprint of a table in memory.

    Parameters
    ----------
    table
        The rows.
    keys
        Order the rows by these columns first; none: they are in their order.
    """
    if keys:
        plain = {name: _plain(table.column(name)) for name in table.column_names}
        table = pa.table(plain).sort_by([(key, "ascending") for key in keys])
    with StreamingFingerprint(table.schema) as stream:
        stream.update(table)
        return stream.result()


@dataclass(slots=True)
class _Column:
    """One column's digest, and its rows that do not fill a block yet."""

    kind: str
    digest: Any = field(default_factory=hashlib.sha256)
    waiting: list[_Piece] = field(default_factory=list)
    waiting_rows: int = 0

    def update(self, column: pa.ChunkedArray) -> None:
        for array in _plain(column).chunks:
            begin = 0
            while begin < len(array):
                count = min(BLOCK_ROWS - self.waiting_rows, len(array) - begin)
                piece = _Piece.of(self.kind, array.slice(begin, count))
                begin += count
                if count == BLOCK_ROWS:
                    piece.hash_into(self.digest)
                    continue
                self.waiting.append(piece.copy())
                self.waiting_rows += count
                if self.waiting_rows == BLOCK_ROWS:
                    self._flush()

    def finish(self) -> str:
        if self.waiting:
            self._flush()
        return str(self.digest.hexdigest())

    def _flush(self) -> None:
        _Piece.joined(self.waiting).hash_into(self.digest)
        self.waiting, self.waiting_rows = [], 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of a column in canonical form: validity, 64-bit values or lengths, and of text the bytes."""

    valid: NDArray[np.bool_]
    values: NDArray[Any]
    text: bytes | None

    @classmethod
    def of(cls, kind: str, array: pa.Array) -> _Piece:
        valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        if kind == "float":
            values = array.fill_null(0.0).to_numpy(zero_copy_only=False).astype("<f8", copy=False)
            not_numbers = np.isnan(values)
            if not_numbers.any():
                values = np.where(not_numbers, np.nan, values)
            return cls(valid, values, None)
        if kind in {"text", "bytes"}:
            text = array.cast(pa.large_binary()).fill_null(b"")
            lengths = pc.binary_length(text).to_numpy(zero_copy_only=False).astype("<i8", copy=False)
            return cls(valid, lengths, _text_bytes(text))
        if kind in {"moment", "local time", "date"}:
            array = array.cast(pa.timestamp("us", tz=getattr(array.type, "tz", None))).cast(pa.int64())
        filled = array.fill_null(False if kind == "boolean" else 0)
        return cls(valid, filled.to_numpy(zero_copy_only=False).astype("<i8", copy=False), None)

    @classmethod
    def joined(cls, pieces: Sequence[_Piece]) -> _Piece:
        return cls(
            np.concatenate([piece.valid for piece in pieces]),
            np.concatenate([piece.values for piece in pieces]),
            None if pieces[0].text is None else b"".join(piece.text or b"" for piece in pieces),
        )

    def copy(self) -> _Piece:
        """The same in memory of its own, so that a few waiting rows do not hold a whole table."""
        return _Piece(self.valid.copy(), self.values.copy(), self.text)

    def hash_into(self, digest: Any) -> None:
        digest.update(np.packbits(self.valid, bitorder="little"))
        digest.update(np.ascontiguousarray(self.values))
        if self.text is not None:
            digest.update(self.text)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _text_bytes(array: pa.LargeBinaryArray) -> bytes:
    """All values, one after another."""
    _, offsets, data = array.buffers()
    if data is None:
        return b""
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return bytes(data.slice(int(bounds[0]), int(bounds[-1] - bounds[0])).to_pybytes())


def type_name(name: str, kind: pa.DataType) -> str:
    """One name for every width of a kind: a data set does not change because a library widened its integers.

    Raises
    ------
    ParameterError
        If the type has no canonical form.
    """
    if pa.types.is_dictionary(kind):
        return type_name(name, kind.value_type)
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
