"""A worker that lives but lost its partitions, a Redis that forgot, and what workers leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psycopg
import redis
from tapeline.streaming.leases import groups_of
from tapeline.streaming.producer import Producer, backlog
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, add_source, disordered, plan, raw_rows, require_same, trades

LEASE_MS = 500


def _worker(database: str, client: redis.Redis, partitions: int) -> Worker:
    stream = plan(partitions=partitions)
    return Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), lease_ms=LEASE_MS)


def _own(worker: Worker, partitions: int) -> None:
    deadline = time.monotonic() + 30
    while len(worker.leases.owned) < partitions:
        assert time.monotonic() < deadline
        worker.step(block_ms=2)


def test_a_worker_that_was_stopped_takes_nothing_from_its_successor(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=4)
        tape = disordered(3, 400, 0.01)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.streaming.role", database, redis_url, str(LEASE_MS), "2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            producer.send(tape.chosen(np.arange(100)))
            deadline = time.monotonic() + 30
            while backlog(client, stream, 0) + backlog(client, stream, 1) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGSTOP)
            producer.send(tape.chosen(np.arange(100, 200)))
            worker = _worker(database, client, 2)
            _own(worker, 2)
            worker.drain()
            os.kill(process.pid, signal.SIGCONT)  # it believes that it still owns both
            for start in range(200, 400, 20):
                producer.send(tape.chosen(np.arange(start, start + 20)))
                worker.step(block_ms=2)
                time.sleep(0.02)
            worker.drain()
            assert worker.leases.owned == {0, 1} or len(worker.leases.owned) == 1  # the other may have its share again
        finally:
            process.kill()
            process.wait()
        _own(worker, 2)
        worker.drain()
        sent = {
            (tape.symbols[r["symbol"]], int(r["event_us"]), int(r["sequence"])) for r in tape.records if not r["change"]
        }
        assert {(row[0], round(row[1].timestamp() * 1e6), row[2]) for row in raw_rows(connection)} == sent
        assert require_same(connection, client, stream)
        worker.close()


def test_a_worker_whose_leases_are_gone_begins_anew(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=4)
        tape = disordered(5, 300, 0.0)
        first = _worker(database, client, 2)
        _own(first, 2)
        producer.send(tape.chosen(np.arange(100)))
        first.step(block_ms=2)  # read and computed, and perhaps not yet written
        client.delete(*(first.leases.key(partition) for partition in range(2)))
        second = _worker(database, client, 2)
        while not second.leases.owned:
            second.step(block_ms=2)
        producer.send(tape.chosen(np.arange(100, 300)))
        deadline = time.monotonic() + 30
        while len(first.leases.owned | second.leases.owned) < 2 or any(backlog(client, stream, p) for p in range(2)):
            assert time.monotonic() < deadline
            first.step(block_ms=2)
            second.step(block_ms=2)
        for worker in (first, second):
            worker.flush()
        assert not first.leases.owned & second.leases.owned
        assert len(raw_rows(connection)) == 300
        assert require_same(connection, client, stream)
        first.close()
        second.close()


def test_a_redis_that_forgot_everything_is_filled_from_the_database(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        tape = trades(["A", "B", "C"], 300, seed=6)
        worker = _worker(database, client, 2)
        Producer(client, stream, block_events=4).send(tape.chosen(np.arange(150)))
        _own(worker, 2)
        worker.drain()
        client.flushall()
        Producer(client, stream, block_events=4).send(tape.chosen(np.arange(150, 300)))
        deadline = time.monotonic() + 30
        while len(raw_rows(connection)) < 300:
            assert time.monotonic() < deadline
            worker.step(block_ms=2)
        worker.drain()
        assert require_same(connection, client, stream)
        worker.close()


def test_a_redis_that_lost_its_last_entries_is_not_taken_for_whole(database: str, redis_url: str) -> None:
    """As after a crash with `appendfsync everysec`: the stream's end is gone, PostgreSQL has it, and new entries came since."""
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream, block_events=4)
        tape = trades(["A", "B"], 200, seed=8)
        worker = _worker(database, client, 1)
        _own(worker, 1)
        producer.send(tape.chosen(np.arange(60)))
        worker.drain()
        worker.close()
        before = {key: client.dump(key) for key in client.keys("*") if b"lease" not in key}
        worker = _worker(database, client, 1)
        _own(worker, 1)
        producer.send(tape.chosen(np.arange(60, 120)))
        worker.drain()
        worker.give_up()
        client.flushall()
        for key, value in before.items():
            client.restore(key, 0, value)
        producer.send(tape.chosen(np.arange(120, 200)))
        worker = _worker(database, client, 1)
        _own(worker, 1)
        worker.drain()
        assert len(raw_rows(connection)) == 200
        assert require_same(connection, client, stream)
        worker.close()


def test_groups_and_consumers_do_not_pile_up(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        for number in range(4):
            producer.send(trades(["A"], 5, seed=number, first=10 * number, first_us=10**15 + number * 10**9))
            worker = _worker(database, client, 1)
            _own(worker, 1)
            worker.drain()
            (worker.close if number % 2 else worker.give_up)()
            client.delete(worker.leases.key(0))
        [group] = groups_of(client, stream.events_key(0))
        assert group["consumers"] == 1
        assert group["pending"] + group["lag"] == 0
