"""How a partition comes to a worker: it is claimed, its states are taken up, and what came after these is read again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import psycopg
from redis import Redis
from redis.exceptions import RedisError

from tapeline.core.errors import IntegrityError
from tapeline.storage.online import unavailable
from tapeline.streaming.codec import EventKind
from tapeline.streaming.finishing import states_key
from tapeline.streaming.kept import KeptState, decode_kept, take_up
from tapeline.streaming.lane import START, Position
from tapeline.streaming.leases import Leases
from tapeline.streaming.offline import Claim, claim
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.processing import Processor
from tapeline.streaming.reading import PLACES, Entry
from tapeline.streaming.recovery import acted_on, look_around

_REPLAY_ENTRIES = 256


class Ownership:
    """The partitions of a worker, and up to where it has come in each.

    Parameters
    ----------
    plan
        The stream.
    redis
        A client that returns bytes.
    connection
        Idle.
    leases, processor
        The worker's.

    Attributes
    ----------
    epochs
        The worker's epoch of each partition that it has.
    processed
        Position that was reached in each.
    """

    def __init__(
        self, plan: StreamPlan, redis: Redis, connection: psycopg.Connection[Any], leases: Leases, processor: Processor
    ) -> None:
        self._plan = plan
        self._redis = redis
        self._connection = connection
        self._leases = leases
        self._processor = processor
        self.epochs: dict[int, int] = {}
        self.processed: dict[int, Position] = {}

    def take_over(self, partition: int) -> Iterator[list[Entry]]:
        """Go on where the last owner was; gives the entries that are to be processed again, some at a time.

        Raises
        ------
        FencedError
            If the lease was lost meanwhile.
        UnavailableError
            If a server is away.
        """
        try:
            incarnation_key = self._plan.key(partition, "incarnation")
            self._redis.set(incarnation_key, secrets.token_hex(8), nx=True)
            incarnation = cast("bytes", self._redis.get(incarnation_key)).decode()
            # From here on the last owner writes no row, and what it read is at most what is found to be delivered below.
            claimed = claim(self._connection, self._plan, partition, incarnation)
            self.epochs[partition] = claimed.epoch
            for kind, position in claimed.positions.items():
                self._processor.written[(partition, kind)] = position
            floor = self._kept_floor(partition)
            whole = floor is not None and self._is_whole(partition, claimed, floor)
            stale = [] if whole else self._kept_keys(partition)
            last = self._leases.adopt(partition, forget=stale)
            self._processor.take_up_early(partition)  # what is computed again below replaces it
            if whole and floor is not None:
                self._load_kept(partition, floor)
            start = floor if whole and floor is not None else min(claimed.positions.values())
            self.processed[partition] = max(start, START)
            yield from self._read_again(partition, start, last)
        except RedisError as error:
            raise unavailable(error) from error

    def forget(self, partition: int) -> None:
        """A partition has gone to somebody else."""
        self._processor.forget(partition)
        self.epochs.pop(partition, None)
        self.processed.pop(partition, None)

    def _kept_floor(self, partition: int) -> Position | None:
        data = cast("bytes | None", self._redis.get(self._plan.key(partition, "floor")))
        if data is None:
            return None
        ms, _, part = data.partition(b"-")
        return int(ms), int(part)

    def _is_whole(self, partition: int, claimed: Claim, floor: Position) -> bool:
        """Whether every entry that PostgreSQL has rows of is in the kept states or in the stream.

        A Redis that was killed may come back without its last second. Entries are lost from the end, so it is enough that the
        last one is there: others may have been sent since.
        """
        for ms, part in claimed.positions.values():
            if (ms, part) <= floor or (ms, part) == START or part < 0:
                continue
            entry_id = b"%d-%d" % (ms, part // PLACES)
            if not self._redis.xrange(self._plan.events_key(partition), entry_id, entry_id, count=1):
                return False
        return True

    def _kept_keys(self, partition: int) -> list[bytes]:
        hashes = [states_key(self._plan, partition, kind) for kind in (EventKind.trades, EventKind.bars)]
        return [*hashes, self._plan.key(partition, "floor")]

    def _load_kept(self, partition: int, floor: Position) -> None:
        for lane in self._processor.lanes.values():
            looked_us: dict[str, int] = {}
            again: list[str] = []
            for name, data in self._redis.hscan_iter(states_key(self._plan, partition, lane.kind), count=100):
                symbol = name.decode()
                # Where nothing that can be used was kept, the database has the state of the symbol.
                try:
                    kept: KeptState = decode_kept(data, where=symbol)
                except IntegrityError:
                    continue
                if not kept.views:  # it was set aside
                    lane.add(symbol, partition)
                    again.append(symbol)
                    continue
                try:
                    take_up(lane, lane.add(symbol, partition), kept)
                except IntegrityError:
                    lane.forget(symbol)
                    continue
                looked_us[symbol] = kept.looked_us
            look_around(self._connection, lane, list(looked_us))
            again += acted_on(self._connection, lane, looked_us)
            places = np.array([lane.places[symbol] for symbol in again], dtype=np.int64)
            # Their kept states lack what comes after the floor, wherever the database makes them stand.
            lane.mark_dirty(places, *np.broadcast_to(np.array([[floor[0]], [floor[1] + 1]]), (2, len(places))))
            if again:
                self._processor.repairs.reload(lane, again)

    def _read_again(self, partition: int, floor: Position, last: bytes) -> Iterator[list[Entry]]:
        """What was delivered after the floor."""
        start = b"%d-%d" % (max(0, floor[0]), max(0, floor[1]) // PLACES)
        while True:
            found = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]",
                self._redis.xrange(self._plan.events_key(partition), start, last, count=_REPLAY_ENTRIES),
            )
            yield [
                Entry.of(partition, entry_id, [part for pair in (fields or {}).items() for part in pair])
                for entry_id, fields in found
            ]
            if len(found) < _REPLAY_ENTRIES:
                return
            start = b"(" + found[-1][0]
