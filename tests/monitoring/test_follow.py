"""Continuous verification: every sampled answer counts once, whatever is killed, late or away; and each cause is named."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.errors import AlreadyRunningError, ParameterError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.vintage import safe_horizon
from tapeline.monitoring import follow, journal
from tapeline.monitoring.consistency import verify
from tapeline.monitoring.findings import Cause, Mismatch
from tapeline.monitoring.follow import Follower
from tapeline.monitoring.journal import Totals, read_minutes, read_mismatches, read_totals
from tapeline.monitoring.served import LogPosition, Sampling, read_recorded
from tapeline.storage.feature_tables import append_rows

from tests.monitoring.log_world import STORED, VIEW, LogWorld, used
from tests.serving import world

ROOT = Path(__file__).resolve().parents[2]
WIDTH = len(VIEW.columns)
KILLS = 10


@pytest.fixture
def log(settings: Settings, connection: psycopg.Connection, tmp_path: Path) -> Iterator[LogWorld]:
    with redis.Redis.from_url(settings.redis_url) as store:
        yield LogWorld.make(settings, store, connection, tmp_path, ("AAA", "BBB"))


def follower_of(log: LogWorld, job: str = "test", **choices: object) -> Follower:
    url = log.settings.postgres_url
    return Follower(lambda: psycopg.connect(url, options="-c timezone=UTC"), job, **choices)


def caught_up(log: LogWorld, job: str = "test", **choices: object) -> Totals:
    """What the journal says after all that is logged has been verified."""
    time.sleep(0.02)  # past the safe horizon
    with closing(follower_of(log, job, **choices)) as follower:
        while follower.step():
            pass
    return read_totals(log.connection, job)


def newest(log: LogWorld, job: str = "test") -> Mismatch:
    return read_mismatches(log.connection, job, 1)[0]


def test_every_answer_counts_once_whatever_is_killed(log: LogWorld) -> None:
    """Followers are killed with SIGKILL while answers are logged; some of these are wrong, and counted once as well."""
    choose = random.Random(7)
    vector, view = log.online("AAA")
    vector[1] += 1.0
    log.answers_of_history(20)
    logged, wrong = 20, 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.monitoring.follower_role", str(log.settings.postgres_url), "killed", "7"],
        cwd=ROOT,
        env=world.environment(log.settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as followers:
        for _ in range(KILLS):
            print("another", file=followers.stdin)
            follower = int(followers.stdout.readline())
            try:
                before, deadline, more = verified_by("killed", log), time.monotonic() + 30, choose.randint(0, 4)
                while more >= 0:  # until it is at work, and a little longer
                    log.answers_of_history(20)
                    log.answer("AAA", vector=vector, view=view)
                    logged, wrong = logged + 21, wrong + 1
                    more -= verified_by("killed", log) > before
                    assert time.monotonic() < deadline
            finally:
                os.kill(follower, signal.SIGKILL)
    before = verified_by("killed", log)
    totals = caught_up(log, "killed")
    assert 0 < before < totals.vectors, "the killed ones left something to do"
    assert (totals.vectors, totals.of_cause(None)) == (logged, logged * WIDTH)
    assert totals.of_cause(Cause.UNKNOWN) == wrong
    minutes = read_minutes(log.connection, "killed")
    assert sum(count for (_, cause), count in minutes.items() if cause is None) == logged * WIDTH
    assert len(read_mismatches(log.connection, "killed", 10_000)) == wrong
    assert caught_up(log, "another").vectors == logged


def verified_by(job: str, log: LogWorld) -> int:
    with log.connection.transaction():
        found = log.connection.execute(
            "SELECT vectors FROM tapeline.verification_jobs WHERE job = %s", (job,)
        ).fetchone()
    return found[0] if found else 0


def test_a_transaction_that_commits_late_is_not_passed_over(log: LogWorld) -> None:
    """Its rows are stamped with its start, before rows that others committed and that were verified meanwhile."""
    log.answer("AAA")
    assert caught_up(log).vectors == 1
    with psycopg.connect(log.settings.postgres_url) as slow:
        log.answer("AAA", connection=slow)
        for _ in range(3):
            log.answer("BBB")
        assert caught_up(log).vectors == 1
        slow.commit()
        slow.execute("SELECT 1")
        slow.rollback()
    assert caught_up(log).vectors == 5


def test_batches_end_amid_answers_of_one_moment(log: LogWorld) -> None:
    """All answers of a transaction have one time of recording; neither rows nor bytes of a batch tear them apart."""
    log.answers_of_history(50)
    with log.connection.transaction():
        until = from_us(safe_horizon(log.connection) + 60_000_000)
    for limits in ({"rows_max": 7}, {"bytes_max": 1}, {"rows_max": 50}, {"bytes_max": 200}):
        position, seen = LogPosition(from_us(0)), []
        with log.connection.transaction():
            while True:
                rows, position = read_recorded(log.connection, position, until, **limits)
                seen += [row.request_id for row in rows]
                if position.served is None:
                    break
        assert len(seen) == len(set(seen)) == 50, limits
        assert position.created == until


def test_the_database_goes_away_and_comes_back(log: LogWorld) -> None:
    name = log.connection.info.dbname
    stop, follower = threading.Event(), follower_of(log)
    thread = threading.Thread(target=follower.run, args=(stop,), kwargs={"poll_s": 0.01})
    log.answers_of_history(30)
    thread.start()
    try:
        wait_for(lambda: follower.status.steps > 0)
        with psycopg.connect(log.settings.postgres_url.replace(name, "postgres"), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                (name, log.connection.info.backend_pid),
            )
            wait_for(lambda: not follower.status.connected)
            log.answers_of_history(30)
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: follower.status.steps > 1)
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert read_totals(log.connection, "test").vectors == 60


def wait_for(condition: object, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_has_one_follower(log: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_TAKEN_S", 0.0)
    with closing(follower_of(log)) as first, closing(follower_of(log)) as second:
        first.step()
        with pytest.raises(AlreadyRunningError, match="another process is verifying as job 'test'"):
            second.step()
        first.close()
        second.step()


def test_a_step_of_a_fenced_follower_is_undone(log: LogWorld) -> None:
    """Should the lock not have held, the position tells: nothing is counted twice."""
    log.answers_of_history(10)
    time.sleep(0.02)
    with closing(follower_of(log)) as follower:
        follower.step()
        log.answers_of_history(10)
        time.sleep(0.02)
        with log.connection.transaction():
            log.connection.execute("UPDATE tapeline.verification_jobs SET step = step + 1")
        with pytest.raises(AlreadyRunningError, match="has moved job 'test' on"):
            follower.step()
    assert read_totals(log.connection, "test").vectors == 10
    assert caught_up(log).vectors == 20


def test_sampling_takes_the_same_answers_every_time(log: LogWorld) -> None:
    log.answers_of_history(400)
    taken = {}
    with log.connection.transaction():
        until = from_us(safe_horizon(log.connection) + 60_000_000)
        for rate, seed in ((1.0, 0), (0.5, 0), (0.2, 0), (0.2, 1)):
            rows, _ = read_recorded(log.connection, LogPosition(from_us(0)), until, sampling=Sampling(rate, seed))
            taken[rate, seed] = {(row.request_id, row.entity) for row in rows}
    assert len(taken[1.0, 0]) == 400
    assert taken[0.2, 0] < taken[0.5, 0] < taken[1.0, 0]
    assert 140 < len(taken[0.5, 0]) < 260
    assert taken[0.2, 0] != taken[0.2, 1]
    limit = round(0.2 * 2**64)
    assert taken[0.2, 1] == {
        (request, entity)
        for request, entity in taken[1.0, 0]
        if int.from_bytes(
            hashlib.sha256((1).to_bytes(8, "big") + uuid.UUID(request).bytes + entity.encode()).digest()[:8], "big"
        )
        < limit
    }
    assert verify(log.connection, sampling=Sampling(0.2, 1)).vectors == len(taken[0.2, 1])
    assert caught_up(log, sampling=Sampling(0.2, 1)).vectors == len(taken[0.2, 1])
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ParameterError, match="sampling rate"):
            Sampling(wrong)


def test_a_new_job_begins_where_it_is_told(log: LogWorld) -> None:
    log.answer("AAA")
    time.sleep(0.02)
    since_us = to_us(log.connection.execute("SELECT clock_timestamp()").fetchone()[0])
    log.connection.rollback()
    log.answer("BBB")
    assert caught_up(log, since_us=since_us).vectors == 1
    assert caught_up(log, since_us=0).vectors == 1, "a job that exists goes on"
    assert caught_up(log, "all").vectors == 2


def test_answers_wait_for_their_delay(log: LogWorld) -> None:
    log.answer("AAA")
    assert caught_up(log, delay_s=60.0).vectors == 0
    assert caught_up(log, delay_s=0.0).vectors == 1


@pytest.mark.parametrize("recorded", ["late row", "correction", "lag"])
def test_what_is_recorded_is_named(log: LogWorld, recorded: str) -> None:
    """Of each difference entity, time, feature, both values, and the recorded row that explains it."""
    vector, view = log.online("AAA")
    if recorded == "lag":  # computed before the answer, and never materialized
        log.record("AAA", STORED)
    request = log.answer("AAA", vector=vector, view=view)
    if recorded == "late row":
        log.record("AAA", STORED, available_us=world.NOW_US - 1)
    elif recorded == "correction":
        log.record("AAA", STORED - 1, close=1.001, available_us=world.NOW_US - 1)
    totals = caught_up(log)
    assert totals.vectors == 1
    assert {cause for (_, cause), count in totals.counts.items() if count} == {None, Cause(recorded)}
    found = newest(log)
    column = VIEW.columns.index(found.feature)
    event, available, created, value = log.connection.execute(
        f"SELECT event_timestamp, available_timestamp, created_timestamp, {found.feature} FROM features.{VIEW.table}"
        " WHERE symbol = 'AAA' ORDER BY event_timestamp DESC, sequence DESC, available_timestamp DESC LIMIT 1"
    ).fetchone()
    assert (found.request_id, found.entity, found.cause) == (str(request), "AAA", Cause(recorded))
    assert (found.served, found.expected) == (vector[column], value)
    assert (found.used.event_us, found.used.available_us) == (view["event_us"], view["available_us"])
    assert (found.recorded.event_us, found.recorded.available_us) == (to_us(event), to_us(available))
    assert found.recorded.created_us == to_us(created)
    assert (found.recorded.created_us <= found.served_us) == (recorded == "lag")


def test_other_kernels_and_corrupted_values(log: LogWorld) -> None:
    vector, view = log.online("AAA")
    vector[0] = np.nextafter(vector[0], 1e9)
    log.answer("AAA", vector=vector, view=view | {"plan_hash": "f" * 64})
    assert caught_up(log).of_cause(Cause.VERSION) == 1
    log.answer("AAA", vector=vector, view=view)
    totals = caught_up(log)
    assert (totals.of_cause(Cause.VERSION), totals.of_cause(Cause.UNKNOWN)) == (1, 1)
    found = newest(log)
    assert (found.feature, found.served, found.cause) == (VIEW.columns[0], vector[0], Cause.UNKNOWN)


def test_the_log_of_another_database_is_refused_by_name(log: LogWorld) -> None:
    log.bundle = "e" * 64
    log.answer("AAA")
    with pytest.raises(Exception, match="unknown bundle 'eeee"):
        caught_up(log)


def _stream(log: LogWorld, event_us: int, values: np.ndarray, *, available_us: int | None = None) -> None:
    """Record a feature row as a stream's worker does, after it was online."""
    with log.connection.cursor() as cursor:
        import pyarrow as pa

        append_rows(
            cursor, VIEW, pa.array(["AAA"]), np.array([event_us]), np.array([0]), np.array([available_us or event_us]),
            np.array([False]), values[np.newaxis],
        )  # fmt: skip
    log.connection.commit()


def test_rows_that_were_online_before_they_were_recorded(log: LogWorld) -> None:
    """A stream's values are served before PostgreSQL has them. Right ones do not differ; those that are behind lag."""
    first_us, second_us = world.NOW_US - 2_000_000, world.NOW_US - 1_000_000
    one, two = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 3.5])
    log.answer("AAA", vector=one, view=used(first_us, 0, first_us), request_us=first_us + 1)
    log.answer("AAA", vector=one, view=used(first_us, 0, first_us))
    log.answer("AAA", vector=two, view=used(second_us, 0, second_us))
    log.answer("AAA", vector=two + 1, view=used(second_us, 0, second_us))
    log.answer("AAA", vector=two, view=used(second_us, 0, second_us), request_us=second_us - 1)
    _stream(log, first_us, one)
    _stream(log, second_us, two)
    totals = caught_up(log)
    assert {cause: totals.of_cause(cause) for cause in Cause if totals.of_cause(cause)} == {
        Cause.LAG: 2,  # the second answer: two of three features
        Cause.UNKNOWN: 3 + 3,  # values that nobody recorded, and a row of after the request
    }
    lag = next(each for each in read_mismatches(log.connection, "test", 10) if each.cause is Cause.LAG)
    assert (lag.used.event_us, lag.recorded.event_us) == (first_us, second_us)


def test_a_streamed_row_that_was_corrected(log: LogWorld) -> None:
    first_us = world.NOW_US - 2_000_000
    one, two = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])
    log.answer("AAA", vector=one, view=used(first_us, 0, first_us))
    _stream(log, first_us, one)
    _stream(log, first_us, two, available_us=first_us + 10)
    assert Counter(dict(caught_up(log).counts))[f"{VIEW.name}@1", Cause.CORRECTION] == 1


def test_a_row_that_was_past_its_time_to_live(log: LogWorld) -> None:
    """It was served although the rule takes nothing: no lag excuses that."""
    old_us = world.NOW_US - VIEW.ttl_us - 1
    values = np.array([1.0, 2.0, 3.0])
    log.answer("NEW", vector=values, view=used(old_us, 0, old_us))
    assert caught_up(log).of_cause(Cause.UNKNOWN) == 3


def test_what_is_kept_has_a_limit(log: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MISMATCHES_KEPT_MAX", 5)
    vector, view = log.online("AAA")
    for _ in range(4):
        log.answer("AAA", vector=vector + 1, view=view)
    caught_up(log)
    with log.connection.transaction():
        log.connection.execute(
            "INSERT INTO tapeline.verification_minutes VALUES ('test', now() - interval '41 days', 'compared', 9)"
        )
    with closing(follower_of(log)) as follower:
        follower.step()  # a new process tidies up first
    assert len(read_mismatches(log.connection, "test", 100)) == 5
    assert read_totals(log.connection, "test").of_cause(Cause.UNKNOWN) == 12
    assert len({minute for minute, _ in read_minutes(log.connection, "test")}) <= 2
