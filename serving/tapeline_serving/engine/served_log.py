"""The log of served vectors: a bounded queue and a thread that writes it to PostgreSQL.

A request only appends to a deque. If the database is slower or away, the queue fills up to its limit; after that vectors
are dropped and counted, because answering is worth more than logging, and a hole that is known can be reported.
"""

from __future__ import annotations

import json
import logging
import math
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from tapeline.core.errors import TapelineError

from tapeline_serving.engine.types import (
    EntityStatus,
    LiveBars,
    LiveTrades,
    Origin,
    Outputs,
    PredictRequest,
    Vectors,
    ViewUse,
)

logger = logging.getLogger("tapeline.serving.log")

_BATCH_ROWS_MAX = 5_000
_BATCH_WAIT_S = 0.2
_REQUESTS_AT_A_STRETCH = 16
_BACKOFF_S_MIN = 0.1
_BACKOFF_S_MAX = 5.0
_COLUMNS = (
    "request_id, entity, model, model_version, bundle_sha256, served_timestamp, request_timestamp, vector, statuses,"
    " prediction, views, live_rows"
)
_ANSWER = "request_id, entity, bundle_sha256, vector, statuses, prediction, views, live_rows"
_I32, _I64, _F8_ELEMENT = struct.Struct(">i"), struct.Struct(">q"), struct.Struct(">id")
_NULL = _I32.pack(-1)
_COLUMN_COUNT = struct.pack(">h", 12)
_COPY_HEAD, _COPY_END = b"PGCOPY\n\xff\r\n\x00" + bytes(8), struct.pack(">h", -1)
_FLOAT8_OID = 701
_POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One answered request and all that is needed to compute its features again; the log keeps it, and changes nothing.

    Attributes
    ----------
    served_us
        The wall clock; the injected one is in the request.
    outputs
        For each output of the model, an array of shape (entities,).
    views
        The plan's views as (name, version, plan hash), beside what was used of each.
    """

    model: str
    model_version: str
    bundle_sha256: str
    served_us: int
    request: PredictRequest
    vectors: Vectors
    outputs: Outputs
    views: tuple[tuple[str, int, str], ...]

    def __len__(self) -> int:
        return len(self.request.entities)

    def rows(self) -> Iterator[bytes]:
        """One row of ``tapeline.served_vectors`` for each entity, in PostgreSQL's binary COPY form."""
        common = b"".join(
            _field(value)
            for value in (
                self.model.encode(),
                self.model_version.encode(),
                self.bundle_sha256.encode(),
                _I64.pack(self.served_us - _POSTGRES_EPOCH_US),
                _I64.pack(self.request.now_us - _POSTGRES_EPOCH_US),
            )
        )
        request_id = _COLUMN_COUNT + _field(bytes.fromhex(self.request.request_id.replace("-", "")))
        columns = [output.tolist() for output in self.outputs]
        for number, entity in enumerate(self.request.entities):
            statuses = self.vectors.statuses[number]
            has_prediction = self.vectors.overall[number] is not EntityStatus.NO_FEATURES
            yield b"".join(
                (
                    request_id,
                    _field(entity.symbol.encode()),
                    common,
                    _field(self.vectors.values[number].astype("<f8", copy=False).tobytes()),
                    _field(statuses.tobytes()),
                    _field(_float8_array([column[number] for column in columns] if has_prediction else [])),
                    _field(_jsonb([_use(v, u) for v, u in zip(self.views, self.vectors.uses[number], strict=True)])),
                    _live_rows(entity.bars, entity.trades),
                )
            )


def _field(value: bytes) -> bytes:
    return _I32.pack(len(value)) + value


def _float8_array(values: list[float]) -> bytes:
    if not values:
        return struct.pack(">iii", 0, 0, _FLOAT8_OID)
    head = struct.pack(">iiiii", 1, 0, _FLOAT8_OID, len(values), 1)
    return head + b"".join(_F8_ELEMENT.pack(8, value) for value in values)


_encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _jsonb(value: Any) -> bytes:
    return b"\x01" + _encode_json(value).encode()


_ORIGINS = {origin: origin.name.lower() for origin in Origin}


def _use(view: tuple[str, int, str], use: ViewUse) -> dict[str, Any]:
    name, version, plan_hash = view
    described = {
        "view": name,
        "version": version,
        "plan_hash": plan_hash,
        "origin": _ORIGINS[use.origin],
        "event_us": use.event_us,
        "available_us": use.available_us,
        "sequence": use.sequence,
        "partial": use.partial,
        "state_event_us": use.state_event_us,
        "state_sequence": use.state_sequence,
        "rows_seen": use.rows_seen,
    }
    if use.splits:
        described["splits"] = use.splits
    return described


def _live_rows(bars: LiveBars | None, trades: LiveTrades | None) -> bytes:
    if bars is None and trades is None:
        return _NULL
    content: dict[str, Any] = {}
    if bars is not None:
        content["bars"] = {
            "start_us": bars.start_us,
            "event_us": bars.event_us,
            "available_us": bars.available_us,
            "split_ratio": None if bars.split_ratio is None else _exact(bars.split_ratio),
            **{name: _exact(column) for name, column in bars.columns.items()},
        }
    if trades is not None:
        content["trades"] = {
            "event_us": trades.event_us.tolist(),
            "available_us": trades.available_us.tolist(),
            "sequence": trades.sequence.tolist(),
            "price": _exact(trades.price.tolist()),
            "size": _exact(trades.size.tolist()),
        }
    return _field(_jsonb(content))


def _exact(column: list[float]) -> list[float | str]:
    # Shortest decimal forms come back from jsonb bit for bit; it has no NaN, infinity or negative zero.
    return [v if math.isfinite(v) and (v != 0.0 or math.copysign(1.0, v) > 0) else str(v) for v in column]


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
        self._refused = 0
        self._lost = 0
        self._connect = connect
        self._waiting_max = waiting_max
        self._queue: deque[ServedRequest] = deque()
        self._in_hand: list[ServedRequest] = []
        # Counts of vectors, each written by one thread only: put in by the loop, taken care of by the writer.
        self._offered = 0
        self._finished = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served log", daemon=True)
        self._reported = 0

    @property
    def dropped(self) -> int:
        """Vectors that were not logged: refused by a full queue, or by the database."""
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """Vectors that are not yet in the database."""
        return self._offered - self._finished

    def start(self) -> None:
        """Start the writer's thread."""
        self._thread.start()

    def offer(self, served: ServedRequest) -> None:
        """Queue a request's vectors, or drop and count them. Never waits."""
        count = len(served)
        if self.waiting + count > self._waiting_max:
            self._refused += count
        else:
            self._offered += count
            self._queue.append(served)

    def close(self, *, timeout_s: float) -> None:
        """Write what waits, for so long at most; the rest is dropped and counted."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._lost += self.waiting
        self._finished = self._offered
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
                count = sum(map(len, self._in_hand))
                while self._queue and count < _BATCH_ROWS_MAX:
                    self._in_hand.append(self._queue.popleft())
                    count += len(self._in_hand[-1])
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
                    logger.error("%d served vectors are refused by PostgreSQL: %s", count, error)  # noqa: TRY400
                    self._lost += count
                    _close_quietly(connection)
                    connection = None
                else:
                    self.written += count
                backoff_s = _BACKOFF_S_MIN
                self._in_hand = []
                self._finished += count
                self._report()
            if self._stopping.is_set():
                _close_quietly(connection)
                return

    def _report(self) -> None:
        if self.dropped > self._reported:
            logger.warning("%d served vectors were not logged, %d in all", self.dropped - self._reported, self.dropped)
            self._reported = self.dropped


def _write(connection: psycopg.Connection[Any], requests: list[ServedRequest]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE IF NOT EXISTS served_incoming (LIKE tapeline.served_vectors INCLUDING DEFAULTS)"
            " ON COMMIT DELETE ROWS"
        )
        with cursor.copy(f"COPY served_incoming ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            waiting: list[bytes] = [_COPY_HEAD]
            for number, served in enumerate(requests, 1):
                waiting += served.rows()
                if number % _REQUESTS_AT_A_STRETCH == 0:
                    copy.write(
                        b"".join(waiting)
                    )  # and hand the interpreter to the event loop, which should not wait long
                    waiting.clear()
            copy.write(b"".join((*waiting, _COPY_END)))
        # A retry of a request carries the same id and gets the same answer, which need not be kept twice. Another answer
        # under that id was served, too, and is to be replayed like any other. The key holds the time as well, for
        # hypertables, so it alone would keep both; an hour is long for a retry and short for a search.
        cursor.execute(
            f"INSERT INTO tapeline.served_vectors ({_COLUMNS})"
            f" SELECT DISTINCT ON ({_ANSWER}) {_COLUMNS} FROM served_incoming i"
            " WHERE NOT EXISTS (SELECT FROM tapeline.served_vectors s"
            " WHERE s.request_id = i.request_id AND s.entity = i.entity"
            " AND s.served_timestamp BETWEEN i.served_timestamp - interval '1 hour' AND i.served_timestamp"
            " AND (s.bundle_sha256, s.vector, s.statuses, s.prediction, s.views) ="
            " (i.bundle_sha256, i.vector, i.statuses, i.prediction, i.views)"
            " AND s.live_rows IS NOT DISTINCT FROM i.live_rows)"
            f" ORDER BY {_ANSWER}, served_timestamp ON CONFLICT DO NOTHING"
        )


def _close_quietly(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except psycopg.Error:
            pass
