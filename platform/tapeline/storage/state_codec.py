"""Kernel states as bytes: what a stream, a request or the next back-fill continues from.

The same bytes stand in PostgreSQL (``tapeline.state_snapshots``) and, the newest of each entity, in Redis. Layout, all
little-endian::

    magic "TLST" · format u8 · flags u8 · reserved u16
    plan hash 32 bytes
    event i64 · sequence i64 · available i64 · recorded i64 · rows seen i64
    bytes of plan state u32 · slots of bar state u32 · outputs u32
    plan state · bar state (float64) · outputs (float64)
    CRC-32 u32 of everything before

The position (event, sequence) is that of the last row consumed: a stored bar for views over session bars, a trade for
views over trades, whose unfinished bar is in the bar state.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline.core.errors import IntegrityError
from tapeline.storage.keys import entity_key_sorted

_MAGIC = b"TLST"
_FORMAT = 1
_HAS_BARS = 1
_HEAD = struct.Struct("<4sBBH32sqqqqqIII")
_CRC = struct.Struct("<I")
POSITION_OFFSET = 40
"""Where the five int64 begin: event, sequence, available, recorded, rows seen."""
STATE_BYTES_MAX = 64 << 20
"""Larger values are refused unread."""


@dataclass(frozen=True)
class SavedState:
    """Everything needed to continue one entity of a view.

    Attributes
    ----------
    plan_hash
        Hash of the plan whose state this is, hexadecimal.
    event_us, sequence
        Position of the last row consumed.
    available_us
        When the last of all rows in the state became available.
    recorded_us
        Everything that the database had recorded by then has been consumed, as far as it was available.
    rows_seen
        Rows that the plan has seen; 0 for a fresh state, whose position means nothing.
    plan_state
        Bytes of ``FeaturePlan.save``.
    bar_state
        float64 state of the bar builder; ``None`` for views over stored bars.
    outputs
        float64, the feature values after the last finished row; empty if there was none.
    """

    plan_hash: str
    event_us: int
    sequence: int
    available_us: int
    recorded_us: int
    rows_seen: int
    plan_state: bytes
    bar_state: NDArray[np.float64] | None
    outputs: NDArray[np.float64]


def encode_state(saved: SavedState) -> bytes:
    """Bytes of a state; :func:`decode_state` reads them back bit for bit."""
    bars = b"" if saved.bar_state is None else saved.bar_state.astype("<f8", copy=False).tobytes()
    outputs = saved.outputs.astype("<f8", copy=False).tobytes()
    head = _HEAD.pack(
        _MAGIC,
        _FORMAT,
        0 if saved.bar_state is None else _HAS_BARS,
        0,
        bytes.fromhex(saved.plan_hash),
        saved.event_us,
        saved.sequence,
        saved.available_us,
        saved.recorded_us,
        saved.rows_seen,
        len(saved.plan_state),
        len(bars) // 8,
        len(outputs) // 8,
    )
    body = head + saved.plan_state + bars + outputs
    return body + _CRC.pack(zlib.crc32(body))


def decode_state(data: bytes, *, plan_hash: str | None = None, where: str | None = None) -> SavedState:
    """The state that :func:`encode_state` wrote.

    Parameters
    ----------
    data
        The bytes.
    plan_hash
        The plan that is to continue it; refused if the state is of another. ``None`` takes any.
    where
        What the bytes are of, for the error message.

    Raises
    ------
    IntegrityError
        If the bytes are damaged, cut short, of an unknown format, or of another plan.
    """
    remedy = "Compute it again with: tapeline backfill"
    if not _HEAD.size + _CRC.size <= len(data) <= STATE_BYTES_MAX:
        raise IntegrityError(f"a saved state has an impossible length of {len(data)} bytes", where=where, remedy=remedy)
    magic, version, flags, _, digest, event, sequence, available, recorded, rows, plan_bytes, bar_slots, outputs = (
        _HEAD.unpack_from(data)
    )
    if magic != _MAGIC or version != _FORMAT:
        raise IntegrityError("these bytes are no saved state of a known format", where=where, remedy=remedy)
    if len(data) != _HEAD.size + plan_bytes + 8 * (bar_slots + outputs) + _CRC.size:
        raise IntegrityError("a saved state is cut short", where=where, remedy=remedy)
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise IntegrityError("a saved state is damaged", where=where, remedy=remedy)
    if plan_hash is not None and digest.hex() != plan_hash:
        raise IntegrityError(
            f"a saved state belongs to plan {digest.hex()[:12]}, not to {plan_hash[:12]}", where=where, remedy=remedy
        )
    bars_at = _HEAD.size + plan_bytes
    outputs_at = bars_at + 8 * bar_slots
    return SavedState(
        plan_hash=digest.hex(),
        event_us=event,
        sequence=sequence,
        available_us=available,
        recorded_us=recorded,
        rows_seen=rows,
        plan_state=bytes(data[_HEAD.size : bars_at]),
        bar_state=_floats(data, bars_at, bar_slots) if flags & _HAS_BARS else None,
        outputs=_floats(data, outputs_at, outputs),
    )


def state_key(project: str, view: str, version: int, entity: str) -> bytes:
    """Where the newest state of an entity is kept in Redis."""
    return state_prefix(project, view, version) + entity_key_sorted([entity])


def state_prefix(project: str, view: str, version: int) -> bytes:
    """What all state keys of a view version begin with."""
    return f"tl:{project}:state:{view}@{version}:".encode()


def _floats(data: bytes, at: int, count: int) -> NDArray[np.float64]:
    return np.frombuffer(data, dtype="<f8", count=count, offset=at).astype(np.float64)
