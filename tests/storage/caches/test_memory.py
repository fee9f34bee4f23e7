"""The first level never passes its limit, and what leaves first is what was not used for longest."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tapeline.core.errors import ParameterError
from tapeline.storage.caches import ENTRY_BYTES, Entry, MemoryCache

KEYS = st.sampled_from([b"a", b"b", b"bb", b"c" * 50, b"d"])
LIMIT = 4 * ENTRY_BYTES


def size_of(key: bytes, payload: bytes | None) -> int:
    return ENTRY_BYTES + len(key) + len(payload or b"")


class AgainstAList(RuleBasedStateMachine):
    """The same operations on a list in the order of use, newest last."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = MemoryCache(LIMIT)
        self.model: list[tuple[bytes, bytes | None]] = []

    @rule(key=KEYS, payload=st.none() | st.integers(0, LIMIT + 1).map(bytes))
    def put(self, key: bytes, payload: bytes | None) -> None:
        self.cache.put(key, Entry(payload, 0))
        self.model = [item for item in self.model if item[0] != key]
        if size_of(key, payload) <= LIMIT:
            self.model.append((key, payload))
            while sum(size_of(*item) for item in self.model) > LIMIT:
                self.model.pop(0)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        entry = self.cache.get(key)
        held = [item for item in self.model if item[0] == key]
        assert (None if entry is None else [(key, entry.payload)]) == (held or None)
        self.model = [item for item in self.model if item[0] != key] + held

    @rule(key=KEYS)
    def drop(self, key: bytes) -> None:
        self.cache.drop(key)
        self.model = [item for item in self.model if item[0] != key]

    @rule(prefix=st.sampled_from([b"b", b"a", b"x"]))
    def drop_prefix(self, prefix: bytes) -> None:
        left = [item for item in self.model if not item[0].startswith(prefix)]
        assert self.cache.drop_prefix(prefix) == len(self.model) - len(left)
        self.model = left

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model = []

    @invariant()
    def sizes_agree(self) -> None:
        assert len(self.cache) == len(self.model)
        assert self.cache.size_bytes == sum(size_of(*item) for item in self.model) <= LIMIT


AgainstAList.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_against_a_list = AgainstAList.TestCase


def test_the_limit_holds_in_real_memory() -> None:
    limit = 4 << 20
    gc.collect()
    tracemalloc.start()
    try:
        cache = MemoryCache(limit)
        for number in range(60_000):
            cache.put(
                b"key:%d" % number,
                Entry(b"%d" % number * 5, 1_700_000_000_000_000 + number, number + 1_000, number + 9_000),
            )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.evictions > 0
    assert held < 1.25 * limit
    assert held > 0.4 * limit, "the size that is counted for an entry is far too great"


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ParameterError):
        MemoryCache(-1)


def test_no_room_keeps_nothing() -> None:
    cache = MemoryCache(0)
    cache.put(b"a", Entry(b"", 0))
    assert cache.get(b"a") is None
