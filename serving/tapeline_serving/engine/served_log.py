"""The log of served vectors: a bounded queue and a thread that writes it to PostgreSQL.

A request only appends its encoded rows to a deque: a thread that encoded them would take the interpreter from the event
loop at every turn. If the database is slower or away, the queue fills up to its limit; after that vectors
are dropped and counted, because answering is worth more than logging, and a hole that is known can be reported.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from tapeline.core.errors import TapelineError

from tapeline_serving.engine.served_rows import COLUMNS, COPY_END, COPY_HEAD

logger = logging.getLogger("tapeline.serving.log")

_BATCH_ROWS_MAX = 5_000
_BATCH_BYTES_MAX = 16 << 20
_QUEUE_BYTES_MAX = 256 << 20
_BATCH_WAIT_S = 0.2
_BACKOFF_S_MIN = 0.1
_BACKOFF_S_MAX = 5.0
_PASSING = {"08", "40", "53", "55", "57", "58"}
"""Classes of SQLSTATE that may pass: connection, rollback, resources, locks, intervention, system."""
_ANSWER = "request_id, entity, bundle_sha256, vector, statuses, prediction, views, live_rows"


class _Encoded(NamedTuple):
    """A request's rows in PostgreSQL's form."""

    may_be_retry: bool
    rows: list[bytes]
    size: int


class ServedLog:
    """Writes served vectors in the background.

    ``has_room`` and ``put`` belong to the event loop, everything else to the writer's thread; the counters are read from
    anywhere.

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
        self._queue: deque[_Encoded] = deque()
        self._in_hand: list[_Encoded] = []
        # Counts of vectors, each written by one thread only: put in by the loop, taken care of by the writer.
        self._offered = 0
        self._finished = 0
        self._bytes_in = 0
        self._bytes_out = 0
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

    def has_room(self, count: int) -> bool:
        """Whether so many vectors can be queued; if not, they are counted as dropped."""
        if self.waiting + count > self._waiting_max or self._bytes_in - self._bytes_out > _QUEUE_BYTES_MAX:
            self._refused += count
            return False
        return True

    def drop(self, count: int) -> None:
        """Count vectors that could not be encoded."""
        self._refused += count

    def put(self, rows: list[bytes], *, may_be_retry: bool) -> None:
        """Queue a request's rows. Never waits."""
        size = sum(map(len, rows))
        self._offered += len(rows)
        self._bytes_in += size
        self._queue.append(_Encoded(may_be_retry, rows, size))

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
        again = singly = False
        while True:
            # Batches by time rather than by signal: a signal per request would wake this thread, and through the
            # interpreter lock disturb the loop, thousands of times a second.
            self._wake.wait(_BATCH_WAIT_S)
            while self._in_hand or self._queue:
                if not self._in_hand:
                    self._take_in_hand()
                    again = singly = False
                part = self._in_hand[:1] if singly else self._in_hand
                try:
                    connection = connection or self._connect()
                    _write(connection, part, again=again)
                except (psycopg.Error, TapelineError) as error:
                    if not _is_refusal(error):
                        _close_quietly(connection)
                        connection, again = None, True
                        if self._stopping.is_set():
                            logger.warning("the log of served vectors cannot be flushed: %s", error)
                            return
                        logger.warning("the log of served vectors waits for PostgreSQL: %s", str(error).strip())
                        self._stopping.wait(backoff_s)
                        backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)
                        continue
                    if len(part) > 1:  # one request's rows are at fault: find it, and let the others pass
                        singly = True
                        continue
                    logger.error("a request's served vectors are refused by PostgreSQL: %s", error)  # noqa: TRY400
                    self._lost += len(part[0].rows)
                else:
                    self.written += sum(len(request.rows) for request in part)
                backoff_s = _BACKOFF_S_MIN
                self._finished += sum(len(request.rows) for request in part)
                self._bytes_out += sum(request.size for request in part)
                self._in_hand = self._in_hand[len(part) :]
                self._report()
            if self._stopping.is_set():
                _close_quietly(connection)
                return

    def _take_in_hand(self) -> None:
        """What is to be written together, in one transaction and from one piece of memory."""
        count = size = 0
        while self._queue and count < _BATCH_ROWS_MAX and size < _BATCH_BYTES_MAX:
            request = self._queue.popleft()
            self._in_hand.append(request)
            count += len(request.rows)
            size += request.size

    def _report(self) -> None:
        if self.dropped > self._reported:
            logger.warning("%d served vectors were not logged, %d in all", self.dropped - self._reported, self.dropped)
            self._reported = self.dropped


def _write(connection: psycopg.Connection[Any], requests: list[_Encoded], *, again: bool) -> None:
    """Write requests in one transaction; ``again``: their last one may have been committed without our knowing."""
    new = [row for request in requests if not (again or request.may_be_retry) for row in request.rows]
    known = [row for request in requests if again or request.may_be_retry for row in request.rows]
    with connection.transaction(), connection.cursor() as cursor:
        if new:
            _copy(cursor, "tapeline.served_vectors", new)
        if known:
            _write_unless_there(cursor, known)


def _copy(cursor: psycopg.Cursor[Any], table: str, rows: list[bytes]) -> None:
    with cursor.copy(f"COPY {table} ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"".join((COPY_HEAD, *rows, COPY_END)))


def _write_unless_there(cursor: psycopg.Cursor[Any], rows: list[bytes]) -> None:
    """Leave out what is in the table already.

    A retry of a request carries the same id and gets the same answer, which need not be kept twice. Another answer under that
    id was served, too, and is to be replayed like any other. The key holds the time as well, for hypertables, so it alone
    would keep both; an hour is long for a retry and short for a search.
    """
    cursor.execute(
        "CREATE TEMP TABLE IF NOT EXISTS served_incoming (LIKE tapeline.served_vectors INCLUDING DEFAULTS)"
        " ON COMMIT DELETE ROWS"
    )
    _copy(cursor, "served_incoming", rows)
    # Each row is looked up by its id. The planner knows nothing of the temporary table and would rather read the whole log.
    cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off")
    cursor.execute(
        f"INSERT INTO tapeline.served_vectors ({COLUMNS})"
        f" SELECT DISTINCT ON ({_ANSWER}) {COLUMNS} FROM served_incoming i"
        " WHERE NOT EXISTS (SELECT FROM tapeline.served_vectors s"
        " WHERE s.request_id = i.request_id AND s.entity = i.entity"
        " AND s.served_timestamp BETWEEN i.served_timestamp - interval '1 hour' AND i.served_timestamp"
        " AND (s.bundle_sha256, s.vector, s.statuses, s.prediction, s.views) ="
        " (i.bundle_sha256, i.vector, i.statuses, i.prediction, i.views)"
        " AND s.live_rows IS NOT DISTINCT FROM i.live_rows)"
        f" ORDER BY {_ANSWER}, served_timestamp ON CONFLICT DO NOTHING"
    )


def _is_refusal(error: Exception) -> bool:
    """Whether PostgreSQL is there and will not take these rows, whatever happens."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return code is not None and code[:2] not in _PASSING


def _close_quietly(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except psycopg.Error:
            pass
