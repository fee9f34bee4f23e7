"""Two levels over a real Valkey: where values are found, when they are not given, who computes, and what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from tapeline.core.errors import ParameterError
from tapeline.storage.caches import CachePolicy, MemoryCache, SharedLevel, TwoLevelCache, Value, cache_metrics
from tapeline.storage.caches.shared import FAILURES_BEFORE_PAUSE, lock_of

SECOND = 1_000_000
NOW = 1_378_000_000 * SECOND


class Process:
    """One process's side of a cache: its own memory, its own connections, and a count of what it computed."""

    def __init__(self, client: Redis | None, *, takes_s: float = 0.0, **policy: Any) -> None:
        self.memory = MemoryCache(1 << 20)
        self.level = None if client is None else SharedLevel(client.execute_command, timeout_s=2.0)
        self.cache = TwoLevelCache(
            CachePolicy("test", **({"ttl_us": 60 * SECOND} | policy)), self.memory, self.level, project="p"
        )
        self.cache.use_version("1")
        self.takes_s = takes_s
        self.computed: list[bytes] = []

    async def ask(self, *keys: bytes, now_us: int = NOW, **value: Any) -> list[bytes]:
        async def compute(positions: list[int]) -> Sequence[Value]:
            self.computed += [keys[position] for position in positions]
            await asyncio.sleep(self.takes_s)
            return [Value(b"of " + keys[position], **value) for position in positions]

        return await self.cache.get_or_compute_many(keys, now_us, compute)


Test = Callable[[Callable[..., Process]], Awaitable[None]]


@pytest.fixture
def play(redis_url: str) -> Iterator[Callable[[Test], None]]:
    """Runs a coroutine that is given a maker of processes which share one Valkey."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with Redis.from_url(redis_url, max_connections=200) as client:
                made: list[Process] = []

                def process(**options: Any) -> Process:
                    made.append(Process(client, **options))
                    return made[-1]

                await test(process)
                for each in made:
                    await each.cache.drain()

        asyncio.run(main())

    return run


def test_values_are_found_in_either_level(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        first, second = process(), process()
        assert await first.ask(b"a", b"b") == [b"of a", b"of b"]
        assert await first.ask(b"b", b"c") == [b"of b", b"of c"]
        await first.cache.drain()
        assert await second.ask(b"c", b"a", b"d") == [b"of c", b"of a", b"of d"]
        assert await second.cache.get_many([b"a", b"none", b"b"], NOW) == [b"of a", None, b"of b"]
        assert (first.computed, second.computed) == ([b"a", b"b", b"c"], [b"d"])
        counted = second.cache.statistics
        assert (counted.hits_memory, counted.hits_shared, counted.misses) == (1, 3, 2)
        assert counted.hit_rate == pytest.approx(4 / 6)
        assert sum(counted.latency_counts) == 2

    play(test)


def test_values_are_set_in_batches(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        first, second = process(), process()
        long = bytes(100_000)
        first.cache.set_many([(b"a", Value(b"1")), (b"b", Value(long)), (b"c", Value(b"3", keep=False))], NOW)
        assert await first.cache.get(b"a", NOW) == b"1"
        await first.cache.drain()
        assert await second.cache.get_many([b"a", b"b", b"c"], NOW) == [b"1", long, None]
        assert first.cache.statistics.compression_ratio > 50

    play(test)


def test_redis_forgets_what_is_too_old(play: Callable[[Test], None], redis_url: str) -> None:
    async def test(process: Callable[..., Process]) -> None:
        await process(ttl_us=90 * SECOND).ask(b"a")

    play(test)
    with redis.Redis.from_url(redis_url) as client:
        [key] = client.keys()
        assert key == b"tl:p:cache:test:1:a"
        assert 80_000 < client.pttl(key) <= 90_000


def test_time_is_that_of_the_injected_clock(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process()
        await one.ask(b"a")
        await one.cache.drain()
        for level in (one, process()):  # from memory, and from Redis
            assert await level.cache.get(b"a", NOW + 60 * SECOND - 1) == b"of a"
        for late in (one, process()):
            assert await late.cache.get(b"a", NOW + 60 * SECOND) is None
            assert late.cache.statistics.expired > 0
        for early in (one, process()):  # a clock that was moved back to before it was stored
            assert await early.cache.get(b"a", NOW - 1) is None

    play(test)


def test_a_value_is_given_only_at_moments_at_which_it_is_right(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process()
        await one.ask(b"a", from_us=NOW - 5, until_us=NOW + 5)
        await one.cache.drain()
        for level in (one, process()):
            assert await level.cache.get(b"a", NOW + 5) == b"of a"
            assert await level.cache.get(b"a", NOW + 6) is None
            assert level.cache.statistics.outside > 0

    play(test)


def test_another_version_is_never_given(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one, two = process(), process()
        await one.ask(b"a", b"b")
        await one.cache.drain()
        assert one.cache.use_version("2") == 2
        assert len(one.memory) == 0
        two.cache.use_version("2")
        for each in (one, two):
            assert await each.cache.get_many([b"a", b"b"], NOW) == [None, None]
        one.cache.use_version("1")
        assert await one.cache.get(b"a", NOW) == b"of a"

    play(test)


def test_in_a_process_one_computes_for_all(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process(takes_s=0.05)
        answers = await asyncio.gather(*(one.ask(b"a", b"b%d" % (number % 2)) for number in range(100)))
        assert answers == [[b"of a", b"of b%d" % (number % 2)] for number in range(100)]
        assert sorted(one.computed) == [b"a", b"b0", b"b1"]
        assert one.cache.statistics.waited_in_vain == 0
        assert one.cache.statistics.waited >= 197

    play(test)


def test_between_processes_one_computes_for_all(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        processes = [process(takes_s=0.05) for _ in range(8)]
        await asyncio.gather(*(each.ask(b"x", b"y") for each in processes for _ in range(5)))
        computed = [key for each in processes for key in each.computed]
        assert sorted(computed) == [b"x", b"y"]

    play(test)


def test_cheap_values_are_not_locked(play: Callable[[Test], None], redis_url: str) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process()
        for number in range(20):  # until it is known that they are cheap
            await one.ask(b"%d" % number)
        await one.cache.drain()
        with redis.Redis.from_url(redis_url) as client:
            client.config_resetstat()
            await one.ask(b"more")
            await one.cache.drain()
            counts = client.info("commandstats")
        assert counts["cmdstat_set"]["calls"] == 1  # the value, and no lock
        assert "cmdstat_eval" not in counts

    play(test)


def test_nobody_waits_for_ever_for_a_dead_holder(play: Callable[[Test], None], redis_url: str) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process(wait_ms=100)
        with redis.Redis.from_url(redis_url) as client:
            client.set(lock_of(b"tl:p:cache:test:1:a"), b"of a process that was killed", px=60_000)
        begin = time.monotonic()
        assert await one.ask(b"a") == [b"of a"]
        assert 0.1 <= time.monotonic() - begin < 2.0
        assert one.cache.statistics.waited_in_vain == 1

    play(test)


def test_a_lock_is_released_by_its_holder_only(play: Callable[[Test], None], redis_url: str) -> None:
    async def test(process: Callable[..., Process]) -> None:
        level = process().level
        assert await level.lock_many([b"a", b"b"], b"mine", lease_ms=60_000) == [True, True]
        assert await level.lock_many([b"a", b"c"], b"theirs", lease_ms=60_000) == [False, True]
        await level.unlock_many([b"a", b"b"], b"theirs")
        assert await level.lock_many([b"a"], b"theirs", lease_ms=60_000) == [False]
        await level.unlock_many([b"a"], b"mine")
        assert await level.lock_many([b"a"], b"theirs", lease_ms=60_000) == [True]

    play(test)


def test_nobody_waits_for_a_value_that_its_holder_keeps_to_itself(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one, two = process(takes_s=0.05, wait_ms=5_000), process(takes_s=0.05, wait_ms=5_000)
        begin = time.monotonic()
        await asyncio.gather(*(each.ask(b"a", keep=False) for each in (one, one, two)))
        assert time.monotonic() - begin < 2.0
        assert (one.computed, two.computed) == ([b"a", b"a"], [b"a"])
        assert one.cache.statistics.not_kept == 2
        assert await one.cache.get(b"a", NOW) is None

    play(test)


def test_who_waits_for_a_task_that_fails_or_is_cancelled_computes_itself(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process(takes_s=0.05)

        async def fail(_: list[int]) -> Sequence[Value]:
            await asyncio.sleep(0.05)
            raise RuntimeError("broken")

        failing = asyncio.create_task(one.cache.get_or_compute_many([b"a"], NOW, fail))
        cancelled = asyncio.create_task(one.ask(b"b"))
        await asyncio.sleep(0.02)
        waiting = asyncio.create_task(one.ask(b"a", b"b"))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(RuntimeError, match="broken"):
            await failing
        assert await waiting == [b"of a", b"of b"]
        assert one.cache.statistics.waited_in_vain == 2
        assert not one.cache._computing

    play(test)


def test_a_slow_task_is_waited_for_no_longer_than_agreed(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process(wait_ms=50)
        release = asyncio.Event()

        async def slow(_: list[int]) -> Sequence[Value]:
            await release.wait()
            return [Value(b"slow")]

        holder = asyncio.create_task(one.cache.get_or_compute_many([b"a"], NOW, slow))
        await asyncio.sleep(0.02)
        assert await one.ask(b"a") == [b"of a"]
        release.set()
        assert await holder == [b"slow"]

    play(test)


def test_a_key_asked_for_twice_is_refused(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        with pytest.raises(ParameterError, match="asked for twice"):
            await process().ask(b"a", b"a")

    play(test)


@pytest.mark.parametrize("garbage", [b"", b"nonsense", b"TLC\x01" + bytes(60)])
def test_corrupt_values_are_misses_and_are_mended(play: Callable[[Test], None], redis_url: str, garbage: bytes) -> None:
    async def test(process: Callable[..., Process]) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.set(b"tl:p:cache:test:1:a", garbage)
            client.lpush(b"tl:p:cache:test:1:list", b"another type")
        one = process()
        assert await one.ask(b"a", b"list") == [b"of a", b"of list"]
        assert one.cache.statistics.corrupt == 1
        await one.cache.drain()
        assert await process().cache.get_many([b"a", b"list"], NOW) == [b"of a", b"of list"]

    play(test)


def test_without_redis_everything_is_a_miss_and_soon_not_even_asked_for() -> None:
    async def main() -> None:
        one = Process(Redis(port=1, retry=Retry(NoBackoff(), 0)))
        for number in range(6):
            key = b"%d" % number
            assert await one.ask(key) == [b"of " + key]
            assert await one.ask(key) == [b"of " + key]  # the first level works on
        assert one.computed == [b"%d" % number for number in range(6)]
        await one.cache.drain()
        assert FAILURES_BEFORE_PAUSE <= one.level.errors <= FAILURES_BEFORE_PAUSE + 3
        assert one.level.skipped > 0
        assert one.cache.statistics.writes_dropped == 6

    asyncio.run(main())


def test_a_redis_that_hangs_costs_no_more_than_its_time_limit_and_is_used_again_when_it_answers() -> None:
    async def main() -> None:
        hanging = True
        asked = 0

        async def execute(*command: bytes) -> Any:
            nonlocal asked
            asked += 1
            if hanging:
                await asyncio.sleep(3600)
            return [None] if command[0] == b"MGET" else b"OK"

        level = SharedLevel(execute, timeout_s=0.02)
        begin = time.monotonic()
        for _ in range(FAILURES_BEFORE_PAUSE):
            assert await level.get_many([b"a"]) is None
        assert await level.get_many([b"a"]) is None
        assert asked == FAILURES_BEFORE_PAUSE
        assert time.monotonic() - begin < 10  # each would take an hour
        hanging = False
        await asyncio.sleep(1.05)
        assert await level.get_many([b"a"]) == [None]
        assert await level.get_many([b"a"]) == [None]

    asyncio.run(main())


def test_a_process_without_redis_remembers_for_itself() -> None:
    async def main() -> None:
        one = Process(None)
        assert await one.ask(b"a") == await one.ask(b"a") == [b"of a"]
        assert one.computed == [b"a"]

    asyncio.run(main())


def test_metrics_can_be_scraped(play: Callable[[Test], None]) -> None:
    async def test(process: Callable[..., Process]) -> None:
        one = process()
        await one.ask(b"a")
        await one.ask(b"a")
        await one.cache.drain()

        class Caches(Collector):
            def collect(self) -> Iterator[Any]:
                return cache_metrics([one.cache.statistics], {"all": one.memory}, one.level)

        registry = CollectorRegistry()
        registry.register(Caches())
        text = generate_latest(registry).decode()
        for line in (
            'tapeline_cache_lookups_total{cache="test",outcome="hits_memory"} 1.0',
            'tapeline_cache_lookups_total{cache="test",outcome="misses"} 1.0',
            'tapeline_cache_lookup_seconds_count{cache="test"} 2.0',
            'tapeline_cache_refused_total{cache="test",reason="corrupt"} 0.0',
            'tapeline_cache_computed_total{cache="test",kept="yes"} 1.0',
            'tapeline_cache_memory_entries{memory="all"} 1.0',
            "tapeline_cache_shared_errors_total 0.0",
        ):
            assert line in text.splitlines(), line
        assert 'tapeline_cache_compression_ratio{cache="test"}' in text

    play(test)


@pytest.mark.parametrize("policy", [{"name": "a:b", "ttl_us": 1}, {"name": "a", "ttl_us": 0}])
def test_an_impossible_policy_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        CachePolicy(**policy)
