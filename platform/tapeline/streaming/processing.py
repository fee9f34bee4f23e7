"""What a worker does with blocks of events: admit, compute, write online, hand on to be written offline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from redis import Redis

from tapeline.features.versions import Flags, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.kernels.stream_order import AVAILABLE, ROW_AVAILABLE, SKIPPED, TAKEN
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.online import publish_layout
from tapeline.storage.packed import UNKNOWN, Layout, encode_many
from tapeline.storage.raw import AppendCounts
from tapeline.storage.statuses import hidden
from tapeline.streaming.batches import Batch, FeatureRows, RawRows
from tapeline.streaming.behind import Job
from tapeline.streaming.breaker import Breaker
from tapeline.streaming.codec import EventKind
from tapeline.streaming.columns import Columns, compile_kernels
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.early import Early
from tapeline.streaming.lane import START, Lane, Position
from tapeline.streaming.link import Link
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.reading import Block
from tapeline.streaming.recovery import compute_and_load, early_packed, newest_packed, open_views
from tapeline.streaming.repairs import Repairs
from tapeline.streaming.states import ViewRows, ViewStates

_KEYS_MAX = 1 << 20
_WRITTEN_AT_ONCE = 4_096


@dataclass
class Counters:
    """What a worker has done since it started.

    Attributes
    ----------
    taken, recorded, skipped, late, too_late
        Events by what became of them: continued their symbol; recorded only; contained already; changed what had been
        computed; refused as too late.
    repairs
        How often the back-fill computed symbols again: after late events, splits and dividends, and to try what was set aside.
    feature_rows
        Rows computed here.
    online, coalesced
        Values offered to the online store, and rows left out since a later one of the same symbol and batch was offered.
    """

    taken: int = 0
    recorded: int = 0
    skipped: int = 0
    late: int = 0
    too_late: int = 0
    repairs: int = 0
    online: int = 0
    coalesced: int = 0
    feature_rows: int = 0


@dataclass
class _View:
    states: ViewStates
    layout: Layout
    prefix: bytes
    keys: dict[str, bytes] = field(default_factory=dict)

    def key(self, symbol: str) -> bytes:
        """Where a symbol's value is."""
        key = self.keys.get(symbol)
        if key is None:
            if len(self.keys) >= _KEYS_MAX:  # a cache, not a record
                self.keys.clear()
            key = self.keys[symbol] = self.prefix + entity_key_sorted([symbol])
        return key


class Processor:
    """Symbols of a worker, and what their events do.

    Parameters
    ----------
    plan
        The stream.
    specs
        Views to compute; all over the stream's source.
    redis
        Where online values go.
    connection
        An idle connection, for states and repairs.
    dead
        Takes what is refused.
    flush
        Writes everything that waits, and returns what that did when it stands.
    link
        The connection on which online values go.
    feature_rows
        Whether feature rows are written offline, too; else the next back-fill adds them.

    Raises
    ------
    ParameterError
        If a view is of another source.
    """

    def __init__(
        self,
        plan: StreamPlan,
        specs: Sequence[FeatureViewSpec],
        redis: Redis,
        connection: psycopg.Connection[Any],
        dead: DeadLetters,
        flush: Callable[[], AppendCounts],
        link: Link,
        *,
        feature_rows: bool = True,
    ) -> None:
        self.plan = plan
        self._redis = redis
        self._connection = connection
        self.counters = Counters()
        self._link = link
        self._feature_rows = feature_rows
        self._pending = Job()
        self._visible: list[Integers] = []
        self.written: dict[tuple[int, EventKind], Position] = {}
        self.breaker = Breaker("the online store")
        self._online: list[tuple[bytes, bytes]] = []
        self.early = Early(redis, plan)
        compile_kernels()
        views = open_views(connection, specs)
        self.lanes: dict[EventKind, Lane] = {}
        self._views: dict[EventKind, list[_View]] = {}
        for kind in (EventKind.trades, EventKind.bars):
            of_kind = [view for view in views if view.spec.rows.raw == kind.name]
            if of_kind:
                self.lanes[kind] = Lane(kind, of_kind)
                self._views[kind] = [self._view(states) for states in of_kind]
        self.repairs = Repairs(self, connection, dead, flush)
        self.publish_layouts()

    def _view(self, states: ViewStates) -> _View:
        spec = states.spec
        layout = Layout.of_floats(spec.name, spec.version, spec.columns)
        encode_many(
            layout, np.zeros((1, 4), dtype=np.int64), np.zeros((1, len(spec.columns)))
        )  # compiled before it is needed
        return _View(states, layout, view_prefix(self.plan.project, spec.name, spec.version))

    def publish_layouts(self) -> None:
        """Say what values consist of, unless that is known.

        Raises
        ------
        UnavailableError
            If Redis is away.
        """
        for views in self._views.values():
            for view in views:
                publish_layout(self._redis, self.plan.project, view.layout)

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition."""
        for lane in self.lanes.values():
            lane.drop(partition)
        for kind in EventKind:
            self.written.pop((partition, kind), None)

    # Blocks -----------------------------------------------------------------------------------------------------------

    def process(self, blocks: Sequence[Block], *, again: bool = False, then_ask_ms: int | None = None) -> None:
        """Take in blocks. Online values are written when it returns, but for those that wait for their time; offline rows wait.

        Parameters
        ----------
        blocks
            One of a kind at most.
        again
            Whether PostgreSQL may have their rows already, as after a restart.
        then_ask_ms
            Ask for what is next together with the writing of online values, if there are any.

        Raises
        ------
        UnavailableError
            If a server is away. States are ahead of what was written then: the worker must begin anew.
        """
        for block in blocks:
            stands = self._stands_offline(block) if again else None
            if stands is None:
                self._take(block, offline=True)
                continue
            if stands.any():
                self._take(block.chosen(stands), offline=False)
            if not stands.all():
                self._take(block.chosen(~stands), offline=True)
        self.write_online(then_ask_ms)

    def _stands_offline(self, block: Block) -> Flags | None:
        """Which events PostgreSQL has already, as after a restart; none: none of them."""
        stands: Flags | None = None
        for partition in np.unique(block.partition).tolist():
            ms, part = self.written.get((partition, block.kind), START)
            own = block.partition == partition
            first = int(own.argmax())
            if (int(block.ms[first]), int(block.part[first])) > (ms, part):
                continue
            stands = np.zeros(len(block), dtype=np.bool_) if stands is None else stands
            stands |= own & ((block.ms < ms) | ((block.ms == ms) & (block.part <= part)))
        return stands

    def _take(self, block: Block, *, offline: bool) -> None:
        lane = self.lanes.get(block.kind)
        if lane is None:
            if offline:
                available_us = np.ascontiguousarray(block.records["available_us"])
                self.record(block.kind, RawRows.of(block, slice(None), available_us), following=False)
                self.counters.recorded += len(block)
            return
        block = self.repairs.after_horizon(block)
        rows = Columns(lane, block, self._places(lane, block)[block.name])
        start, count = 0, len(block)
        while start < count:
            end = rows.admit(start)
            if end > start:
                self._continue(lane, block, rows, start, end, offline=offline)
            start = end
            if start < count:
                end = rows.late_run(start)
                self.repairs.repair(lane, block, rows, start, end, offline=offline)
                start = end

    def _places(self, lane: Lane, block: Block) -> Integers:
        new = [name for name in block.names if name not in lane.places]
        if new:
            for symbol in new:
                lane.add(symbol, self.plan.partition_of(symbol))
            if known := self.compute_and_load(lane, new):
                self.show_stored(lane, known)
        return np.array([lane.places[name] for name in block.names], dtype=np.int64)

    def compute_and_load(self, lane: Lane, symbols: Sequence[str]) -> list[str]:
        """Compute symbols from history and take their states up, or set them aside; returns those that have a history."""
        return compute_and_load(self._connection, self.plan, lane, symbols, self.positions(lane.kind))

    def positions(self, kind: EventKind) -> dict[int, Position]:
        """PostgreSQL's position in each partition."""
        return {partition: position for (partition, of), position in self.written.items() if of is kind}

    def _continue(self, lane: Lane, block: Block, rows: Columns, start: int, end: int, *, offline: bool) -> None:
        """Rows that continue their symbols."""
        codes = rows.codes[start:end]
        found = np.bincount(codes, minlength=TAKEN + 1)
        skipped, taken = int(found[SKIPPED]), int(found[TAKEN])
        known = end - start - skipped
        self.counters.skipped += skipped
        self.counters.taken += taken
        self.counters.recorded += known - taken
        if offline and known:
            which = slice(start, end) if not skipped else np.flatnonzero(codes != SKIPPED) + start
            self.record(block.kind, RawRows.of(block, which, block.rows[ROW_AVAILABLE]), following=True)
        if taken == 0:
            return
        self._visible.append(block.rows[ROW_AVAILABLE, start:end])
        each = rows.arranged(start, end, taken)
        for view in self._views[lane.kind]:
            made = view.states.advance(
                each.places, each.offsets, each.event_us, each.sequence, each.available_us, each.values
            )
            if len(made) == 0:
                continue
            self.counters.feature_rows += len(made)
            self._show(lane, view, made)
            if offline and self._feature_rows:
                self._record_features(lane, view, made)

    # What is written --------------------------------------------------------------------------------------------------

    def _show(self, lane: Lane, view: _View, made: ViewRows) -> None:
        """Offer the last row of each symbol to the online store, when it is available."""
        rows, now_us = made.last, time.time_ns() // 1_000
        early = bool((made.available_us[rows] > now_us).any())
        if early:
            rows = made.to_show(now_us)
        times = np.empty((len(rows), 4), dtype=np.int64)
        times[:, 0], times[:, 1], times[:, 2] = made.event_us[rows], made.sequence[rows], made.available_us[rows]
        times[:, 3] = UNKNOWN
        values = encode_many(view.layout, times, made.outputs[rows])
        self.counters.coalesced += len(made) - len(rows)
        offered = zip(made.place[rows].tolist(), values, strict=True)
        if not early:
            self._online += [(view.key(lane.symbols[place]), value) for place, value in offered]
            return
        waits = hidden(times[:, 0], times[:, 2], now_us).tolist()
        for (place, value), available_us, wait in zip(offered, times[:, 2].tolist(), waits, strict=True):
            key = view.key(lane.symbols[place])
            if wait:
                self.early.put(int(lane.partition[place]), available_us, key, value)
            else:
                self._online.append((key, value))

    def write_online(self, then_ask_ms: int | None = None) -> None:
        """Write the values that are available by now, each only if it ranks above what is there.

        Raises
        ------
        UnavailableError
            If Redis is away; they wait on.
        """
        if self.early:
            self._online += self.early.due(time.time_ns() // 1_000)
        if self._online:
            if then_ask_ms is not None:
                then_ask_ms = self.wait_ms(then_ask_ms)
            items = self._online
            *before, last = [
                items[start : start + _WRITTEN_AT_ONCE] for start in range(0, len(items), _WRITTEN_AT_ONCE)
            ]
            for piece in before:
                self.breaker.call(lambda: self._link.write(piece))  # noqa: B023 - called at once
            self.breaker.call(lambda: self._link.write(last, then_ask_ms=then_ask_ms))
            self.counters.online += len(items)
            self._online = []
        if self.early.is_unkept:
            self.breaker.call(self.early.keep)  # before anything is acknowledged
        self.early.settle()

    def take_up_early(self, partition: int) -> None:
        """Have what the last owner of a partition held back for its time wait here."""
        prefixes = [view.prefix for views in self._views.values() for view in views]
        self.early.take_up(partition, prefixes)

    def wait_ms(self, most_ms: int) -> int:
        """How long to wait for entries at most, so that values that wait for their time get it then."""
        next_us = self.early.next_us
        if next_us is None:
            return most_ms
        return max(1, min(most_ms, (next_us - time.time_ns() // 1_000) // 1_000 + 1))

    def batch(self, kind: EventKind, *, following: bool) -> Batch:
        """What waits of a kind, to be added to."""
        batch = self._pending.batches.setdefault(kind, Batch(kind, following))
        batch.following = batch.following and following
        return batch

    def record(self, kind: EventKind, rows: RawRows, *, following: bool) -> None:
        """Have raw rows written offline.

        Parameters
        ----------
        kind
            Their kind.
        rows
            The rows.
        following
            Whether they continue their symbols.
        """
        self.batch(kind, following=following).raw.append(rows)
        self._pending.size += len(rows) * (rows.records.itemsize + 128) + sum(
            len(text) for column in rows.texts for text in column
        )

    def _record_features(self, lane: Lane, view: _View, made: ViewRows) -> None:
        fresh = view.states.not_written(made)
        which = slice(None) if fresh is None or fresh.all() else fresh
        rows = FeatureRows(
            view.states.spec,
            lane.symbols,
            made.place[which],
            made.event_us[which],
            made.sequence[which],
            made.available_us[which],
            made.outputs[which],
        )
        if len(rows.place):
            self.batch(lane.kind, following=True).features.append(rows)
            self._pending.size += rows.outputs.nbytes + 32 * len(rows.place)

    def show_stored(self, lane: Lane, symbols: Sequence[str]) -> None:
        """Offer the newest stored rows of some symbols to the online store, those that are not available yet in their time."""
        now_us = time.time_ns() // 1_000
        places = np.array([lane.places[symbol] for symbol in symbols], dtype=np.int64)
        for view in self._views[lane.kind]:
            newest = newest_packed(self._connection, view.states.spec, view.layout, symbols, now_us)
            self._online += [(view.key(symbol), value) for symbol, (_, value) in newest.items()]
            reached_us = np.maximum(lane.table[places, AVAILABLE], view.states.last_available_us(places))
            wait = [symbols[k] for k in np.flatnonzero(reached_us > now_us).tolist()]
            since_us = {
                symbol: newest[symbol][0] if symbol in newest else None for symbol in wait if symbol not in lane.aside
            }
            rows = early_packed(self._connection, view.states.spec, view.layout, since_us, now_us)
            for symbol in since_us:
                self.early.replace(view.key(symbol))
            for symbol, available_us, value in rows:
                partition = int(lane.partition[lane.places[symbol]])
                self.early.put(partition, available_us, view.key(symbol), value)
        self.write_online()

    @property
    def waiting(self) -> bool:
        """Whether rows wait to be handed on."""
        return bool(self._pending.batches)

    def abandon(self) -> None:
        """Forget what waits."""
        self._pending = Job()
        self._online, self._visible = [], []
        self.early.clear()

    def take_visible(self) -> list[Integers]:
        """Available times of the events that features were computed from since the last time."""
        visible, self._visible = self._visible, []
        return visible

    def take_pending(self) -> Job:
        """What waits to be written offline; nothing waits then."""
        job, self._pending = self._pending, Job()
        return job
