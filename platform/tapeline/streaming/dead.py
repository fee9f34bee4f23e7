"""The dead-letter stream: events that cannot be taken, with the reason and where they came from."""

from __future__ import annotations

from redis import Redis
from redis.exceptions import RedisError

from tapeline.storage.online import unavailable
from tapeline.streaming.codec import BLOCK_BYTES_MAX
from tapeline.streaming.plan import StreamPlan

DEAD_ENTRIES_MAX = 100_000
"""Older letters are dropped beyond it."""
_REASON_LENGTH_MAX = 500


class DeadLetters:
    """Collects what is refused, and sends it with the next batch.

    Parameters
    ----------
    redis
        A client that returns bytes.
    plan
        The stream.

    Attributes
    ----------
    count
        Letters sent by this process.
    """

    def __init__(self, redis: Redis, plan: StreamPlan) -> None:
        self._redis = redis
        self._key = plan.shared_key("dead")
        self._waiting: list[dict[bytes, bytes]] = []
        self.count = 0

    def add(self, partition: int, entry: bytes, reason: str, data: bytes) -> None:
        """Refuse bytes of an entry; oversized ones are cut."""
        self._waiting.append(
            {
                b"partition": b"%d" % partition,
                b"entry": entry,
                b"reason": reason[:_REASON_LENGTH_MAX].encode(errors="replace"),
                b"bytes": b"%d" % len(data),
                b"e": data[:BLOCK_BYTES_MAX],
            }
        )

    def send(self) -> None:
        """Send what waits.

        Raises
        ------
        UnavailableError
            If Redis is away; it waits on.
        """
        if not self._waiting:
            return
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for letter in self._waiting:
                pipeline.xadd(self._key, letter, maxlen=DEAD_ENTRIES_MAX, approximate=True)  # type: ignore[arg-type]
            pipeline.execute()
        except RedisError as error:
            raise unavailable(error) from error
        self.count += len(self._waiting)
        self._waiting.clear()
