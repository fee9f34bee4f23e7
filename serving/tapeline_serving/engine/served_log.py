"""The log of served vectors: a bounded queue and a thread that writes it to PostgreSQL.

A request only appends to a deque. If the database is slower or away, the queue fills up to its limit; after that vectors
are dropped and counted, because answering is worth more than logging, and a hole that is known can be reported.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from tapeline.core.errors import TapelineError
from tapeline.core.timestamps import from_us

from tapeline_serving.engine.types import LiveBars, LiveTrades, ViewUse

logger = logging.getLogger("tapeline.serving.log")

_BATCH_ROWS_MAX = 5_000
_BATCH_WAIT_S = 0.2
_BACKOFF_S_MIN = 0.1
_BACKOFF_S_MAX = 5.0
_COLUMNS = (
    "request_id, entity, model, model_version, bundle_sha256, served_timestamp, request_timestamp, vector, statuses,"
    " prediction, views, live_rows"
)
_TYPES = (
    "uuid",
    "text",
    "text",
    "text",
    "text",
    "timestamptz",
    "timestamptz",
    "bytea",
    "bytea",
    "float8[]",
    "jsonb",
    "jsonb",
)


@dataclass(frozen=True, slots=True)
class ServedVector:
    """One served prediction and all that is needed to compute its features again.

    Attributes
    ----------
    served_us, request_us
        The wall clock, and the injected one.
    vector
        Shape (features,), float64, in the model's order.
    statuses
        Shape (features,), uint8.
    views
        The plan's views by (name, version, plan hash), beside what was used of each.
    """

    request_id: str
    entity: str
    model: str
    model_version: str
    bundle_sha256: str
    served_us: int
    request_us: int
    vector: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    prediction: list[float]
    views: tuple[tuple[str, int, str], ...]
    uses: list[ViewUse]
    bars: LiveBars | None
    trades: LiveTrades | None

    def row(self) -> tuple[Any, ...]:
        """The values of one row of ``tapeline.served_vectors``."""
        return (
            uuid.UUID(self.request_id),
            self.entity,
            self.model,
            self.model_version,
            self.bundle_sha256,
            from_us(self.served_us),
            from_us(self.request_us),
            self.vector.astype("<f8").tobytes(),
            self.statuses.tobytes(),
            self.prediction,
            [_use(view, use) for view, use in zip(self.views, self.uses, strict=True)],
            _live_rows(self.bars, self.trades),
        )


def _use(view: tuple[str, int, str], use: ViewUse) -> dict[str, Any]:
    name, version, plan_hash = view
    return {
        "view": name,
        "version": version,
        "plan_hash": plan_hash,
        "origin": use.origin.name.lower(),
        "event_us": use.event_us,
        "available_us": use.available_us,
        "sequence": use.sequence,
        "partial": use.partial,
        "state_event_us": use.state_event_us,
        "state_sequence": use.state_sequence,
        "rows_seen": use.rows_seen,
    }


def _live_rows(bars: LiveBars | None, trades: LiveTrades | None) -> dict[str, Any] | None:
    if bars is None and trades is None:
        return None
    content: dict[str, Any] = {}
    if bars is not None:
        content["bars"] = {
            "start_us": None if bars.start_us is None else bars.start_us.tolist(),
            "event_us": bars.event_us.tolist(),
            "available_us": bars.available_us.tolist(),
            **{name: _exact(column) for name, column in bars.columns.items()},
        }
    if trades is not None:
        content["trades"] = {
            "event_us": trades.event_us.tolist(),
            "available_us": trades.available_us.tolist(),
            "sequence": trades.sequence.tolist(),
            "price": _exact(trades.price),
            "size": _exact(trades.size),
        }
    return content


def _exact(column: NDArray[np.float64]) -> list[float | str]:
    # Shortest decimal forms come back from jsonb bit for bit; it has no NaN, infinity or negative zero.
    return [v if math.isfinite(v) and (v != 0.0 or math.copysign(1.0, v) > 0) else str(v) for v in column.tolist()]


class ServedLog:
    """Writes served vectors in the background.

    ``offer`` belongs to the event loop, everything else to the writer's thread; the counters are read from anywhere.

    Parameters
    ----------
    connect
        Opens a connection; called again after every loss.
    waiting_max
        Vectors in the queue beyond which new ones are dropped.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], *, waiting_max: int) -> None:
        self.written = 0
        self.dropped = 0
        self._connect = connect
        self._waiting_max = waiting_max
        self._queue: deque[ServedVector] = deque()
        self._in_hand: list[ServedVector] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served log", daemon=True)
        self._reported = 0

    @property
    def waiting(self) -> int:
        """Vectors that are not yet in the database."""
        return len(self._queue) + len(self._in_hand)

    def start(self) -> None:
        """Start the writer's thread."""
        self._thread.start()

    def offer(self, vectors: Iterable[ServedVector]) -> None:
        """Queue vectors, or drop and count them. Never waits."""
        for vector in vectors:
            if len(self._queue) >= self._waiting_max:
                self.dropped += 1
            else:
                self._queue.append(vector)

    def close(self, *, timeout_s: float) -> None:
        """Write what waits, for so long at most; the rest is dropped and counted."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if left := self.waiting:
            self.dropped += left
            self._queue.clear()
        self._report()

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        backoff_s = _BACKOFF_S_MIN
        while True:
            # Batches by time rather than by signal: a signal per request would wake this thread, and through the
            # interpreter lock disturb the loop, thousands of times a second.
            self._wake.wait(_BATCH_WAIT_S)
            while self._in_hand or self._queue:
                while self._queue and len(self._in_hand) < _BATCH_ROWS_MAX:
                    self._in_hand.append(self._queue.popleft())
                try:
                    connection = connection or self._connect()
                    _write(connection, self._in_hand)
                except (psycopg.OperationalError, psycopg.InterfaceError, TapelineError) as error:
                    _close_quietly(connection)
                    connection = None
                    if self._stopping.is_set():
                        logger.warning("the log of served vectors cannot be flushed: %s", error)
                        return
                    logger.warning("the log of served vectors waits for PostgreSQL: %s", str(error).strip())
                    self._stopping.wait(backoff_s)
                    backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)
                    continue
                except psycopg.Error as error:
                    # These rows cannot be written whatever happens; the next ones must not wait behind them.
                    logger.error("%d served vectors are refused by PostgreSQL: %s", len(self._in_hand), error)  # noqa: TRY400
                    self.dropped += len(self._in_hand)
                    _close_quietly(connection)
                    connection = None
                else:
                    self.written += len(self._in_hand)
                backoff_s = _BACKOFF_S_MIN
                self._in_hand = []
                self._report()
            if self._stopping.is_set():
                _close_quietly(connection)
                return

    def _report(self) -> None:
        if self.dropped > self._reported:
            logger.warning("%d served vectors were not logged, %d in all", self.dropped - self._reported, self.dropped)
            self._reported = self.dropped


def _write(connection: psycopg.Connection[Any], vectors: list[ServedVector]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS served_incoming (LIKE tapeline.served_vectors INCLUDING DEFAULTS)"
            " ON COMMIT DELETE ROWS"
        )
        with cursor.copy(f"COPY served_incoming ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for vector in vectors:
                copy.write_row(vector.row())
                # Hand the interpreter back between rows: the event loop waits for nobody's batch.
                time.sleep(0)
        # A retry of a request carries the same id: what was served first stands. The key holds the time as well, for
        # hypertables, so it alone would keep both; an hour is long for a retry and short for a search.
        cursor.execute(
            f"INSERT INTO tapeline.served_vectors ({_COLUMNS})"
            f" SELECT DISTINCT ON (request_id, entity) {_COLUMNS} FROM served_incoming i"
            " WHERE NOT EXISTS (SELECT FROM tapeline.served_vectors s"
            " WHERE s.request_id = i.request_id AND s.entity = i.entity"
            " AND s.served_timestamp BETWEEN i.served_timestamp - interval '1 hour' AND i.served_timestamp)"
            " ORDER BY request_id, entity, served_timestamp ON CONFLICT DO NOTHING"
        )


def _close_quietly(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except psycopg.Error:
            pass
