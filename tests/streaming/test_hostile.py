"""Whatever producers send, a worker goes on: events are taken, skipped, or in the dead-letter stream, and features stay right."""

from __future__ import annotations

import numpy as np
import psycopg
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tapeline.streaming.codec import BLOCK_BYTES_MAX, TIME_US_MAX, EventKind, Events, encode_block, make_events
from tapeline.streaming.plan import FIELD, StreamPlan
from tapeline.streaming.worker import Worker

from tests.streaming.world import (
    FIRST_US,
    VIEWS,
    add_source,
    disordered,
    empty,
    plan,
    raw_rows,
    require_same,
)
from tests.support.cases import count_cases

EVENTS = 400
"""Of one example."""
EXTREMES = np.array([0.0, -1.0, np.nan, np.inf, -np.inf, 5e-324, 1.7e308, -0.0, 1e-9, 1e15])
SYMBOLS = ("A", "B", "C", "a long symbol with spaces", "ÄÖÜ", "*[]?", "x" * 64)


def _wild(rng: np.random.Generator, kind: EventKind, count: int) -> Events:
    """Events of which some are impossible, some late, some repeat a key."""
    event_us = FIRST_US + rng.integers(0, 3_600_000_000, count)
    odd = rng.random(count) < 0.03
    event_us[odd] = rng.choice([-(2**62), 2**62, TIME_US_MAX - 1, -62_135_596_800_000_000, 0, 1], int(odd.sum()))
    available = event_us + rng.choice([0, 1, 500_000, 10**9, -1, 2**53], count, p=[0.4, 0.2, 0.3, 0.04, 0.03, 0.03])
    width = {EventKind.trades: 2, EventKind.quotes: 4, EventKind.bars: 6, EventKind.book_events: 2, EventKind.news: 0}[
        kind
    ]
    values = rng.lognormal(3, 0.1, (count, width))
    strange = rng.random((count, width)) < 0.05
    values[strange] = rng.choice(EXTREMES, int(strange.sum()))
    texts = {EventKind.book_events: 1, EventKind.news: 2}.get(kind, 0)
    return make_events(
        kind,
        [SYMBOLS[i] for i in rng.integers(0, len(SYMBOLS), count)],
        event_us,
        rng.choice([0, 1, 2, 2**53 - 1, -1, 2**62], count, p=[0.4, 0.3, 0.27, 0.01, 0.01, 0.01]),
        available,
        values,
        change=rng.choice([0, 1, 2, 3, 255], count, p=[0.94, 0.02, 0.02, 0.01, 0.01]),
        side=rng.choice([-1, 0, 1, 5, -128], count, p=[0.3, 0.3, 0.38, 0.01, 0.01]),
        actions=["add"] * count if kind is EventKind.book_events else None,
        texts=[["text ' \" \\ 💹"] * count] * texts,
    )


def _entries(
    rng: np.random.Generator, stream: StreamPlan, count: int
) -> tuple[list[tuple[int, dict[bytes, bytes]]], int]:
    """Entries as anybody might add them, with their partition; and how many events they hold, broken ones as one each."""
    entries, total = [], 0
    while total < count:
        size = int(rng.integers(1, 30))
        what = rng.random()
        kind = EventKind.trades if what < 0.7 else EventKind(int(rng.integers(1, 6)))
        events = _wild(rng, kind, size) if what < 0.5 or what > 0.7 else disordered(int(rng.integers(2**31)), size, 0.1)
        home = np.array([stream.partition_of(symbol) for symbol in events.symbols])[events.records["symbol"]]
        for partition in np.unique(home).tolist():
            part = events.chosen(np.flatnonzero(home == partition))
            data = encode_block(part)
            field, fate = FIELD, rng.random()
            if fate < 0.05:  # bits turned
                broken = bytearray(data)
                for _ in range(int(rng.integers(1, 4))):
                    broken[int(rng.integers(len(broken)))] ^= 1 << int(rng.integers(8))
                data = bytes(broken)
            elif fate < 0.08:
                data = data[: int(rng.integers(len(data)))]
            elif fate < 0.10:
                data += rng.bytes(int(rng.integers(1, 50)))
            elif fate < 0.11:
                data = rng.bytes(BLOCK_BYTES_MAX + 1)
            elif fate < 0.13:
                field = b"other"
            elif fate < 0.15:
                partition = (partition + 1) % stream.partitions  # noqa: PLW2901
            entries.append((partition, {field: data}))
            total += len(part) if fate >= 0.15 else 1
    return entries, total


@given(seed=st.integers(0, 2**32 - 1), events=st.integers(50, EVENTS))
@example(seed=3_204_239, events=149)  # a bar is computed again before it is available
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_event_whatever_it_holds_stops_a_worker(database: str, redis_url: str, seed: int, events: int) -> None:
    with psycopg.connect(database) as connection, redis.Redis.from_url(redis_url) as client:
        client.flushall()
        empty(connection)
        add_source(connection)
        stream = plan(partitions=2)
        rng = np.random.default_rng(seed)
        entries, total = _entries(rng, stream, events)
        worker = Worker(stream, VIEWS, redis=client, connect=lambda: psycopg.connect(database))
        pieces = np.array_split(np.arange(len(entries)), 3)
        for piece in pieces:
            for number in piece.tolist():
                partition, fields = entries[number]
                client.xadd(stream.events_key(partition), fields)  # type: ignore[arg-type]
            worker.drain(timeout_s=120)
        counters = worker.counters
        letters = client.xlen(stream.shared_key("dead"))
        done = counters.taken + counters.recorded + counters.skipped + counters.late + letters
        assert done == total
        worker.close()
        if raw_rows(connection):
            require_same(connection, client, stream)
        count_cases("hostile stream events", total)
