"""Brings what a feed gave where it belongs: rows into the stream, gaps into PostgreSQL, refused frames to the dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from redis import Redis
from redis.exceptions import RedisError

from tapeline.core.errors import UnavailableError
from tapeline.core.timestamps import parse_duration_us, to_us
from tapeline.live.gaps import LISTED_MAX, Gap, GapState, list_gaps, write_gaps
from tapeline.live.outcome import Outcome
from tapeline.live.source import LiveSource
from tapeline.storage.online import unavailable
from tapeline.storage.reference import Source, register_source
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.producer import Producer

GAPS_WAITING_MAX = 100_000
"""Gaps that wait for a PostgreSQL that is away; the oldest states are dropped beyond it. The recording has them all."""
_SEND_WAIT_S = 1.0
"""How long one try waits while a partition's backlog is full; the runner tries again."""
_NO_PARTITION = -1


def plan_of(source: LiveSource, project: str) -> StreamPlan:
    """The stream that a live source feeds."""
    return StreamPlan(source.name, source.source, source.partitions, project=project)


class Delivery:
    """Delivers one source's rows. For one thread at a time.

    Parameters
    ----------
    source
        The declaration.
    plan
        The stream.
    redis
        A client that returns bytes.
    connect
        Opens a connection to PostgreSQL.

    Raises
    ------
    ConfigurationError
        If the stream or the source were made otherwise.
    UnavailableError
        If a server is away.
    """

    def __init__(
        self, source: LiveSource, plan: StreamPlan, redis: Redis, connect: Callable[[], psycopg.Connection[Any]]
    ) -> None:
        self._source = source
        self._plan = plan
        self._redis = redis
        self._connect = connect
        self._connection = connect()
        declared = Source(
            source.source, "trades", parse_duration_us(source.lag), source.calendar, f"live: {source.name}"
        )
        register_source(self._connection, declared)
        self.producer = Producer(redis, plan, wait_s=_SEND_WAIT_S)
        self._dead = DeadLetters(redis, plan)
        self._gaps: list[Gap] = []
        self._positions: dict[str, tuple[int, int]] = {}

    def deliver(self, outcome: Outcome) -> None:
        """Deliver what happened; after an error all of it may be delivered again.

        Raises
        ------
        UnavailableError
            If Redis is away.
        LimitError
            If workers are too far behind.
        """
        for events in outcome.batches():
            self.producer.send(events)
        for reason, data in outcome.refused:
            self._dead.add(_NO_PARTITION, b"live", reason, data)
        outcome.refused.clear()
        self._dead.send()
        self._gaps = [*self._gaps, *outcome.gaps][-GAPS_WAITING_MAX:]
        outcome.gaps.clear()
        self._positions |= outcome.positions
        # A position says that everything before it was sent or is recorded as missing, so gaps go first.
        if self._write_gaps():
            self._write_positions()

    def _write_gaps(self) -> bool:
        if not self._gaps:
            return True
        try:
            if self._connection.closed:
                self._connection = self._connect()
            write_gaps(self._connection, self._source.source, self._gaps)
        except (psycopg.OperationalError, UnavailableError):
            with suppress(psycopg.Error):
                self._connection.close()
            return False
        self._gaps.clear()
        return True

    def _write_positions(self) -> None:
        if self._positions:
            fields: dict[str | bytes, bytes | float | int | str] = {
                symbol: b"%d:%d" % position for symbol, position in self._positions.items()
            }
            try:
                self._redis.hset(self._plan.shared_key("live"), mapping=fields)  # type: ignore[arg-type]
            except RedisError as error:
                raise unavailable(error) from error
            self._positions.clear()

    def earlier(self) -> tuple[dict[str, tuple[int, int]], list[Gap]]:
        """Where earlier runs ended: the last trade of each symbol, and the gaps that are still open.

        Redis knows what was sent, PostgreSQL what was stored: a Redis that lost its data takes with it what no worker had
        stored, so the greater of what both know is where to go on.
        """
        try:
            sent: dict[bytes, bytes] = self._redis.hgetall(self._plan.shared_key("live"))  # type: ignore[assignment]
        except RedisError as error:
            raise unavailable(error) from error
        positions: dict[str, tuple[int, int]] = {}
        for field, value in sent.items():
            number, _, event_us = value.partition(b":")
            positions[field.decode()] = (int(number), int(event_us))
        for theirs, stored in self._stored(self._source.symbols.items()):
            positions[theirs] = max(stored, positions.get(theirs, stored))
        open_gaps = list_gaps(self._connection, self._source.source, state=GapState.found, limit=LISTED_MAX)
        return positions, open_gaps

    def _stored(self, symbols: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[int, int]]]:
        found = []
        with self._connection.transaction(), self._connection.cursor(row_factory=tuple_row) as cursor:
            for theirs, ours in symbols:
                row = cursor.execute(
                    "SELECT sequence, event_timestamp FROM tapeline.trades WHERE source = %s AND symbol = %s"
                    " ORDER BY event_timestamp DESC, sequence DESC LIMIT 1",
                    (self._source.source, ours),
                ).fetchone()
                if row is not None:
                    found.append((theirs, (int(row[0]), to_us(row[1]))))
        return found

    def close(self) -> None:
        """Write the gaps that wait, if that works now, and close the connection."""
        if self._write_gaps():
            with suppress(UnavailableError):  # without them the next run asks for trades that are known
                self._write_positions()
        self._connection.close()
