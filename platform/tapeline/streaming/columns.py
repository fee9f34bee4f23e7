"""A block's rows on their way through the admission kernels, and what is to be said of those that these do not admit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapeline.features.versions import Floats, Integers
from tapeline.kernels.stream_order import (
    EVENT,
    ROW_AVAILABLE,
    ROW_CHANGE,
    ROW_CODE,
    ROW_COLUMNS,
    ROW_DEADLINE,
    ROW_EVENT,
    ROW_PLACE,
    ROW_SEQUENCE,
    ROW_USABLE,
    SEEN,
    SEQUENCE,
    SYMBOL_COLUMNS,
    WORDS,
    admit,
    arrange,
    judge,
    late_run,
    unpack,
)
from tapeline.streaming.batches import Audit
from tapeline.streaming.codec import Change
from tapeline.streaming.lane import Lane
from tapeline.streaming.reading import Block


@dataclass(frozen=True)
class Arranged:
    """Rows that continue their symbols, by symbol.

    Attributes
    ----------
    places, offsets
        int64 (E,) and (E+1,): symbols, each once, and where their rows begin.
    event_us, sequence, available_us
        int64 (N,).
    values
        float64 (N, C).
    """

    places: Integers
    offsets: Integers
    event_us: Integers
    sequence: Integers
    available_us: Integers
    values: Floats


class Columns:
    """A block of a lane.

    Parameters
    ----------
    lane
        Whose symbols these are.
    block
        Its rows are completed, and written while they are admitted.
    place
        int64 (N,): their symbols' places.
    """

    def __init__(self, lane: Lane, block: Block, place: Integers) -> None:
        self._lane = lane
        self._block = block
        self.rows = block.rows
        self.rows[ROW_PLACE] = place
        self.rows[ROW_DEADLINE] = lane.deadlines(block.rows[ROW_EVENT])

    @property
    def place(self) -> Integers:
        """int64 (N,): places of the symbols."""
        line: Integers = self.rows[ROW_PLACE]
        return line

    @property
    def codes(self) -> Integers:
        """int64 (N,): what each row is."""
        line: Integers = self.rows[ROW_CODE]
        return line

    def admit(self, start: int) -> int:
        """Take rows that continue their symbols, from ``start`` on; returns the place of the first that does not."""
        return int(admit(start, len(self._block), self.rows, self._lane.table, self._lane.dirty))

    def late_run(self, start: int) -> int:
        """Rows from ``start`` on that do not, none of them twice; returns the place behind them."""
        return int(late_run(start, self._first_repeat(start), self.rows, self._lane.table, self._lane.dirty))

    def arranged(self, start: int, end: int, taken: int) -> Arranged:
        """Those of some rows that were taken, of which there are so many."""
        words, names = self._block.words, len(self._block.names)
        places, offsets = np.empty(names, dtype=np.int64), np.empty(names + 1, dtype=np.int64)
        times, values = np.empty((3, taken), dtype=np.int64), np.empty((taken, words.shape[1] - WORDS))
        counts = np.zeros((2, names), dtype=np.int64)
        groups = arrange(start, end, self.rows, words, counts, places, offsets, times, values)
        return Arranged(places[:groups], offsets[: groups + 1], times[0], times[1], times[2], values)

    def _first_repeat(self, start: int) -> int:
        """The first row whose key comes a second time: one append takes one version of a key."""
        seen = set()
        keys = zip(*self.rows[[ROW_PLACE, ROW_EVENT, ROW_SEQUENCE], start:].tolist(), strict=True)
        for number, key in enumerate(keys):
            if key in seen:
                return start + number
            seen.add(key)
        return len(self._block)

    def is_repeat(self, row: int) -> bool:
        """Whether a late row says nothing but a key that was there: if its content is known too, it changes nothing."""
        return self.rows[ROW_CHANGE, row] == Change.sighting and self._comes_before(row)

    def _comes_before(self, row: int) -> bool:
        seen, event_us, sequence = self._lane.table[self.place[row], [SEEN, EVENT, SEQUENCE]].tolist()
        return bool(seen) and (int(self.rows[ROW_EVENT, row]), int(self.rows[ROW_SEQUENCE, row])) <= (
            event_us,
            sequence,
        )

    def audit(self, row: int) -> Audit:
        """Why a row is late."""
        event_us, available_us = int(self.rows[ROW_EVENT, row]), int(self.rows[ROW_AVAILABLE, row])
        if self.rows[ROW_CHANGE, row] == Change.correction:
            reason = "correction"
        elif self.rows[ROW_CHANGE, row] == Change.retraction:
            reason = "retraction"
        elif self._comes_before(row):
            reason = "late"
        elif self.rows[ROW_USABLE, row] and self.rows[ROW_DEADLINE, row] <= available_us:
            reason = "bar over"
        else:
            reason = "action"
        seen, newest_us = self._lane.table[self.place[row], [SEEN, EVENT]].tolist()
        block = self._block
        return Audit(
            int(block.partition[row]),
            block.names[int(block.name[row])],
            event_us,
            int(self.rows[ROW_SEQUENCE, row]),
            available_us,
            reason,
            max(0, newest_us - event_us) if seen else 0,
            (int(block.ms[row]), int(block.part[row])),
        )


def compile_kernels() -> None:
    """Compile, or load, what a block goes through: before the first event comes rather than while it waits."""
    rows = np.zeros((ROW_COLUMNS, 1), dtype=np.int64)
    words, table = np.zeros((1, WORDS + 2), dtype=np.int64), np.zeros((1, SYMBOL_COLUMNS), dtype=np.int64)
    one, codes = np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.uint8)
    judge(words, 1, 1, 0, 1, codes)
    unpack(words, np.zeros((1, 5), dtype=np.int64), one, 1, 0, 0, rows, codes)
    admit(0, 0, rows, table, np.zeros((1, 2), dtype=np.int64))
    late_run(0, 0, rows, table, np.zeros((1, 2), dtype=np.int64))
    arrange(
        0,
        0,
        rows,
        words,
        np.zeros((2, 1), dtype=np.int64),
        one,
        one,
        np.zeros((3, 0), dtype=np.int64),
        np.zeros((0, 2)),
    )
