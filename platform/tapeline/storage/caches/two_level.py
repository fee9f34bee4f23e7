"""A cache of two levels: this process's memory before Redis, each value computed once however many ask.

What makes it right rather than fast is in the keys and entries, not in any invalidation: a key names all that its value is a function
of, versions included, and an entry says at which moments it is right. So a value of another version is never under the key
that is asked for, and no message has to arrive for it to be so. A change of version only gives memory back sooner.

**Stampedes.** In a process, who comes first computes, the others wait for it, for ``wait_ms`` at most. Between processes a key with
a short lease does the same for values that take longer than ``lock_above_us`` to compute. A lock was chosen over probabilistic early
refresh because the worst stampede is that of a new version, when every process misses at once: there is then no old entry that
could be refreshed early. It is left out for cheap values because asking for the lock would take longer than computing twice.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tapeline.core.errors import LimitError, ParameterError
from tapeline.storage.caches.entry import Entry, decode_entry, encode_entry
from tapeline.storage.caches.memory import MemoryCache
from tapeline.storage.caches.policy import CachePolicy, Value
from tapeline.storage.caches.shared import SharedLevel, lock_of
from tapeline.storage.caches.statistics import CacheStatistics

WRITES_WAITING_MAX = 1_000
"""Batches on their way to the second level; further ones are dropped, and counted."""
_POLL_S_MIN, _POLL_S_MAX = 0.001, 0.02
_COST_SMOOTHING = 0.2


Compute = Callable[[list[int]], Awaitable[Sequence[Value]]]
"""Given positions among the keys that were asked for, their values in that order."""

_Answer = asyncio.Future["Entry | None"]


@dataclass(slots=True)
class _Lookup:
    """Keys with their prefix, the moment they are asked for, what was found, and what of it is not for others."""

    keys: list[bytes]
    now_us: int
    found: list[Entry | None]
    private: set[int]


class TwoLevelCache:
    """Values under keys of one project and version.

    Belongs to one event loop.

    Parameters
    ----------
    policy
        Its times and limits.
    memory
        The first level, which several caches may share.
    shared
        The second level; none: this process remembers for itself only.
    project
        Keeps projects in one Redis apart.
    """

    def __init__(self, policy: CachePolicy, memory: MemoryCache, shared: SharedLevel | None, *, project: str) -> None:
        self.policy = policy
        self.statistics = CacheStatistics(policy.name)
        self._memory = memory
        self._shared = shared
        self._base = f"tl:{project}:cache:{policy.name}:".encode()
        self._prefix = self._base
        self._computing: dict[bytes, _Answer] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._cost_us = float(policy.lock_above_us)  # until measured, a value counts as dear

    def use_version(self, version: str) -> int:
        """Go over to another version; returns how many entries of others left the first level.

        Entries of others in the second level are no longer asked for, and expire.
        """
        self._prefix = self._base + version.encode() + b":"
        return self._memory.drop_prefix(self._base)

    async def get_many(self, keys: Sequence[bytes], now_us: int) -> list[bytes | None]:
        """Values of some keys, ``None`` for each miss.

        Parameters
        ----------
        keys
            Without the cache's own prefix.
        now_us
            The injected clock.
        """
        begin = time.perf_counter()
        lookup = self._look_up(keys, now_us)
        missing = [position for position, entry in enumerate(lookup.found) if entry is None]
        await self._from_shared(lookup, missing)
        self.statistics.misses += sum(entry is None for entry in lookup.found)
        self.statistics.observe(time.perf_counter() - begin)
        return [None if entry is None else entry.payload for entry in lookup.found]

    async def get(self, key: bytes, now_us: int) -> bytes | None:
        """The value of a key; see :meth:`get_many`."""
        return (await self.get_many([key], now_us))[0]

    def set_many(self, items: Sequence[tuple[bytes, Value]], now_us: int) -> None:
        """Keep some values: in the first level at once, in the second as soon as it takes them.

        Values that are not to be kept, or are longer than the codec allows, are left out.
        """
        entries = [
            (self._prefix + key, Entry(value.payload, now_us, value.from_us, value.until_us))
            for key, value in items
            if value.keep
        ]
        self._keep(entries)

    async def get_or_compute_many(self, keys: Sequence[bytes], now_us: int, compute: Compute) -> list[bytes]:
        """Values of some keys; those that are in neither level are computed, each by one who asks.

        Parameters
        ----------
        keys, now_us
            As for :meth:`get_many`; no key twice.
        compute
            Called with the positions of keys that must be computed here. What it raises is raised here; others who waited for it
            compute for themselves.

        Raises
        ------
        ParameterError
            If a key is asked for twice.
        """
        begin = time.perf_counter()
        lookup = self._look_up(keys, now_us)
        mine: list[int] = []
        others: list[tuple[int, _Answer]] = []
        for position, entry in enumerate(lookup.found):
            if entry is None:
                answer = self._computing.get(lookup.keys[position])
                if answer is None:
                    mine.append(position)
                else:
                    others.append((position, answer))
        if mine:
            if len(set(lookup.keys)) != len(lookup.keys):
                raise ParameterError("a key is asked for twice", where=f"cache {self.policy.name}")
            await self._answer_mine(lookup, mine, compute, begin)
        else:
            self.statistics.observe(time.perf_counter() - begin)
        if others:
            await self._wait_for(lookup, others, compute)
        payloads = []
        for found in lookup.found:
            assert found is not None
            assert found.payload is not None
            payloads.append(found.payload)
        return payloads

    async def get_or_compute(self, key: bytes, now_us: int, compute: Callable[[], Awaitable[Value]]) -> bytes:
        """The value of a key; see :meth:`get_or_compute_many`."""

        async def one(_: list[int]) -> list[Value]:
            return [await compute()]

        return (await self.get_or_compute_many([key], now_us, one))[0]

    async def drain(self) -> None:
        """Wait until what was set so far has reached the second level, or failed to."""
        if self._writes:
            await asyncio.wait(set(self._writes))

    def _look_up(self, keys: Sequence[bytes], now_us: int) -> _Lookup:
        full = [self._prefix + key for key in keys]
        return _Lookup(full, now_us, [self._in_memory(key, now_us) for key in full], set())

    def _in_memory(self, key: bytes, now_us: int) -> Entry | None:
        entry = self._memory.get(key)
        if entry is None:
            return None
        if not self._usable(entry, now_us):
            if now_us >= entry.stored_us + self.policy.ttl_us:
                self._memory.drop(key)
            return None
        self.statistics.hits_memory += 1
        return entry

    def _usable(self, entry: Entry, now_us: int) -> bool:
        if not entry.is_fresh(now_us, self.policy.ttl_us):
            self.statistics.expired += 1
            return False
        if not entry.is_right(now_us):
            self.statistics.outside += 1
            return False
        return True

    async def _from_shared(self, lookup: _Lookup, positions: Sequence[int]) -> None:
        """Take what the second level holds for some positions, into the first level too."""
        if self._shared is None or not positions:
            return
        stored = await self._shared.get_many([lookup.keys[position] for position in positions])
        for position, data in zip(positions, stored or (), strict=stored is not None):
            self._take(lookup, position, data)
            self.statistics.hits_shared += lookup.found[position] is not None

    def _take(self, lookup: _Lookup, position: int, data: bytes | None) -> None:
        if data is None:
            return
        entry = decode_entry(lookup.keys[position], data)
        if entry is None:
            self.statistics.corrupt += 1
        elif self._usable(entry, lookup.now_us):
            lookup.found[position] = entry
            self._memory.put(lookup.keys[position], entry)

    async def _answer_mine(self, lookup: _Lookup, mine: Sequence[int], compute: Compute, begin: float) -> None:
        """Find or compute some keys, for all tasks of this process that ask for them meanwhile."""
        loop = asyncio.get_running_loop()
        answers: dict[int, _Answer] = {position: loop.create_future() for position in mine}
        for position, answer in answers.items():
            self._computing[lookup.keys[position]] = answer
        try:
            await self._from_shared(lookup, mine)
            missing = [position for position in mine if lookup.found[position] is None]
            self.statistics.misses += len(missing)
            self.statistics.observe(time.perf_counter() - begin)
            if missing:
                await self._compute_once(lookup, missing, compute)
        finally:
            for position, answer in answers.items():
                del self._computing[lookup.keys[position]]
                answer.set_result(None if position in lookup.private else lookup.found[position])

    async def _compute_once(self, lookup: _Lookup, missing: Sequence[int], compute: Compute) -> None:
        """Compute what no other process is computing, and wait for what one is."""
        shared = self._shared
        if shared is None or self._cost_us < self.policy.lock_above_us:
            await self._compute(lookup, missing, compute)
            return
        token = os.urandom(16)
        keys = [lookup.keys[position] for position in missing]
        locked = await shared.lock_many(keys, token, lease_ms=self.policy.lease_ms)
        ours = [position for position, got in zip(missing, locked, strict=True) if got]
        theirs = [position for position, got in zip(missing, locked, strict=True) if not got]
        if ours:
            try:
                await self._compute(lookup, ours, compute)
                await self.drain()  # who waits for the lock is to find the value
            finally:
                await shared.unlock_many([lookup.keys[position] for position in ours], token)
        if theirs:
            self.statistics.waited += len(theirs)
            await self._poll(shared, lookup, theirs)
            left = [position for position in theirs if lookup.found[position] is None]
            if left:
                self.statistics.waited_in_vain += len(left)
                await self._compute(lookup, left, compute)

    async def _poll(self, shared: SharedLevel, lookup: _Lookup, waiting: Sequence[int]) -> None:
        """Look for values that other processes compute until they are there, their locks gone, or it has been too long."""
        until_s = time.monotonic() + self.policy.wait_ms / 1e3
        pause_s = _POLL_S_MIN
        while waiting and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S_MAX)
            keys = [lookup.keys[position] for position in waiting]
            # Locks and values in one command: a lock that is gone has left its value, or its holder had none to give.
            stored = await shared.get_many([lock_of(key) for key in keys] + keys)
            if stored is None:
                return
            for position, data in zip(waiting, stored[len(keys) :], strict=True):
                self._take(lookup, position, data)
            locks = stored[: len(keys)]
            waiting = [
                position
                for position, lock in zip(waiting, locks, strict=True)
                if lookup.found[position] is None and lock is not None
            ]

    async def _compute(self, lookup: _Lookup, positions: Sequence[int], compute: Compute) -> None:
        begin = time.perf_counter()
        values = await compute(list(positions))
        each_us = (time.perf_counter() - begin) * 1e6 / len(positions)
        self._cost_us += _COST_SMOOTHING * (each_us - self._cost_us)
        self.statistics.computed += len(positions)
        kept = []
        for position, value in zip(positions, values, strict=True):
            entry = Entry(value.payload, lookup.now_us, value.from_us, value.until_us)
            lookup.found[position] = entry
            if value.keep:
                kept.append((lookup.keys[position], entry))
            else:
                lookup.private.add(position)
        self.statistics.not_kept += len(positions) - len(kept)
        self._keep(kept)

    async def _wait_for(self, lookup: _Lookup, others: Sequence[tuple[int, _Answer]], compute: Compute) -> None:
        """Take what other tasks of this process compute; what they do not give in time is computed here."""
        self.statistics.waited += len(others)
        self.statistics.misses += len(others)
        await asyncio.wait({answer for _, answer in others}, timeout=self.policy.wait_ms / 1e3)
        left = []
        for position, answer in others:
            entry = answer.result() if answer.done() else None
            # The other task may have asked at another moment of a clock that was moved meanwhile.
            if (
                entry is not None
                and entry.is_fresh(lookup.now_us, self.policy.ttl_us)
                and entry.is_right(lookup.now_us)
            ):
                lookup.found[position] = entry
            else:
                left.append(position)
        if left:
            self.statistics.waited_in_vain += len(left)
            await self._compute(lookup, left, compute)

    def _keep(self, entries: Sequence[tuple[bytes, Entry]]) -> None:
        for key, entry in entries:
            self._memory.put(key, entry)
        if self._shared is None or not entries:
            return
        if len(self._writes) >= WRITES_WAITING_MAX:
            self.statistics.writes_dropped += len(entries)
            return
        task = asyncio.create_task(self._write(self._shared, entries))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, shared: SharedLevel, entries: Sequence[tuple[bytes, Entry]]) -> None:
        items = []
        for key, entry in entries:
            try:
                data = encode_entry(key, entry, compress_above_bytes=self.policy.compress_above_bytes)
            except LimitError:
                self.statistics.writes_dropped += 1
                continue
            self.statistics.payload_bytes += len(entry.payload or b"")
            self.statistics.stored_bytes += len(data)
            items.append((key, data))
        # Redis keeps them for that long by its own clock; by the injected one they may end sooner, which the reader sees.
        if items and not await shared.set_many(items, expire_ms=self.policy.ttl_us // 1_000):
            self.statistics.writes_dropped += len(items)
