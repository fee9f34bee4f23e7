"""Cells that differ, as a table and as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tapeline.core.errors import ParameterError

if TYPE_CHECKING:
    from tapeline.datasets.changes import Integers
    from tapeline.datasets.diff_causes import Explanation
    from tapeline.datasets.vintage_sides import Side


def cell_table(
    keys: pa.Table,
    feature: str,
    before: pa.Array,
    after: pa.Array,
    row: str,
    found: Sequence[Explanation],
    numbers: Integers,
) -> pa.Table:
    """Cells of one column.

    Numbers stand in ``before`` and ``after``, everything else as text in ``before_text`` and ``after_text``. ``row`` is
    ``both`` where both data sets have the row, ``new`` or ``gone`` where only the later or the earlier one does.
    """
    count = keys.num_rows
    values = {
        name: column
        for side, array in (("before", before), ("after", after))
        for name, column in zip((side, f"{side}_text"), _number_and_text(array), strict=True)
    }
    used, places = np.unique(numbers, return_inverse=True)
    index = pa.array(places.astype(np.int32))
    columns = {name: keys.column(name) for name in keys.column_names}
    columns |= {
        "feature": _constant(feature, count),
        **{name: values[name] for name in ("before", "after", "before_text", "after_text")},
        "row": _constant(row, count),
        "cause": pa.array([found[n].cause for n in used.tolist()], pa.string()).take(index),
        "why": pa.array([str(found[n]) for n in used.tolist()], pa.string()).take(index),
        "_explanation": pa.array(numbers),
    }
    return pa.table(columns)


def _constant(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), count)


def _number_and_text(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    if pa.types.is_floating(values.type) or pa.types.is_null(values.type):
        return values.cast(pa.float64()), pa.nulls(len(values), pa.string())
    if pa.types.is_timestamp(values.type):
        text = pa.array([None if value is None else value.isoformat() for value in values.to_pylist()], pa.string())
        return pa.nulls(len(values), pa.float64()), text
    return pa.nulls(len(values), pa.float64()), values.cast(pa.string())


class CellFile:
    """A Parquet file of cells; use as a context manager. It comes into being when the block ends without an error.

    Parameters
    ----------
    path
        Where; none: nothing is written.
    side
        A data set whose keys the cells have.

    Raises
    ------
    ParameterError
        If the file exists.
    """

    def __init__(self, path: Path | None, side: Side) -> None:
        if path is not None and path.exists():
            raise ParameterError(f"{path} exists", where="--parquet", remedy="Choose another file")
        self._path = path
        self._keys = pa.schema([side.rows.schema.field(name) for name in side.keys])
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            texts = [pa.field(name, pa.string()) for name in ("before_text", "after_text", "row", "cause", "why")]
            numbers = [pa.field(name, pa.float64()) for name in ("before", "after")]
            schema = pa.schema([*self._keys, pa.field("feature", pa.string()), *numbers, *texts])
            self._partial = self._path.with_name(f".{self._path.name}.partial")
            self._writer = pq.ParquetWriter(self._partial, schema, compression="zstd")
        return self

    def write(self, cells: pa.Table) -> None:
        """Add cells."""
        if self._writer is not None:
            self._writer.write_table(cells.drop_columns(["_explanation"]).cast(self._writer.schema))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None or self._path is None:
            return
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
