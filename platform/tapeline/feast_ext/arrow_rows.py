"""Arrow tables to packed values, a column at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.type_map import python_values_to_proto_values
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError
from tapeline.feast_ext.packing import entity_parts
from tapeline.feast_ext.source import TimescaleSource
from tapeline.storage.keys import entity_key_of_parts, view_prefix
from tapeline.storage.packed import FLOAT_KINDS, UNKNOWN, Layout, encode_many

_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class SourceColumns:
    """What the columns of a view's source are called there, before its field mapping."""

    join_keys: tuple[str, ...]
    features: tuple[str, ...]
    event: str
    available: str | None
    created: str | None
    sequence: str | None

    @classmethod
    def of(cls, view: FeatureView) -> SourceColumns:
        """The columns of a view over a ``TimescaleSource``; join keys in the order of their names in the view."""
        source = view.batch_source
        assert isinstance(source, TimescaleSource)
        column_of = source.column_of

        def named(column: str | None) -> str | None:
            return column_of.get(column, column) if column else None

        return cls(
            join_keys=tuple(column_of.get(key, key) for key in sorted(entity.name for entity in view.entity_columns)),
            features=tuple(column_of.get(field.name, field.name) for field in view.features),
            event=str(named(source.timestamp_field)),
            available=named(source.available_timestamp_column),
            created=named(source.created_timestamp_column),
            sequence=named(source.sequence_column),
        )

    @property
    def more_times(self) -> tuple[str, ...]:
        """The columns that Feast does not ask for: available time and sequence."""
        return tuple(column for column in (self.available, self.sequence) if column is not None)


def pack_table(
    project: str, view: FeatureView, layout: Layout, table: pa.Table, columns: SourceColumns, *, recorded_us: int
) -> list[tuple[bytes, bytes]]:
    """Keys and packed values of a table of rows of one view.

    Rows without a created time count as recorded at ``recorded_us``, rows of a source without an available column as
    available at their event, rows without a sequence as number 0.

    Raises
    ------
    InvalidDataError
        If a row has no event time or a join key is null, or a column does not fit its feature's type.
    """
    times = np.empty((table.num_rows, 4), dtype=np.int64)
    times[:, 0] = _moments(table, columns.event, None, layout)
    times[:, 1] = 0 if columns.sequence is None else pc.fill_null(table[columns.sequence], 0).to_numpy()
    times[:, 2] = times[:, 0] if columns.available is None else _moments(table, columns.available, UNKNOWN, layout)
    times[:, 3] = recorded_us if columns.created is None else _moments(table, columns.created, recorded_us, layout)

    slots = np.zeros((table.num_rows, len(layout.slots)))
    nulls = np.zeros((table.num_rows, len(layout.columns)), dtype=np.bool_)
    for slot, position in enumerate(layout.slots):
        column = table[columns.features[position]]
        nulls[:, position] = pc.is_null(column).to_numpy()
        kind = layout.columns[position].kind
        try:
            if kind in FLOAT_KINDS:
                slots[:, slot] = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy()
            else:
                slots.view(np.int64)[:, slot] = _integers(column, kind)
        except pa.ArrowInvalid as error:
            raise InvalidDataError(
                f"feature {layout.columns[position].name!r} is {kind}, its source has {column.type}: {error}",
                where=layout.label,
            ) from None
    tails = _tails(view, layout, table, columns, nulls) if layout.tails else None

    types = {entity.name: entity.dtype.to_value_type() for entity in view.entity_columns}
    parts = [
        entity_parts(table[column].to_pylist(), types[key])
        for key, column in zip(sorted(types), columns.join_keys, strict=True)
    ]
    prefix = view_prefix(project, layout.view, layout.version)
    if len(parts) == 1:
        keys = [b"%b{%b}" % (prefix, part) for part in parts[0]]
    else:
        keys = [prefix + entity_key_of_parts(values) for values in zip(*parts, strict=True)]
    return list(zip(keys, encode_many(layout, times, slots, nulls=nulls, tails=tails), strict=True))


def _moments(table: pa.Table, name: str, null: int | None, layout: Layout) -> NDArray[np.int64]:
    moments = table[name].cast(_MOMENT).cast(pa.int64())
    if moments.null_count:
        if null is None:
            raise InvalidDataError(f"a row has no {name}", where=layout.label)
        moments = pc.fill_null(moments, null)
    numbers: NDArray[np.int64] = moments.to_numpy()
    return numbers


def _integers(column: pa.ChunkedArray, kind: str) -> NDArray[np.int64]:
    if kind == "unix_timestamp":
        column = column.cast(pa.timestamp("s", tz="UTC"), safe=False)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    numbers: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    return numbers


def _tails(
    view: FeatureView, layout: Layout, table: pa.Table, columns: SourceColumns, nulls: NDArray[np.bool_]
) -> list[list[bytes]]:
    types: dict[str, Any] = {field.name: field.dtype.to_value_type() for field in view.features}
    tails = [[b""] * len(layout.tails) for _ in range(table.num_rows)]
    for item, position in enumerate(layout.tails):
        values = table[columns.features[position]].to_pylist()
        for row, proto in enumerate(python_values_to_proto_values(values, types[layout.columns[position].name])):
            if proto.WhichOneof("val") is None:
                nulls[row, position] = True
            else:
                tails[row][item] = proto.SerializeToString(deterministic=True)
    return tails
