"""How a stream stands: what waits, who works, how far PostgreSQL is, what was refused and repaired."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from tapeline.storage.online import unavailable
from tapeline.streaming.leases import groups_of, id_of, live_workers
from tapeline.streaming.offline import stream_label
from tapeline.streaming.plan import StreamPlan


@dataclass(frozen=True)
class PartitionStatus:
    """One partition.

    Attributes
    ----------
    partition
        Which.
    worker
        Who owns it; none: nobody.
    entries
        Entries that are there, those kept for replays included.
    waiting
        Entries that nobody has read; none if Redis cannot tell.
    unacknowledged
        Entries read and not yet acknowledged.
    written_ms
        Time of the last entry that PostgreSQL has rows of; 0: none.
    """

    partition: int
    worker: str | None
    entries: int
    waiting: int | None
    unacknowledged: int
    written_ms: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class StreamStatus:
    """A stream: its partitions, live workers, letters in the dead-letter stream, late rows by reason, and some of the symbols
    that workers have set aside, with the reasons.
    """

    partitions: tuple[PartitionStatus, ...]
    workers: int
    dead: int
    repairs: dict[str, int]
    aside: dict[str, str]


def read_status(redis: Redis, connection: psycopg.Connection[Any], plan: StreamPlan) -> StreamStatus:
    """How a stream stands now.

    Raises
    ------
    UnavailableError
        If Redis is away.
    """
    with connection.transaction():
        written = dict(
            connection.execute(
                "SELECT partition, max(id_ms) FROM tapeline.stream_positions WHERE stream = %s GROUP BY partition",
                (stream_label(plan),),
            ).fetchall()
        )
        repairs = dict(
            connection.execute(
                "SELECT reason, count(*) FROM tapeline.stream_repairs WHERE stream = %s GROUP BY reason",
                (stream_label(plan),),
            ).fetchall()
        )
    try:
        partitions = tuple(
            _partition(redis, plan, partition, written.get(partition, 0)) for partition in range(plan.partitions)
        )
        workers = live_workers(redis, plan)
        dead = redis.xlen(plan.shared_key("dead"))
    except RedisError as error:
        raise unavailable(error) from error
    aside = {symbol: reason for told in workers.values() for symbol, reason in told.get("reasons", {}).items()}
    return StreamStatus(partitions, len(workers), dead, repairs, aside)


def _partition(redis: Redis, plan: StreamPlan, partition: int, written_ms: int) -> PartitionStatus:
    key = plan.events_key(partition)
    holder = cast("bytes | None", redis.get(plan.key(partition, "lease")))
    groups = groups_of(redis, key)
    group = max(
        groups, key=lambda group: id_of(group["last-delivered-id"]), default={"lag": redis.xlen(key), "pending": 0}
    )
    return PartitionStatus(
        partition,
        holder.decode().partition(":")[0] if holder else None,
        redis.xlen(key),
        group.get("lag"),
        group["pending"],
        written_ms,
    )
