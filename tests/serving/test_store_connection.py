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
