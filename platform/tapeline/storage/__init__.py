"""Where things are kept: PostgreSQL with or without TimescaleDB, the Redis codec, Arrow in and out, schema and servers.

Encoding is pure; input and output are thin and stand apart from it. Nothing here knows what a feature means.

For programs that read features online themselves: ``connect_redis``, ``Layout``, ``entity_key``, ``ReadPlan`` and
``OnlineReader`` read many entities and views into one matrix in one round trip; ``FieldStatus`` says what of it is there.
They are imported when first named, so that nobody loads what he does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeline.storage.keys import entity_key as entity_key
    from tapeline.storage.online_reader import OnlineMatrix as OnlineMatrix
    from tapeline.storage.online_reader import OnlineReader as OnlineReader
    from tapeline.storage.online_reader import ReadPlan as ReadPlan
    from tapeline.storage.packed import Column as Column
    from tapeline.storage.packed import Layout as Layout
    from tapeline.storage.redis import connect_redis as connect_redis
    from tapeline.storage.statuses import FieldStatus as FieldStatus

_HOMES = {
    "Column": "packed",
    "FieldStatus": "statuses",
    "Layout": "packed",
    "OnlineMatrix": "online_reader",
    "OnlineReader": "online_reader",
    "ReadPlan": "online_reader",
    "connect_redis": "redis",
    "entity_key": "keys",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import what is named from the module where it is."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
