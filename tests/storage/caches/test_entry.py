"""Cached values as bytes: what was put in comes out, and nothing else does."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import LimitError
from tapeline.storage.caches import (
    ALWAYS_FROM_US,
    ALWAYS_UNTIL_US,
    PAYLOAD_BYTES_MAX,
    Entry,
    decode_entry,
    encode_entry,
)

US = st.integers(ALWAYS_FROM_US, ALWAYS_UNTIL_US)
PAYLOADS = st.one_of(
    st.binary(max_size=400),
    st.tuples(st.binary(min_size=1, max_size=20), st.integers(1, 3_000)).map(lambda drawn: drawn[0] * drawn[1]),
)
ENTRIES = st.builds(Entry, PAYLOADS, US, US, US)


@given(st.binary(max_size=60), ENTRIES, st.integers(0, 10_000))
@settings(max_examples=400, deadline=None)
def test_what_was_put_in_comes_out(key: bytes, entry: Entry, above: int) -> None:
    assert decode_entry(key, encode_entry(key, entry, compress_above_bytes=above)) == entry


@given(st.binary(max_size=30), ENTRIES, st.data())
@settings(max_examples=400, deadline=None)
def test_changed_bytes_are_no_entry(key: bytes, entry: Entry, data: st.DataObject) -> None:
    whole = encode_entry(key, entry, compress_above_bytes=100)
    place = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    assert decode_entry(key, changed) is None
    assert decode_entry(key, whole[:place]) is None
    assert decode_entry(key, whole + b"\0") is None
    assert decode_entry(key + b"x", whole) is None, "copied under another key"


@given(st.binary(max_size=300))
@example(b"")
@example(b"TLC\x01" + bytes(36))
@settings(max_examples=1_000, deadline=None)
def test_foreign_bytes_are_no_entry(foreign: bytes) -> None:
    assert decode_entry(b"key", foreign) is None


def test_long_values_are_compressed_and_short_ones_are_not() -> None:
    text = b"event,available,price\n" * 1_000
    short, long = text[:8_192], text[:8_193]
    assert len(encode_entry(b"k", Entry(short, 0), compress_above_bytes=8_192)) > len(short)
    assert len(encode_entry(b"k", Entry(long, 0), compress_above_bytes=8_192)) < len(long) / 20


def test_a_value_that_does_not_get_shorter_stays_as_it_is() -> None:
    noise = zlib.compress(bytes(range(256)) * 10, 9)
    data = encode_entry(b"k", Entry(noise, 0), compress_above_bytes=0)
    assert data.endswith(noise)
    assert decode_entry(b"k", data) == Entry(noise, 0)


def test_a_value_beyond_the_limit_is_refused() -> None:
    with pytest.raises(LimitError, match="longer than"):
        encode_entry(b"k", Entry(bytes(PAYLOAD_BYTES_MAX + 1), 0), compress_above_bytes=8_192)


def sealed(key: bytes, stored: bytes, length: int) -> bytes:
    """An entry with a right checksum over whatever a hostile writer likes."""
    head = struct.pack("<4sB3xqqqI", b"TLC\x01", 1, 0, 0, 0, length)
    return head + struct.pack("<I", zlib.crc32(stored, zlib.crc32(head, zlib.crc32(key)))) + stored


@pytest.mark.parametrize("declared", [10, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1])
def test_a_bomb_takes_no_more_memory_than_its_declared_length(declared: int) -> None:
    from tapeline.storage.caches.entry import zstd

    bomb = zstd.compress(bytes(10 * PAYLOAD_BYTES_MAX))
    tracemalloc.start()
    try:
        assert decode_entry(b"k", sealed(b"k", bomb, declared)) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * min(declared, PAYLOAD_BYTES_MAX) + (1 << 20)


@given(st.binary(max_size=200), st.integers(0, 500))
@settings(max_examples=300, deadline=None)
def test_sealed_nonsense_is_no_entry(stored: bytes, length: int) -> None:
    assert decode_entry(b"k", sealed(b"k", stored, length)) is None


@pytest.mark.parametrize(
    ("now_us", "fresh", "right"),
    [(999, False, False), (1_000, True, False), (1_100, True, True), (1_200, True, True), (1_201, True, False),
     (1_499, True, False), (1_500, False, False)],
)  # fmt: skip
def test_time_on_the_injected_clock(now_us: int, fresh: bool, right: bool) -> None:
    entry = Entry(b"x", 1_000, 1_100, 1_200)
    assert (entry.is_fresh(now_us, 500), entry.is_right(now_us)) == (fresh, right)
