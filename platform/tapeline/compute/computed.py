"""The feature rows that a replay computes, brought together with those that stand in the table."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tapeline.compute.rows import FinishedRows
from tapeline.features.versions import Flags, Floats, Integers

LONG_AGO_US = -(2**62)


@dataclass(frozen=True)
class Stored:
    """Feature rows that stand in the table, the newest of each (event, sequence, available)."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    missing: Flags
    outputs: Floats


@dataclass(frozen=True)
class NewRows:
    """Feature rows to add; where ``missing``, all values are NULL."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    missing: Flags
    outputs: Floats

    def __len__(self) -> int:
        return len(self.event_us)


@dataclass
class _Record:
    """A piece of the result: rows of one advance. ``emit`` is False for rows that were there before."""

    event_us: Integers
    sequence: Integers
    available_us: Integers
    outputs: Floats
    missing: Flags
    emit: bool


@dataclass
class KnownKeys:
    """Keys that have feature rows, found by event time."""

    events: list[int] = field(default_factory=list)
    sequences: dict[int, list[int]] = field(default_factory=dict)

    def add(self, event_us: Integers, sequence: Integers) -> None:
        for event, number in zip(event_us.tolist(), sequence.tolist(), strict=True):
            numbers = self.sequences.get(event)
            if numbers is None:
                self.sequences[event] = [number]
                if self.events and event < self.events[-1]:
                    bisect.insort(self.events, event)
                else:
                    self.events.append(event)
            elif number not in numbers:
                bisect.insort(numbers, number)

    def since(self, event_us: int) -> Iterator[tuple[int, int]]:
        for event in self.events[bisect.bisect_left(self.events, event_us) :]:
            for number in self.sequences[event]:
                yield event, number


class ComputedRows:
    """Collects a replay's rows in the order in which it computes them.

    Parameters
    ----------
    stored
        Feature rows that stand in the table.
    since_us
        Rows that became available before this moment are right; the replay computes what follows.
    width
        Features of a row.
    before
        Features before the replay's first row; empty if there are none.
    """

    def __init__(self, stored: Stored | None, since_us: int, width: int, before: Floats) -> None:
        self._stored = stored
        self._since_us = since_us
        self._width = width
        self._before = before
        self._records: list[_Record] = []
        self.known = KnownKeys()
        if stored is not None:
            right = stored.available_us < since_us
            self.known.add(stored.event_us[right], stored.sequence[right])

    @property
    def count(self) -> int:
        """Rows computed, without those that were there before."""
        return sum(len(r.event_us) for r in self._records if r.emit)

    def add(self, finished: FinishedRows, *, emit: bool) -> None:
        if len(finished.event_us) == 0:
            return
        missing = np.zeros(len(finished.event_us), dtype=np.bool_)
        self._records.append(
            _Record(finished.event_us, finished.sequence, finished.available_us, finished.outputs, missing, emit)
        )
        if emit:
            self.known.add(finished.event_us, finished.sequence)

    def answer(self, keys: list[tuple[int, int]], available_us: list[int], values: list[Floats]) -> None:
        empty = np.full(self._width, np.nan)
        self._records.append(
            _Record(
                np.array([key[0] for key in keys], dtype=np.int64),
                np.array([key[1] for key in keys], dtype=np.int64),
                np.array(available_us, dtype=np.int64),
                np.stack([value if len(value) else empty for value in values]),
                np.array([len(value) == 0 for value in values]),
                emit=True,
            )
        )

    def answer_stale(self) -> None:
        """Rows for stored ones that this replay, which knows more, has not made: what was known at their time.

        A stored key that this replay makes later, or never, is answered for until then whenever an earlier key changes.
        """
        stored = self._stored
        if stored is None or not bool((stored.available_us >= self._since_us).any()):
            return
        made: dict[tuple[int, int], list[int]] = {}
        for r in self._records:
            if r.emit:
                keys = zip(r.event_us.tolist(), r.sequence.tolist(), r.available_us.tolist(), strict=True)
                for event, number, available in keys:
                    made.setdefault((event, number), []).append(available)
        held: dict[tuple[int, int], list[int]] = {}
        keys = zip(stored.event_us.tolist(), stored.sequence.tolist(), stored.available_us.tolist(), strict=True)
        for event, number, available in keys:
            held.setdefault((event, number), []).append(available)
        stale: list[tuple[tuple[int, int], int]] = []
        for key, moments in held.items():
            own = made.get(key, [])
            first_us = min(moments)
            wanted = {at for at in moments if at >= self._since_us}
            if first_us >= self._since_us and (not own or first_us < min(own)):
                until_us = min(own, default=2**62)
                earlier = (at for other, times in made.items() if other < key for at in times)
                wanted.update(at for at in earlier if first_us < at < until_us)
            stale += [(key, at) for at in wanted if at not in own]
        if stale:
            values = [self._value_at(*key, at) for key, at in stale]
            self.answer([key for key, _ in stale], [at for _, at in stale], values)

    def _value_at(self, event_us: int, sequence: int, moment_us: int) -> Floats:
        """Values of the greatest key up to one, as of a moment."""
        best: tuple[int, int, int, int] | None = None
        value = self._before
        for number, r in enumerate(self._records):
            fits = (r.event_us < event_us) | ((r.event_us == event_us) & (r.sequence <= sequence))
            fits &= (r.available_us <= moment_us) | (not r.emit)
            for i in np.flatnonzero(fits).tolist():
                candidate = (
                    int(r.event_us[i]),
                    int(r.sequence[i]),
                    int(r.available_us[i]) if r.emit else LONG_AGO_US,
                    number,
                )
                if best is None or candidate >= best:
                    best = candidate
                    value = np.empty(0) if r.missing[i] else r.outputs[i]
        return value

    def changed(self) -> NewRows:
        """Rows that do not stand in the table yet with the same bytes, in the order in which they became available."""
        return _changed([r for r in self._records if r.emit], self._stored, self._width)


def _changed(records: list[_Record], stored: Stored | None, width: int) -> NewRows:
    """Rows that do not stand in the table yet with the same bytes, in the order in which they became available."""
    if not records:
        empty = np.empty(0, dtype=np.int64)
        return NewRows(empty, empty, empty, np.empty(0, dtype=np.bool_), np.empty((0, width)))
    rows = NewRows(
        np.concatenate([r.event_us for r in records]),
        np.concatenate([r.sequence for r in records]),
        np.concatenate([r.available_us for r in records]),
        np.concatenate([r.missing for r in records]),
        np.concatenate([r.outputs for r in records]),
    )
    keep = np.ones(len(rows), dtype=np.bool_)
    if stored is not None and len(stored.event_us):
        places = {
            key: place
            for place, key in enumerate(
                zip(stored.event_us.tolist(), stored.sequence.tolist(), stored.available_us.tolist(), strict=True)
            )
        }
        old_bits, new_bits = stored.outputs.view(np.int64), rows.outputs.view(np.int64)
        keys = zip(rows.event_us.tolist(), rows.sequence.tolist(), rows.available_us.tolist(), strict=True)
        for i, key in enumerate(keys):
            place = places.get(key)
            if place is not None and bool(stored.missing[place]) == bool(rows.missing[i]):
                keep[i] = not (rows.missing[i] or np.array_equal(old_bits[place], new_bits[i]))
    # What was made again for the same key and moment replaces what was made first.
    order = np.lexsort((rows.available_us, rows.sequence, rows.event_us))
    again = np.zeros(len(rows), dtype=np.bool_)
    again[:-1] = (
        (rows.event_us[order[1:]] == rows.event_us[order[:-1]])
        & (rows.sequence[order[1:]] == rows.sequence[order[:-1]])
        & (rows.available_us[order[1:]] == rows.available_us[order[:-1]])
    )
    keep[order[again]] = False
    order = np.flatnonzero(keep)
    order = order[np.lexsort((rows.sequence[order], rows.event_us[order], rows.available_us[order]))]
    return NewRows(
        rows.event_us[order],
        rows.sequence[order],
        rows.available_us[order],
        rows.missing[order],
        np.ascontiguousarray(rows.outputs[order]),
    )
