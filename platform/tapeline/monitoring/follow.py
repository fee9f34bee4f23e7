"""Continuous verification: goes along the log of served vectors as it is written, and keeps a journal of what it finds.

The log is read in the order of recording, up to the safe horizon: no row can appear any more before that, so none is passed
over. A step takes a bounded number of answers. Its findings and its position are one transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from tapeline.core.errors import AlreadyRunningError, TapelineError
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.vintage import safe_horizon
from tapeline.monitoring.consistency import Replay
from tapeline.monitoring.findings import ConsistencyReport
from tapeline.monitoring.journal import Job, Totals, backlog, open_job, prune, read_minutes, read_totals, record_step
from tapeline.monitoring.served import EVERYTHING, LogPosition, Sampling, read_recorded
from tapeline.monitoring.slo import WINDOWS_US, Objective
from tapeline.storage.retrying import is_transient

logger = logging.getLogger("tapeline.verify")

STEP_ROWS = 2_000
"""Vectors of a step: few enough that a signal to stop does not wait long."""
BACKLOG_COUNTED_MAX = 1_000_000
_LOOK_S = 5.0
_PRUNE_S = 600.0
_RESTS_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_TAKEN_S = 10.0
"""How long a killed process's connection may hold a job before this one gives up."""


@dataclass(frozen=True)
class FollowStatus:
    """How continuous verification stands.

    Attributes
    ----------
    totals
        What the job has found since it began; none before the first look at the journal.
    burn_rates
        By window.
    backlog
        Logged vectors that have not been looked at, up to `BACKLOG_COUNTED_MAX`.
    through_us
        Everything recorded by then has been looked at, microseconds UTC.
    connected
        Whether the last step reached the database.
    steps, seconds
        Of this process: steps that found answers, and the time they took.
    """

    totals: Totals | None = None
    burn_rates: dict[str, float] | None = None
    backlog: int = 0
    through_us: int = 0
    connected: bool = False
    steps: int = 0
    seconds: float = 0.0


class Follower:
    """Verifies answers as they are logged. One job is followed by one process at a time.

    Parameters
    ----------
    connect
        Opens a connection; called again whenever one is lost.
    name
        The job, under which the position is kept.
    sampling
        Which answers are verified.
    objective
        For burn rates.
    since_us
        Where a new job begins, microseconds UTC; none: with the log's beginning.
    delay_s
        How long after its recording an answer is verified: as long as rows that were online first take to be recorded.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        name: str,
        *,
        sampling: Sampling = EVERYTHING,
        objective: Objective | None = None,
        since_us: int | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.name = name
        self.objective = objective or Objective()
        self.status = FollowStatus()
        self._connect = connect
        self._sampling = sampling
        self._since_us = since_us
        self._delay = timedelta(seconds=delay_s)
        self._connection: psycopg.Connection[Any] | None = None
        self._job: Job | None = None
        self._replay: Replay | None = None
        self._looked_s = self._pruned_s = -1e9

    def run(self, stop: threading.Event, *, poll_s: float = 0.5, until_idle_s: float | None = None) -> FollowStatus:
        """Go on until told to stop, or until nothing has been logged for a while.

        While the database is away it is tried again, ever more rarely; what was under way is done again from the journal.

        Raises
        ------
        AlreadyRunningError
            If another process follows the job.
        UnknownNameError
            If an answer's model is not registered in this database.
        """
        failures = 0
        busy_s = time.monotonic()
        try:
            while not stop.is_set():
                try:
                    more = self.step()
                except (psycopg.Error, TapelineError) as error:
                    if not is_transient(error):
                        raise
                    self.close()
                    self.status = replace(self.status, connected=False)
                    logger.warning("verification waits for PostgreSQL: %s", " ".join(str(error).split()))
                    stop.wait(_RESTS_S[min(failures, len(_RESTS_S) - 1)])
                    failures += 1
                    continue
                failures = 0
                if more:
                    busy_s = time.monotonic()
                    continue
                if until_idle_s is not None and time.monotonic() - busy_s >= until_idle_s:
                    break
                stop.wait(poll_s)
            if self._connection is not None:
                self._look()
        finally:
            self.close()
        return self.status

    def step(self) -> bool:
        """Verify the next answers; false if there are none to verify yet.

        Raises
        ------
        UnavailableError, psycopg.OperationalError
            If the database is away; the step has then been done whole or not at all.
        """
        connection, job, replay = self._ready()
        until = self._settled(connection)
        found = False
        if until > job.position.created or (until == job.position.created and job.position.served is not None):
            began = time.perf_counter()
            found = self._take(connection, job, replay, until)
            if found:
                seconds = self.status.seconds + time.perf_counter() - began
                self.status = replace(self.status, steps=self.status.steps + 1, seconds=seconds)
        self.status = replace(self.status, connected=True)
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._look()
        return found

    def close(self) -> None:
        """Let go of the database; the next step takes it up again."""
        connection, self._connection, self._job, self._replay = self._connection, None, None, None
        if connection is not None:
            try:
                connection.close()
            except psycopg.Error:
                logger.debug("a lost connection could not be closed", exc_info=True)

    def _ready(self) -> tuple[psycopg.Connection[Any], Job, Replay]:
        if self._connection is None or self._job is None or self._replay is None:
            self.close()
            self._connection = self._connect()
            self._job = self._open(self._connection)
            self._replay = Replay(self._connection)
        return self._connection, self._job, self._replay

    def _open(self, connection: psycopg.Connection[Any]) -> Job:
        """Take the job. The server may not yet have noticed that a process which held it is gone."""
        deadline_s = time.monotonic() + _TAKEN_S
        while True:
            try:
                return open_job(connection, self.name, self._sampling, since_us=self._since_us)
            except AlreadyRunningError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)

    def _settled(self, connection: psycopg.Connection[Any]) -> datetime:
        """The last moment of recording that is verified now."""
        horizon = from_us(safe_horizon(connection))
        if not self._delay:
            return horizon
        with connection.transaction():
            row = connection.execute("SELECT clock_timestamp() - %s", (self._delay,)).fetchone()
        assert row is not None
        old_enough: datetime = row[0]
        return min(horizon, old_enough)

    def _take(self, connection: psycopg.Connection[Any], job: Job, replay: Replay, until: datetime) -> bool:
        report = ConsistencyReport()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            rows, position = read_recorded(connection, job.position, until, sampling=self._sampling, rows_max=STEP_ROWS)
            if rows:
                replay.forget()
                replay.check(rows, report)
                last_us = max(row.served_us for row in rows)
                moved = record_step(connection, job, position, report, last_us)
            else:  # nothing to write down: read again after a kill, it is still nothing
                moved = replace(job, position=position)
        self._job = moved
        self.status = replace(self.status, through_us=_us(position))
        return bool(rows)

    def _look(self) -> None:
        """Read the journal for what is shown."""
        connection, job, _ = self._ready()
        through_us = _us(job.position)
        totals = read_totals(connection, self.name)
        minutes = read_minutes(connection, self.name, through_us - max(WINDOWS_US.values()))
        self.status = replace(
            self.status,
            totals=totals,
            burn_rates=self.objective.burn_rates(minutes, through_us),
            backlog=backlog(connection, job.position, BACKLOG_COUNTED_MAX),
            through_us=through_us,
            connected=True,
        )
        self._looked_s = time.monotonic()
        if self._looked_s - self._pruned_s >= _PRUNE_S:
            prune(connection, job)
            self._pruned_s = self._looked_s


def _us(position: LogPosition) -> int:
    return to_us(position.created)
