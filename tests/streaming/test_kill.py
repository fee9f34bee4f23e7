"""Workers killed at any moment: the next one goes on exactly where they were."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import psycopg
import pytest
import redis
from tapeline.streaming import worker as streaming_worker
from tapeline.streaming.codec import Events
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import (
    FIRST_US,
    VIEWS,
    add_source,
    disordered,
    plan,
    raw_rows,
    require_same,
    trades,
    vanish,
)

LEASE_MS = 400
KILLS = 2


def _start(database: str, redis_url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.streaming.role", database, redis_url, str(LEASE_MS), "3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def test_a_killed_worker_loses_nothing_and_repeats_nothing(database: str, redis_url: str) -> None:
    rng = np.random.default_rng(11)
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=3)
        producer = Producer(client, stream, block_events=20)
        tape = disordered(7, 900, 0.01)
        pieces = np.array_split(np.arange(900), KILLS + 1)
        for piece in pieces[:-1]:
            process = _start(database, redis_url)
            try:
                for places in np.array_split(piece, 6):
                    producer.send(tape.chosen(places))
                    time.sleep(float(rng.uniform(0, 0.15)))
            finally:
                process.kill()
                process.wait()
        producer.send(tape.chosen(pieces[-1]))
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), lease_ms=LEASE_MS)
        deadline = time.monotonic() + 60
        while len(worker.leases.owned) < 3 and time.monotonic() < deadline:
            worker.step(block_ms=5)
        worker.drain()
        assert (
            sum(
                group["pending"] + group["lag"] for p in range(3) for group in client.xinfo_groups(stream.events_key(p))
            )
            == 0
        )
        keys = {(row[0], row[1], row[2]) for row in raw_rows(connection)}
        sent = {(s, int(r["event_us"]), int(r["sequence"])) for s, r in zip(
            [tape.symbols[i] for i in tape.records["symbol"]], tape.records, strict=True)
            if r["change"] == 0}  # fmt: skip
        assert len(keys) == len(sent)
        assert require_same(connection, client, stream)
        worker.close()


def test_partitions_move_to_a_worker_that_joins_and_back_when_it_ends(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=6)
        producer = Producer(client, stream)
        tape = disordered(8, 600, 0.0)

        def worker() -> Worker:
            return Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), lease_ms=400)

        def both(first: Worker, second: Worker, done: int) -> None:
            deadline = time.monotonic() + 30
            while (len(first.leases.owned), len(second.leases.owned)) != (done, 6 - done):
                assert time.monotonic() < deadline
                first.step(block_ms=1)
                second.step(block_ms=1)

        one = worker()
        producer.send(tape.chosen(np.arange(200)))
        one.drain()
        assert len(one.leases.owned) == 6
        two = worker()
        both(one, two, 3)
        producer.send(tape.chosen(np.arange(200, 400)))
        for each in (one, two):
            each.drain()
        one.close()
        producer.send(tape.chosen(np.arange(400, 600)))
        deadline = time.monotonic() + 30
        while len(two.leases.owned) < 6:
            assert time.monotonic() < deadline
            two.step(block_ms=1)
        two.drain()
        assert one.counters.taken + two.counters.taken == 600
        assert require_same(connection, client, stream)
        two.close()


def test_a_symbol_computed_again_holds_the_floor_where_its_kept_state_lags(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kept state lacks a row from before the late one that made it be computed again."""
    monkeypatch.setattr(streaming_worker, "KEEP_S", 1e9)  # states are kept when the test says so
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))

        def send(events: Events) -> None:
            producer.send(events)
            worker.drain()

        send(trades(["S", "T"], 60, seed=3))
        worker._hand_on_states(1 << 30)
        worker.flush()
        first_us = FIRST_US + 300_000_000
        send(trades(["S"], 1, seed=4, first_us=first_us, first=100))
        send(trades(["T"], 1, seed=5, first_us=first_us, first=200))
        send(trades(["S"], 1, seed=6, first_us=first_us - 60_000_000, first=300))
        assert worker.counters.late == 1
        worker._hand_on_states(1)
        worker.flush()
        vanish(worker)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        send(trades(["S", "T"], 60, seed=7, first_us=first_us + 60_000_000, first=400))
        worker.close()
        assert require_same(connection, client, stream)
