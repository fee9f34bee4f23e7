"""Compare-and-set writes and the reader, against a real server."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tapeline.core.errors import IntegrityError, ParameterError, UnavailableError
from tapeline.storage import online
from tapeline.storage.keys import entity_key, layout_key
from tapeline.storage.online import (
    FieldStatus,
    OnlineReader,
    delete_view,
    find_layout,
    publish_layout,
    write_many,
)
from tapeline.storage.packed import UNKNOWN, Column, Layout, RowTimes, encode_many, row_times

LAYOUT = Layout.of_floats("daily", 1, ["a", "b"])
PRESENT, NULL, NOT_FOUND, OLD = (int(status) for status in FieldStatus)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


def value_of(times: RowTimes, *values: float, layout: Layout = LAYOUT) -> bytes:
    return encode_many(layout, np.array([times], dtype=np.int64), np.array([values or (0.0, 0.0)]))[0]


EDGE = st.sampled_from([UNKNOWN, UNKNOWN + 1, -256, -1, 0, 1, 127, 128, 255, 256, 2**53, 2**53 + 1, 2**63 - 1])
TIMES = st.builds(RowTimes, EDGE, EDGE, EDGE, EDGE)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(TIMES, min_size=1, max_size=60), seed=st.integers(0, 2**32))
def test_the_greatest_row_stays_whatever_the_order(client: redis.Redis, rows: list[RowTimes], seed: int) -> None:
    """Many keys at once, each given the same rows in another order: all must end at the same row."""
    client.flushdb()
    order = random.Random(seed)
    items = []
    for number in range(20):
        shuffled = order.sample(rows, len(rows))
        items += [(b"k%d" % number, value_of(times)) for times in shuffled]
    write_many(client, items)
    stored = client.mget([b"k%d" % number for number in range(20)])
    assert {row_times(value) for value in stored} == {max(rows)}


def test_equal_rows_are_not_written_again_and_a_newer_record_is(client: redis.Redis) -> None:
    first = value_of(RowTimes(10, 0, 12, 100), 1.0, 2.0)
    same_time = value_of(RowTimes(10, 0, 12, 100), 3.0, 4.0)
    newer = value_of(RowTimes(10, 0, 12, 101), 5.0, 6.0)
    assert write_many(client, [(b"k", first)]) == 1
    assert write_many(client, [(b"k", first), (b"k", same_time)]) == 0
    assert client.get(b"k") == first
    assert write_many(client, [(b"k", newer), (b"k", first)]) == 1
    assert client.get(b"k") == newer


def test_writers_in_parallel_end_at_the_greatest_row(client: redis.Redis, redis_url: str) -> None:
    rows = [(b"k%d" % (i % 7), value_of(RowTimes(i, 0, i, 0))) for i in range(2_000)]

    def write(seed: int) -> None:
        with redis.Redis.from_url(redis_url) as own:
            write_many(own, random.Random(seed).sample(rows, len(rows)))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [row_times(value).event_us for value in client.mget([b"k%d" % i for i in range(7)])]
    assert events == [max(i for i in range(2_000) if i % 7 == remainder) for remainder in range(7)]


def test_a_server_that_forgot_the_script_is_taught_again(client: redis.Redis) -> None:
    rows = [(b"k%d" % i, value_of(RowTimes(1, 0, 1, 1))) for i in range(online.KEYS_PER_SCRIPT * 2 + 5)]
    client.script_flush()
    assert write_many(client, rows) == len(rows)
    client.script_flush()
    assert write_many(client, rows) == 0


@pytest.mark.parametrize("content", [b"text of somebody else, long enough to hold a header of ours", b"x"])
def test_keys_of_somebody_else_are_left_alone(client: redis.Redis, content: bytes) -> None:
    client.set(b"k", content)
    with pytest.raises(IntegrityError, match="k"):
        write_many(client, [(b"k", value_of(RowTimes(1, 0, 1, 1)))])
    assert client.get(b"k") == content


def test_reader_tells_present_null_missing_and_old(client: redis.Redis) -> None:
    other = Layout("hourly", 2, (Column("n", "int64"), Column("s", "string"), Column("x")))
    reader = OnlineReader(client, "p", [LAYOUT, other], [100, 0])
    entities = [entity_key({"symbol": name}) for name in ("A", "B", "C")]
    keys = reader.keys(entities)
    daily = encode_many(
        LAYOUT,
        np.array([[1_000, 0, 1_001, 1], [899, 0, 899, 1]], dtype=np.int64),
        np.array([[1.0, np.nan], [2.0, 3.0]]),
        nulls=np.array([[False, False], [True, False]]),
    )
    slots = np.array([[0.0, 7.5]])
    slots.view(np.int64)[0, 0] = 42
    (hourly,) = encode_many(
        other,
        np.array([[5, 9, UNKNOWN, 1]], dtype=np.int64),
        slots,
        nulls=np.array([[False, True, False]]),
        tails=[[b""]],
    )
    write_many(client, [(keys[0], daily[0]), (keys[1], daily[1]), (keys[5], hourly)])

    early, _ = reader.read(entities, now_us=1_000)
    assert early.statuses.tolist()[0] == [NOT_FOUND, NOT_FOUND], "available one microsecond after now"
    assert np.isnan(early.values[0]).all()
    first, second = reader.read(entities, now_us=1_001)
    assert first.statuses.tolist() == [[PRESENT, PRESENT], [OLD, OLD], [NOT_FOUND, NOT_FOUND]]
    assert first.values[0, 0] == 1.0
    assert np.isnan(first.values[0, 1])
    assert np.isnan(first.values[1:]).all()
    assert second.statuses.tolist() == [[NOT_FOUND] * 3, [NOT_FOUND] * 3, [PRESENT, NULL, PRESENT]]
    assert second.values[2].tolist() == [42.0, 7.5]
    assert online.known_us(int(second.rows.times[2, 2])) is None
    assert second.rows.times[2].tolist()[:2] == [5, 9]

    without_clock, _ = reader.read(entities)
    assert without_clock.statuses.tolist()[1] == [NULL, PRESENT]
    at_the_edge, _ = reader.read(entities, now_us=999)
    assert at_the_edge.statuses.tolist()[1] == [NULL, PRESENT], "exactly the TTL is still inside"
    replayed, _ = reader.read(entities, now_us=898, hide_future=True)
    assert replayed.statuses.tolist() == [[NOT_FOUND] * 2] * 3, "no event of after the replayed moment is shown"
    live, _ = reader.read(entities, now_us=898)
    assert live.statuses.tolist()[1] == [NULL, PRESENT], (
        "a source without an available column, and a clock a little behind"
    )


def test_reader_makes_one_round_trip(client: redis.Redis) -> None:
    reader = OnlineReader(client, "p", [LAYOUT, Layout.of_floats("other", 1, ["x"])])
    entities = [entity_key({"symbol": str(i)}) for i in range(50)]
    reader.read(entities)
    before = client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    reader.read(entities)
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1
    assert reader.read([])[0].values.shape == (0, 2)


def test_reader_refuses_a_layout_it_does_not_know(client: redis.Redis) -> None:
    old = Layout.of_floats("daily", 1, ["a"])
    reader = OnlineReader(client, "p", [LAYOUT])
    (key,) = reader.keys([entity_key({"symbol": "A"})])
    write_many(client, [(key, value_of(RowTimes(1, 0, 1, 1), 1.0, layout=old))])
    with pytest.raises(IntegrityError, match=f"{old.id.hex()}.*{LAYOUT.id.hex()}"):
        reader.read([entity_key({"symbol": "A"})])
    with pytest.raises(ParameterError):
        OnlineReader(client, "p", [LAYOUT], [1, 2])


def test_published_layouts_are_found_and_forged_ones_refused(client: redis.Redis) -> None:
    publish_layout(client, "p", LAYOUT)
    assert find_layout(client, "p", "daily", 1, LAYOUT.id) == LAYOUT
    with pytest.raises(IntegrityError, match="unknown layout"):
        find_layout(client, "p", "daily", 1, b"12345678")
    for content in (b"no JSON", b"[]", b'{"columns": [["a"]]}', b'{"columns": [["z", "float64"]]}'):
        client.set(layout_key("p", b"87654321"), content)
        with pytest.raises(IntegrityError):
            find_layout(client, "p", "daily", 1, b"87654321")


def test_delete_takes_one_view_version_and_nothing_else(client: redis.Redis) -> None:
    kept = [b"tl:p:daily@11:s1:A", b"tl:p:daily2@1:s1:A", b"tl:q:daily@1:s1:A", b"tl:p:state:daily@1:A", b"other"]
    gone = [b"tl:p:daily@1:s%d:%d" % (len(str(i)), i) for i in range(2_500)]
    client.mset(dict.fromkeys(kept + gone, b"x"))
    assert delete_view(client, "p", "daily", 1) == len(gone)
    assert sorted(client.keys()) == sorted(kept)
    assert delete_view(client, "p", "daily", 1) == 0


def test_an_absent_server_is_named_as_such() -> None:
    absent = redis.Redis(unix_socket_path="/nonexistent/redis.sock")
    with pytest.raises(UnavailableError, match="tapeline status"):
        OnlineReader(absent, "p", [LAYOUT]).read([b"s1:A"])
    with pytest.raises(UnavailableError):
        write_many(absent, [(b"k", value_of(RowTimes(1, 0, 1, 1)))])
    with pytest.raises(UnavailableError):
        delete_view(absent, "p", "daily", 1)
