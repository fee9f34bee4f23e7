"""The journal of continuous verification in PostgreSQL: the position in the log, counts, minutes, and the newest differences.

A step's counts are written in the transaction that moves the position, so each answer that is sampled counts once, whatever
is killed when.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tapeline.core.errors import AlreadyRunningError, UnknownNameError
from tapeline.core.timestamps import EPOCH, MINUTE_US, from_us, to_us
from tapeline.monitoring.findings import Cause, ConsistencyReport, Mismatch, RowPlace
from tapeline.monitoring.served import LogPosition, Sampling

COMPARED = "compared"
DAYS_KEPT = 40
"""Days of minutes that are kept."""
MISMATCHES_KEPT_MAX = 10_000
"""Differences of a job that are kept."""
_LOCK = "SELECT pg_try_advisory_lock(hashtext('tapeline:verification'), hashtext(%s))"


@dataclass(frozen=True)
class Job:
    """A job as far as it came.

    Attributes
    ----------
    name
        What it is called.
    sampling
        Which answers it looks at.
    position
        Everything up to here has been looked at.
    step
        How many steps it took.
    """

    name: str
    sampling: Sampling
    position: LogPosition
    step: int


@dataclass(frozen=True)
class Totals:
    """What a job has found since it began.

    Attributes
    ----------
    vectors
        Answers' vectors compared.
    counts
        Values by view and cause; cause ``None``: all that were compared.
    through_us
        Everything recorded by then has been looked at, microseconds UTC.
    last_served_us
        When the newest vector that was compared had been served; none: there was none yet.
    sampling
        Which answers it looks at.
    """

    vectors: int
    counts: Counter[tuple[str, Cause | None]]
    through_us: int
    last_served_us: int | None
    sampling: Sampling

    def of_cause(self, cause: Cause | None) -> int:
        """Values of a cause in all views."""
        return sum(count for (_, of), count in self.counts.items() if of is cause)


def open_job(connection: psycopg.Connection[Any], name: str, sampling: Sampling, *, since_us: int | None = None) -> Job:
    """Take a job up where it stands, or begin it; nobody else can until the connection ends.

    Parameters
    ----------
    connection
        Idle.
    name
        The job.
    sampling
        Which answers are looked at from now on.
    since_us
        Where a new job begins: with what was recorded from this moment on; none: with the log's beginning.

    Raises
    ------
    AlreadyRunningError
        If another process works on the job.
    """
    with connection.transaction():
        free = connection.execute(_LOCK, (name,)).fetchone()
    if not free or not free[0]:
        raise AlreadyRunningError(
            f"another process is verifying as job {name!r}", remedy="Let it go on, or give this one another --job"
        )
    first = EPOCH if since_us is None else from_us(since_us - 1)
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO tapeline.verification_jobs AS j (job, sample_rate, sample_seed, created_position)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (job) DO UPDATE"
            " SET sample_rate = excluded.sample_rate, sample_seed = excluded.sample_seed"
            " RETURNING created_position, served_position, request_position::text, entity_position, step",
            (name, sampling.rate, sampling.seed, first),
        ).fetchone()
    assert row is not None
    return Job(name, sampling, LogPosition(*row[:4]), row[4])


def record_step(
    connection: psycopg.Connection[Any],
    job: Job,
    position: LogPosition,
    report: ConsistencyReport,
    last_served_us: int | None,
) -> Job:
    """Write what a step found and where it ended, in the caller's transaction.

    Raises
    ------
    AlreadyRunningError
        If another process has moved the job on since; the transaction has to be rolled back.
    """
    moved = connection.execute(
        "UPDATE tapeline.verification_jobs SET created_position = %s, served_position = %s, request_position = %s,"
        " entity_position = %s, step = step + 1, vectors = vectors + %s, updated_timestamp = now(),"
        " last_served = greatest(last_served, %s) WHERE job = %s AND step = %s",
        (
            *position,
            report.vectors,
            None if last_served_us is None else from_us(last_served_us),
            job.name,
            job.step,
        ),
    )
    if moved.rowcount != 1:
        raise AlreadyRunningError(
            f"another process has moved job {job.name!r} on", remedy="Let it go on, or give this one another --job"
        )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tapeline.verification_counts AS c (job, view, cause, value_count) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (job, view, cause) DO UPDATE SET value_count = c.value_count + excluded.value_count",
            [(job.name, view, cause or COMPARED, count) for (view, cause), count in report.by_view.items()],
        )
        cursor.executemany(
            "INSERT INTO tapeline.verification_minutes AS c (job, minute, cause, value_count) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (job, minute, cause) DO UPDATE SET value_count = c.value_count + excluded.value_count",
            [
                (job.name, from_us(minute), cause or COMPARED, count)
                for (minute, cause), count in report.by_minute.items()
            ],
        )
        cursor.executemany(
            "INSERT INTO tapeline.verification_mismatches (job, request_id, entity, view, version, feature,"
            " served_timestamp, request_timestamp, origin, served, expected, cause, used, recorded)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [_row(job.name, each) for each in report.mismatches],
        )
    return Job(job.name, job.sampling, position, job.step + 1)


def prune(connection: psycopg.Connection[Any], job: Job) -> None:
    """Remove minutes and differences beyond what is kept."""
    with connection.transaction():
        connection.execute(
            "DELETE FROM tapeline.verification_minutes WHERE job = %s AND minute < now() - make_interval(days => %s)",
            (job.name, DAYS_KEPT),
        )
        connection.execute(
            "DELETE FROM tapeline.verification_mismatches WHERE job = %(job)s AND id < (SELECT id FROM"
            " tapeline.verification_mismatches WHERE job = %(job)s ORDER BY id DESC OFFSET %(kept)s LIMIT 1)",
            {"job": job.name, "kept": MISMATCHES_KEPT_MAX - 1},
        )


def read_totals(connection: psycopg.Connection[Any], job: str) -> Totals:
    """What a job has found since it began.

    Raises
    ------
    UnknownNameError
        If there is no such job.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT vectors, created_position, last_served, sample_rate, sample_seed FROM tapeline.verification_jobs"
            " WHERE job = %s",
            (job,),
        ).fetchone()
        if row is None:
            known = connection.execute("SELECT job FROM tapeline.verification_jobs ORDER BY job").fetchall()
            raise UnknownNameError("verification job", job, [name for (name,) in known])
        counts = connection.execute(
            "SELECT view, cause, value_count FROM tapeline.verification_counts WHERE job = %s", (job,)
        ).fetchall()
    vectors, through, last_served, rate, seed = row
    return Totals(
        vectors,
        Counter({(view, _cause(cause)): count for view, cause, count in counts}),
        to_us(through),
        None if last_served is None else to_us(last_served),
        Sampling(rate, seed),
    )


def read_minutes(
    connection: psycopg.Connection[Any], job: str, since_us: int | None = None
) -> Counter[tuple[int, Cause | None]]:
    """Values by the minute in which they were served (microseconds UTC) and cause; ``None``: all that were compared."""
    since = EPOCH if since_us is None else from_us(since_us - since_us % MINUTE_US)
    with connection.transaction():
        rows = connection.execute(
            "SELECT minute, cause, value_count FROM tapeline.verification_minutes WHERE job = %s AND minute >= %s",
            (job, since),
        ).fetchall()
    return Counter({(to_us(minute), _cause(cause)): count for minute, cause, count in rows})


def read_mismatches(connection: psycopg.Connection[Any], job: str, limit: int) -> list[Mismatch]:
    """The newest differences that a job has recorded, the newest first."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT request_id::text, entity, view, version, feature, served_timestamp, request_timestamp, origin, served,"
            " expected, cause, used, recorded FROM tapeline.verification_mismatches WHERE job = %s"
            " ORDER BY id DESC LIMIT %s",
            (job, limit),
        ).fetchall()
    return [_mismatch(*row) for row in rows]


def backlog(connection: psycopg.Connection[Any], position: LogPosition, count_max: int) -> int:
    """Logged vectors after a position, sampled or not, counted up to a limit."""
    with connection.transaction():
        row = connection.execute(
            "SELECT count(*) FROM (SELECT FROM tapeline.served_vectors WHERE created_timestamp >= %(created)s AND"
            " (created_timestamp > %(created)s OR (served_timestamp, request_id, entity)"
            " > (%(served)s, %(request)s::uuid, %(entity)s)) LIMIT %(limit)s) AS waiting",
            {
                "created": position.created,
                "served": position.served,
                "request": position.request_id,
                "entity": position.entity,
                "limit": count_max,
            },
        ).fetchone()
    return int(row[0]) if row else 0


def _cause(text: str) -> Cause | None:
    return None if text == COMPARED else Cause(text)


def _row(job: str, found: Mismatch) -> tuple[Any, ...]:
    return (
        job, found.request_id, found.entity, found.view, found.version, found.feature, from_us(found.served_us),
        from_us(found.request_us), found.origin, found.served, found.expected, found.cause.value,
        Jsonb(asdict(found.used)), Jsonb(asdict(found.recorded)),
    )  # fmt: skip


def _mismatch(
    request_id: str,
    entity: str,
    view: str,
    version: int,
    feature: str,
    served: datetime,
    request: datetime,
    origin: str,
    value: float,
    expected: float,
    cause: str,
    used: dict[str, int | None],
    recorded: dict[str, int | None],
) -> Mismatch:
    return Mismatch(
        request_id, entity, view, version, feature, to_us(served), to_us(request), origin, value, expected,
        Cause(cause), RowPlace(**used), RowPlace(**recorded),
    )  # fmt: skip
