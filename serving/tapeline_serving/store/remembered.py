"""Stored values kept in this process, and dropped when Redis says that they changed.

Redis remembers which keys this connection has read (`CLIENT TRACKING`) and tells of each once it is written, deleted, expired or
evicted, by Lua functions too. The word comes on the connection that replies come on, in order. A value is therefore kept at the moment
its reply is read, and any later change is read after it: an old value can never be kept after the word of its change. Keys
without a value are remembered and told of in the same way.

What is given is what Redis held when it sent the last byte that has arrived here; a reading over the network is no newer. To be sure that
the word of a change would arrive, the connection must have been heard within ``HEARD_S_MAX``; beyond it, and after every loss,
everything is read anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from tapeline.core.clock import Clock
from tapeline.storage.caches import CacheStatistics, Entry, MemoryCache

from tapeline_serving.store.connection import RedisConnection


class RememberedStore:
    """An `OnlineStore` that asks Redis only for what this process does not hold.

    Parameters
    ----------
    redis
        Not started yet; it is set to tell of changes.
    memory
        Where values are kept.
    clock
        The injected one.
    ttl_us
        How long a value is used without having been read again.
    """

    def __init__(self, redis: RedisConnection, memory: MemoryCache, clock: Clock, *, ttl_us: int) -> None:
        self.statistics = CacheStatistics("features")
        self._redis = redis
        self._memory = memory
        self._clock = clock
        self._ttl_us = ttl_us
        redis.on_invalidated = self._forget

    def mget(self, keys: Sequence[bytes]) -> asyncio.Future[list[bytes | None]]:
        """As `RedisConnection.mget`, of which the missing ones are asked for."""
        begin = time.perf_counter()
        now_us = self._clock.now_us()
        values: list[bytes | None] = [None] * len(keys)
        missing = range(len(keys)) if not self._redis.hears_of_changes() else self._fill(keys, values, now_us)
        self.statistics.hits_memory += len(keys) - len(missing)
        self.statistics.misses += len(missing)
        answer: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()
        if not missing:
            answer.set_result(values)
            self.statistics.observe(time.perf_counter() - begin)
            return answer

        def on_reply(read: list[bytes | None]) -> None:
            for position, value in zip(missing, read, strict=True):
                values[position] = value
                self._memory.put(keys[position], Entry(value, now_us))
            self.statistics.observe(time.perf_counter() - begin)
            if not answer.done():
                answer.set_result(values)

        def on_end(reply: asyncio.Future[Any]) -> None:
            error = None if reply.cancelled() else reply.exception()
            if error is not None and not answer.done():
                answer.set_exception(error)

        self._redis.mget([keys[position] for position in missing], on_reply).add_done_callback(on_end)
        return answer

    def execute(self, *command: bytes) -> asyncio.Future[Any]:
        """As `RedisConnection.execute`."""
        return self._redis.execute(*command)

    def poll(self, reply: asyncio.Future[Any]) -> None:
        """As `RedisConnection.poll`."""
        self._redis.poll(reply)

    def _fill(self, keys: Sequence[bytes], values: list[bytes | None], now_us: int) -> list[int]:
        """Put what is held into `values`; the positions of the rest."""
        missing = []
        for position, key in enumerate(keys):
            entry = self._memory.get(key)
            if entry is None:
                missing.append(position)
            elif entry.is_fresh(now_us, self._ttl_us):
                values[position] = entry.payload
            else:
                self.statistics.expired += 1
                missing.append(position)
        return missing

    def _forget(self, keys: list[bytes] | None) -> None:
        if keys is None:
            self._memory.clear()
            return
        for key in keys:
            self._memory.drop(key)
