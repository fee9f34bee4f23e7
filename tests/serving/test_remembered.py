"""Values kept in the process: never older than what Redis has sent word of, whoever writes, and however the connection ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from tapeline.core.clock import LiveClock, ReplayClock
from tapeline.core.errors import UnavailableError
from tapeline.storage.caches import MemoryCache
from tapeline.storage.online import write_many
from tapeline.storage.packed import Layout, encode_many
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import HEARD_S_MAX, RedisConnection
from tapeline_serving.store.remembered import RememberedStore

from tests.serving.conftest import Writer

MINUTE_US = 60_000_000
LIMIT = 1 << 20


class Remembering:
    """A started connection, its store and its memory."""

    def __init__(self, url: str, *, clock: Any = None, bytes_max: int = LIMIT, timeout_s: float = 1.0) -> None:
        self.changes: list[bool] = []
        self.redis = RedisConnection(RedisAddress.parse(url), timeout_s=timeout_s, on_change=self.changes.append)
        self.memory = MemoryCache(bytes_max)
        self.store = RememberedStore(self.redis, self.memory, clock or LiveClock(), ttl_us=15 * MINUTE_US)

    @property
    def asked(self) -> int:
        return self.store.statistics.misses


def play(url: str, test: Callable[[Remembering, redis.Redis], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        with Writer.from_url(url) as writer:
            one = Remembering(url, **options)
            assert await one.redis.start()
            try:
                await test(one, writer)
            finally:
                await one.redis.close()

    asyncio.run(main())


def test_what_was_read_is_not_asked_for_again(redis_url: str) -> None:
    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.mset({"a": "1", "b": "2"})
        assert await one.store.mget([b"a", b"b", b"none"]) == [b"1", b"2", None]
        writer.config_resetstat()
        assert await one.store.mget([b"none", b"b", b"a"]) == [None, b"2", b"1"]
        assert await one.store.mget([b"a", b"new"]) == [b"1", None]
        assert writer.info("commandstats")["cmdstat_mget"]["calls"] == 1
        assert (one.store.statistics.hits_memory, one.asked) == (4, 4)

    play(redis_url, test)


@pytest.mark.parametrize(
    "change",
    [
        lambda writer: writer.set("a", "new"),
        lambda writer: writer.delete("a"),
        lambda writer: writer.rename("a", "c"),
        lambda writer: writer.eval("redis.call('SET', KEYS[1], 'new')", 1, "a"),
        lambda writer: writer.flushdb(),
        lambda writer: writer.flushall(),
        lambda writer: writer.restore("a", 0, writer.dump("b"), replace=True),
        lambda writer: (writer.pexpire("a", 1), time.sleep(0.02), writer.get("a")),
        lambda writer: writer.set("none", "now there"),
    ],
    ids=["set", "delete", "rename", "script", "flushdb", "flushall", "restore", "expiry", "first value"],
)  # fmt: skip
def test_a_change_is_seen_by_the_next_reading(redis_url: str, change: Callable[[redis.Redis], Any]) -> None:
    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.mset({"a": "old", "b": "2"})
        for _ in range(3):
            assert await one.store.mget([b"a", b"none"]) == [b"old", None]
        change(writer)  # its word has been sent, and nothing here has let the event loop read it
        assert await one.store.mget([b"a", b"none"]) == writer.mget("a", "none")

    play(redis_url, test)


def test_a_packed_value_written_by_compare_and_set_is_seen(redis_url: str) -> None:
    layout = Layout.of_floats("v", 1, ["x"])

    def packed(event_us: int) -> bytes:
        return encode_many(layout, np.array([[event_us, 0, event_us, 0]]), np.array([[float(event_us)]]))[0]

    async def test(one: Remembering, writer: redis.Redis) -> None:
        for event_us, newest_us in ((5, 5), (9, 9), (7, 9), (12, 12)):
            write_many(writer, [(b"k", packed(event_us))])
            writer.ping()
            assert await one.store.mget([b"k"]) == [packed(newest_us)]

    play(redis_url, test)


def test_random_writes_are_never_missed(redis_url: str) -> None:
    """Every value read is at least as new as the last one whose word had been sent before the reading began."""
    keys = [b"k%d" % number for number in range(8)]

    async def test(one: Remembering, writer: redis.Redis) -> None:
        chance = random.Random(5)
        written = dict.fromkeys(keys, 0)
        writer.mset(dict.fromkeys(keys, 0))
        stop = False

        def write() -> None:
            while not stop:
                key = chance.choice(keys)
                writer.set(key, written[key] + 1)
                written[key] += 1

        async def read(seed: int) -> int:
            mine = random.Random(seed)
            count = 0
            while not stop:
                wanted = mine.sample(keys, mine.randint(1, len(keys)))
                least = [written[key] for key in wanted]
                found = [int(value) for value in await one.store.mget(wanted)]
                assert all(a >= b for a, b in zip(found, least, strict=True)), (found, least)
                count += 1
                await asyncio.sleep(0)
            return count

        writing = asyncio.create_task(asyncio.to_thread(write))
        reading = [asyncio.create_task(read(seed)) for seed in range(5)]
        await asyncio.sleep(2.0)
        stop = True
        counts = await asyncio.gather(*reading)
        await writing
        assert min(counts) > 10
        assert min(written.values()) > 10
        assert one.store.statistics.hits_memory > 100

    play(redis_url, test)


def test_time_to_live_is_that_of_the_injected_clock(redis_url: str) -> None:
    clock = ReplayClock(1_000 * MINUTE_US)

    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.set("a", "1")
        for moment_us, asked in (
            (1_000 * MINUTE_US, 1),
            (1_015 * MINUTE_US - 1, 1),
            (1_015 * MINUTE_US, 2),
            (1_014 * MINUTE_US, 3),  # moved back: what was read later is not used
        ):
            clock.move_to(moment_us)
            assert await one.store.mget([b"a"]) == [b"1"]
            assert one.asked == asked

    play(redis_url, test, clock=clock)


def test_memory_is_bounded(redis_url: str) -> None:
    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.mset({f"k{number}": bytes(5_000) for number in range(100)})
        for number in range(100):
            assert await one.store.mget([b"k%d" % number, b"none%d" % number]) == [bytes(5_000), None]
        assert one.memory.size_bytes <= 50_000
        assert one.memory.evictions > 80

    play(redis_url, test, bytes_max=50_000)


def test_a_lost_connection_forgets_everything(redis_url: str) -> None:
    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.set("a", "old")
        assert await one.store.mget([b"a"]) == [b"old"]
        writer.client_kill_filter(_type="normal", skipme=True)
        writer.set("a", "new")  # of which nobody tells
        for _ in range(500):
            try:
                assert await one.store.mget([b"a"]) == [b"new"]
            except UnavailableError:
                await asyncio.sleep(0.01)
            else:
                break
        assert one.changes == [True, False, True]

    play(redis_url, test)


def test_a_cancelled_reading_leaves_others_alone(redis_url: str) -> None:
    async def test(one: Remembering, writer: redis.Redis) -> None:
        writer.mset({"a": "1", "b": "2"})
        one.store.mget([b"a"]).cancel()
        assert await one.store.mget([b"b"]) == [b"2"]
        assert await one.store.mget([b"a"]) == [b"1"]

    play(redis_url, test)


async def relay(path: Path, target: str, cut: asyncio.Event) -> asyncio.Server:
    """A proxy that swallows everything, both ways, once it is cut, and closes nothing."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if not cut.is_set():
                writer.write(data)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(target)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    return await asyncio.start_unix_server(handle, path)


def test_a_silent_network_is_not_trusted(redis_url: str, tmp_path: Path) -> None:
    """Half-open: no word of a change can arrive, and none of the loss either."""

    async def main() -> None:
        cut = asyncio.Event()
        target = str(RedisAddress.parse(redis_url).path)
        server = await relay(tmp_path / "relay", target, cut)
        with redis.Redis.from_url(redis_url) as writer:
            writer.set("a", "old")
            one = Remembering(f"unix://{tmp_path / 'relay'}?db=0")
            assert await one.redis.start()
            assert await one.store.mget([b"a"]) == [b"old"]
            await asyncio.sleep(2 * HEARD_S_MAX)  # signs of life keep the trust where nobody asks
            assert one.redis.hears_of_changes()
            assert (await one.store.mget([b"a"]), one.asked) == ([b"old"], 1)
            cut.set()
            writer.set("a", "new")
            await asyncio.sleep(HEARD_S_MAX)
            assert not one.redis.hears_of_changes()
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(one.store.mget([b"a"]), 5.0)
            await one.redis.close()
        server.close()

    asyncio.run(main())


def test_a_redis_that_may_not_tell_is_read_every_time(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser(
            "plain",
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            categories=["+@all"],
            commands=["-client|tracking"],
        )
        try:

            async def test(one: Remembering, writer: redis.Redis) -> None:
                writer.set("a", "1")
                assert await one.store.mget([b"a"]) == [b"1"]
                writer.set("a", "2")
                assert await one.store.mget([b"a"]) == [b"2"]
                assert not one.redis.hears_of_changes()
                assert one.asked == 2

            play(redis_url.replace("unix://", "unix://plain:secret@"), test)
        finally:
            admin.acl_deluser("plain")
