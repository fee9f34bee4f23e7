"""Quotes, books, bars and news; routes; replays; full backlogs; circuit breakers."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.errors import ConfigurationError, LimitError, ParameterError, UnavailableError, UnknownNameError
from tapeline.core.timestamps import DAY_US
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.streaming.breaker import Breaker, Circuit
from tapeline.streaming.codec import EventKind, Events, make_events
from tapeline.streaming.dead import DeadLetters
from tapeline.streaming.history import paced, recorded_events
from tapeline.streaming.producer import Producer
from tapeline.streaming.router import Condition, Route, Router
from tapeline.streaming.status import read_status
from tapeline.streaming.worker import Worker

from tests.streaming.world import FIRST_US, VIEWS, add_source, plan, raw_rows, require_same, table_rows, trades

DAILY = FeatureViewSpec(
    "days",
    1,
    SessionBars("daily", "XNYS"),
    (FeatureRequest.of("EMA", timeperiod=2), FeatureRequest.of("OBV"), FeatureRequest.of("RETURN", timeperiod=1)),
    0,
    dividends=True,
)


def _of(kind: EventKind, count: int = 3, *, shift: float = 0.0, change: int = 0) -> Events:
    times = FIRST_US + np.arange(count) * 1_000
    values = {EventKind.quotes: 4, EventKind.book_events: 2, EventKind.news: 0}[kind]
    texts = {EventKind.book_events: [["o1"] * count], EventKind.news: [[f"news {shift}"] * count, [""] * count]}
    return make_events(
        kind, ["A"] * count, times, np.arange(count), times, np.full((count, values), 7.0 + shift), change=change,
        actions=["add"] * count if kind is EventKind.book_events else None, texts=texts.get(kind, []),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [EventKind.quotes, EventKind.book_events, EventKind.news])
def test_kinds_without_features_are_recorded_with_their_corrections(
    database: str, redis_url: str, kind: EventKind
) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        for events in (_of(kind), _of(kind), _of(kind, 1, shift=1.0, change=1), _of(kind, 1, shift=1.0, change=2)):
            producer.send(events)  # all in one batch of the worker
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        worker.drain()
        worker.close()
        deleted = connection.execute(
            f"SELECT sequence, deleted FROM tapeline.{kind.name} ORDER BY sequence, created_timestamp"
        ).fetchall()
        assert deleted == [(0, False), (0, False), (0, True), (1, False), (2, False)]
        assert client.xlen(stream.shared_key("dead")) == 0


def test_daily_bars_with_dividends_equal_the_batch(database: str, redis_url: str) -> None:
    rng = np.random.default_rng(2)
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection, "daily", "bars", 0)
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, amount, source)"
                " SELECT 'A', 'dividend', to_timestamp(%s), to_timestamp(%s), 0.5, 'x'",
                ((FIRST_US + 9 * DAY_US) // 1_000_000, (FIRST_US + 2 * DAY_US) // 1_000_000),
            )
        stream = plan(source="daily")
        producer = Producer(client, stream)
        worker = Worker(stream, [DAILY], redis=client, connect=lambda: psycopg.connect(database))
        for day in range(20):
            end_us = np.full(2, FIRST_US + day * DAY_US)
            close = 100 + rng.normal(size=2)
            values = np.column_stack([end_us - DAY_US // 4, close, close + 1, close - 1, close, [5.0, 6.0]])
            producer.send(make_events(EventKind.bars, ["A", "B"], end_us, np.zeros(2), end_us + 60, values))
            if day % 7 == 6:
                worker.drain()
        worker.drain()
        assert worker.counters.repairs >= 1  # the dividend
        assert require_same(connection, client, stream, [DAILY]) == 20 * 2 * 3
        worker.close()


def test_a_replay_of_what_was_recorded_gives_the_same_rows(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan()
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        Producer(client, stream).send(trades(["A", "B"], 300, seed=9))
        worker.drain()
        worker.close()
        raw, rows = raw_rows(connection), {spec.name: table_rows(connection, spec) for spec in VIEWS}
        add_source(connection, "tape-original")
        with connection.transaction():
            connection.execute("UPDATE tapeline.trades SET source = 'tape-original'")
            for name in ("state_snapshots", "backfill_progress"):
                connection.execute(f"DELETE FROM tapeline.{name}")
            for spec in VIEWS:
                connection.execute(f"DELETE FROM features.{spec.table}")
        again = plan(name="again")
        known = recorded_events(connection, "tape-original", EventKind.trades, since_us=0, until_us=2**52)
        sent = paced(Producer(client, again), known)
        assert sent == 300
        worker = Worker(again, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        worker.drain()
        with connection.transaction():
            connection.execute("DELETE FROM tapeline.trades WHERE source = 'tape-original'")
        assert raw_rows(connection) == raw
        assert {spec.name: table_rows(connection, spec) for spec in VIEWS} == rows
        status = read_status(client, connection, again)
        assert [p.unacknowledged for p in status.partitions] == [0] * 4
        assert {p.worker for p in status.partitions} == {worker.leases.worker}
        worker.close()


def test_a_full_backlog_stops_the_producer_until_a_worker_comes(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1, backlog_entries_max=5)
        producer = Producer(client, stream, block_events=1, wait_s=0.05)
        tape = trades(["A"], 20, seed=1)
        for place in range(5):
            producer.send(tape.chosen(np.array([place])))
        with pytest.raises(LimitError, match="5 entries wait for workers, at most 5"):
            producer.send(tape.chosen(np.array([5])))
        assert client.xlen(stream.events_key(0)) == 5
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        worker.drain()
        assert producer.send(tape.chosen(np.array([5]))) == 1
        worker.drain()
        assert len(raw_rows(connection)) == 6
        worker.close()


def test_another_number_of_partitions_is_refused(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        Producer(client, plan(partitions=4))
        with pytest.raises(ConfigurationError, match="'partitions': 4"):
            Producer(client, plan(partitions=8))


def test_events_take_the_routes_that_fit_them(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        streams = {name: plan(name=name, partitions=1) for name in ("fast", "all", "news")}
        producers = {name: Producer(client, stream) for name, stream in streams.items()}
        routes = [
            Route(("all",), kinds=frozenset({EventKind.trades}), symbols=("A*", "B")),
            Route(("fast", "all"), where=(Condition.parse("size >= 10"), Condition.parse("side == 1")), priority=5),
            Route(("news",), where=(Condition.parse("headline contains NEWS"),)),
        ]
        router = Router(routes, producers, DeadLetters(client, streams["all"]))
        times = np.arange(5)
        events = make_events(
            EventKind.trades, ["AA", "B", "C", "C", "AA"], times, times, times,
            np.column_stack([np.ones(5), [10.0, 9.0, 10.0, 9.0, 50.0]]), side=np.array([1, 1, 1, 1, -1]),
        )  # fmt: skip
        assert router.send(events) == {"fast": 2, "all": 4, "": 1}
        assert router.send(_of(EventKind.news)) == {"news": 3}
        [(_, letter)] = client.xrange(streams["all"].shared_key("dead"))
        assert letter[b"reason"] == b"no route takes it"
        with pytest.raises(UnknownNameError, match="fats"):
            Router([Route(("fats",))], producers, DeadLetters(client, streams["all"]))
        for text in ("price", "price > x", "import os"):
            with pytest.raises(ParameterError):
                Condition.parse(text)


def test_a_breaker_opens_rests_and_tries_once() -> None:
    now = [0.0]
    breaker = Breaker("it", failures_max=2, rest_s=1.0, rest_max_s=3.0, monotonic=lambda: now[0])

    def fail() -> None:
        raise UnavailableError("away")

    for _ in range(2):
        with pytest.raises(UnavailableError, match="away"):
            breaker.call(fail)
    rests = []
    for _ in range(3):
        assert breaker.state is Circuit.open
        with pytest.raises(UnavailableError, match="not asked"):
            breaker.call(lambda: 1)
        rests.append(breaker.remaining_s)
        now[0] += rests[-1]
        assert breaker.state is Circuit.half_open
        with pytest.raises(UnavailableError, match="away"):
            breaker.call(fail)
    assert rests == [1.0, 2.0, 3.0]
    now[0] += 3.0
    assert breaker.call(lambda: 7) == 7
    assert breaker.state is Circuit.closed
