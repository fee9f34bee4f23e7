"""Feast's value messages in and out of the packed online value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError, InvalidDataError
from tapeline.core.timestamps import EPOCH, MICROSECOND
from tapeline.storage.keys import EntityValue, entity_key_of_parts, entity_key_sorted, key_part, key_parts
from tapeline.storage.packed import INTEGER_KINDS, Column, Layout

_KINDS = {ValueType.DOUBLE: "float64", ValueType.FLOAT: "float32"}
_KIND_OF_NUMBER = {
    "float64": "double_val",
    "float32": "float_val",
    "int64": "int64_val",
    "int32": "int32_val",
    "bool": "bool_val",
    "unix_timestamp": "unix_timestamp_val",
}
_PLAIN_KEY_TYPES = {ValueType.STRING: str, ValueType.INT64: int, ValueType.INT32: int}
_NULLS = frozenset({None, "null_val"})
_KEY_FIELDS = frozenset({"string_val", "bytes_val", "int32_val", "int64_val", "bool_val", "unix_timestamp_val"})


def kind_of(value_type: ValueType) -> str:
    """The layout kind of a Feast value type; types that are not single numbers go to the tail under their own name."""
    return _KINDS.get(value_type, value_type.name.lower())


def layout_of(view: Any, version: int) -> Layout:
    """The layout of a Feast feature view: its features in their declared order."""
    columns = tuple(Column(field.name, kind_of(field.dtype.to_value_type())) for field in view.features)
    return Layout(view.name, version, columns)


def moment_us(moment: datetime) -> int:
    """Microseconds since the epoch; Feast hands a naive datetime over as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int((aware - EPOCH) // MICROSECOND)


def entity_part(key: EntityKeyProto) -> bytes:
    """The entity part of a key from Feast's entity key."""
    if len(key.join_keys) == 1 == len(key.entity_values):
        return entity_key_sorted([entity_value(key.entity_values[0])])
    pairs = sorted(zip(key.join_keys, key.entity_values, strict=True), key=lambda pair: pair[0])
    return entity_key_sorted([entity_value(value) for _, value in pairs])


def entity_value(value: ValueProto) -> EntityValue:
    """The Python value of a join key.

    Raises
    ------
    InvalidDataError
        If it is null or of a type that cannot be a key.
    """
    field = value.WhichOneof("val")
    if field not in _KEY_FIELDS:
        raise InvalidDataError(
            f"join key value of type {field or 'null'}", remedy="Join keys are text, bytes, whole numbers or booleans"
        )
    plain: EntityValue = getattr(value, field)
    return plain


def entity_parts(values: Sequence[Any], value_type: ValueType) -> list[bytes]:
    """The key parts of one join key's values, converted as Feast converts them; ``entity_key_of_parts`` joins them."""
    expected = _PLAIN_KEY_TYPES.get(value_type)
    if expected is not None and set(map(type, values)) <= {expected}:
        return key_parts(values)
    return [key_part(entity_value(proto)) for proto in python_values_to_proto_values(list(values), value_type)]


_ENTITIES: dict[str, bytes] = {}
_ENTITIES_MAX = 1 << 16


def single_entities(values: Sequence[Any], value_type: ValueType) -> list[bytes]:
    """The entity parts of keys with one join key; those of texts that were asked for before are remembered."""
    if value_type is ValueType.STRING:
        try:
            return [_ENTITIES[value] for value in values]  # no text is equal to a value of another type
        except (KeyError, TypeError):
            pass
    made = [entity_key_of_parts((part,)) for part in entity_parts(values, value_type)]
    if value_type is ValueType.STRING and set(map(type, values)) == {str}:
        if len(_ENTITIES) + len(made) > _ENTITIES_MAX:
            _ENTITIES.clear()
        if len(made) <= _ENTITIES_MAX:
            _ENTITIES.update(zip(values, made, strict=True))
    return made


def pack_rows(
    layout: Layout, rows: Sequence[Mapping[str, ValueProto]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[list[bytes]] | None]:
    """Slots, nulls and tails of rows of Feast values, as ``encode_many`` takes them.

    A feature that a row does not have is null.

    Raises
    ------
    InvalidDataError
        If a value is of another type than its column.
    """
    count = len(rows)
    slots = np.zeros((count, len(layout.slots)))
    integers = slots.view(np.int64)
    nulls = np.zeros((count, len(layout.columns)), dtype=np.bool_)
    for slot, position in enumerate(layout.slots):
        column = layout.columns[position]
        field = _KIND_OF_NUMBER[column.kind]
        numbers: list[Any] = [0] * count
        for index, row in enumerate(rows):
            value = row.get(column.name)
            if value is None:
                nulls[index, position] = True
                continue
            number = getattr(value, field)
            if not number and _is_null(value, field, layout, column):  # zero is also what an unset field reads as
                nulls[index, position] = True
            else:
                numbers[index] = number
        (integers if column.kind in INTEGER_KINDS else slots)[:, slot] = numbers
    if not layout.tails:
        return slots, nulls, None
    tails = [[b""] * len(layout.tails) for _ in range(count)]
    for item, position in enumerate(layout.tails):
        name = layout.columns[position].name
        for index, row in enumerate(rows):
            value = row.get(name)
            if value is None or value.WhichOneof("val") in _NULLS:
                nulls[index, position] = True
            else:
                tails[index][item] = value.SerializeToString(deterministic=True)
    return slots, nulls, tails


def column_protos(column: Column, numbers: Sequence[Any], present: Sequence[bool]) -> list[ValueProto]:
    """Feast values of one number column; null where not present."""
    field = _KIND_OF_NUMBER[column.kind]
    null = ValueProto()
    if column.kind == "bool":
        numbers = [bool(number) for number in numbers]
    return [ValueProto(**{field: number}) if there else null for number, there in zip(numbers, present, strict=True)]


def tail_proto(data: bytes, *, where: str) -> ValueProto:
    """The Feast value of a tail item.

    Raises
    ------
    IntegrityError
        If the bytes are no serialised value.
    """
    value = ValueProto()
    try:
        value.ParseFromString(data)
    except DecodeError:
        raise IntegrityError(
            "a tail item is no Feast value", where=where, remedy="Materialize the view again"
        ) from None
    return value


def _is_null(value: ValueProto, field: str, layout: Layout, column: Column) -> bool:
    found = value.WhichOneof("val")
    if found in _NULLS:
        return True
    if found != field:
        raise InvalidDataError(
            f"a {found} was written to feature {column.name!r}, which is {column.kind}",
            where=layout.label,
            remedy="Give the source's column the type that the feature view declares",
        )
    return False
