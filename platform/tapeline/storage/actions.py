"""Known splits and dividends in Redis, beside the states: what a live row is adjusted for by the inference server.

All stored versions of an entity's corporate actions stand under one key, so that a reader picks those that are known at its own
clock. An entity that never had one has no key. Layout, all little-endian::

    magic "TLCA" · format u8 · reserved u8 u16 · recorded i64 · versions u32
    event i64[n] · sequence i64[n] · available i64[n] · created i64[n] · ratio f64[n] · dividend f64[n] · deleted u8[n]
    CRC-32 u32 of everything before
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import redis

from tapeline.core.errors import IntegrityError, LimitError
from tapeline.features.versions import ActionVersions
from tapeline.storage.keys import entity_key_sorted
from tapeline.storage.scripts import Call, Script

ACTION_VERSIONS_MAX = 10_000
"""Versions of one entity's actions beyond which they are not published, nor read."""
_MAGIC, _FORMAT = b"TLCA", 1
_VERSION_BYTES = 49
_HEAD = struct.Struct("<4sBBHqI")
_RECORDED_AT = 8
_CRC = struct.Struct("<I")
_REMEDY = "Publish them again with: tapeline backfill"

# The one that was read later stays, whichever arrives later.
_PUBLISH = Script("""
local at = tonumber(ARGV[2])
local old = redis.call('GETRANGE', KEYS[1], 0, at + 7)
if #old == at + 8 and string.sub(old, 1, 5) == string.sub(ARGV[1], 1, 5)
    and struct.unpack('<i8', old, at + 1) > struct.unpack('<i8', ARGV[1], at + 1) then
    return 0
end
if #old > 0 or ARGV[3] == '1' then
    redis.call('SET', KEYS[1], ARGV[1])  -- an entity that never had one gets no key
end
return 1
""")


def actions_key(project: str, entity: str) -> bytes:
    """Where the actions of an entity are kept in Redis."""
    return actions_prefix(project) + entity_key_sorted([entity])


def actions_prefix(project: str) -> bytes:
    """What all these keys of a project begin with."""
    return f"tl:{project}:actions:".encode()


def encode_actions(actions: ActionVersions, recorded_us: int) -> bytes:
    """Bytes of an entity's actions; :func:`decode_actions` reads them back.

    Parameters
    ----------
    actions
        All versions.
    recorded_us
        Everything that the database had recorded by then is among them.

    Raises
    ------
    LimitError
        If there are more than `ACTION_VERSIONS_MAX`.
    """
    if len(actions) > ACTION_VERSIONS_MAX:
        raise LimitError(
            f"{len(actions)} versions of one entity's splits and dividends; at most {ACTION_VERSIONS_MAX} can be published"
        )
    whole = (actions.event_us, actions.sequence, actions.available_us, actions.created_us)
    body = b"".join(
        (
            _HEAD.pack(_MAGIC, _FORMAT, 0, 0, recorded_us, len(actions)),
            *(column.astype("<i8", copy=False).tobytes() for column in whole),
            *(column.astype("<f8", copy=False).tobytes() for column in (actions.ratio, actions.dividend)),
            actions.deleted.astype(np.uint8).tobytes(),
        )
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode_actions(data: bytes, *, where: str | None = None) -> ActionVersions:
    """The actions that :func:`encode_actions` wrote.

    Raises
    ------
    IntegrityError
        If the bytes are damaged, cut short, or of an unknown format.
    """
    if len(data) < _HEAD.size + _CRC.size:
        raise IntegrityError("stored corporate actions are cut short", where=where, remedy=_REMEDY)
    magic, version, _, _, _, count = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _FORMAT:
        raise IntegrityError("these bytes are no corporate actions of a known format", where=where, remedy=_REMEDY)
    if count > ACTION_VERSIONS_MAX or len(data) != _HEAD.size + _VERSION_BYTES * count + _CRC.size:
        raise IntegrityError("stored corporate actions are cut short", where=where, remedy=_REMEDY)
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise IntegrityError("stored corporate actions are damaged", where=where, remedy=_REMEDY)
    whole = np.frombuffer(data, dtype="<i8", count=4 * count, offset=_HEAD.size).astype(np.int64).reshape(4, count)
    at = _HEAD.size + 32 * count
    numbers = np.frombuffer(data, dtype="<f8", count=2 * count, offset=at).astype(np.float64).reshape(2, count)
    return ActionVersions(
        whole[0],
        whole[1],
        whole[2],
        whole[3],
        np.frombuffer(data, dtype=np.uint8, count=count, offset=at + 16 * count).astype(np.bool_),
        numbers[0],
        numbers[1],
    )


def publish_actions(client: redis.Redis, project: str, actions: Mapping[str, ActionVersions], recorded_us: int) -> int:
    """Write entities' actions to Redis; returns how many entities have any. Where none is left, none is published.

    Parameters
    ----------
    actions
        All versions, by entity.
    recorded_us
        As for :func:`encode_actions`; what is there stays if it was read later.

    Raises
    ------
    LimitError
        If an entity has too many.
    redis.RedisError
        If the server is away.
    """
    calls = [
        Call(
            [actions_key(project, entity)],
            [encode_actions(versions, recorded_us), b"%d" % _RECORDED_AT, b"1" if versions else b"0"],
        )
        for entity, versions in actions.items()
    ]
    for reply in _PUBLISH.run(client, calls):
        if isinstance(reply, Exception):
            raise reply
    return sum(len(versions) > 0 for versions in actions.values())
