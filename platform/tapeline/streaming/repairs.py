"""Events that change what was computed: late rows, corrections, retractions, splits and dividends; and those that come too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg

from tapeline.core.timestamps import to_us
from tapeline.features.versions import Integers
from tapeline.kernels.stream_order import AVAILABLE, EVENT, LATE, MS, PART, ROW_AVAILABLE, ROW_EVENT, ROW_SEQUENCE, SEEN
from tapeline.storage.raw import AppendCounts
from tapeline.streaming.actions import NewAction
from tapeline.streaming.batches import RawRows
from tapeline.streaming.codec import EventKind, encode_block
from tapeline.streaming.columns import Columns
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.lane import Lane
from tapeline.streaming.reading import Block
from tapeline.streaming.recovery import look_around

if TYPE_CHECKING:
    from tapeline.streaming.processing import Processor


class Repairs:
    """Computes symbols again from history, by the back-fill.

    Parameters
    ----------
    processor
        Whose symbols these are.
    connection
        Idle.
    dead
        Takes what comes too late.
    flush
        Writes everything that waits, and returns what that did when it stands.
    """

    def __init__(
        self,
        processor: Processor,
        connection: psycopg.Connection[Any],
        dead: DeadLetters,
        flush: Callable[[], AppendCounts],
    ) -> None:
        self._processor = processor
        self._connection = connection
        self._dead = dead
        self._flush = flush
        self._horizon_us: dict[EventKind, int] = {}

    def repair(self, lane: Lane, block: Block, rows: Columns, start: int, end: int, *, offline: bool) -> None:
        """Rows that change what was computed: recorded and audited, then computed by the back-fill."""
        late = np.flatnonzero(rows.codes[start:end] == LATE) + start
        self._processor.counters.skipped += end - start - len(late)
        late = self._within_window(lane, block, rows, late)
        if len(late) == 0:
            return
        self._processor.counters.late += len(late)
        self._flush()  # apart from what lies before
        changed = True
        if offline:
            self._processor.record(lane.kind, RawRows.of(block, late, block.rows[ROW_AVAILABLE]), following=False)
            self._processor.batch(lane.kind, following=False).audits += [rows.audit(row) for row in late.tolist()]
            done = self._flush()
            changed = bool(done.added + done.corrections + done.retractions)
            changed = changed or not all(rows.is_repeat(row) for row in late.tolist())
        for row in late.tolist():
            if block.names[int(block.name[row])] in lane.aside:
                key = int(block.rows[ROW_EVENT, row]), int(block.rows[ROW_SEQUENCE, row])
                lane.raise_key(int(rows.place[row]), key)
        if changed:
            self.reload(lane, [block.names[name] for name in np.unique(block.name[late]).tolist()])

    def reload(self, lane: Lane, symbols: Sequence[str]) -> None:
        """Compute symbols from history, take their states up, and show their newest rows.

        Those whose rows a back-fill refuses are set aside; those that were set aside before wait for their next try.
        """
        symbols = [symbol for symbol in symbols if symbol not in lane.aside or lane.aside[symbol].is_due]
        if not symbols:
            return
        self._processor.counters.repairs += 1
        self._processor.show_stored(lane, self._processor.compute_and_load(lane, symbols))
        places = np.array([lane.places[symbol] for symbol in symbols], dtype=np.int64)
        lane.mark_dirty(places, lane.table[places, MS], lane.table[places, PART])

    def retry(self) -> None:
        """Try symbols again that were set aside, if it is time.

        Raises
        ------
        UnavailableError
            If a server is away.
        """
        for lane in self._processor.lanes.values():
            if due := [symbol for symbol, aside in lane.aside.items() if aside.is_due]:
                self._flush()  # the back-fill sees what stands
                self.reload(lane, due)

    def take_in(self, actions: Sequence[NewAction]) -> None:
        """Splits and dividends that were recorded meanwhile: watch for their moment, or compute again what they change.

        Raises
        ------
        UnavailableError
            If a server is away.
        """
        for lane in self._processor.lanes.values():
            mine = [action for action in actions if action.symbol in lane.places and action.symbol not in lane.aside]
            if not mine:
                continue
            look_around(self._connection, lane, sorted({action.symbol for action in mine}))
            changed = set()
            for action in mine:
                seen, event_us, available_us = lane.table[lane.places[action.symbol], [SEEN, EVENT, AVAILABLE]].tolist()
                if seen and action.event_us <= event_us and action.available_us <= available_us:
                    changed.add(action.symbol)
            if changed:
                self._flush()  # the back-fill sees what stands
                self.reload(lane, sorted(changed))

    def read_horizons(self) -> None:
        """Up to where retention dropped raw rows: earlier ones cannot be taken in any more."""
        with self._connection.transaction():
            rows = self._connection.execute(
                "SELECT table_name, refused_before FROM tapeline.retention_horizons WHERE refused_before IS NOT NULL"
            ).fetchall()
        names = {f"tapeline.{kind.name}": kind for kind in self._processor.lanes}
        self._horizon_us = {names[table]: to_us(before) for table, before in rows if table in names}

    def after_horizon(self, block: Block) -> Block:
        """Without rows from before what retention dropped; these are refused."""
        horizon_us = self._horizon_us.get(block.kind)
        if horizon_us is None:
            return block
        early = block.rows[ROW_EVENT] < horizon_us
        for place in np.flatnonzero(early).tolist():
            reason = "it lies before what retention dropped: features could not be computed with it"
            self._dead.add(int(block.partition[place]), block.entry_id(place), reason, encode_block(block.event(place)))
        self._processor.counters.too_late += int(early.sum())
        return block.chosen(~early) if early.any() else block

    def _within_window(self, lane: Lane, block: Block, rows: Columns, late: Integers) -> Integers:
        """Rows that are not too late; the others are refused."""
        entry = lane.table[rows.place[late]]
        behind_us = entry[:, EVENT] - block.rows[ROW_EVENT, late]
        refused = (entry[:, SEEN] == 1) & (behind_us > self._processor.plan.late_window_us)
        for place, us in zip(late[refused].tolist(), behind_us[refused].tolist(), strict=True):
            reason = f"it lies {us} µs before the newest event of its symbol; the window is {self._processor.plan.late_window_us}"
            self._dead.add(int(block.partition[place]), block.entry_id(place), reason, encode_block(block.event(place)))
        self._processor.counters.too_late += int(refused.sum())
        kept: Integers = late[~refused]
        return kept
