"""A network that is slow, resets connections or falls silent: nothing hangs, nothing grows without bound, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tapeline.core.errors import UnavailableError
from tapeline.streaming import behind
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, add_source, plan, raw_rows, require_same, trades
from tests.support.proxy import Proxy
from tests.support.session import SessionServers

TIMEOUT_S = 0.5


@pytest.fixture
def proxy(servers: SessionServers, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path / "redis", servers.place.valkey_socket)
    yield made
    made.close()


@pytest.fixture
def postgres_proxy(servers: SessionServers, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path / ".s.PGSQL.5432", servers.place.postgres_run / ".s.PGSQL.5432")
    yield made
    made.close()


def _through(tmp_path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(tmp_path / "redis"), socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))


def test_a_worker_goes_on_after_each_fault_of_its_redis(
    database: str, redis_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=8)
        tape = trades(["A", "B", "C"], 400, seed=12)

        def start() -> Worker:
            through = _through(tmp_path)
            return Worker(stream, VIEWS, redis=through, connect=lambda: psycopg.connect(database), lease_ms=400)

        def gone(worker: Worker) -> float:
            """Seconds until the worker says that Redis is away, and has ended."""
            began = time.monotonic()
            with pytest.raises(UnavailableError):
                worker.run(lambda: False)
            worker.give_up()
            return time.monotonic() - began

        worker = start()
        for number, fault in enumerate(("reset", "silent", "slow")):
            producer.send(tape.chosen(np.arange(100 * number, 100 * number + 100)))
            deadline = time.monotonic() + 30
            while not worker.counters.taken and time.monotonic() < deadline:
                worker.step(block_ms=2)
            if fault == "reset":
                proxy.reset()
                assert gone(worker) < 10 * TIMEOUT_S
                worker = start()
            elif fault == "silent":
                proxy.mode = "silent"
                assert gone(worker) < 10 * TIMEOUT_S
                proxy.mode = "whole"
                worker = start()
            else:
                proxy.mode = "slow"
        producer.send(tape.chosen(np.arange(300, 400)))
        deadline = time.monotonic() + 60
        while len(raw_rows(connection)) < 400:
            assert time.monotonic() < deadline
            worker.step(block_ms=5)
        proxy.mode = "whole"
        worker.drain()
        assert require_same(connection, client, stream)
        worker.close()


def test_a_producer_says_in_time_that_redis_is_silent(redis_url: str, proxy: Proxy, tmp_path: Path) -> None:
    producer = Producer(_through(tmp_path), plan(partitions=1))
    tape = trades(["A"], 10, seed=1)
    producer.send(tape)
    proxy.mode = "silent"
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            producer.send(tape)
        assert time.monotonic() - began < 4 * TIMEOUT_S
    assert producer.breaker.opened
    proxy.mode = "whole"


def test_a_silent_database_holds_online_values_up_only_when_too_much_waits(
    database: str, redis_url: str, postgres_proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "ATTEMPT_S", 1.0)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    through = f"postgresql://tapeline@/{name}?host={tmp_path}"
    quiet = [False]

    def connect() -> psycopg.Connection:
        if quiet[0]:
            raise UnavailableError("no connection now")
        return psycopg.connect(through)

    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream, block_events=8)
        tape = trades(["A", "B"], 300, seed=4)
        worker = Worker(stream, VIEWS, redis=client, connect=connect, lease_ms=400)
        while not worker.leases.owned:
            worker.step(block_ms=2)
        producer.send(tape.chosen(np.arange(100)))
        worker.drain()
        postgres_proxy.mode = "silent"
        quiet[0] = True
        producer.send(tape.chosen(np.arange(100, 200)))
        began = time.monotonic()
        while worker.counters.taken + worker.counters.recorded < 200:
            worker.step(block_ms=2)
        assert time.monotonic() - began < 5  # online all the same
        while not worker.behind.breaker.opened:
            worker.step(block_ms=2)
            assert time.monotonic() - began < 30  # the silent transaction was given up
        assert len(raw_rows(connection)) == 100
        postgres_proxy.mode = "whole"
        quiet[0] = False
        producer.send(tape.chosen(np.arange(200, 300)))
        while len(raw_rows(connection)) < 300:
            worker.step(block_ms=2)
            assert time.monotonic() - began < 60
        worker.drain()
        assert require_same(connection, client, stream)
        worker.close()
