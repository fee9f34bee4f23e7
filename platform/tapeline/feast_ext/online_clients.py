"""Redis clients of an online store: one for threads, one for each event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote
from weakref import WeakKeyDictionary

from redis import Redis
from redis import asyncio as redis_asyncio

from tapeline.core.errors import ConfigurationError
from tapeline.storage.multi_get import MultiGet
from tapeline.storage.online import FAILURES, unavailable
from tapeline.storage.packed import Found
from tapeline.storage.redis import is_cluster, open_redis, open_redis_async, redis_url

if TYPE_CHECKING:
    from tapeline.feast_ext.online_store import PackedRedisOnlineStoreConfig

_WHERE = "online_store.connection_string in feature_store.yaml"
_KINDS = {"redis": "", "redis_cluster": "+cluster", "redis_sentinel": "+sentinel"}


class Clients:
    """Opens connections when they are first needed, and again in a process that was forked."""

    def __init__(self) -> None:
        self._client: tuple[int, str | None, MultiGet] | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[str, redis_asyncio.Redis]] = WeakKeyDictionary()

    def get(self, config: PackedRedisOnlineStoreConfig) -> Redis:
        """The client for threads.

        Raises
        ------
        UnavailableError
            If no node of a cluster answers.
        """
        return self._reader(config).client

    def get_async(self, config: PackedRedisOnlineStoreConfig) -> redis_asyncio.Redis:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        url = address(config)
        known = self._async.get(loop)
        if known is None or known[0] != url:
            known = self._async[loop] = url, open_redis_async(url, where=_WHERE)
        return known[1]

    def mget(self, config: PackedRedisOnlineStoreConfig, keys: Sequence[bytes]) -> Found:
        """Values of keys; they stay where they are until this thread's next read.

        Raises
        ------
        UnavailableError
            If the server cannot be reached.
        """
        return self._reader(config)(keys)

    async def mget_async(self, config: PackedRedisOnlineStoreConfig, keys: Sequence[bytes]) -> Found:
        """``mget`` on the running event loop."""
        if not keys:
            return Found.of([])
        client: Any = self.get_async(config)
        try:
            values = await (client.mget_nonatomic(keys) if is_cluster(client) else client.mget(keys))
        except FAILURES as error:
            raise unavailable(error) from error
        return Found.of(cast("list[bytes | None]", values))

    async def close_async(self) -> None:
        """Close the running event loop's client."""
        known = self._async.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await known[1].aclose()

    def _reader(self, config: PackedRedisOnlineStoreConfig) -> MultiGet:
        known = self._client
        if known is not None and known[0] == os.getpid() and known[1] is config.connection_string:
            return known[2]
        reader = MultiGet(open_redis(address(config), where=_WHERE))
        self._client = os.getpid(), config.connection_string, reader
        return reader


def address(config: PackedRedisOnlineStoreConfig) -> str:
    """URL of the server, the sentinels or the cluster (see ``storage.redis_address``).

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
    pieces = text.split(",")
    hosts = [piece for piece in pieces if "=" not in piece]
    settings = dict(piece.partition("=")[::2] for piece in pieces if "=" in piece)
    unknown = settings.keys() - {"db", "ssl", "password", "username", "skip_full_coverage_check"}
    wrong = [host for host in hosts if not host.partition(":")[0] or not (host.partition(":")[2] or "0").isdecimal()]
    if not hosts or wrong or unknown:
        raise ConfigurationError(
            f"malformed connection string: {', '.join(sorted(unknown) or wrong) or text!r} is not understood",
            where=_WHERE,
            remedy="Write it like redis://user:password@host:6379/0",
        )
    scheme = ("rediss" if settings.get("ssl", "").lower() == "true" else "redis") + _KINDS[config.redis_type]
    name, password = (quote(settings.get(part, ""), safe="") for part in ("username", "password"))
    user = f"{name}:{password}@" if password else ""
    default = ":26379" if config.redis_type == "redis_sentinel" else ":6379"
    servers = ",".join(host if ":" in host else host + default for host in hosts)
    group = f"{quote(config.sentinel_master, safe='')}/" if config.redis_type == "redis_sentinel" else ""
    return f"{scheme}://{user}{servers}/{group}{settings.get('db', 0)}"
