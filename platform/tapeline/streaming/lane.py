"""Everything that a worker holds of the symbols whose features are computed from one kind of events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapeline.compute.rows import EntityState
from tapeline.core.errors import LimitError
from tapeline.features.builders import NEVER_US
from tapeline.features.versions import ActionVersions, Integers
from tapeline.kernels.stream_order import (
    ASIDE,
    AVAILABLE,
    EFFECT,
    EVENT,
    KNOWN,
    MS,
    PART,
    SEEN,
    SEQUENCE,
    SYMBOL_COLUMNS,
    USED_EVENT,
    USED_SEQUENCE,
)
from tapeline.streaming.codec import EventKind
from tapeline.streaming.states import ViewStates

Position = tuple[int, int]
"""Entry time in ms; entry number times 65,536 plus place in the block."""
START: Position = (0, -1)

STATE_BYTES_MAX = 8 << 30
"""States that one worker holds; more symbols need more workers."""
_FIRST_PLACES = 64


@dataclass(frozen=True)
class Aside:
    """Why nothing is computed of a symbol for now, how long it rests after this try, and until when by the monotonic clock."""

    reason: str
    rest_s: float
    until_s: float

    @property
    def is_due(self) -> bool:
        """Whether to try again."""
        return time.monotonic() >= self.until_s


class Lane:
    """Symbols and their states, one place each.

    Parameters
    ----------
    kind
        Trades or bars.
    views
        The views computed from them.

    Attributes
    ----------
    table
        int64 (places, SYMBOL_COLUMNS): see :mod:`tapeline.kernels.stream_order`.
    dirty
        int64 (places, 2): position of the first row that the kept state does not contain; zeros: it contains all.
    partition
        int64 (places,): −1 of a place that is free.
    aside
        Symbols whose features cannot be computed: their rows are recorded, and no states of theirs are kept.
    """

    def __init__(self, kind: EventKind, views: Sequence[ViewStates]) -> None:
        self.kind = kind
        self.views = tuple(views)
        self.places: dict[str, int] = {}
        self.symbols: list[str] = []
        self.table: Integers = np.zeros((0, SYMBOL_COLUMNS), dtype=np.int64)
        self.dirty: Integers = np.zeros((0, 2), dtype=np.int64)
        self.partition: Integers = np.full(0, -1, dtype=np.int64)
        self.aside: dict[str, Aside] = {}
        self._free: list[int] = []

    def add(self, symbol: str, partition: int) -> int:
        """Give a symbol a place, with fresh states.

        Raises
        ------
        LimitError
            If the worker holds as many as it may.
        """
        if not self._free:
            self._grow()
        place = self._free.pop()
        self.places[symbol] = place
        self.symbols[place] = symbol
        self.partition[place] = partition
        self.reset(place, START)
        self.dirty[place] = 0
        for states in self.views:
            states.put(place, None)
        return place

    def _grow(self) -> None:
        old = len(self.symbols)
        new = max(_FIRST_PLACES, 2 * old)
        needed = new * self.state_bytes
        if needed > STATE_BYTES_MAX:
            raise LimitError(
                f"states of {new} symbols take {needed >> 20} MiB, more than {STATE_BYTES_MAX >> 20}",
                remedy="Start another worker: partitions are shared among them",
            )
        self.table = np.concatenate([self.table, np.zeros((new - old, SYMBOL_COLUMNS), dtype=np.int64)])
        self.dirty = np.concatenate([self.dirty, np.zeros((new - old, 2), dtype=np.int64)])
        self.partition = np.concatenate([self.partition, np.full(new - old, -1, dtype=np.int64)])
        self.symbols += [""] * (new - old)  # in place: rows that wait to be written refer to it
        self._free = list(range(new - 1, old - 1, -1))
        for states in self.views:
            states.grow(new)

    def reset(self, place: int, position: Position) -> None:
        """Make a symbol one that has had no row, as of a position. What its kept state lacks, it still lacks."""
        self.table[place] = 0
        self.table[place, [MS, PART]] = position
        self.table[place, [EFFECT, KNOWN]] = NEVER_US
        self.aside.pop(self.symbols[place], None)

    def drop(self, partition: int) -> None:
        """Forget the symbols of a partition."""
        for place in np.flatnonzero(self.partition == partition).tolist():
            self.forget(self.symbols[place])

    def forget(self, symbol: str) -> None:
        """Forget a symbol; its place is free."""
        place = self.places.pop(symbol)
        self.aside.pop(symbol, None)
        self.symbols[place] = ""
        self.partition[place] = -1
        self.dirty[place] = 0
        self._free.append(place)

    def set_aside(self, symbol: str, aside: Aside) -> None:
        """Compute nothing of a symbol from its next row on."""
        self.aside[symbol] = aside
        self.table[self.places[symbol], ASIDE] = 1

    def raise_key(self, place: int, key: tuple[int, int]) -> None:
        """A row was recorded of a symbol that is set aside: those of keys up to this one do not simply follow any more."""
        entry = self.table[place]
        entry[[EVENT, SEQUENCE]] = max(key, (int(entry[EVENT]), int(entry[SEQUENCE]))) if entry[SEEN] else key
        entry[SEEN] = 1

    def set_frontier(self, place: int, key: tuple[int, int], used: tuple[int, int], available_us: int) -> None:
        """Event time and sequence of a symbol's last row, those of the last one that its states contain, and when all of its rows
        were available.
        """
        self.table[place, [SEEN, EVENT, SEQUENCE, AVAILABLE]] = 1, *key, available_us
        self.table[place, [USED_EVENT, USED_SEQUENCE]] = used

    def watch_actions(self, place: int, actions: ActionVersions) -> None:
        """Stop before the row with which the next split or dividend takes effect or becomes known."""
        seen, event_us, _, available_us = self.table[place, [SEEN, EVENT, SEQUENCE, AVAILABLE]].tolist()
        coming = actions.event_us[(actions.event_us >= event_us) | (seen == 0)]
        unknown = actions.available_us[(actions.available_us > available_us) | (seen == 0)]
        self.table[place, EFFECT] = coming.min(initial=NEVER_US)
        self.table[place, KNOWN] = unknown.min(initial=NEVER_US)

    def deadlines(self, event_us: Integers) -> Integers:
        """From when on each row is too late for a bar of some view."""
        result, *others = [states.deadlines(event_us) for states in self.views]
        for other in others:
            result = np.minimum(result, other)
        return result

    @property
    def state_bytes(self) -> int:
        """Bytes of one symbol's states."""
        return sum(states.bytes_each for states in self.views)

    def mark_dirty(self, places: Integers, ms: Integers, part: Integers) -> None:
        """States of symbols were made anew, which stand at these positions."""
        clean = self.dirty[places, 0] == 0
        self.dirty[places[clean], 0] = ms[clean]
        self.dirty[places[clean], 1] = part[clean]

    def oldest_dirty(self, partition: int | None = None) -> Integers:
        """Places whose kept state is behind, the furthest behind first."""
        behind = self.dirty[:, 0] > 0
        if partition is not None:
            behind &= self.partition == partition
        places = np.flatnonzero(behind)
        return places[np.lexsort((self.dirty[places, 1], self.dirty[places, 0]))]

    def first_dirty(self) -> dict[int, Position]:
        """By partition, the position of the first row that no kept state contains; partitions without any are left out."""
        places = self.oldest_dirty()
        partitions, first = np.unique(self.partition[places], return_index=True)
        found = self.dirty[places[first]].tolist()
        return {partition: (ms, part) for partition, (ms, part) in zip(partitions.tolist(), found, strict=True)}

    def copy_states(self, places: Integers, looked_us: int) -> StateCopy:
        """What is to be kept of some symbols, apart from what goes on changing; with splits and dividends recorded up to a
        moment.
        """
        return StateCopy(
            self.kind,
            looked_us,
            [self.symbols[place] for place in places.tolist()],
            self.partition[places],
            self.table[places],
            tuple((view, view.copy(places)) for view in self.views),
        )


@dataclass(frozen=True)
class StateCopy:
    """States of N symbols at one moment.

    Attributes
    ----------
    kind
        Of the lane.
    looked_us
        Splits and dividends recorded before that moment are in the states, or changed nothing of them.
    symbols
        N symbols.
    partition
        int64 (N,): their partitions.
    table
        int64 (N, SYMBOL_COLUMNS).
    views
        Each view with the states of all symbols in it.
    """

    kind: EventKind
    looked_us: int
    symbols: list[str]
    partition: Integers
    table: Integers
    views: tuple[tuple[ViewStates, tuple[EntityState, ...]], ...]
