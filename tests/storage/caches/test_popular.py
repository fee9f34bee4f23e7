"""Counting what is popular: the promises of Space-Saving, and counts shared through Redis."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tapeline.core.errors import ParameterError
from tapeline.storage.caches import PopularityCounter, SharedLevel, read_popular, share_popular

KEY = b"popular"


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=400), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_the_frequent_are_counted_and_no_count_is_far_off(names: list[str], capacity: int) -> None:
    counter = PopularityCounter(capacity)
    for name in names:
        counter.add(name)
    true = Counter(names)
    counted = dict(counter.most_popular(capacity))
    allowed = len(names) / capacity
    assert len(counter) == len(counted) <= capacity
    assert counter.total == len(names) == sum(counted.values())
    assert {name for name, count in true.items() if count > allowed} <= set(counted)
    for name, count in counted.items():
        assert true[name] <= count <= true[name] + allowed
    if len(true) <= capacity:
        assert counted == true


def test_the_head_of_a_long_tail_is_found() -> None:
    names = np.random.default_rng(3).zipf(1.3, 50_000)
    counter = PopularityCounter(500)
    for name in names.tolist():
        counter.add(str(name))
    assert [name for name, _ in counter.most_popular(10)] == [str(name) for name in range(1, 11)]


def test_taking_begins_again() -> None:
    counter = PopularityCounter(2)
    for name in "aabbbc":
        counter.add(name)
    assert counter.take()[0][0] == "b"
    assert (len(counter), counter.total) == (0, 0)
    counter.add("z")
    assert counter.take() == [("z", 1)]


def test_no_counters_are_refused() -> None:
    with pytest.raises(ParameterError):
        PopularityCounter(0)


def test_processes_share_their_counts(redis_url: str) -> None:
    async def main() -> list[str]:
        async with Redis.from_url(redis_url) as client:
            level = SharedLevel(client.execute_command, timeout_s=5.0)
            assert await share_popular(level, KEY, [("AAA", 5), ("BBB", 3), ("CCC", 1)], keep=3)
            assert await share_popular(level, KEY, [("BBB", 4), ("DÖD", 2)], keep=3)
            assert await share_popular(level, KEY, [], keep=3)
            assert await read_popular(level, KEY, 2) == ["BBB", "AAA"]
            return await read_popular(level, KEY, 10)

    assert asyncio.run(main()) == ["BBB", "AAA", "DÖD"]
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(KEY) <= 7 * 86_400


def test_shared_counts_decay_once_a_minute(redis_url: str) -> None:
    async def share(times: int) -> None:
        async with Redis.from_url(redis_url) as client:
            level = SharedLevel(client.execute_command, timeout_s=5.0)
            for _ in range(times):
                await share_popular(level, KEY, [("AAA", 10)], keep=3)

    asyncio.run(share(3))
    with redis.Redis.from_url(redis_url) as client:
        assert client.zscore(KEY, "AAA") == 30
        client.delete(KEY + b":decayed")  # a minute later
        asyncio.run(share(1))
        assert client.zscore(KEY, "AAA") == pytest.approx(0.9 * 30 + 10)


def test_without_redis_nothing_is_popular() -> None:
    async def main() -> None:
        level = SharedLevel(Redis(port=1).execute_command)
        assert not await share_popular(level, KEY, [("AAA", 5)], keep=3)
        assert await read_popular(level, KEY, 5) == []

    asyncio.run(main())
