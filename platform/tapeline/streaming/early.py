"""Online values of rows that are not available yet, such as bars whose lag has not passed.

A reader that finds such a value finds nothing, as the value before it is gone from Redis. So they wait until their time: in the
worker's memory, and in a sorted set of Redis beside the partition's other keys, from where the next owner takes them up. Each
removes from there what it wrote, never another's.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from redis import Redis

from tapeline.storage.online import FAILURES, unavailable
from tapeline.streaming.plan import StreamPlan

EARLY_BYTES_MAX = 64 << 20
"""Beyond it, the first ones are written before their time."""
_ITEM_BYTES = 400
"""Of what holds a key and a value."""
_PIECE = 1_000
_LENGTH = struct.Struct("<H")
Item = tuple[bytes, bytes]
T = TypeVar("T")


class Early:
    """Values in the order of their times. For one thread.

    Parameters
    ----------
    redis
        A client that returns bytes.
    plan
        The stream.
    bytes_max
        What may wait, about, here and so in Redis.

    Attributes
    ----------
    bytes
        What waits, about.
    """

    def __init__(self, redis: Redis, plan: StreamPlan, bytes_max: int = EARLY_BYTES_MAX) -> None:
        self._redis = redis
        self._plan = plan
        self._bytes_max = bytes_max
        self.bytes = 0
        self._count = 0
        self._heap: list[tuple[int, int]] = []
        self._items: dict[int, tuple[int, bytes, bytes]] = {}
        self._numbers: dict[bytes, list[int]] = {}
        self._unkept: list[tuple[int, int]] = []
        self._done: dict[int, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_unkept(self) -> bool:
        """Whether something was put since :meth:`keep`."""
        return bool(self._unkept)

    @property
    def next_us(self) -> int | None:
        """When the next one is available; none if none waits."""
        while self._heap and self._heap[0][1] not in self._items:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def put(self, partition: int, available_us: int, key: bytes, value: bytes) -> None:
        """Have a value wait until its time; :meth:`keep` makes it outlive the worker."""
        if self._put(partition, available_us, key, value):
            self._unkept.append((available_us, self._count - 1))

    def _put(self, partition: int, available_us: int, key: bytes, value: bytes) -> bool:
        numbers = self._numbers.setdefault(key, [])
        if any(self._items[number][2] == value for number in numbers):  # of a partition that comes back
            return False
        self._done.get(partition, set()).discard(_member(key, value))
        numbers.append(self._count)
        self._items[self._count] = partition, key, value
        if len(self._heap) > 2 * len(self._items) + _PIECE:  # most of it was replaced
            self._heap = [entry for entry in self._heap if entry[1] in self._items]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (available_us, self._count))
        self._count += 1
        self.bytes += _size(key, value)
        return True

    def due(self, now_us: int) -> list[Item]:
        """Keys and values of what is available by a moment, or cannot be held any more; they do not wait from now on."""
        found = []
        while (next_us := self.next_us) is not None and (next_us <= now_us or self.bytes > self._bytes_max):
            found.append(self._remove(heapq.heappop(self._heap)[1]))
        return found

    def replace(self, key: bytes) -> None:
        """Forget what waits under a key: it is computed again."""
        for number in list(self._numbers.get(key, ())):
            self._remove(number)

    def keep(self) -> None:
        """Write what was put since the last time, and still waits, to Redis for the next owner.

        Raises
        ------
        UnavailableError
            If Redis is away.
        """
        members: dict[int, dict[bytes, float]] = {}
        for available_us, number in self._unkept:
            if number in self._items:
                partition, key, value = self._items[number]
                members.setdefault(partition, {})[_member(key, value)] = float(available_us)
        if members:
            pipeline = self._redis.pipeline(transaction=False)
            for partition, of_partition in members.items():
                for piece in _pieces(list(of_partition.items())):
                    pipeline.zadd(self._key(partition), dict(piece))
            try:
                pipeline.execute()
            except FAILURES as error:
                raise unavailable(error) from error
        self._unkept = []

    def settle(self) -> None:
        """What was due has been written, what was replaced is not to be: the next owner need not have it. May be late."""
        if not self._done:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for partition, members in self._done.items():
            for piece in _pieces(list(members)):
                pipeline.zrem(self._key(partition), *piece)
        with suppress(*FAILURES):  # it is tried again next time; that a value is written twice changes nothing
            pipeline.execute()
            self._done = {}

    def take_up(self, partition: int, prefixes: Sequence[bytes]) -> None:
        """Have what the last owner of a partition kept wait here; what is of other views is thrown away.

        Raises
        ------
        redis.RedisError
            If Redis is away.
        """
        start = 0
        while True:
            found = cast(
                "list[tuple[bytes, float]]",
                # From the last one on: the last owner may be removing the first ones, which it writes.
                self._redis.zrange(self._key(partition), start, start + _PIECE - 1, desc=True, withscores=True),
            )
            for member, available_us in found:
                ends = _LENGTH.size + _LENGTH.unpack_from(member)[0]
                key, value = member[_LENGTH.size : ends], member[ends:]
                if key.startswith(tuple(prefixes)):
                    self._put(partition, int(available_us), key, value)
                else:
                    self._done.setdefault(partition, set()).add(member)
            if len(found) < _PIECE:
                return
            start += _PIECE

    def clear(self) -> None:
        """Leave what was kept to the next owners."""
        self._heap.clear()
        self._items.clear()
        self._numbers.clear()
        self._unkept.clear()
        self._done.clear()
        self.bytes = 0

    def _remove(self, number: int) -> Item:
        partition, key, value = self._items.pop(number)
        numbers = self._numbers[key]
        numbers.remove(number)
        if not numbers:
            del self._numbers[key]
        self.bytes -= _size(key, value)
        self._done.setdefault(partition, set()).add(_member(key, value))
        return key, value

    def _key(self, partition: int) -> bytes:
        return self._plan.key(partition, "early")


def _member(key: bytes, value: bytes) -> bytes:
    return _LENGTH.pack(len(key)) + key + value


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + _ITEM_BYTES


def _pieces(items: list[T]) -> Iterable[list[T]]:
    return (items[start : start + _PIECE] for start in range(0, len(items), _PIECE))
