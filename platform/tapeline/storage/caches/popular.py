"""Which entities are asked for most, counted in bounded memory, and shared between processes so that a new one can be warmed."""

from __future__ import annotations

from collections.abc import Iterable

from tapeline.core.errors import ParameterError
from tapeline.storage.caches.shared import SharedLevel

KEPT_S = 7 * 86_400
"""How long the shared counts outlive the last process that added to them."""
DECAY_EVERY_MS = 60_000
DECAY = 0.9
"""Shared counts shrink to this share every minute: what was popular an hour ago weighs 0.2 % of what is now."""


class PopularityCounter:
    """Counts the most frequent of very many names with a fixed number of counters, a constant time each.

    Every name that made up more than ``1 / capacity`` of all counted ones is among the counters, and no count exceeds the true one
    by more than that share of the total. Metwally, Agrawal and El Abbadi, *Efficient computation of frequent and top-k elements in
    data streams* (2005): Space-Saving over a stream summary.

    Parameters
    ----------
    capacity
        How many counters.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ParameterError(f"{capacity} counters cannot count", where="popular entities")
        self.capacity = capacity
        self.total = 0
        self._counts: dict[str, int] = {}
        # Names by their count, oldest first: the next to be replaced is the first of the smallest count.
        self._names: dict[int, dict[str, None]] = {}
        self._smallest = 1

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, name: str) -> None:
        """Count a name once."""
        self.total += 1
        count = self._counts.get(name, 0)
        if count:
            self._leave(name, count)
        elif len(self._counts) == self.capacity:
            count = self._smallest
            replaced = next(iter(self._names[count]))
            self._leave(replaced, count)
            del self._counts[replaced]
        count += 1
        self._counts[name] = count
        self._names.setdefault(count, {})[name] = None
        if count == 1 or self._smallest not in self._names:
            self._smallest = count

    def most_popular(self, number: int) -> list[tuple[str, int]]:
        """The names with the greatest counts, greatest first, and their counts."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:number]

    def take(self) -> list[tuple[str, int]]:
        """All names with their counts, greatest first; counting begins again."""
        taken = self.most_popular(self.capacity)
        self._counts.clear()
        self._names.clear()
        self.total, self._smallest = 0, 1
        return taken

    def _leave(self, name: str, count: int) -> None:
        names = self._names[count]
        del names[name]
        if not names:
            del self._names[count]


async def share_popular(level: SharedLevel, key: bytes, counts: Iterable[tuple[str, int]], *, keep: int) -> bool:
    """Add counts to those of all processes, of which the greatest are kept; whether the second level took them.

    Parameters
    ----------
    level
        Holds a sorted set under the key.
    key
        Of these counts.
    counts
        Names with what to add; none twice.
    keep
        How many names stay.
    """
    added = [(b"ZINCRBY", key, b"%d" % count, name.encode("utf-8", "surrogatepass")) for name, count in counts]
    if not added:
        return True
    # Whoever comes first in a minute lets the counts decay, however many processes share them.
    turn = await level.call((b"SET", key + b":decayed", b"1", b"NX", b"PX", b"%d" % DECAY_EVERY_MS))
    if turn is not None and turn[0] is not None:
        await level.call((b"ZUNIONSTORE", key, b"1", key, b"WEIGHTS", b"%g" % DECAY))
    if await level.call(*added) is None:
        return False
    ends = (b"ZREMRANGEBYRANK", key, b"0", b"%d" % -(keep + 1)), (b"EXPIRE", key, b"%d" % KEPT_S)
    return await level.call(*ends) is not None


async def read_popular(level: SharedLevel, key: bytes, number: int) -> list[str]:
    """The most popular names of all processes, most popular first; empty if the second level does not answer."""
    replies = await level.call((b"ZREVRANGE", key, b"0", b"%d" % (number - 1))) if number else None
    if replies is None or not isinstance(replies[0], list):
        return []
    return [name.decode("utf-8", "replace") for name in replies[0] if isinstance(name, bytes)]
