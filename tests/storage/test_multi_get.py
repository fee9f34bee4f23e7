"""Reads of many keys over networks that are slow, silent or cut, against a real server."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import LimitError, UnavailableError
from tapeline.kernels.redis_reply import FILLED, OTHER, PART, WHOLE, find_values
from tapeline.storage import multi_get
from tapeline.storage.multi_get import MultiGet
from tapeline.storage.packed import Found
from tapeline.storage.redis import open_redis

from tests.support.network import Conduct, Proxy
from tests.support.redis_servers import RedisServers, valkey

SHORT_S = 1.0
VALUES = {b"k%d" % i: bytes([i]) * i for i in range(200)} | {b"crlf": b"\r\n$3\r\n", b"empty": b""}
KEYS = [*VALUES, b"none", b"k7", b"none"]
EXPECTED = [VALUES.get(key) for key in KEYS]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    servers = RedisServers(valkey())
    try:
        number = servers.single()
        with redis.Redis(port=number) as client:
            client.mset(VALUES)
            client.set("great", bytes(range(256)) * 20_000)
        yield number
    finally:
        servers.close()


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    made = Proxy(port)
    yield made
    made.close()


@pytest.fixture
def reader(proxy: Proxy) -> Iterator[MultiGet]:
    with open_redis(f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=20") as client:
        made = MultiGet(client)
        assert made([b"k1"]).values() == [b"\x01"]
        yield made
        made.close()


def test_values_come_in_the_order_of_their_keys(reader: MultiGet) -> None:
    assert reader(KEYS).values() == EXPECTED
    assert reader([]).values() == []
    assert reader([b"none"]).values() == [None]
    assert reader(KEYS).values() == EXPECTED


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
def test_answers_in_pieces_are_put_together(reader: MultiGet, proxy: Proxy, piece_bytes: int) -> None:
    proxy.conduct = Conduct(piece_bytes)
    assert reader(KEYS[:60]).values() == EXPECTED[:60]


def test_great_answers_are_read_and_their_room_given_back(reader: MultiGet) -> None:
    (great, one) = reader([b"great", b"k1"]).values()
    assert (len(great or b""), one) == (5_120_000, b"\x01")
    found = reader([b"k2"])
    assert found.values() == [b"\x02\x02"]
    assert len(found.data) <= multi_get._KEPT_BYTES_MAX


def test_answers_beyond_the_limit_are_refused(reader: MultiGet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_get, "ANSWER_BYTES_MAX", 1 << 17)
    with pytest.raises(LimitError, match="fewer entities"):
        reader([b"great"])
    assert reader(KEYS).values() == EXPECTED


@pytest.mark.parametrize("conduct", [Conduct(silent=True), Conduct(piece_bytes=1, pause_s=0.2)], ids=["silent", "slow"])
def test_nothing_takes_longer_than_its_timeout(proxy: Proxy, conduct: Conduct) -> None:
    with open_redis(f"redis://127.0.0.1:{proxy.port}/0?socket_timeout={SHORT_S}") as client:
        reader = MultiGet(client)
        reader([b"k1"])
        proxy.conduct = conduct
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=r"no whole answer|timed out"):
            reader(KEYS)
        assert SHORT_S * 0.9 < time.monotonic() - began < 1.9 * SHORT_S, "once, not once more over a new connection"
        if conduct.silent:
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                client.get("k1")
            assert time.monotonic() - began < 1.9 * SHORT_S, "nor do other commands"
        proxy.conduct = Conduct()
        assert answered(reader) == EXPECTED, "what was left of that answer is not taken for this one"


def answered(reader: MultiGet) -> list[bytes | None]:
    """The answer once the machine has time for it."""
    for _ in range(20):
        try:
            return reader(KEYS).values()
        except UnavailableError:
            continue
    raise AssertionError("no answer came")


def test_an_absent_server_is_soon_known_to_be_absent() -> None:
    with open_redis("unix:///nonexistent/redis.sock") as absent:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            MultiGet(absent)(KEYS)
        with pytest.raises(redis.ConnectionError):
            absent.get("k")
        assert time.monotonic() - began < 5


def test_a_connection_that_was_reset_is_made_again(reader: MultiGet, proxy: Proxy, port: int) -> None:
    proxy.conduct = Conduct(reset_after_bytes=1_000)
    with pytest.raises(UnavailableError):
        reader(KEYS)
    proxy.conduct = Conduct()
    assert reader(KEYS).values() == EXPECTED
    with redis.Redis(port=port) as client:
        before = proxy.accepted
        for _ in range(120):  # more than redis-py's pools have room for
            client.client_kill_filter(_type="normal", skipme=True)
            assert reader([b"k3"]).values() == [b"\x03" * 3]
    assert proxy.accepted == before + 120


def test_what_the_server_refuses_is_said(port: int) -> None:
    with redis.Redis(port=port) as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", ">word", "~*", "+@all", "-mget")
    with open_redis(f"redis://blind:word@127.0.0.1:{port}/0") as blind:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="mget"):
                MultiGet(blind)(KEYS)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_and_forked_processes_read_over_connections_of_their_own(reader: MultiGet) -> None:
    wrong: list[bytes] = []

    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            keys = chance.sample(KEYS, 5)
            if reader(keys).values() != [VALUES.get(key) for key in keys]:
                wrong.extend(keys)
        reader.close()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if reader(KEYS).values() == EXPECTED else 1)
        finally:
            os._exit(2)
    assert reader(KEYS).values() == EXPECTED
    assert os.waitpid(child, 0)[1] == 0
    assert reader(KEYS).values() == EXPECTED


def found_in(data: bytes, count: int, cuts: list[int]) -> list[bytes | None] | int:
    """What is found in an answer that comes in pieces; or why nothing is."""
    buffer = np.frombuffer(bytearray(data + b"*9\r\n$1\r\n"), dtype=np.uint8)
    starts, lengths = np.empty((2, count), dtype=np.int64)
    state = np.array([0, -1, 0])
    outcome = PART
    for state[FILLED] in [*sorted(cuts), len(data)]:
        outcome = find_values(buffer, state, starts, lengths)
        if outcome != PART:
            break
    return Found(buffer, starts, lengths).values() if outcome == WHOLE else int(outcome)


VALUE = st.none() | st.binary(max_size=30) | st.sampled_from([b"\r\n", b"$1\r\na\r\n", b"*1\r\n"])


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUE, max_size=8), st.booleans(), st.data())
def test_values_are_found_however_the_answer_is_cut(
    values: list[bytes | None], third: bool, data: st.DataObject
) -> None:
    none = b"_\r\n" if third else b"$-1\r\n"
    answer = b"*%d\r\n" % len(values) + b"".join(
        none if value is None else b"$%d\r\n%b\r\n" % (len(value), value) for value in values
    )
    cuts = data.draw(st.lists(st.integers(0, len(answer) - 1), max_size=6))
    assert found_in(answer, len(values), cuts) == values
    for end in cuts:
        assert found_in(answer[:end], len(values), []) == PART
    assert found_in(answer, len(values) + 1, cuts) == OTHER


@pytest.mark.parametrize(
    "answer",
    [b"-ERR no\r\n", b"+OK\r\n", b"$1\r\na\r\n", b"*x\r\n", b"*2\r\n:1\r\n", b"*2\r\n$x\r\n", b"*2\r\n$-\r\n", b"*2\r\n$-2\r\n", b"*\r\n",
     b"*2\n", b"*2\rx", b"*99999999999999999999\r\n", b"*2\r\n$1\r\nab\r\n", b"*2\r\n_\r\r", b">2\r\n", b"*2\r\n*1\r\n"],
)  # fmt: skip
def test_what_is_no_list_of_values_is_told_apart(answer: bytes) -> None:
    assert found_in(answer, 2, []) == OTHER


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_end_in_one_of_three_ways(data: bytes, count: int) -> None:
    for answer in (data, b"*%d\r\n" % count + data):
        outcome = found_in(answer, count, [])
        assert outcome in (PART, OTHER) or len(outcome) == count
