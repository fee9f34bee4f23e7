"""What a stream is: its name, source, partitions and limits; and the Redis keys that follow from these."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from tapeline.core.errors import ConfigurationError, ParameterError
from tapeline.core.hashing import canonical_json
from tapeline.storage.online import unavailable

GROUP = "workers"
"""Consumer groups begin with it: each owner of a partition has one of its own, so that a former one can take nothing from it."""
FIELD = b"e"
"""The field of an entry that holds its block."""
_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,47}$")
PARTITIONS_MAX = 4_096


def partition_of(symbol: str, partitions: int) -> int:
    """The partition of a symbol among so many: the same in every process and version."""
    return zlib.crc32(symbol.encode()) % partitions


@dataclass(frozen=True)
class StreamPlan:
    """A stream of the events of one source.

    Attributes
    ----------
    name
        Lower-case letters, digits, hyphens and underscores, at most 48.
    source
        The source under which raw rows are stored.
    partitions
        Redis streams that symbols are spread over; fixed when the stream is made.
    project
        Prefix of the keys.
    backlog_entries_max
        Entries of a partition that wait to be acknowledged beyond which producers wait.
    retention_ms
        How long entries are kept for replays after they were acknowledged.
    late_window_us
        An event that lies further before the newest one of its symbol goes to the dead-letter stream.

    Raises
    ------
    ParameterError
        If a name or number is impossible.
    """

    name: str
    source: str
    partitions: int = 16
    project: str = "tapeline"
    backlog_entries_max: int = 100_000
    retention_ms: int = 15 * 60_000
    late_window_us: int = 7 * 86_400_000_000

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ParameterError(
                f"{self.name!r} is no name of a stream", remedy="Use lower-case letters, digits, hyphens, underscores"
            )
        if not 1 <= self.partitions <= PARTITIONS_MAX:
            raise ParameterError(f"{self.partitions} partitions; give 1 to {PARTITIONS_MAX}", where=self.name)
        if self.backlog_entries_max < 1 or self.retention_ms < 0 or self.late_window_us < 0:
            raise ParameterError("a limit of the stream is negative or 0", where=self.name)

    def partition_of(self, symbol: str) -> int:
        """The partition of a symbol: the same in every process and version."""
        return partition_of(symbol, self.partitions)

    def key(self, partition: int, suffix: str) -> bytes:
        """A key of a partition; all of one partition lie in one slot of a cluster."""
        return f"tl:{self.project}:stream:{{{self.name}:{partition}}}:{suffix}".encode()

    def events_key(self, partition: int) -> bytes:
        """The Redis stream of a partition."""
        return self.key(partition, "events")

    def shared_key(self, suffix: str) -> bytes:
        """A key of the stream as a whole."""
        return f"tl:{self.project}:stream:{{{self.name}}}:{suffix}".encode()

    def agree(self, redis: Redis) -> None:
        """Make the stream, or check that it was made with the same source and partitions.

        Raises
        ------
        ConfigurationError
            If it was not.
        UnavailableError
            If Redis is away.
        """
        mine = {"source": self.source, "partitions": self.partitions}
        key = self.shared_key("config")
        try:
            redis.set(key, canonical_json(mine), nx=True)
            made = json.loads(redis.get(key) or b"{}")
        except RedisError as error:
            raise unavailable(error) from error
        if made != mine:
            raise ConfigurationError(
                f"the stream was made with {made}, not with {mine}",
                where=f"stream {self.name}",
                remedy="Use what it was made with, or a new name: symbols would move between partitions",
            )
