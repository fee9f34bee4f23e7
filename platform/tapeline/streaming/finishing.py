"""What follows once rows stand in PostgreSQL: letters of those that it refused, acknowledgements, kept states, trimming."""

from __future__ import annotations

import time
from collections.abc import Iterable

from redis import Redis
from redis.exceptions import RedisError

from tapeline.storage.online import unavailable
from tapeline.storage.snapshots import publish_states
from tapeline.storage.state_codec import SavedState
from tapeline.streaming.behind import Job
from tapeline.streaming.codec import EventKind, encode_block
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.kept import encode_kept, keep, label_of
from tapeline.streaming.lane import Lane, Position, StateCopy
from tapeline.streaming.leases import Leases
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.reading import PLACES

KEPT_BYTES = 256 << 10
"""Kept with one script call: the server answers nobody else meanwhile."""
IDS_MAX = 1_000
"""Acknowledged with one command."""
Field = tuple[bytes, bytes, bytes]


class Finisher:
    """Finishes jobs, in the thread that did them.

    Parameters
    ----------
    redis
        A client that returns bytes.
    plan
        The stream.
    leases
        Fence what is kept.
    lanes
        The worker's.
    written
        For each partition and kind, PostgreSQL's position; brought up to date.
    publish
        Whether to publish states where requests continue from, too.
    """

    def __init__(
        self,
        redis: Redis,
        plan: StreamPlan,
        leases: Leases,
        lanes: Iterable[Lane],
        written: dict[tuple[int, EventKind], Position],
        *,
        publish: bool,
    ) -> None:
        self._redis = redis
        self._plan = plan
        self._leases = leases
        self._specs = {label_of(view.spec): view.spec for lane in lanes for view in lane.views}
        self._written = written
        self._publish = publish
        self.dead = DeadLetters(redis, plan)

    def finish(self, job: Job) -> None:
        """Do what a job's rows were waited for with; may be repeated.

        Raises
        ------
        FencedError
            If another worker has a partition whose states were to be kept.
        UnavailableError
            If Redis is away.
        """
        for batch in job.batches.values():
            for partition, position in batch.positions.items():
                if partition in self._leases.owned:
                    self._written[(partition, batch.kind)] = position
        while job.refused:
            kind, rows, reason = job.refused.pop()
            entry_id = b"%d-%d" % (rows.ms[0], rows.part[0] // PLACES)
            self.dead.add(int(rows.partition[0]), entry_id, reason, encode_block(rows.event(kind)))
        self.dead.send()
        try:
            self._acknowledge(job.entries)
            self._keep(job)
        except RedisError as error:
            raise unavailable(error) from error

    def _acknowledge(self, entries: dict[int, list[bytes]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for partition, ids in entries.items():
            for start in range(0, len(ids), IDS_MAX):
                pipeline.xack(self._plan.events_key(partition), self._leases.group, *ids[start : start + IDS_MAX])
        if len(pipeline):
            pipeline.execute()

    def _keep(self, job: Job) -> None:
        fields: dict[int, list[Field]] = {partition: [] for partition in job.floors}
        published: dict[str, dict[str, SavedState]] = {}
        for copied in job.copies:
            self._encode(copied, fields, published)
        for partition, of_partition in fields.items():
            *before, last = _pieces(of_partition)
            for piece in before:
                self._leases.keep(partition, piece, b"")
            floor = job.floors.get(partition)
            self._leases.keep(partition, last, b"" if floor is None else b"%d-%d" % floor)
        self._trim(job.floors)
        for label, states in published.items():
            publish_states(self._redis, self._plan.project, self._specs[label], states)

    def _encode(
        self, copied: StateCopy, fields: dict[int, list[Field]], published: dict[str, dict[str, SavedState]]
    ) -> None:
        kept = keep(copied)
        for symbol, partition, state in zip(copied.symbols, copied.partition.tolist(), kept, strict=True):
            key = states_key(self._plan, partition, copied.kind)
            fields.setdefault(partition, []).append((key, symbol.encode(), encode_kept(state)))
            if self._publish:
                for label, saved in state.views.items():
                    if saved.rows_seen or saved.bar_state is not None:
                        published.setdefault(label, {})[symbol] = saved

    def _trim(self, floors: dict[int, Position]) -> None:
        """Drop entries that are contained in the kept states and older than the stream is to remember."""
        forgotten_ms = int(time.time() * 1_000) - self._plan.retention_ms
        pipeline = self._redis.pipeline(transaction=False)
        for partition, floor in floors.items():
            oldest_ms = min(floor[0], forgotten_ms)
            if oldest_ms > 0:
                pipeline.xtrim(self._plan.events_key(partition), minid=f"{oldest_ms}-0", approximate=True)
        if len(pipeline):
            pipeline.execute()


def states_key(plan: StreamPlan, partition: int, kind: EventKind) -> bytes:
    """The hash of a partition's kept states."""
    return plan.key(partition, f"states:{kind.name}")


def _pieces(fields: list[Field]) -> list[list[Field]]:
    """Fields in pieces of some bytes; one piece at least."""
    pieces: list[list[Field]] = [[]]
    size = 0
    for field in fields:
        if size > KEPT_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(field)
        size += len(field[2])
    return pieces
