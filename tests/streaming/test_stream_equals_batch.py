"""The same rows by stream, by back-fill and in the online store, however the stream was divided."""

from __future__ import annotations

import psycopg
import redis
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import VIEWS, add_source, plan, raw_rows, require_same, trades


def test_trades_become_the_rows_that_a_back_fill_computes(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan()
        producer = Producer(client, stream, block_events=7)
        events = trades(["AAPL", "MSFT", "IBM", "X", "Y"], 600, seed=1)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(events)
        worker.drain()
        assert len(raw_rows(connection)) == 600
        assert worker.counters.late == 0
        assert require_same(connection, client, stream) > 1_000
        worker.close()
