"""Feast's rows to packed values, and packed values of any published layout back to rows of the present one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from redis import Redis

from tapeline.core.errors import IntegrityError
from tapeline.feast_ext.packing import entity_part, moment_us, pack_rows
from tapeline.storage.keys import view_prefix
from tapeline.storage.online import find_layout
from tapeline.storage.packed import UNKNOWN, Found, Layout, PackedRows, decode_many, encode_many, layout_id, translate


def pack_batch(
    project: str,
    table: Any,
    layout: Layout,
    data: Sequence[tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]],
    *,
    recorded_us: int,
) -> list[tuple[bytes, bytes]]:
    """Keys and packed values of the rows that Feast hands to an online store; one an entity, its greatest.

    Feast hands over an event time and perhaps a created time, and nothing else. So the sequence is 0; a row without a
    created time counts as recorded now (``recorded_us``); and the row is available at its event if its source has no
    available column, else that time is ``UNKNOWN``. ``PackedComputeEngine`` materializes with all four times.
    """
    has_available = getattr(getattr(table, "batch_source", None), "available_timestamp_column", None) is not None
    greatest: dict[bytes, tuple[int, int, int]] = {}
    for index, (key, _, event, created) in enumerate(data):
        rank = moment_us(event), recorded_us if created is None else moment_us(created), index
        entity = entity_part(key)
        if entity not in greatest or rank > greatest[entity]:
            greatest[entity] = rank
    times = np.array(
        [(event, 0, UNKNOWN if has_available else event, created) for event, created, _ in greatest.values()],
        dtype=np.int64,
    ).reshape(-1, 4)
    slots, nulls, tails = pack_rows(layout, [data[index][1] for _, _, index in greatest.values()])
    prefix = view_prefix(project, layout.view, layout.version)
    packed = encode_many(layout, times, slots, nulls=nulls, tails=tails)
    return [(prefix + entity, value) for entity, value in zip(greatest, packed, strict=True)]


def in_present_layout(client: Callable[[], Redis], project: str, layout: Layout, found: Found) -> PackedRows:
    """Rows of one view in the layout it has now: what was written before its features changed is translated.

    Raises
    ------
    IntegrityError
        If a value is damaged or of a layout that nobody published.
    """
    try:
        return decode_many(layout, found)
    except IntegrityError:
        values = found.values()
        ids = [_layout_id(value) for value in values]
        others = set(ids) - {b"", layout.id}
        if not others:
            raise
    known = {one: find_layout(client(), project, layout.view, layout.version, one) for one in others}
    return decode_many(
        layout,
        [
            translate(value, known[one], layout) if value is not None and one in others else value
            for value, one in zip(values, ids, strict=True)
        ],
    )


def _layout_id(value: bytes | None) -> bytes:
    """The id of a value's layout; empty if there is none, or what is there is no value."""
    try:
        return b"" if value is None else layout_id(value)
    except IntegrityError:
        return b""
