"""The types that this store claims: Feast's, PostgreSQL's, Arrow's, and a value of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from feast.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)


@dataclass(frozen=True)
class TypeCase:
    """A type in all languages."""

    feast: FeastType
    sql: str
    arrow: pa.DataType
    value: Any


_UTC = pa.timestamp("us", tz="UTC")
_MOMENT = datetime(2012, 2, 29, 23, 59, 59, 123_456, tzinfo=UTC)

_SCALARS = {
    "int32": TypeCase(Int32, "integer", pa.int32(), -(2**31)),
    "int64": TypeCase(Int64, "bigint", pa.int64(), 2**53 + 1),
    "float32": TypeCase(Float32, "real", pa.float32(), 0.5),
    "float64": TypeCase(Float64, "double precision", pa.float64(), 0.1),
    "bool": TypeCase(Bool, "boolean", pa.bool_(), True),
    "string": TypeCase(String, "text", pa.string(), "naïve\t'\"\\N"),
    "bytes": TypeCase(Bytes, "bytea", pa.binary(), b"\x00\xff\\x"),
    "timestamp": TypeCase(UnixTimestamp, "timestamptz", _UTC, _MOMENT),
}
TYPES = _SCALARS | {
    f"{name}s": TypeCase(Array(case.feast), f"{case.sql}[]", pa.list_(case.arrow), [case.value, case.value])
    for name, case in _SCALARS.items()
}
"""Each with a column of its name; an array has an s."""
