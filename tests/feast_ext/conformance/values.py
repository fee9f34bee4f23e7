"""Values of every type come back as they were stored, and as nothing where there is none."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.feast_ext.conformance.contract import contract, plain, rows
from tests.feast_ext.conformance.feast_types import TYPES
from tests.feast_ext.conformance.joining import drivers
from tests.feast_ext.conformance.world import World, at


def _name(kind: pa.DataType) -> str:
    """A type's name; stores may call a text large, a time by another unit or zone, an item of a list as they like."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_name(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return str(kind).removeprefix("large_")


def _ask(name: str) -> Any:
    def ask(world: World) -> Any:
        asked = drivers((1, at("10:00")), (2, at("10:00")), (99, at("10:00")))
        found = world.historical(asked, [f"typed:{name}"])
        return [_name(found.schema.field(name).type), *rows(found, name)]

    return ask


for _column, _case in TYPES.items():
    contract([_name(_case.arrow), plain(_case.value), None, None], name=f"type_{_column}")(_ask(_column))
