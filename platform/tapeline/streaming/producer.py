"""Sends events: blocks of one partition each, pipelined, with a bounded backlog."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from redis import Redis
from redis.exceptions import RedisError

from tapeline.core.errors import LimitError, UnavailableError
from tapeline.storage.online import unavailable
from tapeline.streaming.breaker import Breaker
from tapeline.streaming.codec import EVENTS_MAX, FAULTS, Events, encode_block, faults
from tapeline.streaming.leases import groups_of
from tapeline.streaming.plan import FIELD, StreamPlan

BLOCK_EVENTS = 512
"""Events of a block by default: enough to make an entry's own cost small, few enough to arrive soon."""
BLOCKS_PER_PIPELINE = 64
_POLL_S = 0.002


class Producer:
    """Sends events of one stream. For one thread.

    Parameters
    ----------
    redis
        A client that returns bytes.
    plan
        The stream; it is made if it does not exist.
    block_events
        Most events of a block.
    wait_s
        How long to wait while a partition's backlog is full.

    Attributes
    ----------
    sent
        Events that Redis acknowledged.
    waited_s
        How long sending waited for workers, in all.

    Raises
    ------
    ConfigurationError
        If the stream was made with another source or number of partitions.
    UnavailableError
        If Redis is away.
    """

    def __init__(
        self, redis: Redis, plan: StreamPlan, *, block_events: int = BLOCK_EVENTS, wait_s: float = 10.0
    ) -> None:
        if not 1 <= block_events <= EVENTS_MAX:
            raise LimitError(f"blocks of {block_events} events; give 1 to {EVENTS_MAX}")
        self._redis = redis
        self.plan = plan
        self.block_events = block_events
        self.wait_s = wait_s
        self.sent = 0
        self.waited_s = 0.0
        self.breaker = Breaker("Redis")
        self._partitions: dict[str, int] = {}
        self._backlog: dict[int, int] = {}
        plan.agree(redis)

    def send(self, events: Events) -> int:
        """Send events of one kind; each symbol's in the given order.

        Returns when Redis has them all. After an error some may be there: sending the same events again is safe, since a
        worker knows each again by its key.

        Returns
        -------
        int
            How many were sent.

        Raises
        ------
        LimitError
            If a partition's backlog stays full, a symbol or text is too long, or an event is impossible.
        UnavailableError
            If Redis is away.
        """
        codes = faults(events.kind, events.records)
        if codes.any():
            place = int(np.flatnonzero(codes)[0])
            symbol = events.symbols[int(events.records["symbol"][place])]
            raise LimitError(f"an event cannot be sent: {FAULTS[codes[place]]}", where=f"event {place} of {symbol}")
        batch: list[tuple[int, bytes]] = []
        counts = 0
        for partition, block, count in self._blocks(events):
            batch.append((partition, block))
            counts += count
            if len(batch) == BLOCKS_PER_PIPELINE:
                self._send(batch, counts)
                batch, counts = [], 0
        if batch:
            self._send(batch, counts)
        return len(events)

    def _blocks(self, events: Events) -> Iterator[tuple[int, bytes, int]]:
        for symbol in events.symbols:
            if symbol not in self._partitions:
                if len(self._partitions) >= 1 << 20:  # a cache, not a record
                    self._partitions.clear()
                self._partitions[symbol] = self.plan.partition_of(symbol)
        owners = {self._partitions[symbol] for symbol in events.symbols}
        if len(owners) == 1 and len(events.symbols) <= len(events) <= self.block_events:
            [owner] = owners  # a few events of one partition, as they happen: nothing has to be put in order
            for part in _encoded(events):
                yield owner, *part
            return
        of_symbol = np.array([self._partitions[symbol] for symbol in events.symbols], dtype=np.int64)
        partition = of_symbol[events.records["symbol"]]
        order = np.argsort(partition, kind="stable")
        cuts = np.flatnonzero(np.diff(partition[order])) + 1
        for places in np.split(order, cuts):
            for start in range(0, len(places), self.block_events):
                piece = places[start : start + self.block_events]
                for part in _encoded(events.chosen(piece)):
                    yield int(partition[piece[0]]), *part

    def _send(self, batch: list[tuple[int, bytes]], counts: int) -> None:
        self._wait_for_room({partition for partition, _ in batch})
        self.breaker.call(lambda: self._add(batch))
        self.sent += counts

    def _add(self, batch: list[tuple[int, bytes]]) -> None:
        for partition, _ in batch:
            self._backlog[partition] = self._backlog.get(partition, 0) + 1
        try:
            if len(batch) == 1:  # a pipeline would cost as much again as the command
                [(partition, block)] = batch
                self._redis.xadd(self.plan.events_key(partition), {FIELD: block})
                return
            pipeline = self._redis.pipeline(transaction=False)
            for partition, block in batch:
                pipeline.xadd(self.plan.events_key(partition), {FIELD: block})
            pipeline.execute()
        except RedisError as error:
            raise unavailable(error) from error

    def _wait_for_room(self, partitions: set[int]) -> None:
        """Wait until every partition has room for what one pipeline adds."""
        # What was counted here since the last look is an upper bound of the backlog: workers only make it shorter.
        room = self.plan.backlog_entries_max
        began = time.monotonic()
        full = {p for p in partitions if p not in self._backlog or self._backlog[p] >= room}
        while full:
            self._look(full)
            full = {p for p in full if self._backlog[p] >= room}
            if full and time.monotonic() - began > self.wait_s:
                partition = min(full)
                raise LimitError(
                    f"{self._backlog[partition]} entries wait for workers, at most {room} may",
                    where=f"stream {self.plan.name}, partition {partition}",
                    remedy="Start more workers with: tapeline stream run",
                )
            if full:
                time.sleep(_POLL_S)
        self.waited_s += time.monotonic() - began

    def _look(self, partitions: set[int]) -> None:
        try:
            for partition in partitions:
                self._backlog[partition] = backlog(self._redis, self.plan, partition)
        except UnavailableError:
            self._backlog.clear()
            raise


def backlog(redis: Redis, plan: StreamPlan, partition: int) -> int:
    """Entries of a partition that no worker has acknowledged.

    Raises
    ------
    UnavailableError
        If Redis is away.
    """
    key = plan.events_key(partition)
    try:
        groups = groups_of(redis, key)
        # Without a group nothing was read. Redis cannot tell the lag after entries were deleted, either: then all that are
        # there are taken to wait, until a worker has read to the end.
        if not groups or groups[0].get("lag") is None:
            return int(redis.xlen(key))
        return min(int(group["pending"]) + int(group["lag"]) for group in groups)
    except RedisError as error:
        raise unavailable(error) from error


def _encoded(events: Events) -> Iterator[tuple[bytes, int]]:
    """A block, or its halves where their texts make it too long."""
    try:
        yield encode_block(events), len(events)
    except LimitError:
        if len(events) == 1:
            raise
        half = len(events) // 2
        for places in (np.arange(half), np.arange(half, len(events))):
            yield from _encoded(events.chosen(places))
