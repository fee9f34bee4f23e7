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
from tapeline.core.errors import IntegrityError, ParameterError, UnavailableError, UnknownNameError
from tapeline.storage import online
from tapeline.storage.keys import entity_key, layout_key
from tapeline.storage.online import delete_view, find_layout, publish_layout, write_many
from tapeline.storage.online_reader import OnlineReader, ReadPlan
from tapeline.storage.packed import MAGIC, UNKNOWN, Column, Layout, RowTimes, encode_many, row_times
from tapeline.storage.redis import open_redis
from tapeline.storage.statuses import FieldStatus

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


def test_what_the_former_version_wrote_gives_way(client: redis.Redis) -> None:
    client.set(b"k", b"TLP\x01" + b"\xff" * 60)
    value = value_of(RowTimes(1, 0, 1, 1))
    assert write_many(client, [(b"k", value)]) == 1
    assert client.get(b"k") == value


def test_only_times_decide(client: redis.Redis) -> None:
    """Two rows of one rank: the first stays, whatever its numbers, its nulls and its layout."""
    times = RowTimes(1, 0, 1, 1)
    nulls = np.array([[True, False]])
    (with_null,) = encode_many(LAYOUT, np.array([times]), np.array([[0.0, 9.0]]), nulls=nulls)
    other = value_of(times, 7.0, layout=Layout.of_floats("daily", 1, ["z"]))
    for first, second in ((with_null, other), (other, with_null), (value_of(times, 1.0, 2.0), with_null)):
        client.flushdb()
        assert write_many(client, [(b"k", first)]) == 1
        assert write_many(client, [(b"k", second)]) == 0
        assert client.get(b"k") == first


@pytest.mark.parametrize(
    "content",
    [b"text of somebody else, long enough to hold a header of ours", b"x", MAGIC[0], MAGIC[0] + b"short", "…".encode()],
)
def test_keys_of_somebody_else_are_left_alone(client: redis.Redis, content: bytes) -> None:
    client.set(b"k", content)
    with pytest.raises(IntegrityError, match="k"):
        write_many(client, [(b"k", value_of(RowTimes(1, 0, 1, 1)))])
    assert client.get(b"k") == content


def test_reader_tells_present_null_missing_and_old(client: redis.Redis) -> None:
    other = Layout("hourly", 2, (Column("n", "int64"), Column("s", "string"), Column("x")))
    features = [("daily", "a"), ("hourly", "x"), ("hourly", "n"), ("daily", "b")]
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT, other], features, [100, 0]))
    entities = [entity_key({"symbol": name}) for name in ("A", "B", "C")]
    keys = reader.plan.keys(entities)
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

    first = reader.read(entities, now_us=1_001)
    assert first.names == ("daily:a", "hourly:x", "hourly:n", "daily:b")
    assert first.statuses.tolist() == [
        [PRESENT, NOT_FOUND, NOT_FOUND, PRESENT], [OLD, NOT_FOUND, NOT_FOUND, OLD], [NOT_FOUND, PRESENT, PRESENT, NOT_FOUND],
    ]  # fmt: skip
    assert first.values[0, 0] == 1.0
    assert np.isnan(first.values[0, 1:]).all(), "b is a NaN that a kernel gave"
    assert np.isnan(first.values[1]).all()
    assert first.values[2, 1:3].tolist() == [7.5, 42.0]
    assert first.times[2, 1].tolist() == [5, 9, UNKNOWN, 1]
    assert first.event_us.tolist() == [[1_000, UNKNOWN], [899, UNKNOWN], [UNKNOWN, 5]]
    assert first.available_us[0, 0] == 1_001

    def daily_statuses(**clock: object) -> list[list[int]]:
        return reader.read(entities[:2], **clock).statuses[:, [0, 3]].tolist()

    assert daily_statuses(now_us=1_000)[0] == [NOT_FOUND] * 2, "available one microsecond after now"
    assert daily_statuses()[1] == [NULL, PRESENT], "without a clock nothing is too old"
    assert daily_statuses(now_us=999)[1] == [NULL, PRESENT], "exactly the TTL is still inside"
    assert daily_statuses(now_us=898, hide_future=True) == [[NOT_FOUND] * 2] * 2, "events of after the replayed moment"
    assert daily_statuses(now_us=898)[1] == [NULL, PRESENT], "no available column, and a clock a little behind"


ROWS = st.lists(
    st.tuples(
        st.booleans(),  # whether there is a value
        st.sampled_from([0, 99, 100, 101, 1_000]),  # event
        st.sampled_from([UNKNOWN, 0, 150, 1_000]),  # available
        st.booleans(),  # whether the first column is null
    ),
    max_size=9,
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([None, 0, 100, 150, 200, 201, 2_000]), st.sampled_from([0, 100]), st.booleans())
def test_the_short_way_and_the_long_way_agree(
    rows: list[tuple[bool, int, int, bool]], now_us: int | None, ttl_us: int, hide_future: bool
) -> None:
    """A matrix of whole values is filled in a few steps; the same rows with a missing one behind them are not."""
    layout = Layout("v", 1, (Column("x"), Column("n", "int64"), Column("y")))
    plan = ReadPlan("p", [layout], [("v", "n"), ("v", "y"), ("v", "x")], [ttl_us])
    values: list[bytes | None] = []
    for place, (there, event, available, null) in enumerate(rows):
        slots = np.array([[place + 0.5, 0.0, -place - 0.5]])
        slots.view(np.int64)[0, 1] = place + 2**40
        times = np.array([[event, 0, available, 0]], dtype=np.int64)
        (value,) = encode_many(layout, times, slots, nulls=np.array([[null, False, False]]))
        values.append(value if there else None)
    short = plan.decode(values, now_us=now_us, hide_future=hide_future)
    long = plan.decode([*values, None], now_us=now_us, hide_future=hide_future)
    assert np.array_equal(short.values, long.values[:-1], equal_nan=True)
    assert np.array_equal(short.statuses, long.statuses[:-1])
    assert np.array_equal(short.times, long.times[:-1])


def test_reader_makes_one_round_trip(client: redis.Redis) -> None:
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT, Layout.of_floats("other", 1, ["x"])]))
    entities = [entity_key({"symbol": str(i)}) for i in range(50)]
    reader.read(entities)
    before = client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    reader.read(entities)
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1
    assert reader.read([]).values.shape == (0, 3)


def test_views_of_different_entities_are_read_beside_each_other(client: redis.Redis) -> None:
    other = Layout.of_floats("accounts", 1, ["x"])
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT, other]))
    symbols = [entity_key({"symbol": name}) for name in ("A", "B")]
    accounts = [entity_key({"account": number}) for number in (7, 8)]
    keys = reader.plan.keys({"accounts": accounts, "daily": symbols})
    write_many(
        client,
        [
            (keys[0], value_of(RowTimes(1, 0, 1, 1), 1.0, 2.0)),
            (keys[3], value_of(RowTimes(1, 0, 1, 1), 3.0, layout=other)),
        ],
    )
    matrix = reader.read({"accounts": accounts, "daily": symbols})
    assert np.array_equal(matrix.values, [[1.0, 2.0, np.nan], [np.nan, np.nan, 3.0]], equal_nan=True)
    for wrong in ({"daily": symbols}, {"daily": symbols, "accounts": accounts[:1]}):
        with pytest.raises(ParameterError, match="every view"):
            reader.read(wrong)


def test_reader_refuses_a_layout_it_does_not_know(client: redis.Redis) -> None:
    old = Layout.of_floats("daily", 1, ["a"])
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT]))
    (key,) = reader.plan.keys([entity_key({"symbol": "A"})])
    write_many(client, [(key, value_of(RowTimes(1, 0, 1, 1), 1.0, layout=old))])
    with pytest.raises(IntegrityError, match=f"unknown layout {old.id.hex()}, expected {LAYOUT.id.hex()}.*daily@v1"):
        reader.read([entity_key({"symbol": "A"})])


def test_values_that_run_into_each_other_are_refused() -> None:
    """Two whole values under one key and nothing under the next have the length of two, and heads in the right places."""
    value = value_of(RowTimes(1, 0, 1, 1))
    with pytest.raises(IntegrityError, match="key 0 "):
        ReadPlan("p", [LAYOUT]).decode([value + value, b""])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([LAYOUT], None, [1, 2]), ParameterError, "2 TTLs"),
        (([LAYOUT, Layout.of_floats("daily", 2, ["a"])],), ParameterError, "twice"),
        (([LAYOUT], [("dayly", "a")]), UnknownNameError, "dayly"),
        (([LAYOUT], [("daily", "c")]), UnknownNameError, "c"),
        (([Layout("t", 1, (Column("s", "string"),))], [("t", "s")]), ParameterError, "no number"),
    ],
)
def test_plans_that_cannot_be_are_refused(arguments: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ReadPlan("p", *arguments)


def test_published_layouts_are_found_and_forged_ones_refused(client: redis.Redis) -> None:
    for _ in range(2):
        publish_layout(client, "p", LAYOUT)
    assert find_layout(client, "p", "daily", 1, LAYOUT.id) == LAYOUT
    with pytest.raises(IntegrityError, match="unknown layout"):
        find_layout(client, "p", "daily", 1, b"12345")
    for content in (b"no JSON", b"[]", b'{"columns": [["a"]]}', b'{"columns": [["z", "float64"]]}'):
        client.set(layout_key("p", b"54321"), content)
        with pytest.raises(IntegrityError):
            find_layout(client, "p", "daily", 1, b"54321")
        client.set(layout_key("p", LAYOUT.id), content)
        with pytest.raises(IntegrityError, match=f"published as layout {LAYOUT.id.hex()}.*daily@v1"):
            publish_layout(client, "p", LAYOUT)


def test_delete_takes_one_view_version_and_nothing_else(client: redis.Redis) -> None:
    kept = [
        b"tl:p:daily@11:{s1:A}",
        b"tl:p:daily2@1:{s1:A}",
        b"tl:q:daily@1:{s1:A}",
        b"tl:p:state:daily@1:{s1:A}",
        b"o",
    ]
    gone = [b"tl:p:daily@1:{s%d:%d}" % (len(str(i)), i) for i in range(2_500)]
    client.mset(dict.fromkeys(kept + gone, b"x"))
    assert delete_view(client, "p", "daily", 1) == len(gone)
    assert sorted(client.keys()) == sorted(kept)
    assert delete_view(client, "p", "daily", 1) == 0


def test_an_absent_server_is_named_as_such() -> None:
    absent = open_redis("unix:///nonexistent/redis.sock")
    with pytest.raises(UnavailableError, match="tapeline status"):
        OnlineReader(absent, ReadPlan("p", [LAYOUT])).read([b"{s1:A}"])
    with pytest.raises(UnavailableError):
        write_many(absent, [(b"k", value_of(RowTimes(1, 0, 1, 1)))])
    with pytest.raises(UnavailableError):
        delete_view(absent, "p", "daily", 1)
