"""A cached value as bytes: what it is, for which moments it is right, and proof that it is whole. Pure encoding, no I/O.

::

    offset  size  field
         0     4  magic: b"TLC" and the codec's version
         4     1  flags: 1 for a payload compressed by zstd
         5     3  zero
         8     8  the injected clock when it was stored, µs since the epoch UTC, int64
        16     8  first moment at which it is right, µs, int64
        24     8  last such moment, µs, int64
        32     4  length of the payload before compression, uint32
        36     4  CRC-32 of the key, of all that stands before, and of what follows
        40     …  payload

The key is part of the checksum, so that an entry which somebody copied under another key is no entry there.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import NamedTuple

from tapeline.core.errors import LimitError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"TLC\x01"
PAYLOAD_BYTES_MAX = 16 << 20
ALWAYS_FROM_US, ALWAYS_UNTIL_US = -(1 << 63), (1 << 63) - 1

_HEAD = struct.Struct("<4sB3xqqqI")
_CRC = struct.Struct("<I")
_PAYLOAD_OFFSET = _HEAD.size + _CRC.size
_COMPRESSED = 1
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): PAYLOAD_BYTES_MAX.bit_length()}
"""A frame may not ask for more memory than the longest payload."""


class Entry(NamedTuple):
    """A cached value.

    Attributes
    ----------
    payload
        ``None`` is the knowledge that there is no value; only the first level can hold that.
    stored_us
        The injected clock when it was stored.
    from_us, until_us
        First and last moment at which it is right, both included.
    """

    payload: bytes | None
    stored_us: int
    from_us: int = ALWAYS_FROM_US
    until_us: int = ALWAYS_UNTIL_US

    def is_fresh(self, now_us: int, ttl_us: int) -> bool:
        """Whether it has not outlived its time at a moment of the injected clock.

        What was stored after that moment is not fresh: a clock that replays history may stand before it.
        """
        return self.stored_us <= now_us < self.stored_us + ttl_us

    def is_right(self, now_us: int) -> bool:
        """Whether it answers a question asked at that moment."""
        return self.from_us <= now_us <= self.until_us


def encode_entry(key: bytes, entry: Entry, *, compress_above_bytes: int) -> bytes:
    """Bytes of an entry.

    Parameters
    ----------
    key
        Where it will be kept; :func:`decode_entry` must be given the same.
    entry
        With a payload.
    compress_above_bytes
        Payloads longer than this are compressed, where that makes them shorter.

    Raises
    ------
    LimitError
        If the payload is longer than ``PAYLOAD_BYTES_MAX``.
    """
    payload = entry.payload
    assert payload is not None
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise LimitError(
            f"a value of {len(payload)} bytes is longer than the {PAYLOAD_BYTES_MAX} that are cached",
            where=f"cache key {key!r}",
            remedy="Keep it elsewhere and cache its address",
        )
    stored, flags = payload, 0
    if len(payload) > compress_above_bytes:
        packed = zstd.compress(payload)
        if len(packed) < len(payload):
            stored, flags = packed, _COMPRESSED
    head = _HEAD.pack(MAGIC, flags, entry.stored_us, entry.from_us, entry.until_us, len(payload))
    return b"".join((head, _CRC.pack(_checksum(key, head, stored)), stored))


def decode_entry(key: bytes, data: bytes) -> Entry | None:
    """The entry that :func:`encode_entry` made of these bytes for this key; ``None`` for any others.

    Nothing in them is believed before the checksum, and nothing makes it take more memory than ``PAYLOAD_BYTES_MAX`` allows.
    """
    if len(data) < _PAYLOAD_OFFSET or len(data) > _PAYLOAD_OFFSET + PAYLOAD_BYTES_MAX:
        return None
    head, stored = data[: _HEAD.size], data[_PAYLOAD_OFFSET:]
    magic, flags, stored_us, from_us, until_us, length = _HEAD.unpack(head)
    if magic != MAGIC or flags & ~_COMPRESSED or length > PAYLOAD_BYTES_MAX:
        return None
    if _checksum(key, head, stored) != _CRC.unpack_from(data, _HEAD.size)[0]:
        return None
    payload = _decompressed(stored, length) if flags else stored
    if payload is None or len(payload) != length:
        return None
    return Entry(payload, stored_us, from_us, until_us)


def _decompressed(stored: bytes, length: int) -> bytes | None:
    decompressor = zstd.ZstdDecompressor(options=_WINDOW)
    try:
        payload = decompressor.decompress(stored, max_length=length + 1)
    except zstd.ZstdError:
        return None
    return payload if decompressor.eof and not decompressor.unused_data else None


def _checksum(key: bytes, head: bytes, stored: bytes) -> int:
    return zlib.crc32(stored, zlib.crc32(head, zlib.crc32(key)))
