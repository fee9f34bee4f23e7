"""Connections to Redis or Valkey, wherever the settings say it is: one server, under Sentinel, or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tapeline.core.errors import ConfigurationError, UnavailableError
from tapeline.core.settings import Settings, get_settings
from tapeline.storage.redis_address import RedisAddress
from tapeline.storage.servers.place import Place

if TYPE_CHECKING:
    import redis
    from redis import asyncio as redis_asyncio

TIMEOUT_S = 5.0
"""How long connecting, and waiting for an answer, may take where the address says nothing else."""

_RETRIES = 2
_PAUSE_S, _PAUSE_S_MAX = 0.02, 0.2


def redis_url(settings: Settings | None = None) -> str:
    """Address of the online store: as set, else that of the embedded server of the data folder.

    The embedded server's address depends on its data folder alone, so it stays the same when the server is restarted.
    """
    settings = settings or get_settings()
    return settings.redis_url or Place.of_home(settings.home_path).redis_url


def open_redis(url: str, *, where: str = "setting redis_url") -> redis.Redis:
    """A client of an address, which connects when it is first used; values come back as bytes.

    A command over a connection that was lost is tried again twice, at once: what is written here may be written twice. One that
    gets no answer in time is not, or it would take several times its time.

    Returns
    -------
    redis.Redis
        For a cluster in truth a ``redis.RedisCluster``, which has the same commands.

    Raises
    ------
    ConfigurationError
        If the address is malformed.
    UnavailableError
        If no node of a cluster answers: a cluster's client asks at once who holds what.
    """
    import redis  # takes longer to import than the inference server, which needs only the address, may take to start
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.cluster import ClusterNode
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    address = RedisAddress.parse(url, where=where)
    options = _options(address, where)
    if address.topology != "cluster":  # whose client asks elsewhere instead
        options["retry"] = Retry(
            ExponentialWithJitterBackoff(_PAUSE_S_MAX, _PAUSE_S), _RETRIES, (redis.ConnectionError,)
        )
    if address.topology == "standalone":
        return redis.Redis.from_url(address.plain_url, **_DEFAULTS, retry=options["retry"])
    if address.topology == "sentinel":
        sentinel: Any = Sentinel(list(address.nodes), sentinel_kwargs=_sentinel_options(address, options))  # type: ignore[no-untyped-call]
        return cast("redis.Redis", sentinel.master_for(address.master, **options))
    nodes = [ClusterNode(host, port) for host, port in address.nodes]  # type: ignore[no-untyped-call]
    try:
        cluster = redis.RedisCluster(startup_nodes=nodes, **options)
    except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
        raise UnavailableError(
            f"no node of the cluster answers: {error}", where=str(address), remedy="Check that its nodes run"
        ) from error
    return cast("redis.Redis", cluster)


def open_redis_async(url: str, *, where: str = "setting redis_url") -> redis_asyncio.Redis:
    """``open_redis`` for an event loop; nothing is asked before the first command.

    Raises
    ------
    ConfigurationError
        If the address is malformed.
    """
    from redis import asyncio as redis_asyncio
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError  # noqa: A004  redis-py's own

    address = RedisAddress.parse(url, where=where)
    options = _options(address, where)
    if address.topology != "cluster":
        options["retry"] = Retry(ExponentialWithJitterBackoff(_PAUSE_S_MAX, _PAUSE_S), _RETRIES, (ConnectionError,))
    if address.topology == "standalone":
        return redis_asyncio.Redis.from_url(address.plain_url, **_DEFAULTS, retry=options["retry"])
    if address.topology == "sentinel":
        sentinel: Any = Sentinel(list(address.nodes), sentinel_kwargs=_sentinel_options(address, options))  # type: ignore[no-untyped-call]
        return cast("redis_asyncio.Redis", sentinel.master_for(address.master, **options))
    nodes = [ClusterNode(host, port) for host, port in address.nodes]
    return cast("redis_asyncio.Redis", redis_asyncio.RedisCluster(startup_nodes=nodes, **options))


def is_cluster(client: object) -> bool:
    """Whether a client of ``open_redis`` or ``open_redis_async`` is that of a cluster."""
    return hasattr(client, "nodes_manager")


def connect_redis(settings: Settings | None = None, *, check: bool = True) -> redis.Redis:
    """A client of the online store; values come back as bytes.

    Parameters
    ----------
    settings
        Where the store is; none: the process's settings.
    check
        Ask the server for a sign of life before returning.

    Raises
    ------
    UnavailableError
        If `check` is set and the server does not answer, or refuses.
    ConfigurationError
        If the address is malformed.
    """
    import redis

    settings = settings or get_settings()
    url = redis_url(settings)
    client = open_redis(url)
    if not check:
        return client
    try:
        client.ping()
    except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
        client.close()
        raise UnavailableError(
            f"Redis does not answer: {error}",
            where=str(RedisAddress.parse(url)).removeprefix("unix://"),
            remedy=(
                "Check the address in TAPELINE_REDIS_URL and that its server runs"
                if settings.redis_url
                else "Start the servers of this data folder with: tapeline up"
            ),
        ) from error
    return client


_DEFAULTS: dict[str, Any] = {
    "decode_responses": False,
    "socket_connect_timeout": TIMEOUT_S,
    "socket_timeout": TIMEOUT_S,
}


def _options(address: RedisAddress, where: str) -> dict[str, Any]:
    """What redis-py's clients of several servers take of the address."""
    from redis.connection import parse_url

    try:
        options: dict[str, Any] = parse_url(address.plain_url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigurationError(
            f"the Redis address is malformed: {error}", where=where, remedy="Write it like redis://host:6379/0"
        ) from None
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    if address.topology == "cluster":
        options.pop("db", None)
    return {**_DEFAULTS, **options, "ssl": address.tls}


def _sentinel_options(address: RedisAddress, options: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in {"username", "password", "db"}}
    given = {"username": address.sentinel_username, "password": address.sentinel_password}
    return {**kept, **{name: value for name, value in given.items() if value is not None}}
