"""A symbol whose rows a back-fill refuses is set aside: its rows are recorded, the others' features go on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandera.polars as pa
import psycopg
import pytest
import redis
from tapeline.compute import backfill
from tapeline.core.timestamps import MINUTE_US, from_us
from tapeline.quality import definition as definitions
from tapeline.quality import quality_rules
from tapeline.streaming import recovery
from tapeline.streaming import worker as streaming_worker
from tapeline.streaming.codec import EventKind, make_events
from tapeline.streaming.finishing import states_key
from tapeline.streaming.kept import decode_kept
from tapeline.streaming.metrics import Summary, worker_metrics
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import (
    EACH,
    FIRST_US,
    VIEWS,
    add_source,
    disordered,
    newest_rows,
    plan,
    raw_rows,
    recomputed,
    require_all,
    require_online,
    require_same,
    table_rows,
    trades,
    vanish,
)

NOT_B = pa.DataFrameSchema({"symbol": pa.Column(str, pa.Check.ne("B"))}, name="not_b")


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether back-fills refuse the rows of B from now on."""
    registered: dict[tuple[str, int | None], definitions.QualityDefinition] = {}
    monkeypatch.setattr(definitions, "_DEFINED", registered)

    def switch(on: bool) -> None:
        registered.clear()
        if on:
            quality_rules(EACH.name, 1, action="block")(NOT_B)

    return switch


def _late(row: np.ndarray, sequence: int, price: float, change: int = 0) -> object:
    return make_events(
        EventKind.trades, ["B"], row["event_us"][None], np.array([sequence]), row["available_us"][None] + 10**6,
        np.array([[price, 2.0]]), change=change,
    )  # fmt: skip


def _kept(client: redis.Redis, stream: StreamPlan, symbol: str) -> int:
    """Views with a kept state."""
    data = client.hget(states_key(stream, stream.partition_of(symbol), EventKind.trades), symbol)
    return len(decode_kept(data).views)  # type: ignore[arg-type]


def test_others_go_on_while_one_symbol_is_refused_and_it_comes_back(
    database: str, redis_url: str, refuse: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream, block_events=9)
        tape = trades(["A", "B", "C", "D", "E"], 900, seed=5)
        of_b = np.flatnonzero(np.array(tape.symbols)[tape.records["symbol"]] == "B")
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(300)))
        worker.drain()
        assert worker.aside == {}
        refuse(True)
        late = tape.records[of_b[5]]
        producer.send(_late(late, 9_000, 101.0))
        worker.drain()
        [(symbol, reason)] = worker.aside.items()
        assert (symbol, "not_equal_to" in reason) == ("B", True)
        before = len([row for row in table_rows(connection, EACH) if row[0] == "B"])
        producer.send(tape.chosen(np.arange(300, 600)))
        producer.send(_late(late, 9_000, 102.0, change=1))  # corrected
        producer.send(_late(late, 9_000, 102.0, change=1))  # twice
        worker.drain()
        assert len(raw_rows(connection)) == 602
        assert len([row for row in table_rows(connection, EACH) if row[0] == "B"]) == before
        gauges = {family.name: family.samples[0].value for family in worker_metrics(worker)}
        assert gauges["tapeline_stream_aside"] == 1
        told = Summary(worker)()
        assert (told["aside"], told["reasons"]) == (1, worker.aside)
        worker.close()
        assert (_kept(client, stream, "A"), _kept(client, stream, "B")) == (len(VIEWS), 0)
        require_online(connection, client, stream, EACH)

        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(600, 800)))
        worker.drain()
        assert list(worker.aside) == ["B"]  # the database was asked for its state
        refuse(False)
        monkeypatch.setattr(recovery, "RETRY_S", 0.0)
        for lane in worker.processor.lanes.values():
            lane.set_aside("B", recovery.Aside(reason, 0.0, 0.0))  # its time has come
        worker.step(block_ms=1)
        assert worker.aside == {}
        producer.send(tape.chosen(np.arange(800, 900)))
        worker.drain()
        worker.close()
        assert len(raw_rows(connection)) == 902
        assert require_same(connection, client, stream)


def test_a_symbol_that_is_refused_from_its_first_row_on(
    database: str, redis_url: str, refuse: Callable[[bool], None]
) -> None:
    """Its rows were there before the stream: no state can be computed to begin with."""
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=1)
        producer = Producer(client, stream)
        tape = trades(["A", "B"], 300, seed=7)
        quiet = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database), feature_rows=False)
        producer.send(tape.chosen(np.arange(100)))
        quiet.drain()
        quiet.close()
        client.flushall()
        refuse(True)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(100, 200)))
        worker.drain()
        assert list(worker.aside) == ["B"]
        refuse(False)
        vanish(worker)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(200, 300)))
        worker.drain()
        assert worker.aside == {}
        worker.close()
        assert len(raw_rows(connection)) == 300
        assert require_same(connection, client, stream)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_however_often_a_symbol_is_refused_and_workers_vanish(
    database: str, redis_url: str, refuse: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(recovery, "RETRY_S", 0.02)
    monkeypatch.setattr(streaming_worker, "KEEP_BYTES", 1)  # one state at a time, at every step
    monkeypatch.setattr(streaming_worker, "KEEP_S", 0.0)
    rng = np.random.default_rng(seed)
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=int(rng.choice([1, 5, 200])))
        tape = disordered(seed, 240, 0.25)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        was_aside = False
        for start in range(0, 240, 30):
            refuse(bool(rng.integers(0, 3)))
            producer.send(tape.chosen(np.arange(start, start + 30)))
            for _ in range(int(rng.integers(0, 4))):
                worker.step(block_ms=1)
            end = rng.integers(0, 3)
            if end == 0:
                worker.drain()
            was_aside = was_aside or "B" in worker.aside
            if end:
                worker.close() if end == 1 else vanish(worker)
                worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        refuse(False)
        worker.drain()
        while worker.aside:
            worker.step(block_ms=5)
        worker.close()
        assert was_aside
        require_all(connection, tape)
        assert require_same(connection, client, stream)


def test_a_split_that_was_recorded_while_no_worker_ran_is_taken_in(
    database: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B's was recorded before, and its kept state contains it."""

    def split(connection: psycopg.Connection, symbol: str, age: str) -> None:
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source,"
                " created_timestamp) VALUES (%s, 'split', %s, %s, 2, 'x', now() - %s::interval)",
                (symbol, from_us(FIRST_US + 2 * MINUTE_US), from_us(FIRST_US), age),
            )

    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream)
        tape = trades(["A", "B"], 600, seed=5)
        split(connection, "B", "1 hour")
        worker = Worker(stream, (EACH,), redis=client, connect=lambda: psycopg.connect(database))
        producer.send(tape.chosen(np.arange(400)))
        worker.drain()
        worker.close()
        split(connection, "A", "0 seconds")
        worker = Worker(stream, (EACH,), redis=client, connect=lambda: psycopg.connect(database))
        reloaded: list[str] = []
        reload = worker.processor.repairs.reload
        monkeypatch.setattr(
            worker.processor.repairs, "reload", lambda lane, some: (reloaded.extend(some), reload(lane, some))
        )
        producer.send(tape.chosen(np.arange(400, 600)))
        worker.drain()
        assert reloaded == ["A"]
        worker.close()
        assert backfill(connection, EACH).rows_added == 0
        require_online(connection, client, stream, EACH)
        streamed = newest_rows(connection, EACH)
        recomputed(connection, (EACH,))
        assert newest_rows(connection, EACH) == streamed
