"""Known splits in Redis, beside the states: what a live row is adjusted for by the inference server.

All stored versions of an entity's splits stand under one key, so that a reader picks those that are known at its own clock. An
entity that never had a split has no key. Layout, all little-endian::

    magic "TLSP" · format u8 · reserved u8 u16 · recorded i64 · versions u32
    event i64[n] · sequence i64[n] · available i64[n] · created i64[n] · ratio f64[n] · deleted u8[n]
    CRC-32 u32 of everything before
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import redis

from tapeline.core.errors import IntegrityError, LimitError
from tapeline.features.versions import SplitVersions
from tapeline.storage.keys import entity_key_sorted

SPLIT_VERSIONS_MAX = 10_000
"""Versions of one entity's splits beyond which they are not published, nor read."""
_MAGIC, _FORMAT = b"TLSP", 1
_HEAD = struct.Struct("<4sBBHqI")
_RECORDED_AT = 8
_CRC = struct.Struct("<I")
_REMEDY = "Publish them again with: tapeline backfill"

# The one that was read later stays, whichever arrives later.
_PUBLISH = """
local at = tonumber(ARGV[2])
local old = redis.call('GETRANGE', KEYS[1], 0, at + 7)
if #old == at + 8 and string.sub(old, 1, 5) == string.sub(ARGV[1], 1, 5)
    and struct.unpack('<i8', old, at + 1) > struct.unpack('<i8', ARGV[1], at + 1) then
    return 0
end
if #old > 0 or ARGV[3] == '1' then
    redis.call('SET', KEYS[1], ARGV[1])  -- an entity that never had a split gets no key
end
return 1
"""


def splits_key(project: str, entity: str) -> bytes:
    """Where the splits of an entity are kept in Redis."""
    return splits_prefix(project) + entity_key_sorted([entity])


def splits_prefix(project: str) -> bytes:
    """What all these keys of a project begin with."""
    return f"tl:{project}:splits:".encode()


def encode_splits(splits: SplitVersions, recorded_us: int) -> bytes:
    """Bytes of an entity's splits; :func:`decode_splits` reads them back.

    Parameters
    ----------
    splits
        All versions.
    recorded_us
        Everything that the database had recorded by then is among them.

    Raises
    ------
    LimitError
        If there are more than `SPLIT_VERSIONS_MAX`.
    """
    if len(splits) > SPLIT_VERSIONS_MAX:
        raise LimitError(
            f"{len(splits)} versions of one entity's splits; at most {SPLIT_VERSIONS_MAX} can be published"
        )
    whole = (splits.event_us, splits.sequence, splits.available_us, splits.created_us)
    body = b"".join(
        (
            _HEAD.pack(_MAGIC, _FORMAT, 0, 0, recorded_us, len(splits)),
            *(column.astype("<i8", copy=False).tobytes() for column in whole),
            splits.ratio.astype("<f8", copy=False).tobytes(),
            splits.deleted.astype(np.uint8).tobytes(),
        )
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode_splits(data: bytes, *, where: str | None = None) -> SplitVersions:
    """The splits that :func:`encode_splits` wrote.

    Raises
    ------
    IntegrityError
        If the bytes are damaged, cut short, or of an unknown format.
    """
    if len(data) < _HEAD.size + _CRC.size:
        raise IntegrityError("stored splits are cut short", where=where, remedy=_REMEDY)
    magic, version, _, _, _, count = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _FORMAT:
        raise IntegrityError("these bytes are no splits of a known format", where=where, remedy=_REMEDY)
    if count > SPLIT_VERSIONS_MAX or len(data) != _HEAD.size + 41 * count + _CRC.size:
        raise IntegrityError("stored splits are cut short", where=where, remedy=_REMEDY)
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise IntegrityError("stored splits are damaged", where=where, remedy=_REMEDY)
    whole = np.frombuffer(data, dtype="<i8", count=4 * count, offset=_HEAD.size).astype(np.int64).reshape(4, count)
    at = _HEAD.size + 32 * count
    return SplitVersions(
        whole[0],
        whole[1],
        whole[2],
        whole[3],
        np.frombuffer(data, dtype=np.uint8, count=count, offset=at + 8 * count).astype(np.bool_),
        np.frombuffer(data, dtype="<f8", count=count, offset=at).astype(np.float64),
    )


def publish_splits(client: redis.Redis, project: str, splits: Mapping[str, SplitVersions], recorded_us: int) -> int:
    """Write entities' splits to Redis; returns how many entities have any. Where none is left, none is published.

    Parameters
    ----------
    splits
        All versions, by entity.
    recorded_us
        As for :func:`encode_splits`; what is there stays if it was read later.

    Raises
    ------
    LimitError
        If an entity has too many.
    redis.RedisError
        If the server is away.
    """
    script = client.register_script(_PUBLISH)
    pipeline = client.pipeline(transaction=False)
    for entity, versions in splits.items():
        data = encode_splits(versions, recorded_us)
        may_be_new = int(len(versions) > 0)
        script(keys=[splits_key(project, entity)], args=[data, _RECORDED_AT, may_be_new], client=pipeline)
    pipeline.execute()
    return sum(len(versions) > 0 for versions in splits.values())
