"""Rows that are computed before they are available: what a reader finds meanwhile, and after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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
from tapeline.streaming.leases import live_workers
from tapeline.streaming.producer import Producer
from tapeline.streaming.states import ViewRows
from tapeline.streaming.worker import Worker

from tests.streaming.world import add_source, plan, vanish

SECOND_US = 1_000_000
LAG_US = 4_000_000
"""Longer than a bar: several rows of a symbol wait at once. And than what a busy machine needs to compute one."""
STREAM = plan(partitions=2)
AT_US = 1_704_206_878_623_000
SPEC = FeatureViewSpec("seconds", 1, TradeBars("tape", "XNYS", SECOND_US), (FeatureRequest.of("OBV"),), 0)
PROCESSED_US = 20_000
"""A value is written in the step after its time, or in the one that was just being done."""


class Market:
    """A stream whose trades happen now; what is open is closed in the end, whatever happened."""

    def __init__(self, database: str, redis_url: str, connection: psycopg.Connection, lag_us: int) -> None:
        add_source(connection, lag_us=lag_us)
        self.client = redis.Redis.from_url(redis_url)
        self.plan = STREAM
        self.producer = Producer(self.client, self.plan)
        self._connect = lambda: psycopg.connect(database)
        self._connection = connection
        layout = Layout.of_floats(SPEC.name, SPEC.version, SPEC.columns)
        self.reader = OnlineReader(self.client, ReadPlan(self.plan.project, [layout]))
        self.count = 0
        self._workers: list[Worker] = []

    def worker(self) -> Worker:
        worker = Worker(self.plan, (SPEC,), redis=self.client, connect=self._connect, lease_ms=1_000)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.give_up()
            worker.leases.leave()
        self.reader.close()
        self.client.close()

    def trade(self, symbol: str = "A", *, event_us: int = 0) -> int:
        """One trade, available now; returns the end of its bar."""
        now_us = time.time_ns() // 1_000
        self.count += 1
        event_us, price = event_us or now_us, 100.0 + self.count
        row = np.array([[price, 1.0]])
        self.producer.send(make_events(EventKind.trades, [symbol], [event_us], [self.count], [now_us], row))
        return event_us // SECOND_US * SECOND_US + SECOND_US

    def whole_bar(self, symbol: str = "A") -> int:
        """Trades of a bar and of the next, early in their seconds; returns when its row is available."""
        time.sleep(1.0 - time.time() % 1.0)
        end_us = self.trade(symbol)
        time.sleep(1.0 - time.time() % 1.0)
        self.trade(symbol)
        return end_us + LAG_US

    def read(self, symbol: str = "A") -> tuple[int, int, float, int]:
        """Status, event time and value of what is online, and a moment before it was read."""
        now_us = time.time_ns() // 1_000
        read = self.reader.read([entity_key_sorted([symbol])], now_us=now_us)
        return int(read.statuses[0, 0]), int(read.times[0, 0, 0]), float(read.values[0, 0]), now_us

    def require_shown(self, *symbols: str, step: Worker | None = None) -> None:
        """Each symbol gets a value, in its time."""
        deadline = time.monotonic() + 20
        while any(self.read(symbol)[0] != FieldStatus.PRESENT for symbol in symbols):
            assert time.monotonic() < deadline
            if step is None:
                time.sleep(0.01)
            else:
                step.step(block_ms=5)
        for symbol in symbols:
            _, event_us, _, at_us = self.read(symbol)
            assert event_us == self.newest_us(at_us, symbol)

    def newest_us(self, moment_us: int, symbol: str = "A") -> int | None:
        """Event time of the newest row available by a moment, by the table."""
        with self._connection.transaction():
            rows = self._connection.execute(
                f"SELECT event_timestamp, available_timestamp FROM {qualified_name(SPEC)} WHERE symbol = %s", (symbol,)
            ).fetchall()
        return max((to_us(event) for event, available in rows if to_us(available) <= moment_us), default=None)


def kept(client: redis.Redis, partition: int) -> list[bytes]:
    """Keys and values in Redis that wait."""
    return [member[2:] for member in client.zrange(STREAM.key(partition, "early"), 0, -1)]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
def now(database: str, redis_url: str, request: pytest.FixtureRequest) -> Iterator[Market]:
    with psycopg.connect(database) as connection:
        opened = Market(database, redis_url, connection, getattr(request, "param", LAG_US))
        try:
            yield opened
        finally:
            opened.close()


@pytest.mark.parametrize("now", [2_500_000], indirect=True)
def test_the_value_before_stays_until_the_next_one_is_available(now: Market) -> None:
    worker = now.worker()
    worker.drain()
    reads: list[tuple[int, int, int]] = []
    ends_s = time.monotonic() + 30.0
    while len({event_us for status, event_us, _ in reads if status == FieldStatus.PRESENT}) < 4:
        assert time.monotonic() < ends_s
        now.trade()
        sent_s = time.monotonic()
        while time.monotonic() < sent_s + 0.05:
            before_us = time.time_ns() // 1_000
            worker.step(block_ms=10)
            status, event_us, _, at_us = now.read()
            reads.append((status, event_us, before_us))
            if status == FieldStatus.PRESENT:
                newest = now.newest_us(at_us)
                assert newest is None or event_us <= newest  # its row may not stand yet
    worker.flush()
    statuses = [status for status, _, _ in reads]
    first = statuses.index(FieldStatus.PRESENT)
    assert set(statuses[first:]) == {FieldStatus.PRESENT}
    for _, event_us, before_us in reads[first:]:
        assert event_us >= (now.newest_us(before_us - PROCESSED_US) or 0)
    worker.close()


@pytest.mark.parametrize("ends", ["killed", "killed before states were kept", "floor lost", "closed", "given back"])
def test_what_waits_for_its_time_outlives_its_worker(now: Market, ends: str) -> None:
    worker = now.worker()
    worker.drain()
    if ends == "killed before states were kept":
        worker._kept_s = time.monotonic() + 1_000
    available_us = now.whole_bar()
    worker.drain()
    assert len(worker.processor.early) == 1
    if ends == "given back":
        other = now.worker()
        while not other.leases.owned or not worker.leases.owned:
            worker.step(block_ms=1)
            other.step(block_ms=1)
        [moved] = [now.plan.partition_of("A")]
        has, had = (other, worker) if moved in other.leases.owned else (worker, other)
        assert len(has.processor.early) == 1
        vanish(had)
        now.require_shown("A", step=has)
    elif ends == "closed":
        worker.close()  # nobody else would write it
        assert not live_workers(now.client, now.plan)  # else others would leave it its share
        now.require_shown("A")
    else:
        vanish(worker)
        if ends == "floor lost":
            for partition in range(now.plan.partitions):
                now.client.delete(now.plan.key(partition, "floor"))
        assert now.read()[0] == FieldStatus.NOT_FOUND
        now.require_shown("A", step=now.worker())
    assert time.time_ns() // 1_000 >= available_us


def test_workers_that_end_together_leave_nothing_unwritten(now: Market) -> None:
    symbols = {now.plan.partition_of(f"S{k}"): f"S{k}" for k in range(20)}
    workers = [now.worker(), now.worker()]
    while not all(len(worker.leases.owned) == 1 for worker in workers):
        for worker in workers:
            worker.step(block_ms=1)
    time.sleep(1.0 - time.time() % 1.0)
    for symbol in symbols.values():
        now.trade(symbol)
    time.sleep(1.0 - time.time() % 1.0)
    for symbol in symbols.values():
        now.trade(symbol)
    for worker in workers:
        worker.drain()
    assert [len(worker.processor.early) for worker in workers] == [1, 1]
    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(worker.close) for worker in workers]
        now.require_shown(*symbols.values())
        for one in ended:
            one.result(20)


def test_a_bar_that_is_changed_while_it_waits_is_shown_as_changed(now: Market) -> None:
    worker = now.worker()
    worker.drain()
    available_us = now.whole_bar()
    worker.drain()
    for _ in range(3):  # of the bar that waits
        now.trade(event_us=available_us - LAG_US - 1 - now.count)
        worker.drain()
    assert worker.counters.late == 3
    assert len(worker.processor.early) <= 8  # what was replaced waits no more
    while time.time_ns() // 1_000 < available_us:
        assert now.read()[0] == FieldStatus.NOT_FOUND
        worker.step(block_ms=5)
    now.require_shown("A", step=worker)
    _, event_us, value, _ = now.read()
    assert event_us == available_us - LAG_US
    assert value == 4.0  # the volume of its trades
    worker.close()


def test_values_wait_in_the_order_of_their_times_and_no_more_of_them_than_is_allowed(client: redis.Redis) -> None:
    early = Early(client, STREAM, bytes_max=2_000)
    for number, available_us in enumerate([50, 20, 20, 90]):
        early.put(number % 2, available_us, b"key%d" % number, b"v")
    assert early.next_us == 20
    assert early.due(19) == []
    assert early.due(20) == [(b"key1", b"v"), (b"key2", b"v")]
    early.replace(b"key0")
    assert early.due(60) == []
    assert (len(early), early.next_us) == (1, 90)
    early.keep()
    assert kept(client, 1) == [b"key3v"]
    early.put(1, 95, b"large", bytes(1_500))
    assert early.due(0) == [(b"key3", b"v")]  # readers find it hidden rather than memory full
    early.keep()
    early.settle()
    assert kept(client, 1) == [b"large" + bytes(1_500)]  # and so in Redis
    assert early.due(100) == [(b"large", bytes(1_500))]
    assert (len(early), early.bytes, early.next_us) == (0, 0, None)


def test_the_next_owner_gets_what_was_not_written(client: redis.Redis) -> None:
    first, next_owner = Early(client, STREAM), Early(client, STREAM)
    for number in range(6):
        first.put(number % 2, AT_US + number, b"key%d" % number, bytes([number, 0, 255]))
    first.keep()
    assert [key for key, _ in first.due(AT_US + 1)] == [b"key0", b"key1"]
    first.settle()
    for _ in range(3):  # a partition that comes and goes
        next_owner.take_up(0, [b"key"])
    assert next_owner.due(AT_US + 3) == [(b"key2", b"\x02\x00\xff")]
    assert next_owner.next_us == AT_US + 4
    assert len(next_owner) == 1
    next_owner.settle()
    assert kept(client, 0) == [b"key4\x04\x00\xff"]
    assert client.ttl(STREAM.key(0, "early")) == -1  # until somebody comes, however long that takes
    stranger = Early(client, STREAM)
    stranger.take_up(0, [b"other"])  # of a view that is computed no more
    assert len(stranger) == 0
    stranger.settle()
    assert kept(client, 0) == []


def test_who_had_a_partition_before_takes_nothing_from_who_has_it(client: redis.Redis) -> None:
    before, owner, next_owner = (Early(client, STREAM) for _ in range(3))
    before.put(0, AT_US, b"keyA", b"v")
    before.keep()
    owner.take_up(0, [b"key"])
    owner.put(0, AT_US, b"keyB", b"v")
    owner.keep()
    assert before.due(AT_US) == [(b"keyA", b"v")]
    before.settle()
    next_owner.take_up(0, [b"key"])
    assert next_owner.due(AT_US) == [(b"keyB", b"v")]


def test_a_partition_changes_hands_while_values_get_their_time(client: redis.Redis) -> None:
    before, owner = Early(client, STREAM), Early(client, STREAM)
    for number in range(2_500):
        before.put(0, AT_US + number, b"key%d" % number, b"v")
    before.keep()
    read = client.zrange

    def read_slowly(*arguments: object, **options: object) -> object:
        found = read(*arguments, **options)  # type: ignore[arg-type]
        before.due((before.next_us or 0) + 299)
        before.settle()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "zrange", read_slowly)
        owner.take_up(0, [b"key"])
    assert before.next_us is not None
    assert {key for key, _ in owner.due(AT_US + 9_999)} >= {key for key, _ in before.due(AT_US + 9_999)}
    assert not before.is_unkept


def test_what_is_computed_again_replaces_what_waits(client: redis.Redis) -> None:
    early = Early(client, STREAM)
    for _ in range(50):
        for number in range(100):
            early.replace(b"k%d" % number)
            early.put(0, 10 + number, b"k%d" % number, b"v%d" % (number % 7))
        early.keep()
        early.settle()
    assert len(early) == 100
    assert len(early._heap) < 1_500  # what was replaced does not pile up
    assert len(kept(client, 0)) == 100
    early.replace(b"k0")
    early.put(0, 10, b"k0", b"other")
    early.keep()
    early.settle()
    assert b"k0other" in kept(client, 0)
    assert b"k0v0" not in kept(client, 0)


def test_rows_of_a_symbol_are_told_apart_by_what_is_available() -> None:
    place = np.array([4, 4, 4, 7, 7, 9])
    available = np.array([1, 5, 6, 2, 3, 9])
    rows = ViewRows(place, np.zeros(6, dtype=np.int64), available, available, np.empty((6, 0)), np.array([2, 4, 5]))
    assert rows.to_show(5).tolist() == [1, 2, 4, 5]
    assert rows.to_show(9).tolist() == [2, 4, 5]
    assert rows.to_show(0).tolist() == [0, 1, 2, 3, 4, 5]
    # A row that counts from its own time on is found whatever the clock says.
    rows = ViewRows(place, available, available, available, np.empty((6, 0)), np.array([2, 4, 5]))
    assert rows.to_show(0).tolist() == [2, 4, 5]
