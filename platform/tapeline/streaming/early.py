"""Online values of rows that are not available yet.

A reader that finds such a value finds nothing: the value before it is gone from Redis. So they wait here, in memory, until their
time. After a crash the next owner takes them from PostgreSQL.
"""

from __future__ import annotations

import heapq

EARLY_BYTES_MAX = 64 << 20
"""Beyond it, the first ones are written before their time."""
_ITEM_BYTES = 200
"""Of what holds a key and a value."""


class Early:
    """Values in the order of their times. For one thread.

    Parameters
    ----------
    bytes_max
        What may wait, about.

    Attributes
    ----------
    bytes
        What waits, about.
    """

    def __init__(self, bytes_max: int = EARLY_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._heap: list[tuple[int, int, int, bytes, bytes]] = []
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_us(self) -> int | None:
        """When the next one is available; none if none waits."""
        return self._heap[0][0] if self._heap else None

    def put(self, available_us: int, partition: int, key: bytes, value: bytes) -> None:
        """Keep a value until its time."""
        heapq.heappush(self._heap, (available_us, self._count, partition, key, value))
        self._count += 1
        self.bytes += _size(key, value)

    def due(self, now_us: int) -> list[tuple[bytes, bytes]]:
        """Keys and values of what is available by a moment, or cannot be kept; they do not wait any more."""
        found = []
        while self._heap and (self._heap[0][0] <= now_us or self.bytes > self._bytes_max):
            _, _, _, key, value = heapq.heappop(self._heap)
            self.bytes -= _size(key, value)
            found.append((key, value))
        return found

    def drop(self, partition: int) -> None:
        """Forget what belongs to a partition."""
        self._heap = [item for item in self._heap if item[2] != partition]
        heapq.heapify(self._heap)
        self.bytes = sum(_size(key, value) for _, _, _, key, value in self._heap)

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self.bytes = 0


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + _ITEM_BYTES
