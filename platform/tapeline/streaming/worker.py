"""A worker: owns partitions, reads their entries and makes features of them; what is written behind them is in ``behind``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import psycopg
from redis import Redis

from tapeline.core.errors import FencedError, ParameterError, UnavailableError
from tapeline.features.versions import Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.raw import AppendCounts
from tapeline.streaming.actions import ActionWatch
from tapeline.streaming.behind import Behind, Job
from tapeline.streaming.breaker import Breaker, Circuit
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.finishing import Finisher
from tapeline.streaming.kept import label_of
from tapeline.streaming.lane import Position
from tapeline.streaming.leases import Heart, Leases
from tapeline.streaming.link import Link
from tapeline.streaming.metrics import Summary
from tapeline.streaming.ownership import Ownership
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.processing import Counters, Processor
from tapeline.streaming.reading import PLACES, Entry, read_entries
from tapeline.streaming.timing import Timing

LINGER_S = 5.0
"""So long after it gave everything back, a worker writes values that waited for their time."""
SLICE_BYTES = 1 << 20
"""Entries that are processed at once."""
_VISIBLE_MAX = 64
KEEP_S = 0.1
KEEP_BYTES = 1 << 20
"""States that are kept at once: copying them delays events."""
KEEP_BEHIND_BYTES_MAX = 16 << 20
"""With more rows waiting for the database no states are kept: they would wait, too."""


class Worker:
    """Computes the views of one stream. For one thread; several workers share the partitions.

    Parameters
    ----------
    plan
        The stream.
    specs
        Views to compute, over the stream's source.
    redis
        A client that returns bytes.
    connect
        Opens a connection to the database.
    name
        The worker's name, unlike all others'.
    lease_ms
        How long a partition stands still when its worker is killed.
    publish
        Whether to publish states where requests continue from, too.
    feature_rows
        Whether to write feature rows offline. Without, the database takes raw rows only, and the next back-fill adds the
        feature rows, the same ones.

    Attributes
    ----------
    processing
        How long events were worked on: a read's time, from its arrival until its values are online, shared out among its events.
    latency
        From events' available times until they were online, by this machine's clock.
    behind
        What writes to PostgreSQL.

    Raises
    ------
    ParameterError
        If a view is of another source.
    ConfigurationError
        If the stream was made with another source or number of partitions.
    UnavailableError
        If a server is away.
    LineageError
        If a view version is registered with another definition.
    """

    def __init__(
        self,
        plan: StreamPlan,
        specs: Sequence[FeatureViewSpec],
        *,
        redis: Redis,
        connect: Callable[[], psycopg.Connection[Any]],
        name: str | None = None,
        lease_ms: int = 10_000,
        publish: bool = True,
        feature_rows: bool = True,
    ) -> None:
        for spec in specs:
            if spec.rows.source != plan.source:
                raise ParameterError(
                    f"view {label_of(spec)} is over source {spec.rows.source!r}",
                    where=f"stream {plan.name} of source {plan.source!r}",
                    remedy="Start a stream of that source",
                )
        plan.agree(redis)
        self.plan = plan
        self._redis = redis
        self.leases = Leases(redis, plan, worker=name, ttl_ms=lease_ms)
        self.dead = DeadLetters(redis, plan)
        self.processing, self.latency = Timing(), Timing()
        self._connection = connect()
        self._link = Link(redis, plan, self.leases.group, self.leases.worker)
        self.processor = Processor(
            plan, specs, redis, self._connection, self.dead, self.flush, self._link, feature_rows=feature_rows
        )
        self._owned = Ownership(plan, redis, self._connection, self.leases, self.processor)
        lanes = self.processor.lanes
        finisher = Finisher(redis, plan, self.leases, lanes.values(), self.processor.written, publish=publish)
        self._actions = ActionWatch()
        self._actions.look(self._connection)  # before any state is taken up: what is recorded from now on is noticed
        self._actions.take()
        self._heart = Heart(self.leases, Summary(self), lambda: self.behind.watch())  # noqa: PLW0108 - it comes after
        self.behind = Behind(connect, plan, set(lanes), finisher.finish, self._actions.look)
        self._heart.start()
        self._entries: dict[int, list[bytes]] = {}
        self._floors: dict[int, Position] = {}
        self._visible: list[Integers] = []
        self._tended_s = self._kept_s = -1e9

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        return self.processor.counters

    @property
    def aside(self) -> dict[str, str]:
        """Symbols whose features cannot be computed, with the reasons; their rows are recorded."""
        lanes = self.processor.lanes.values()
        return {symbol: aside.reason for lane in lanes for symbol, aside in lane.aside.copy().items()}

    @property
    def breakers(self) -> tuple[Breaker, ...]:
        """The circuits to what the worker depends on."""
        return self.processor.breaker, self.behind.breaker, self.behind.redis_breaker

    # The loop ---------------------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool], *, block_ms: int = 20) -> None:
        """Work until ``stop`` says so, then write everything and give the partitions back."""
        while not stop():
            self.step(block_ms=block_ms)
        self.close()

    def step(self, *, block_ms: int = 20) -> int:
        """Look after leases, read once, process what came, hand it on; returns the number of entries.

        Raises
        ------
        UnavailableError
            If Redis is away, or PostgreSQL while it is needed at once. Begin with a new worker then.
        """
        try:
            self.behind.check()
            if self._is_tending_due() and not self._link.asked:
                self._tend()
            entries = self._read(self.processor.wait_ms(block_ms))
            if not entries:
                self.processor.write_online()
            pieces = list(_slices(entries))
            for number, piece in enumerate(pieces, 1):
                ahead = number == len(pieces) and not self._is_tending_due()
                self._process(piece, then_ask_ms=block_ms if ahead else None)
            self._keep_if_due()
            if actions := self._actions.take():
                self.processor.repairs.take_in(actions)
            if self.behind.breaker.state is Circuit.closed and self.behind.waiting_bytes < KEEP_BEHIND_BYTES_MAX:
                self.processor.repairs.retry()
        except FencedError:
            self._abandon()
            return 0
        return len(entries)

    def drain(self, *, timeout_s: float = 30.0) -> None:
        """Work until nothing of the owned partitions waits, and everything stands, but for online values that wait for their time.

        Raises
        ------
        TimeoutError
            If that takes longer.
        """
        deadline = time.monotonic() + timeout_s
        while self.step(block_ms=1) or not self.leases.owned:
            if time.monotonic() > deadline:
                raise TimeoutError
        self.flush()
        self._count_visible()

    def close(self) -> None:
        """Write everything, keep all states, and give the partitions back."""
        try:
            if self._link.asked:
                self._process(self._link.receive())
            for partition in sorted(self.leases.owned):
                self._give_back(partition)
            self._heart.stop()  # it would enter the worker again
            self.leases.leave()
            self._linger()
        except FencedError:
            self._abandon()
        finally:
            self.give_up()

    def _linger(self) -> None:
        """Write what waits for its time and gets it soon: there may be no next owner. One that writes it, too, does no harm."""
        deadline_s = time.monotonic() + LINGER_S
        with suppress(UnavailableError):  # it is kept for the next owner
            while (next_us := self.processor.early.next_us) is not None:
                wait_s = max(0.0, next_us / 1e6 - time.time())
                if time.monotonic() + wait_s > deadline_s:
                    break
                time.sleep(wait_s)
                self.processor.write_online()

    def give_up(self) -> None:
        """End without writing anything more, as after an error: the next worker goes on from what stands."""
        self._heart.stop()
        self.behind.close()
        self._link.close()
        self._connection.close()

    def _read(self, block_ms: int) -> list[Entry]:
        if not self.leases.owned:
            time.sleep(block_ms / 1_000)
            return []
        if not self._link.asked:
            self._link.ask(block_ms)
        return self._link.receive()

    def _process(self, entries: Sequence[Entry], *, again: bool = False, then_ask_ms: int | None = None) -> None:
        began = time.perf_counter()
        blocks = read_entries(self.plan, entries, self.dead.add)
        self.processor.process(blocks, again=again, then_ask_ms=then_ask_ms)
        self._count(began, sum(map(len, blocks)), again=again)
        self.dead.send()
        for entry in entries:
            self._entries.setdefault(entry.partition, []).append(entry.id)
            self._owned.processed[entry.partition] = (entry.ms, entry.number * PLACES + PLACES - 1)
        self._hand_on()

    def _count(self, began: float, events: int, *, again: bool) -> None:
        """Count how long events took; what is processed again was online before."""
        visible = self.processor.take_visible()
        if events and not again:
            self.processing.add((time.perf_counter() - began) / events, events)
            now_us = time.time_ns() // 1_000
            self._visible += [now_us - available_us for available_us in visible]
        if len(self._visible) > _VISIBLE_MAX:
            self._count_visible()

    def _count_visible(self) -> None:
        """Some reads at once: to count each by itself would cost as much as to read it."""
        if self._visible:
            self.latency.add_all(np.concatenate(self._visible) / 1e6)
            self._visible = []

    # Behind -----------------------------------------------------------------------------------------------------------

    def flush(self) -> AppendCounts:
        """Write everything that waits; returns what that did with raw rows, when it stands."""
        self._hand_on()
        return self.behind.flush()

    def _hand_on(self) -> None:
        if self._entries or self.processor.waiting:
            job = self.processor.take_pending()
            job.epochs, job.entries = dict(self._owned.epochs), self._entries
            self._entries = {}
            self.behind.put(job)

    def _keep_if_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._kept_s >= KEEP_S and self.behind.waiting_bytes < KEEP_BEHIND_BYTES_MAX:
            self._kept_s = now_s
            self._count_visible()
            self._hand_on_states(KEEP_BYTES)

    def _hand_on_states(self, bytes_max: int, partition: int | None = None) -> bool:
        """Hand on states to be kept once all rows so far stand; returns whether there were any.

        None may contain a row that PostgreSQL has not.
        """
        job = Job(epochs=dict(self._owned.epochs))
        for lane in self.processor.lanes.values():
            places = lane.oldest_dirty(partition)[: max(1, bytes_max // lane.state_bytes)]
            if len(places):
                job.copies.append(lane.copy_states(places, self._actions.taken_us))
                job.size += len(places) * lane.state_bytes
                lane.dirty[places] = 0
        first: dict[int, Position] = {}
        for lane in self.processor.lanes.values():
            for own, position in lane.first_dirty().items():
                first[own] = min(position, first.get(own, position))
        for own, processed in self._owned.processed.items():
            if partition in {None, own}:
                job.floors[own] = (first[own][0], first[own][1] - 1) if own in first else processed
        if job.floors != self._floors or job.copies:
            self._floors = job.floors
            self.behind.put(job)
        return bool(job.copies)

    # Ownership --------------------------------------------------------------------------------------------------------

    def _is_tending_due(self) -> bool:
        return bool(self._heart.lost) or time.monotonic() - self._tended_s >= self.leases.ttl_ms / 4_000

    def _tend(self) -> None:
        """Take or give back partitions."""
        self._tended_s = time.monotonic()
        if self._heart.lost:
            lost, self._heart.lost = self._heart.lost, set()
            raise FencedError(f"partitions {sorted(lost)} have another owner", where=f"stream {self.plan.name}")
        share = self.leases.share(self._heart.workers)
        before = set(self.leases.owned)
        for partition in sorted(before, reverse=True)[: max(0, len(before) - share)]:
            self._give_back(partition)
        # Each begins elsewhere, so that not all reach for the same ones.
        offset = hash(self.leases.worker) % self.plan.partitions
        for number in range(self.plan.partitions):
            if len(self.leases.owned) >= share:
                break
            partition = (number + offset) % self.plan.partitions
            if partition not in self.leases.owned and self.leases.try_acquire(partition):
                self._take_over(partition)
        if self.leases.owned != before:
            self._link.assign(sorted(self.leases.owned))

    def _take_over(self, partition: int) -> None:
        self.processor.repairs.read_horizons()
        for entries in self._owned.take_over(partition):
            for piece in _slices(entries):
                self._process(piece, again=True)
                self.behind.check()

    def _give_back(self, partition: int) -> None:
        self.flush()
        while self._hand_on_states(KEEP_BYTES, partition):
            pass
        self.behind.flush()
        self.leases.release(partition)
        self._owned.forget(partition)

    def _abandon(self) -> None:
        """Forget everything unwritten: somebody else has a partition, or will have."""
        self._link.close()
        for partition in sorted(self.leases.owned):
            self.leases.release(partition)
        self.behind.reset()
        for partition in list(self._owned.epochs):
            self._owned.forget(partition)
        self.processor.abandon()
        self.plan.agree(self._redis)  # a Redis that forgot everything is told again
        self.processor.publish_layouts()
        self._entries = {}
        self._heart.lost = set()
        self._tended_s = -1e9


def _slices(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    piece: list[Entry] = []
    size = 0
    for entry in entries:
        piece.append(entry)
        size += sum(map(len, entry.fields))
        if size > SLICE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
