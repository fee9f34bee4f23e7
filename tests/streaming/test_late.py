"""Late rows, corrections, retractions, repeats and splits, in any order: the stream still gives what a back-fill gives."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us
from tapeline.streaming import worker as streaming_worker
from tapeline.streaming.codec import Change, EventKind, make_events
from tapeline.streaming.producer import Producer
from tapeline.streaming.worker import Worker

from tests.streaming.world import (
    BARS,
    FIRST_US,
    VIEWS,
    add_source,
    disordered,
    empty,
    plan,
    raw_rows,
    require_all,
    require_same,
    trades,
    vanish,
)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    disorder=st.sampled_from([0.02, 0.1, 0.4]),
    block=st.sampled_from([1, 5, 200]),
    restarts=st.sets(st.integers(0, 60), max_size=2),
    keep=st.booleans(),
)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_late_is_computed_as_a_back_fill_would(
    database: str,
    redis_url: str,
    seed: int,
    count: int,
    disorder: float,
    block: int,
    restarts: set[int],
    keep: bool,
) -> None:
    with (
        pytest.MonkeyPatch.context() as patched,
        psycopg.connect(database) as connection,
        redis.Redis.from_url(redis_url) as client,
    ):
        if keep:  # one state at a time, at every step
            patched.setattr(streaming_worker, "KEEP_BYTES", 1)
            patched.setattr(streaming_worker, "KEEP_S", 0.0)
        client.flushall()
        empty(connection)
        add_source(connection)
        stream = plan(partitions=2)
        producer = Producer(client, stream, block_events=block)
        tape = disordered(seed, count, disorder)
        cuts = sorted({0, count, *(cut for cut in restarts if cut < count)})
        for start, end in itertools.pairwise(cuts):
            producer.send(tape.chosen(np.arange(start, end)))
            worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
            worker.drain()
            if start % 2:
                worker.close()
            else:  # gone without a word
                vanish(worker)
        require_all(connection, tape)
        require_same(connection, client, stream)


def test_each_late_row_is_audited_once_with_its_reason(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan()
        producer = Producer(client, stream)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        tape = trades(["A"], 40, seed=3)
        producer.send(tape)
        worker.drain()
        last = tape.records[-1:]

        def one(change: Change, back: int, price: float) -> None:
            row = tape.records[back]
            producer.send(
                make_events(
                    EventKind.trades, ["A"], row["event_us"], row["sequence"],
                    last["available_us"] + MINUTE_US, np.array([[price, 3.0]]), change=int(change),
                )
            )  # fmt: skip
            worker.drain()

        one(Change.correction, 20, 101.0)
        one(Change.retraction, 10, 100.0)
        late = make_events(
            EventKind.trades, ["A"], tape.records["event_us"][5:6], np.array([7_000]), last["available_us"],
            np.array([[100.0, 2.0]]),
        )  # fmt: skip
        for _ in range(2):
            producer.send(late)
            worker.drain()
        found = connection.execute(
            "SELECT reason, late_us FROM tapeline.stream_repairs ORDER BY id_ms, id_part"
        ).fetchall()
        behind = [int(last["event_us"][0] - tape.records["event_us"][back]) for back in (20, 10, 5, 5)]
        assert found == list(zip(["correction", "retraction", "late", "late"], behind, strict=True))
        connection.rollback()
        assert worker.counters.repairs == 3  # the second try changed nothing
        assert require_same(connection, client, stream)
        worker.close()


def test_a_row_later_than_the_window_goes_to_the_dead_letters(database: str, redis_url: str) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        stream = plan(late_window_us=MINUTE_US)
        producer = Producer(client, stream)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        producer.send(trades(["A"], 200, seed=3))
        producer.send(trades(["A"], 2, seed=4, first_us=FIRST_US, first=900))
        worker.drain()
        assert len(raw_rows(connection)) == 200
        letters = client.xrange(stream.shared_key("dead"))
        assert len(letters) == worker.counters.too_late == 2
        assert b"the window is 60000000" in letters[0][1][b"reason"]
        worker.close()


@pytest.mark.parametrize("known_days_before", [3, -1])
def test_a_split_takes_effect_where_a_back_fill_puts_it(database: str, redis_url: str, known_days_before: int) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        add_source(connection)
        at_us = FIRST_US + 5 * MINUTE_US
        with connection.transaction():
            connection.execute(
                "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
                " VALUES ('A', 'split', %s, %s, 2, 'x')",
                (from_us(at_us), from_us(at_us - known_days_before * DAY_US)),
            )
        stream = plan()
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        Producer(client, stream, block_events=9).send(trades(["A", "B"], 400, seed=5))
        worker.drain()
        assert require_same(connection, client, stream)
        worker.close()


def test_a_view_of_another_source_is_refused(database: str, redis_url: str) -> None:
    from tapeline.core.errors import ParameterError

    other = replace(BARS, rows=replace(BARS.rows, source="elsewhere"))
    with redis.Redis.from_url(redis_url) as client, pytest.raises(ParameterError, match="elsewhere"):
        Worker(plan(), [other], redis=client, connect=lambda: psycopg.connect(database))
