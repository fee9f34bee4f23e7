"""The packed online store on every arrangement of servers: alone, by socket, with accounts, TLS, Sentinel, cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from redis.crc import key_slot
from tapeline.core.errors import ConfigurationError, IntegrityError, UnavailableError
from tapeline.core.settings import Settings
from tapeline.storage import FieldStatus, OnlineReader, ReadPlan, connect_redis, entity_key
from tapeline.storage.actions import actions_key
from tapeline.storage.keys import entity_key_sorted, view_prefix
from tapeline.storage.online import (
    delete_layouts,
    delete_view,
    find_layout,
    publish_layout,
    publish_layout_async,
    write_many,
    write_many_async,
)
from tapeline.storage.packed import Layout, RowTimes, encode_many
from tapeline.storage.redis import is_cluster, open_redis, open_redis_async
from tapeline.storage.redis_address import RedisAddress
from tapeline.storage.state_codec import state_key

from tests.editions.plugin import not_tested
from tests.support.redis_servers import (
    PASSWORD_IN_URL,
    REQUIRED,
    RedisServers,
    debian_redis,
    valkey,
    wait_until,
)

LAYOUT = Layout.of_floats("daily", 1, ["a", "b"])
OTHER = Layout.of_floats("hourly", 3, ["x"])
ENTITIES = [entity_key({"symbol": f"S{i}"}) for i in range(200)]


@dataclass
class Place:
    """Servers and the address by which they are found."""

    url: str
    servers: RedisServers
    ports: list[int]
    cluster: bool = False

    def erase(self) -> None:
        with open_redis(self.url) as client:
            for key in list(client.scan_iter("*")):
                client.unlink(key)


def _standalone(servers: RedisServers) -> Place:
    port = servers.single()
    return Place(f"redis://127.0.0.1:{port}/1", servers, [port])


def _socket(servers: RedisServers) -> Place:
    port = servers.single()
    return Place(f"unix://{servers.folder}/{port}/redis.sock?db=2", servers, [port])


def _account(servers: RedisServers) -> Place:
    port = servers.with_account()
    return Place(f"redis://tapeline:{PASSWORD_IN_URL}@127.0.0.1:{port}/0", servers, [port])


def _sentinel(servers: RedisServers) -> Place:
    ports, sentinels = servers.group()
    hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    return Place(f"redis+sentinel://{hosts}/main/1", servers, ports)


def _cluster(servers: RedisServers) -> Place:
    ports = servers.cluster()
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports[:2])
    return Place(f"redis+cluster://{hosts}", servers, ports, cluster=True)


def _tls(servers: RedisServers) -> Place:
    port = servers.single(*servers.tls())
    return Place(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={servers.folder}/ca.crt", servers, [port])


def _tls_account(servers: RedisServers) -> Place:
    port = servers.with_account(*servers.tls())
    url = f"rediss://tapeline:{PASSWORD_IN_URL}@127.0.0.1:{port}/0?ssl_ca_certs={servers.folder}/ca.crt"
    return Place(url, servers, [port])


def _tls_cluster(servers: RedisServers) -> Place:
    ports = servers.cluster(*servers.tls(), "--tls-cluster", "yes")
    url = f"rediss+cluster://127.0.0.1:{ports[0]}?ssl_ca_certs={servers.folder}/ca.crt"
    return Place(url, servers, ports, cluster=True)


KINDS: dict[str, Callable[[RedisServers], Place]] = {
    "valkey": _standalone, "valkey socket": _socket, "valkey account": _account, "valkey sentinel": _sentinel,
    "valkey cluster": _cluster, "redis": _standalone, "redis sentinel": _sentinel, "redis cluster": _cluster,
    "redis tls": _tls, "redis tls account": _tls_account, "redis tls cluster": _tls_cluster,
}  # fmt: skip


def _program(kind: str) -> Path:
    if kind.startswith("valkey"):
        return valkey()
    program, reason = debian_redis()
    if program is None:
        not_tested("the online store on Debian's Redis (TLS among it)", reason)
        if REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="module", params=[*KINDS])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    servers = RedisServers(_program(request.param))
    try:
        yield KINDS[request.param](servers)
    finally:
        servers.close()


@pytest.fixture
def client(place: Place) -> Iterator[redis.Redis]:
    place.erase()
    with open_redis(place.url) as opened:
        yield opened


def items(event: int, *values: float, layout: Layout = LAYOUT) -> list[tuple[bytes, bytes]]:
    """A value for every entity, the same but for the event's microsecond."""
    count = len(ENTITIES)
    times = np.tile(np.array([event, 0, event, 0], dtype=np.int64), (count, 1))
    numbers = np.tile(np.array(values), (count, 1)) + np.arange(count)[:, None]
    prefix = view_prefix("p", layout.view, layout.version)
    return [
        (prefix + entity, value) for entity, value in zip(ENTITIES, encode_many(layout, times, numbers), strict=True)
    ]


def test_writes_in_any_order_end_at_the_newest_row_and_are_read_as_one_matrix(client: redis.Redis) -> None:
    rows = items(10, 1.0, 2.0) + items(30, 5.0, 6.0) + items(20, 3.0, 4.0) + items(7, 0.5, layout=OTHER)
    random.Random(3).shuffle(rows)
    write_many(client, rows)
    assert write_many(client, rows) == 0
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT, OTHER]))
    matrix = reader.read([*ENTITIES[::-1], entity_key({"symbol": "nobody"})])
    order = np.arange(len(ENTITIES))[::-1]
    assert matrix.names == ("daily:a", "daily:b", "hourly:x")
    assert np.array_equal(matrix.values[:-1], np.array([5.0, 6.0, 0.5]) + order[:, None])
    assert (matrix.statuses[:-1] == FieldStatus.PRESENT).all()
    assert (matrix.statuses[-1] == FieldStatus.NOT_FOUND).all()
    assert (matrix.event_us[:-1] == [30, 7]).all()
    reader.close()


def test_a_server_that_forgot_the_script_is_taught_again(client: redis.Redis, place: Place) -> None:
    if "tapeline:" in place.url:
        pytest.skip("this account may not flush scripts")
    write_many(client, items(1, 1.0, 2.0))
    client.script_flush()
    assert write_many(client, items(2, 1.0, 2.0)) == len(ENTITIES)


def test_the_event_loop_reads_and_writes_the_same(client: redis.Redis, place: Place) -> None:
    plan = ReadPlan("p", [LAYOUT])

    async def scenario() -> Any:
        loop: Any = open_redis_async(place.url)
        try:
            await publish_layout_async(loop, "p", LAYOUT)
            await write_many_async(loop, items(5, 1.0, 2.0))
            keys = plan.keys(ENTITIES)
            return plan.decode(await (loop.mget_nonatomic(keys) if is_cluster(loop) else loop.mget(keys)))
        finally:
            await loop.aclose()

    there = asyncio.run(scenario())
    assert find_layout(client, "p", "daily", 1, LAYOUT.id) == LAYOUT
    assert np.array_equal(there.values, OnlineReader(client, plan).read(ENTITIES).values)


def test_a_view_is_deleted_whole_and_alone(client: redis.Redis) -> None:
    publish_layout(client, "p", LAYOUT)
    write_many(client, items(1, 1.0, 2.0) + items(1, 1.0, layout=OTHER))
    assert delete_view(client, "p", "daily", 1) == len(ENTITIES)
    matrix = OnlineReader(client, ReadPlan("p", [LAYOUT, OTHER])).read(ENTITIES)
    assert (matrix.statuses == [FieldStatus.NOT_FOUND, FieldStatus.NOT_FOUND, FieldStatus.PRESENT]).all()
    assert delete_layouts(client, "p") == 1


def test_keys_expire_no_earlier_than_reads_need_them(client: redis.Redis, place: Place) -> None:
    if "tapeline:" in place.url:
        pytest.skip("this account may not look at expiry")
    rows = items(10, 1.0, 2.0)
    write_many(client, rows, keep_us=3_600_000_000)
    left = client.pttl(rows[0][0])
    assert 3_590_000 < left <= 3_600_001, "counted from the writing: the event is long past"
    later = 4_000_000_000_000_000
    ahead = items(later, 1.0, 2.0)
    write_many(client, ahead, keep_us=1_000_000)
    assert client.execute_command("PEXPIRETIME", rows[0][0]) == later // 1_000 + 1_000 + 1
    write_many(client, ahead)
    assert client.pttl(rows[0][0]) == -1, "the same row without expiry takes it away"
    write_many(client, ahead, keep_us=2_000_000)
    assert client.execute_command("PEXPIRETIME", rows[0][0]) == later // 1_000 + 2_000 + 1


def test_an_account_may_do_no_more_than_it_needs(client: redis.Redis, place: Place) -> None:
    if "tapeline:" not in place.url:
        pytest.skip("without accounts")
    with pytest.raises(redis.ResponseError, match=r"NOPERM|permission"):
        client.execute_command("SET", "elsewhere", b"x")
    with pytest.raises(redis.ResponseError, match=r"NOPERM|permission"):
        client.flushall()
    wrong = place.url.replace(PASSWORD_IN_URL, "wrong")
    with pytest.raises(UnavailableError):
        OnlineReader(open_redis(wrong), ReadPlan("p", [LAYOUT])).read(ENTITIES)


def test_a_foreign_key_is_named_and_left_alone(client: redis.Redis, place: Place) -> None:
    rows = items(1, 1.0, 2.0)
    client.set(rows[3][0], b"text of somebody else, long enough to hold a header of ours")
    with pytest.raises(IntegrityError, match="daily@1"):
        write_many(client, rows)


def test_tls_with_an_unknown_authority_is_refused(place: Place) -> None:
    if not place.url.startswith("rediss"):
        pytest.skip("without TLS")
    with pytest.raises(UnavailableError, match=r"certificate|CERTIFICATE"):
        OnlineReader(open_redis(place.url.partition("?")[0]), ReadPlan("p", [LAYOUT])).read(ENTITIES)


def test_settings_lead_there(place: Place, tmp_path: Path) -> None:
    with connect_redis(Settings(home=tmp_path, redis_url=place.url)) as client:
        assert is_cluster(client) is place.cluster


def test_all_keys_of_an_entity_lie_in_one_slot() -> None:
    for values in (["AAPL"], ["a}b", 7], ["}"], ["{"], [b"\x00{}"]):
        entity = entity_key_sorted(values)
        keys = [view_prefix("p", name, version) + entity for name, version in (("daily", 1), ("daily", 2), ("x", 1))]
        assert len({key_slot(key) for key in keys}) == 1
    keys = [view_prefix("p", "v", 1) + entity_key_sorted(["A"]), state_key("p", "v", 1, "A"), actions_key("p", "A")]
    assert len({key_slot(key) for key in keys}) == 1
    assert len({key_slot(entity) for entity in ENTITIES}) > 150


def test_a_slot_that_moved_is_found(place: Place, client: redis.Redis) -> None:
    if not place.cluster or place.url.startswith("rediss"):
        pytest.skip("one cluster without TLS is enough")
    write_many(client, items(1, 1.0, 2.0))
    reader = OnlineReader(client, ReadPlan("p", [LAYOUT]))
    before = reader.read(ENTITIES)
    slot = key_slot(ENTITIES[0])
    nodes = [redis.Redis(port=port) for port in place.ports]
    names = [node.execute_command("CLUSTER MYID").decode() for node in nodes]
    source = slot * len(nodes) // 16_384
    target = (source + 1) % len(nodes)
    nodes[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
    nodes[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
    keys = nodes[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
    assert keys
    assert np.array_equal(reader.read(ENTITIES).values, before.values)
    nodes[source].execute_command("MIGRATE", "127.0.0.1", place.ports[target], "", 0, 5000, "KEYS", *keys)
    assert np.array_equal(reader.read(ENTITIES).values, before.values), "half-way, asked for at the other node"
    for node in (nodes[target], nodes[source]):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])
    assert np.array_equal(reader.read(ENTITIES).values, before.values)
    assert write_many(client, items(2, 1.0, 2.0)) == len(ENTITIES)


@pytest.mark.timeout(120)
def test_readers_and_writers_follow_a_failover() -> None:
    servers = RedisServers(valkey())
    try:
        place = _sentinel(servers)
        with open_redis(place.url) as client:
            write_many(client, items(1, 1.0, 2.0))
            reader = OnlineReader(client, ReadPlan("p", [LAYOUT]))
            before = reader.read(ENTITIES)
            client.wait(1, 5_000)
            with redis.Redis(port=place.ports[0]) as leader:
                leader.shutdown(nosave=True, now=True, force=True)

            def again() -> bool:
                try:
                    return bool(write_many(client, items(2, 3.0, 4.0)) == len(ENTITIES))
                except UnavailableError:
                    return False

            wait_until(again, 30)
            after = reader.read(ENTITIES)
            assert np.array_equal(after.values, before.values + 2.0)
            assert redis.Redis(port=place.ports[1]).info("replication")["role"] == "master"
    finally:
        servers.close()


@pytest.mark.parametrize(
    ("url", "topology", "nodes", "plain", "master"),
    [
        ("redis://h:1/2", "standalone", (("h", 1),), "redis://h:1/2", ""),
        ("redis://h", "standalone", (("h", 6379),), "redis://h:6379/0", ""),
        ("rediss://u:p%40@[::1]:7/1?ssl_ca_certs=%2Fca", "standalone", (("::1", 7),),
         "rediss://u:p%40@[::1]:7/1?ssl_ca_certs=%2Fca", ""),
        ("unix://u:p@/run/r.sock?db=2", "standalone", (), "unix://u:p@/run/r.sock?db=2", ""),
        ("redis+sentinel://u:p@a,b:7/main/3", "sentinel", (("a", 26379), ("b", 7)), "redis://u:p@a:26379/3", "main"),
        ("rediss+cluster://a:1,b", "cluster", (("a", 1), ("b", 6379)), "rediss://a:1/0", ""),
    ],
)  # fmt: skip
def test_addresses(url: str, topology: str, nodes: Any, plain: str, master: str) -> None:
    address = RedisAddress.parse(url)
    assert (address.topology, address.nodes, address.plain_url, address.master) == (topology, nodes, plain, master)
    assert "p@" not in str(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://h", "redis:/h", "unix+cluster:///x", "redis+ring://h", "unix://", "redis://a,b", "redis://h:port",
        "redis+sentinel://h", "redis+sentinel://h/main/x", "redis+cluster://h/1", "redis://h/x", "redis://[::1",
        "redis+cluster://" + ",".join(["h"] * 101),
    ],
)  # fmt: skip
def test_malformed_addresses_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis_url") as caught:
        RedisAddress.parse(url.replace("://", "://me:hidden@", 1) if "://" in url else url)
    assert "hidden" not in str(caught.value)


def test_times_of_a_row(client: redis.Redis) -> None:
    """Written in one arrangement and read in all: the header is the same."""
    write_many(client, items(12, 1.0, 2.0))
    (times,) = OnlineReader(client, ReadPlan("p", [LAYOUT])).read(ENTITIES[:1]).times[0]
    assert RowTimes(*times.tolist()) == RowTimes(12, 0, 12, 0)
