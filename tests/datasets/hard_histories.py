"""Histories in which much can go wrong, thousands of cases at a time, and the point-in-time rule in plain Python.

Events lie at moments of local clocks around the nights on which New York and London change theirs, at closes of long, short
and half days, some to the microsecond beside one another. Rows are late, corrected, tied, without sequence, never available.
Keys are pairs that are one text when put together. Requests lie on, just before and just after each edge there is: an
event, the moment at which it became available, the end of its time to live, a change of clocks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import numpy as np

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
TTLS_US = (0, 1, HOUR_US, 23 * HOUR_US, DAY_US - 1, DAY_US, DAY_US + 1, 25 * HOUR_US, 7 * DAY_US)
"""Times to live, microseconds: a day in autumn has 25 hours, one in spring 23."""

Key = tuple[str, int]

_CHANGES = (date(2012, 11, 4), date(2013, 3, 10), date(2012, 10, 28), date(2013, 3, 31))
_ZONES = (ZoneInfo("America/New_York"), ZoneInfo("Europe/London"))
_CLOCKS = (
    clock_time(9, 30), clock_time(13, 0), clock_time(16, 0), clock_time(16, 30), clock_time(0, 0), clock_time(0, 30),
    clock_time(1, 0), clock_time(1, 30), clock_time(2, 0), clock_time(2, 30), clock_time(3, 0),
)  # fmt: skip
_VALUES = (None, math.nan, 0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308)


@dataclass(frozen=True, slots=True)
class Row:
    """A stored row; times are microseconds UTC."""

    key: Key
    event_us: int
    available_us: int | None
    created_us: int | None
    sequence: int | None
    value: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Rows, and the moments at which they may be asked for."""

    rows: tuple[Row, ...]
    keys: tuple[Key, ...]
    edges_us: tuple[int, ...]
    ttl_us: int
    vintage_us: int | None


def keys_that_collide(count: int) -> list[Key]:
    """Pairs of which many are the same text without a separator: ``("a", 11)`` and ``("a1", 1)``."""
    names = ("a", "a1", "a11", "", "1", "ä 'x'", "a\\b", "A", "a ", "a-1", "a|1", '"a"', "NULL", "a,1")
    numbers = (1, 11, 111, -1, 0, 2**62)
    return [(name, number) for number in numbers for name in names][:count]


def moments_of_local_clocks() -> list[int]:
    """Local times on the days around each change of clocks, both readings of an hour that comes twice."""
    found = set()
    for change in _CHANGES:
        for day in range(-2, 3):
            for zone in _ZONES:
                for clock in _CLOCKS:
                    for fold in (0, 1):
                        local = datetime.combine(change + timedelta(days=day), clock, zone).replace(fold=fold)
                        found.add(int(local.astimezone(UTC).timestamp()) * 1_000_000)
    return sorted(found)


def history(seed: int, *, keys: Sequence[Key], rows_a_key: int = 24, nulls: bool = True) -> History:
    """A random history of one change of clocks.

    Parameters
    ----------
    seed
        All follows from it.
    keys
        Entities.
    rows_a_key
        About how many rows each has.
    nulls
        Whether sequences and times other than the event's may be missing.
    """
    random = np.random.default_rng(seed)
    clocks = np.array(moments_of_local_clocks())
    center = clocks[random.integers(len(clocks))]
    near = clocks[np.abs(clocks - center) < 6 * DAY_US]
    ttl_us = int(random.choice(TTLS_US))
    lags = np.array([0, 0, 0, 1, HOUR_US, DAY_US, 3 * DAY_US, max(ttl_us, 1), ttl_us + 1])
    found: dict[tuple[object, ...], Row] = {}
    for key in keys:
        moments = random.choice(near, max(1, rows_a_key // 3))
        for _ in range(int(random.integers(rows_a_key // 2, rows_a_key * 3 // 2))):
            event_us = int(random.choice(moments)) + int(random.choice([0, 0, 0, -1, 1, ttl_us]))
            available_us: int | None = event_us + int(random.choice(lags))
            created_us: int | None = event_us + int(random.choice(lags))
            sequence: int | None = int(random.integers(-1, 3))
            if nulls:
                available_us = None if random.random() < 0.05 else available_us
                created_us = None if random.random() < 0.05 else created_us
                sequence = None if random.random() < 0.2 else sequence
            value = float(random.normal()) if random.random() < 0.6 else _VALUES[int(random.integers(len(_VALUES)))]
            row = Row(key, event_us, available_us, created_us, sequence, value)
            found[(key, event_us, available_us, created_us, sequence)] = row  # of these the rule orders any two
    rows = tuple(found.values())
    edges = {row.event_us for row in rows} | {row.event_us + ttl_us for row in rows} | set(map(int, near))
    edges |= {row.available_us for row in rows if row.available_us is not None}
    around = tuple(sorted({edge + step for edge in edges for step in (-1, 0, 1)}))
    vintage_us = None if random.random() < 0.4 else int(random.choice(around))
    return History(rows, tuple(keys), around, ttl_us, vintage_us)


def asked(known: History, count: int, random: np.random.Generator) -> list[tuple[Key, int]]:
    """Entity rows: a key, perhaps one that nobody knows, and an edge; some twice."""
    strangers: list[Key] = [("nobody", 1), ("a", 7)]
    keys = [*known.keys, *strangers]
    chosen = random.integers(len(keys), size=count)
    moments = random.choice(np.array(known.edges_us), count)
    return [(keys[place], moment) for place, moment in zip(chosen.tolist(), moments.tolist(), strict=True)]


class Rule:
    """The rule of the design, word for word, over rows sorted into drawers by their key and nothing else."""

    def __init__(
        self, rows: Iterable[Row], ttl_us: int, vintage_us: int | None, *, created_by_request: bool = False
    ) -> None:
        self._drawers: defaultdict[Key, list[tuple[int, Row]]] = defaultdict(list)
        for place, row in enumerate(rows):
            self._drawers[row.key].append((place, row))
        self._ttl_us, self._vintage_us, self._created_by_request = ttl_us, vintage_us, created_by_request

    def picked(self, key: Key, t_us: int) -> int | None:
        """Place of the row for an entity row; none if nothing counts."""
        best: tuple[tuple[float, ...], int] | None = None
        for place, row in self._drawers.get(key, ()):
            if not self._counts(row, t_us):
                continue
            order = (row.event_us, _least(row.sequence), _least(row.available_us), _least(row.created_us))
            if best is None or order > best[0]:
                best = order, place
        return None if best is None else best[1]

    def _counts(self, row: Row, t_us: int) -> bool:
        if row.event_us > t_us or row.available_us is None or row.available_us > t_us:
            return False
        if self._ttl_us and row.event_us < t_us - self._ttl_us:
            return False
        if self._vintage_us is not None and (row.created_us is None or row.created_us > self._vintage_us):
            return False
        return not self._created_by_request or (row.created_us is not None and row.created_us <= t_us)


def _least(value: int | None) -> float:
    return -math.inf if value is None else value
