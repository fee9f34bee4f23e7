"""What a worker does behind its online values: a thread that writes rows to PostgreSQL, acknowledges entries and keeps states.

The worker hands on what each of its steps made, and never waits for it unless too much waits. The thread takes all that
waits, up to some rows, as one job: one transaction, then the acknowledgements of its entries, then the states that its rows
are contained in. So the slower the database, the larger its transactions.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from tapeline.core.errors import DiskFullError, InvalidDataError, TapelineError, UnavailableError
from tapeline.storage.raw import AppendCounts
from tapeline.streaming.batches import Batch, RawRows
from tapeline.streaming.breaker import Breaker
from tapeline.streaming.codec import EventKind
from tapeline.streaming.lane import Position, StateCopy
from tapeline.streaming.offline import write_batch
from tapeline.streaming.plan import StreamPlan

T = TypeVar("T")
JOB_ROWS = 20_000
"""Rows that are written together, if so many wait."""
GATHER_S = 0.05
"""How long rows wait for others to be written with."""
WAITING_BYTES_MAX = 256 << 20
"""A worker with more waits itself, and so, in the end, do producers."""
ATTEMPT_S = 60.0
"""A transaction that takes longer is given up and tried again: its server may have fallen silent."""
_REST_S = 0.05
_END_S = 10.0
_IDLE_S = 0.5


@dataclass
class Job:
    """What is written together, and what may be done once it stands.

    Attributes
    ----------
    batches
        By kind.
    epochs
        The worker's epoch of each partition.
    entries
        For each partition ids of entries that may be acknowledged then.
    copies
        States that may be kept then.
    floors
        For each partition up to where everything is contained in kept states, once these are.
    size
        Bytes, about.
    refused
        Rows that the database refused, with its reason.
    counts
        What the appends did with the raw rows.
    """

    batches: dict[EventKind, Batch] = field(default_factory=dict)
    epochs: Mapping[int, int] = field(default_factory=dict)
    entries: dict[int, list[bytes]] = field(default_factory=dict)
    copies: list[StateCopy] = field(default_factory=list)
    floors: dict[int, Position] = field(default_factory=dict)
    size: int = 0
    refused: list[tuple[EventKind, RawRows, str]] = field(default_factory=list)
    counts: AppendCounts = field(default_factory=AppendCounts)

    @property
    def rows(self) -> int:
        """Rows to write."""
        return sum(batch.rows for batch in self.batches.values())

    def add(self, other: Job) -> None:
        """Take in what was handed on after it."""
        for kind, batch in other.batches.items():
            if kind in self.batches:
                self.batches[kind].add(batch)
            else:
                self.batches[kind] = batch
        self.epochs = {**self.epochs, **other.epochs}
        for partition, ids in other.entries.items():
            self.entries.setdefault(partition, []).extend(ids)
        self.copies += other.copies
        self.floors |= other.floors
        self.size += other.size


class Behind:
    """Does jobs in the order in which they are given.

    Parameters
    ----------
    connect
        Opens a connection to the database.
    plan
        The stream.
    computed
        Kinds that features are computed from: their rows are written as they are or not at all.
    finish
        Called in the thread once a job's rows stand, again after an UnavailableError.
    between
        Called between jobs with the idle connection, some times a second.

    Attributes
    ----------
    done_s
        Time that the last job took, in seconds.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        plan: StreamPlan,
        computed: set[EventKind],
        finish: Callable[[Job], None],
        between: Callable[[psycopg.Connection[Any]], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._plan = plan
        self._computed = computed
        self._finish = finish
        self._between = between
        self._connection: psycopg.Connection[Any] | None = None
        self.breaker = Breaker("PostgreSQL")
        self.redis_breaker = Breaker("Redis")
        self.done_s = 0.0
        self._start()

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._waiting_bytes = 0
        self._busy = False
        self._attempt_s = 0.0
        self._hurry = False
        self._error: BaseException | None = None
        self._counts = AppendCounts()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream-behind", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Forget all jobs and errors, and begin anew."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the thread after the transaction under way; what waits is not written.

        One that a silent server holds up is left behind: should it ever be answered, its epoch is no longer the partition's.
        """
        self._ending.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout=_END_S)
        if self._thread.is_alive():
            self._cut()
            self._thread.join(timeout=_END_S)

    def watch(self) -> None:
        """Give up a transaction that takes too long; called now and then by another thread."""
        begun_s = self._attempt_s
        if begun_s and time.monotonic() - begun_s > ATTEMPT_S:
            self._cut()

    def _cut(self) -> None:
        """End the connection under the transaction: who waits for its answer gets an error."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as handle:
                handle.shutdown(socket.SHUT_RDWR)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait, or are being written."""
        return self._waiting_bytes

    def check(self) -> None:
        """Raise what ended the thread.

        Raises
        ------
        TapelineError
            If a job could not be done, for good.
        """
        if self._error is not None:
            raise self._error

    def put(self, job: Job) -> None:
        """Hand a job on; waits while too much waits."""
        with self._changed:
            while self._waiting_bytes > WAITING_BYTES_MAX and self._error is None:
                self._hurry = True
                self._changed.notify_all()
                self._changed.wait(0.1)
            self.check()
            self._jobs.append(job)
            self._waiting_bytes += job.size
            if len(self._jobs) == 1:
                self._changed.notify_all()

    def flush(self) -> AppendCounts:
        """Wait until everything given is done; returns what all appends since the last time did with raw rows."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while (self._jobs or self._busy) and self._error is None:
                self._changed.wait(0.1)
            self._hurry = False
            self.check()
            counts, self._counts = self._counts, AppendCounts()
        return counts

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._look_between()
                job = self._next()
                if job is None:
                    continue
                began = time.monotonic()
                for batch in job.batches.values():
                    batch.join()
                    self._write(job, batch)
                self._insist(self.redis_breaker, lambda: self._finish(job))  # noqa: B023
                self.done_s = time.monotonic() - began
                with self._changed:
                    self._busy = False
                    self._counts += job.counts
                    self._waiting_bytes -= job.size
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the worker's thread
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            self._drop_connection()

    def _next(self) -> Job | None:
        """All that waits, up to some rows; none at the end, or if nothing came for a while."""
        with self._changed:
            if not self._jobs and not self._ending.is_set():
                self._changed.wait(_IDLE_S)
            if not self._jobs:
                return None
            deadline = time.monotonic() + GATHER_S
            while not self._ending.is_set() and not self._hurry and self._rows_waiting() < JOB_ROWS:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._ending.is_set():
                return None
            job = self._jobs.popleft()
            rows = job.rows
            while self._jobs and rows < JOB_ROWS:
                more = self._jobs.popleft()
                rows += more.rows
                job.add(more)
            self._busy = True
            return job

    def _look_between(self) -> None:
        """What may fail fails: jobs say whether the database is there."""
        if self._connection is not None and not self._connection.closed:
            self._attempt_s = time.monotonic()
            try:
                self._between(self._connection)
            except psycopg.OperationalError:
                self._drop_connection()
            finally:
                self._attempt_s = 0.0

    def _rows_waiting(self) -> int:
        return sum(job.rows for job in self._jobs)

    def _write(self, job: Job, batch: Batch) -> None:
        try:
            counts = self._persist(job, batch)
        except InvalidDataError as error:
            if batch.kind in self._computed:
                raise
            counts = self._in_halves(job, batch, error)
        job.counts += counts or AppendCounts()

    def _in_halves(self, job: Job, batch: Batch, error: InvalidDataError) -> AppendCounts:
        """Several versions of one key, or a row that the table refuses: smaller and smaller pieces, each in its turn."""
        [rows] = batch.raw
        if len(rows) == 1:
            job.refused.append((batch.kind, rows, error.what))
            return AppendCounts()
        counts, half = AppendCounts(), len(rows) // 2
        for piece in (slice(half), slice(half, None)):
            part = Batch(batch.kind, batch.following, [rows.piece(piece)])
            try:
                counts += self._persist(job, part) or AppendCounts()
            except InvalidDataError as again:
                counts += self._in_halves(job, part, again)
        return counts

    def _persist(self, job: Job, batch: Batch) -> AppendCounts | None:
        return self._insist(self.breaker, lambda: self._attempt(job, batch))

    def _insist(self, breaker: Breaker, do: Callable[[], T]) -> T:
        """Do it until it is done: what waits is bounded, so nothing is lost by waiting."""
        while True:
            try:
                return breaker.call(do)
            except (UnavailableError, DiskFullError):
                self._drop_connection()
                if self._ending.wait(max(_REST_S, breaker.remaining_s)):
                    raise

    def _attempt(self, job: Job, batch: Batch) -> AppendCounts | None:
        self._attempt_s = time.monotonic()
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            return write_batch(self._connection, self._plan, batch, job.epochs)
        except psycopg.OperationalError as error:
            raise UnavailableError(f"PostgreSQL went away: {error}", where=self._plan.name) from error
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if self._connection is not None and not self._connection.closed:
                self._connection.rollback()
            raise InvalidDataError(f"the database refuses a row: {error}", where=batch.kind.name) from error
        except TapelineError:
            if self._connection is not None and not self._connection.closed:
                self._connection.rollback()
            raise
        finally:
            self._attempt_s = 0.0

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
