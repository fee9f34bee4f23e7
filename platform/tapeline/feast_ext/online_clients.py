"""Redis clients of an online store: one for threads, one for each event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import hiredis
from redis import Redis
from redis import asyncio as redis_asyncio
from redis.exceptions import RedisError, ResponseError

from tapeline.core.errors import ConfigurationError
from tapeline.storage.online import unavailable
from tapeline.storage.redis import redis_url

if TYPE_CHECKING:
    from tapeline.feast_ext.online_store import PackedRedisOnlineStoreConfig

_CONNECT_TIMEOUT_S = 5.0
_RECEIVE_BYTES = 1 << 16
_POLL_NS = 100_000
_ANSWER_TIMEOUT_S = 5.0


class Clients:
    """Opens connections when they are first needed, and again in a process that was forked.

    Each thread reads over a connection of its own. A read changes nothing, so one over a connection that the server has
    closed in the meantime is simply done again over a new one.
    """

    def __init__(self) -> None:
        self._thread = threading.local()
        self._client: tuple[int, str, Redis] | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[str, redis_asyncio.Redis]] = WeakKeyDictionary()

    def get(self, config: PackedRedisOnlineStoreConfig) -> Redis:
        """The client for threads."""
        known = self._client
        if known is not None and known[0] == os.getpid() and known[1] is config.connection_string:
            return known[2]
        client = Redis.from_url(address(config), decode_responses=False, socket_connect_timeout=_CONNECT_TIMEOUT_S)
        self._client = os.getpid(), cast("str", config.connection_string), client
        return client

    def get_async(self, config: PackedRedisOnlineStoreConfig) -> redis_asyncio.Redis:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        url = address(config)
        known = self._async.get(loop)
        if known is None or known[0] != url:
            client = redis_asyncio.Redis.from_url(
                url, decode_responses=False, socket_connect_timeout=_CONNECT_TIMEOUT_S
            )
            known = self._async[loop] = url, client
        return known[1]

    def mget(self, config: PackedRedisOnlineStoreConfig, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys, none where there is none.

        Raises
        ------
        UnavailableError
            If the server cannot be reached.
        """
        if not keys:
            return []
        client = self.get(config)
        known: _ReadConnection | None = getattr(self._thread, "connection", None)
        try:
            if known is not None and known.client is client:
                try:
                    return known.mget(keys)
                except OSError:
                    self._thread.connection = None
            known = _ReadConnection(client)
            values = known.mget(keys)
            self._thread.connection = known
        except (RedisError, OSError) as error:
            raise unavailable(error) from error
        return values

    async def mget_async(self, config: PackedRedisOnlineStoreConfig, keys: Sequence[bytes]) -> list[bytes | None]:
        """``mget`` on the running event loop."""
        if not keys:
            return []
        try:
            values: Any = await self.get_async(config).mget(keys)
        except RedisError as error:
            raise unavailable(error) from error
        return cast("list[bytes | None]", values)

    async def close_async(self) -> None:
        """Close the running event loop's client."""
        known = self._async.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await known[1].aclose()


class _ReadConnection:
    """A connection that only ever asks ``MGET``: redis-py opens it (address, TLS, password, database), hiredis talks.

    redis-py's own path through a command takes longer than the server's answer.
    """

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._connection = client.connection_pool.make_connection()
        self._connection.connect()  # type: ignore[no-untyped-call]
        self._socket: socket.socket = self._connection._sock  # type: ignore[attr-defined]  # noqa: SLF001
        self._replies = hiredis.Reader()
        # What lies under a TLS socket is not the answer; on one processor polling would only keep the server from it.
        self._may_poll = type(self._socket) is socket.socket and (os.cpu_count() or 1) > 1
        if self._socket.gettimeout() is None:
            self._socket.settimeout(_ANSWER_TIMEOUT_S)  # which also lets the descriptor be read without waiting

    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            self._socket.sendall(hiredis.pack_command((b"MGET", *keys)))  # type: ignore[arg-type]
            while (reply := self._replies.gets()) is False:
                data = self._receive()
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                self._replies.feed(data)
        except BaseException:  # an answer that was not read must not become that of the next request
            self._connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        if isinstance(reply, hiredis.ReplyError):
            raise ResponseError(str(reply))
        return cast("list[bytes | None]", reply)

    def _receive(self) -> bytes:
        """The next bytes of the answer.

        Redis answers within some 20 µs, and on a virtual machine waking a sleeping thread takes several times that. So
        the socket is asked again for a moment before the thread goes to sleep over it.
        """
        if self._may_poll:
            descriptor = self._socket.fileno()
            until = time.perf_counter_ns() + _POLL_NS
            while time.perf_counter_ns() < until:
                try:
                    return os.read(descriptor, _RECEIVE_BYTES)
                except BlockingIOError:
                    pass
        return self._socket.recv(_RECEIVE_BYTES)


def address(config: PackedRedisOnlineStoreConfig) -> str:
    """URL of the server.

    Raises
    ------
    ConfigurationError
        If the connection string is malformed.
    """
    text = config.connection_string
    if text is None:
        return redis_url()
    if "://" in text:
        return text
    server, *options = text.split(",")
    host, _, port = server.partition(":")
    settings = dict(option.partition("=")[::2] for option in options)
    unknown = settings.keys() - {"db", "ssl", "password", "username"}
    if not host or (port and not port.isdecimal()) or unknown:
        raise ConfigurationError(
            f"malformed connection string: {', '.join(sorted(unknown)) or server!r} is not understood",
            where="online_store.connection_string in feature_store.yaml",
            remedy="Write it like redis://user:password@host:6379/0",
        )
    scheme = "rediss" if settings.get("ssl", "").lower() == "true" else "redis"
    user = f"{settings.get('username', '')}:{settings['password']}@" if "password" in settings else ""
    return f"{scheme}://{user}{host}:{port or 6379}/{settings.get('db', 0)}"
