"""An order book by price level, as a venue keeps it."""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from decimal import Decimal

from tapeline.live.messages import Level

CHECKSUM_LEVELS = 10


class Side:
    """One side, best price first.

    Parameters
    ----------
    sign
        1 for bids, -1 for asks.
    """

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._keys: list[float] = []  # -sign × price: the best one is the first
        self._levels: dict[float, Level] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Level]:
        return (self._levels[key] for key in self._keys)

    def best(self, count: int) -> list[Level]:
        """So many levels from the best on."""
        return [self._levels[key] for key in self._keys[:count]]

    def put(self, level: Level) -> bool:
        """Set a level, or remove it if its size is 0; returns whether anything is different now."""
        key = -self.sign * level.price
        known = self._levels.get(key)
        if level.size == 0:
            if known is None:
                return False
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]
            return True
        self._levels[key] = level
        if known is None:
            insort(self._keys, key)
        return known is None or known.size != level.size

    def cut(self, depth: int) -> list[Level]:
        """Remove what lies beyond a depth, and return it."""
        cut = [self._levels.pop(key) for key in self._keys[depth:]]
        del self._keys[depth:]
        return cut


class Book:
    """Both sides.

    Parameters
    ----------
    depth
        Levels a side that the venue tells of; what lies beyond falls out of its scope. None: all.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.depth = depth
        self.bids = Side(1)
        self.asks = Side(-1)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> list[tuple[int, Level]]:
        """Set levels; returns what is different now, side and level each, in order."""
        changed = [(1, level) for level in bids if self.bids.put(level)]
        changed += [(-1, level) for level in asks if self.asks.put(level)]
        if self.depth is not None:
            for side in (self.bids, self.asks):
                if len(side) > self.depth:
                    gone = side.cut(self.depth)
                    changed += [(side.sign, Level(level.price, 0.0, level.price_text, "0")) for level in gone]
        return changed

    def checksum(self) -> int:
        """CRC-32 of the best ten levels a side as Kraken takes it: asks, then bids, digits without leading zeros."""
        words = []
        for side in (self.asks, self.bids):
            for level in side.best(CHECKSUM_LEVELS):
                words += [_digits(level.price_text), _digits(level.size_text)]
        return zlib.crc32("".join(words).encode())


def _digits(written: str) -> str:
    if "e" in written or "E" in written:
        written = f"{Decimal(written):f}"
    return written.replace(".", "").lstrip("0")
