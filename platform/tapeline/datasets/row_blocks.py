"""Rows as they were read, block by block, and the values of some of them: what a merge keeps in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.kernels import as_of

_WIDE = 64


class RowBlocks:
    """Record batches of one schema, put so that all but the last have equally many rows: a row's block is a shift.

    Parameters
    ----------
    schema
        Of every batch.
    batches
        The rows; their order is not kept.
    block_rows
        Rows that most of the batches have, a power of two.
    """

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], block_rows: int) -> None:
        self.schema = schema
        self.block_rows = block_rows
        whole: list[pa.RecordBatch] = []
        rest: list[pa.RecordBatch] = []
        for batch in batches:
            (whole if batch.num_rows == block_rows else rest).append(batch)
        tail = pa.Table.from_batches(rest, schema=schema).combine_chunks()
        self._batches = [*whole, *tail.to_batches(max_chunksize=block_rows)]
        self.row_count = sum(batch.num_rows for batch in self._batches)

    def integers(self, column: int, missing: int) -> NDArray[np.int64]:
        """A column of whole numbers or moments as one int64 array, `missing` where it is null."""
        out = np.empty(self.row_count, dtype=np.int64)
        at = 0
        for batch in self._batches:
            values = batch.column(column)
            own = values.view(pa.int64()) if values.type.bit_width == _WIDE else values.cast(pa.int64())
            out[at : at + len(own)] = own.fill_null(missing).to_numpy(zero_copy_only=False)
            at += len(own)
        return out

    def take(self, column: int, taken: NDArray[np.int64], into: ColumnRoom, places: NDArray[np.int64]) -> None:
        """Put the column's values of some rows (-1: none) into places of the room."""
        if not into.is_wide:
            whole = pa.chunked_array([batch.column(column) for batch in self._batches], self.schema.field(column).type)
            hit = taken >= 0
            into.pieces.append((whole.take(pa.array(taken[hit])), places[hit]))
            return
        columns = [batch.column(column) for batch in self._batches]
        buffers = [values.buffers() for values in columns]
        as_of.gather(
            np.array([values.address for _, values in buffers], dtype=np.int64),
            np.array([validity.address if validity else 0 for validity, _ in buffers], dtype=np.int64),
            np.array([values.offset for values in columns], dtype=np.int64),
            self.block_rows.bit_length() - 1,
            self.row_count,
            taken,
            places,
            into.values,
            into.valid,
        )


class ColumnRoom:
    """A column of a result whose places are filled in any order, from several threads if their places differ.

    Parameters
    ----------
    kind
        Its type.
    rows
        Its length.
    """

    def __init__(self, kind: pa.DataType, rows: int) -> None:
        self._kind = kind
        self._rows = rows
        self.is_wide = pa.types.is_primitive(kind) and kind.bit_width == _WIDE
        wide = rows if self.is_wide else 0
        self.values: NDArray[np.int64] = np.zeros(wide, dtype=np.int64)
        self.valid: NDArray[np.uint8] = np.zeros(wide, dtype=np.uint8)
        self.pieces: list[tuple[pa.ChunkedArray, NDArray[np.int64]]] = []

    def array(self) -> pa.Array | pa.ChunkedArray:
        """The column, null where nothing was put."""
        if self.is_wide:
            nulls = self._rows - int(np.count_nonzero(self.valid))
            validity = pa.py_buffer(np.packbits(self.valid, bitorder="little")) if nulls else None
            return pa.Array.from_buffers(self._kind, self._rows, [validity, pa.py_buffer(self.values)], nulls)
        index = np.full(self._rows, -1, dtype=np.int64)
        if self.pieces:
            filled = np.concatenate([places for _, places in self.pieces])
            index[filled] = np.arange(len(filled), dtype=np.int64)
        values = pa.chunked_array([chunk for piece, _ in self.pieces for chunk in piece.chunks], self._kind)
        return values.take(pa.array(index, mask=index < 0))
