"""PostgreSQL types in Feast's and Arrow's words."""

from __future__ import annotations

import pyarrow as pa
from feast.value_type import ValueType

from tapeline.core.errors import InvalidDataError

_SCALARS: dict[int, tuple[str, ValueType]] = {
    16: ("boolean", ValueType.BOOL),
    17: ("bytea", ValueType.BYTES),
    18: ('"char"', ValueType.STRING),
    19: ("name", ValueType.STRING),
    20: ("bigint", ValueType.INT64),
    21: ("smallint", ValueType.INT32),
    23: ("integer", ValueType.INT32),
    25: ("text", ValueType.STRING),
    114: ("json", ValueType.JSON),
    700: ("real", ValueType.FLOAT),
    701: ("double precision", ValueType.DOUBLE),
    1042: ("character", ValueType.STRING),
    1043: ("character varying", ValueType.STRING),
    1082: ("date", ValueType.UNIX_TIMESTAMP),
    1114: ("timestamp without time zone", ValueType.UNIX_TIMESTAMP),
    1184: ("timestamp with time zone", ValueType.UNIX_TIMESTAMP),
    1700: ("numeric", ValueType.DOUBLE),
    2950: ("uuid", ValueType.UUID),
    3802: ("jsonb", ValueType.JSON),
}
_ARRAYS = {
    1000: 16, 1001: 17, 1005: 21, 1007: 23, 1009: 25, 1015: 1043, 1016: 20, 1021: 700, 1022: 701, 1115: 1114,
    1182: 1082, 1185: 1184, 1231: 1700, 2951: 2950, 199: 114, 3807: 3802,
}  # fmt: skip
_NAMES = {oid: name for oid, (name, _) in _SCALARS.items()} | {
    array: f"{_SCALARS[element][0]}[]" for array, element in _ARRAYS.items()
}
_VALUE_TYPES = dict(_SCALARS.values()) | {
    f"{_SCALARS[element][0]}[]": ValueType[f"{_SCALARS[element][1].name}_LIST"] for element in _ARRAYS.values()
}
_ARROW_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.binary(): "bytea",
    pa.large_binary(): "bytea",
    pa.date32(): "date",
    pa.null(): "text",
}


def type_name(oid: int) -> str:
    """SQL name of a column type. A type that Feast has no word for is read as text, so that is what it is called."""
    return _NAMES.get(oid, "text")


def value_type(name: str) -> ValueType:
    """Feast's type for a SQL type name, as `type_name` gives it; exact decimals become double."""
    return _VALUE_TYPES.get(name.lower(), ValueType.UNKNOWN)


def postgres_type(kind: pa.DataType) -> str:
    """The column type for a new table that is to hold an Arrow column.

    Raises
    ------
    InvalidDataError
        If no column type holds it without loss.
    """
    if pa.types.is_dictionary(kind):
        return postgres_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "timestamptz"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{postgres_type(kind.value_type)}[]"
    if kind not in _ARROW_NAMES:
        raise InvalidDataError(f"a column of type {kind} has no PostgreSQL form here", remedy="Cast it to text first")
    return _ARROW_NAMES[kind]
