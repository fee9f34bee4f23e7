"""The pipelining Redis connection: order, one write a tick, timeouts, nonsense, reconnecting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis
from tapeline.core.errors import ConfigurationError, UnavailableError
from tapeline.core.settings import Settings
from tapeline_serving.store.address import RedisAddress
from tapeline_serving.store.connection import RedisConnection

from tests.editions.plugin import not_tested
from tests.support.redis_servers import PASSWORD_IN_URL, REQUIRED, RedisServers, debian_redis, valkey


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", ("cache", 6379, None, 0, None, None, False)),
        ("redis://u:p%40ss@cache:7000/3", ("cache", 7000, None, 3, "u", "p@ss", False)),
        ("rediss://:secret@cache/1", ("cache", 6379, None, 1, None, "secret", True)),
        ("unix:///run/redis.sock?db=4", ("localhost", 6379, "/run/redis.sock", 4, None, None, False)),
        ("redis://[::1]:7001", ("::1", 7001, None, 0, None, None, False)),
    ],
)
def test_address(url: str, expected: tuple) -> None:
    a = RedisAddress.parse(url)
    assert (a.host, a.port, a.path, a.database, a.username, a.password, a.tls) == expected


@pytest.mark.parametrize("url", ["http://x", "redis://x:port", "redis://x/db", "unix://"])
def test_malformed_address_keeps_the_password_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisAddress.parse(url.replace("//x", "//:hunter2@x"))
    assert "hunter2" not in str(caught.value)


def test_greeting() -> None:
    greeting = RedisAddress.parse("redis://u:p@x/3").greeting()
    assert greeting[:2] == [("AUTH", "u", "p"), ("SELECT", "3")]


def test_concurrent_reads_get_their_own_replies(settings: Settings) -> None:
    url = settings.redis_url.replace("db=0", "db=5")
    with redis.Redis.from_url(url) as store:
        store.mset({f"k{i}": str(i) for i in range(500)})

    async def main() -> None:
        connection = RedisConnection(RedisAddress.parse(url))
        assert await connection.start()
        replies = await asyncio.gather(*(connection.mget([b"k%d" % i, b"none", b"k%d" % (i + 1)]) for i in range(499)))
        assert replies == [[b"%d" % i, None, b"%d" % (i + 1)] for i in range(499)]
        with pytest.raises(UnavailableError, match="refused a command"):
            await connection.execute(b"NOSUCH")
        cancelled = connection.mget([b"k1"])
        cancelled.cancel()
        assert await connection.mget([b"k2"]) == [b"2"]  # the cancelled one's reply is not taken for this one's
        await connection.close()
        with pytest.raises(UnavailableError):
            connection.mget([b"k1"])

    asyncio.run(main())


async def serve_once(path: Path, answer) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"+OK\r\n")  # to the greeting
        await answer(reader, writer)

    return await asyncio.start_unix_server(handle, path)


def test_silence_is_a_loss_and_the_connection_returns(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    changes: list[bool] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await serve_once(path, silent)
        connection = RedisConnection(RedisAddress.parse(f"unix://{path}"), timeout_s=0.2, on_change=changes.append)
        assert await connection.start()
        waiting = [connection.mget([b"a"]), connection.mget([b"b"])]
        for future in waiting:
            with pytest.raises(UnavailableError, match=r"no reply within 0\.2 s"):
                await future
        for _ in range(100):
            if changes.count(True) > 1:
                break
            await asyncio.sleep(0.05)
        assert changes[:3] == [True, False, True]
        await connection.close()
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "message"),
    [(b"?nonsense\r\n", "does not speak"), (b"+A\r\n+B\r\n+C\r\n", "nobody sent"), (b"", "closed the connection")],
)
def test_nonsense_is_a_loss(tmp_path: Path, sent: bytes, message: str) -> None:
    path = tmp_path / "odd.sock"

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def main() -> None:
        server = await serve_once(path, odd)
        connection = RedisConnection(RedisAddress.parse(f"unix://{path}"))
        assert await connection.start()
        futures = [connection.mget([b"a"]) for _ in range(2)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        if "nobody" in message:  # both requests got a line; the third answered nobody
            assert results == [b"A", b"B"]
        else:
            assert all(message in str(result) for result in results)
        await connection.close()
        server.close()

    asyncio.run(main())


def test_too_many_waiting_requests_are_refused(settings: Settings) -> None:
    async def main() -> None:
        connection = RedisConnection(RedisAddress.parse(settings.redis_url), waiting_max=3)
        assert await connection.start()
        waiting = [connection.mget([b"a"]) for _ in range(3)]
        with pytest.raises(UnavailableError, match="3 requests wait"):
            connection.mget([b"a"])
        await asyncio.gather(*waiting)
        await connection.close()

    asyncio.run(main())


def test_addresses_of_groups_and_of_private_authorities() -> None:
    group = RedisAddress.parse("redis+sentinel://u:p@a:1,b/main/3?sentinel_password=s")
    assert (group.sentinels, group.master, group.database) == ((("a", 1), ("b", 26379)), "main", 3)
    assert group.sentinel_greeting() == [("AUTH", "s"), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")]
    tls = RedisAddress.parse("rediss://x/1?ssl_ca_certs=%2Fca&ssl_certfile=%2Fc&ssl_keyfile=%2Fk")
    assert (tls.ca_certs, tls.certfile, tls.keyfile, tls.database) == ("/ca", "/c", "/k", 1)
    with pytest.raises(ConfigurationError, match="leads to a cluster"):
        RedisAddress.parse("redis+cluster://a:1,b:2")


@pytest.mark.timeout(120)
def test_the_leader_of_a_group_is_found_and_followed() -> None:
    servers = RedisServers(valkey())
    try:
        ports, sentinels = servers.group()
        hosts = ",".join(["127.0.0.1:1", *(f"127.0.0.1:{port}" for port in sentinels)])  # the first is away
        changes: list[bool] = []

        async def main() -> None:
            address = RedisAddress.parse(f"redis+sentinel://{hosts}/main/1")
            connection = RedisConnection(address, timeout_s=2.0, on_change=changes.append)
            assert await connection.start()
            await connection.execute(b"SET", b"k", b"v")
            await connection.execute(b"WAIT", b"1", b"1000")
            with redis.Redis(port=ports[0]) as leader:
                leader.shutdown(nosave=True, now=True, force=True)
            for _ in range(600):
                await asyncio.sleep(0.05)
                if changes.count(True) == 2:
                    break
            assert changes[:3] == [True, False, True]
            assert await connection.mget([b"k"]) == [b"v"]
            await connection.execute(b"SET", b"k", b"w")  # only a leader takes it
            await connection.close()

        asyncio.run(main())
        with redis.Redis(port=ports[1], db=1) as left:
            assert left.get("k") == b"w"
    finally:
        servers.close()


def test_tls_with_a_private_authority() -> None:
    program, reason = debian_redis()
    if program is None:
        not_tested("the inference server's connection with TLS", reason)
        if REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    servers = RedisServers(program)
    try:
        port = servers.with_account(*servers.tls())
        url = f"rediss://tapeline:{PASSWORD_IN_URL}@127.0.0.1:{port}"

        async def main() -> None:
            trusting = RedisConnection(RedisAddress.parse(f"{url}?ssl_ca_certs={servers.folder}/ca.crt"))
            assert await trusting.start()
            await trusting.execute(b"SET", b"tl:k", b"v")
            assert await trusting.mget([b"tl:k", b"tl:none"]) == [b"v", None]
            await trusting.close()
            wary = RedisConnection(RedisAddress.parse(url))
            assert not await wary.start()
            await wary.close()

        asyncio.run(main())
    finally:
        servers.close()
