"""Rows that are computed before they are available: what a reader finds meanwhile, and after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.timestamps import to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, TradeBars
from tapeline.storage.feature_tables import qualified_name
from tapeline.storage.keys import entity_key_sorted
from tapeline.storage.online_reader import OnlineReader, ReadPlan
from tapeline.storage.packed import Layout
from tapeline.storage.statuses import FieldStatus
from tapeline.streaming.codec import EventKind, make_events
from tapeline.streaming.early import Early
from tapeline.streaming.producer import Producer
from tapeline.streaming.states import ViewRows
from tapeline.streaming.worker import Worker

from tests.streaming.world import add_source, plan, vanish

SECOND_US = 1_000_000
LAG_US = 1_500_000
"""Longer than a bar: several rows of a symbol wait at once."""
SPEC = FeatureViewSpec("seconds", 1, TradeBars("tape", "XNYS", SECOND_US), (FeatureRequest.of("EMA", timeperiod=2),), 0)
SLOW_US = 300_000
"""A busy machine may write a value so long after its time."""


class Market:
    """A stream whose trades happen now."""

    def __init__(self, database: str, redis_url: str, connection: psycopg.Connection) -> None:
        add_source(connection, lag_us=LAG_US)
        self.client = redis.Redis.from_url(redis_url)
        self.plan = plan(partitions=2)
        self.producer = Producer(self.client, self.plan)
        self._connect = lambda: psycopg.connect(database)
        self._connection = connection
        layout = Layout.of_floats(SPEC.name, SPEC.version, SPEC.columns)
        self.reader = OnlineReader(self.client, ReadPlan(self.plan.project, [layout]))
        self.count = 0

    def worker(self) -> Worker:
        return Worker(self.plan, (SPEC,), redis=self.client, connect=self._connect, lease_ms=1_000)

    def trade(self) -> None:
        now_us = time.time_ns() // 1_000
        self.count += 1
        price = 100.0 + self.count
        self.producer.send(
            make_events(EventKind.trades, ["A"], [now_us], [self.count], [now_us], np.array([[price, 1.0]]))
        )

    def read(self) -> tuple[int, int, int]:
        """Status and event time of what is online, and when it was read."""
        now_us = time.time_ns() // 1_000
        read = self.reader.read([entity_key_sorted(["A"])], now_us=now_us)
        return int(read.statuses[0, 0]), int(read.times[0, 0, 0]), now_us

    def newest_us(self, moment_us: int) -> int | None:
        """Event time of the newest row available by a moment, by the table."""
        with self._connection.transaction():
            rows = self._connection.execute(
                f"SELECT event_timestamp, available_timestamp FROM {qualified_name(SPEC)} WHERE symbol = 'A'"
            ).fetchall()
        return max((to_us(event) for event, available in rows if to_us(available) <= moment_us), default=None)


@contextmanager
def market(database: str, redis_url: str) -> Iterator[Market]:
    with psycopg.connect(database) as connection:
        opened = Market(database, redis_url, connection)
        try:
            yield opened
        finally:
            opened.reader.close()
            opened.client.close()


def test_the_value_before_stays_until_the_next_one_is_available(database: str, redis_url: str) -> None:
    with market(database, redis_url) as now:
        worker = now.worker()
        worker.drain()
        reads: list[tuple[int, int, int]] = []
        ends_s = time.monotonic() + 6.0
        while time.monotonic() < ends_s:
            now.trade()
            sent_s = time.monotonic()
            while time.monotonic() < sent_s + 0.05:
                worker.step(block_ms=10)
                reads.append(now.read())
        worker.flush()
        statuses = [status for status, _, _ in reads]
        assert FieldStatus.PRESENT in statuses
        first = statuses.index(FieldStatus.PRESENT)
        assert set(statuses[first:]) == {FieldStatus.PRESENT}
        shown = [(event_us, at_us) for _, event_us, at_us in reads[first:]]
        assert len({event_us for event_us, _ in shown}) >= 3
        for event_us, at_us in shown[:: max(1, len(shown) // 200)]:
            newest = now.newest_us(at_us)
            assert newest is not None
            assert event_us <= newest  # never before its time
            before = now.newest_us(at_us - SLOW_US)
            assert before is None or event_us >= before
        worker.close()


@pytest.mark.parametrize("ends", ["killed", "closed"])
def test_what_waits_for_its_time_outlives_its_worker(database: str, redis_url: str, ends: str) -> None:
    with market(database, redis_url) as now:
        worker = now.worker()
        worker.drain()
        now.trade()
        time.sleep(SECOND_US / 1e6)
        now.trade()  # ends the bar
        worker.drain()
        assert len(worker.processor.early) == 1
        time.sleep(0.25)
        worker.drain()  # states are kept
        if ends == "killed":
            vanish(worker)
            assert now.read()[0] == FieldStatus.NOT_FOUND
            worker = now.worker()
            deadline = time.monotonic() + 20
            while now.read()[0] != FieldStatus.PRESENT:
                worker.step(block_ms=5)
                assert time.monotonic() < deadline
            worker.close()
        else:
            worker.close()  # nobody else would write it
            deadline = time.monotonic() + 20
            while now.read()[0] != FieldStatus.PRESENT:
                time.sleep(0.01)
                assert time.monotonic() < deadline
        _, event_us, at_us = now.read()
        assert event_us == now.newest_us(at_us)


def test_values_wait_in_the_order_of_their_times_and_no_more_of_them_than_is_allowed() -> None:
    early = Early(bytes_max=1_000)
    for number, available_us in enumerate([50, 20, 20, 90]):
        early.put(available_us, number % 2, b"key%d" % number, b"v")
    assert early.next_us == 20
    assert early.due(19) == []
    assert early.due(20) == [(b"key1", b"v"), (b"key2", b"v")]
    early.drop(0)
    assert early.due(60) == []
    assert len(early) == 1
    assert early.next_us == 90
    early.put(95, 1, b"large", bytes(700))
    assert early.due(0) == [(b"key3", b"v")]  # readers find it hidden rather than memory full
    assert early.due(100) == [(b"large", bytes(700))]
    assert (len(early), early.bytes, early.next_us) == (0, 0, None)


def test_rows_of_a_symbol_are_told_apart_by_what_is_available() -> None:
    place = np.array([4, 4, 4, 7, 7, 9])
    available = np.array([1, 5, 6, 2, 3, 9])
    rows = ViewRows(place, available, available, available, np.empty((6, 0)), np.array([2, 4, 5]))
    assert rows.to_show(5).tolist() == [1, 2, 4, 5]
    assert rows.to_show(9).tolist() == [2, 4, 5]
    assert rows.to_show(0).tolist() == [0, 1, 2, 3, 4, 5]
