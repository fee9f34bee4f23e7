"""What changes while a worker runs: actions that are recorded, rows that retention dropped, keys that come twice."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import psycopg
import pytest
import redis
from tapeline.compute import backfill
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us
from tapeline.streaming import actions
from tapeline.streaming.codec import EventKind, make_events
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import (
    BARS,
    EACH,
    FIRST_US,
    VIEWS,
    add_source,
    newest_rows,
    plan,
    raw_rows,
    recomputed,
    require_online,
    require_same,
    table_rows,
    trades,
)


@pytest.mark.parametrize(("at_minutes", "known_minutes"), [(2, -60), (8, -60), (2, 9)])
def test_a_split_that_is_recorded_while_a_worker_runs_is_taken_in(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, at_minutes: int, known_minutes: int
) -> None:
    """In effect and known already, in effect later, known later: the same rows as a back-fill either way."""
    monkeypatch.setattr(actions, "LOOK_S", 0.05)
    views = (
        BARS,
        EACH,
    )  # a split moves the ends of volume bars: those that were seen before it was recorded stay beside the others
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=9)
        tape = trades(["A", "B"], 800, seed=5)
        worker = Worker(stream, views, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(250)))
        worker.drain()
        while worker._actions._since is None:  # it has begun to look
            worker.step(block_ms=2)
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
                " VALUES ('A', 'split', %s, %s, 2, 'x')",
                (from_us(FIRST_US + at_minutes * MINUTE_US), from_us(FIRST_US + known_minutes * MINUTE_US)),
            )
        deadline = time.monotonic() + 20
        taken: list[actions.NewAction] = []
        take_in = worker.processor.repairs.take_in
        monkeypatch.setattr(worker.processor.repairs, "take_in", lambda new: (taken.extend(new), take_in(new)))
        while not taken:
            assert time.monotonic() < deadline
            worker.step(block_ms=2)
        producer.send(tape.chosen(np.arange(250, 800)))
        worker.drain()
        assert worker.counters.repairs >= 1
        worker.close()
        for spec in views:
            assert backfill(connection, spec).rows_added == 0
            require_online(connection, client, stream, spec)
        streamed = {spec.name: newest_rows(connection, spec) for spec in views}
        recomputed(connection, views)
        assert {spec.name: newest_rows(connection, spec) for spec in views} == streamed


def test_rows_from_before_what_retention_dropped_are_refused(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.retention_horizons (table_name, dropped_before, refused_before)"
                " VALUES ('tapeline.trades', %s, %s)",
                (from_us(FIRST_US), from_us(FIRST_US)),
            )
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(trades(["A", "B"], 20, seed=2, first_us=FIRST_US - DAY_US))
        producer.send(trades(["A", "B"], 100, seed=3, first=100))
        worker.drain()
        assert len(raw_rows(connection)) == 100
        assert client.xlen(stream.shared_key("dead")) == worker.counters.too_late == 20
        assert require_same(connection, client, stream)
        worker.close()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_key_that_comes_again_after_an_unusable_row_is_a_correction(
    database: str, redis_url: str, restarts: bool
) -> None:
    """The first row of the key has no price, so no feature was computed with it; the second one has."""
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        times = FIRST_US + np.array([0, 1_000, 2_000, 2_000, 2_000, 3_000])
        price = np.array([10.0, 11.0, np.nan, -1.0, 12.0, 13.0])
        events = make_events(
            EventKind.trades, ["A"] * 6, times, np.array([0, 1, 2, 2, 2, 3]), times + 5, np.column_stack([price, price]),
        )  # fmt: skip
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        for piece in ([0, 1, 2], [3, 4, 5]) if restarts else (range(6),):
            producer.send(events.chosen(np.array(piece)))
            worker.drain()
            if restarts:
                client.delete(*client.keys("*states*"), *client.keys("*floor"))
                worker.give_up()
                worker.leases.release(0)
                worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        worker.drain()
        assert len(raw_rows(connection)) == 6
        assert require_same(connection, client, stream)
        worker.close()


def test_one_refused_quote_does_not_hold_thousands_up(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        with connection.transaction():
            connection.execute("ALTER TABLE tapeline.quotes ADD CHECK (bid_price < 100)")
        stream = plan(partitions=1)
        times = FIRST_US + np.arange(3_000)
        values = np.full((3_000, 4), 7.0)
        values[[5, 1_777], 0] = 1_000.0
        quotes = make_events(EventKind.quotes, ["A"] * 3_000, times, np.arange(3_000), times, values)
        Producer(client, stream).send(quotes)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        began = time.monotonic()
        worker.drain(timeout_s=60)
        assert time.monotonic() - began < 45
        worker.close()
        assert connection.execute("SELECT count(*) FROM tapeline.quotes").fetchone() == (2_998,)
        letters = client.xrange(stream.shared_key("dead"))
        assert len(letters) == 2
        assert all(b"check" in letter[b"reason"].lower() for _, letter in letters)


def test_feature_rows_that_were_left_out_are_added_by_a_back_fill(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        tape = trades(["A", "B"], 400, seed=3)
        producer = Producer(client, stream)
        for start in (0, 200):
            worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), feature_rows=False)
            producer.send(tape.chosen(np.arange(start, start + 200)))
            worker.drain()
            worker.close()
        assert len(raw_rows(connection)) == 400
        assert not any(table_rows(connection, spec) for spec in VIEWS)
        assert sum(backfill(connection, spec).rows_added for spec in VIEWS) > 400
        for spec in VIEWS:
            require_online(connection, client, stream, spec)
        assert require_same(connection, client, stream)


def test_an_event_of_a_clock_that_is_days_ahead_is_refused(database: str, redis_url: str) -> None:
    """It would make all later events of its symbol available only then."""
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        now_us = time.time_ns() // 1_000
        tape = trades(["A"], 50, seed=3, first_us=now_us - DAY_US)
        tape.records["available_us"][20] = now_us + 3 * DAY_US
        Producer(client, stream).send(tape)
        worker = Worker(
            stream, [replace(spec) for spec in VIEWS], redis=client, connect=lambda: psycopg.connect(database)
        )
        worker.drain()
        assert len(raw_rows(connection)) == 49
        [(_, letter)] = client.xrange(stream.shared_key("dead"))
        assert b"more than a day" in letter[b"reason"]
        assert require_same(connection, client, stream)
        worker.close()
