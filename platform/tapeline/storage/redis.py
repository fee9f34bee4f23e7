"""Connections to Redis or Valkey, wherever the settings say it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline.core.errors import ConfigurationError, UnavailableError
from tapeline.core.settings import Settings, get_settings
from tapeline.storage.servers.place import Place

if TYPE_CHECKING:
    import redis

_CONNECT_TIMEOUT_S = 5.0


def redis_url(settings: Settings | None = None) -> str:
    """Address of the online store: as set, else that of the embedded server of the data folder.

    The embedded server's address depends on its data folder alone, so it stays the same when the server is restarted.
    """
    settings = settings or get_settings()
    return settings.redis_url or Place.of_home(settings.home_path).redis_url


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
    import redis  # takes longer to import than the inference server, which needs only the address, may take to start
    from redis.connection import parse_url

    settings = settings or get_settings()
    url = redis_url(settings)
    try:
        parameters = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigurationError(
            f"the Redis address is malformed: {error}",
            where="setting redis_url",
            remedy="Write it like redis://host:6379/0 or unix:///path/to/socket?db=0",
        ) from None
    client = redis.Redis.from_url(url, decode_responses=False, socket_connect_timeout=_CONNECT_TIMEOUT_S)
    if not check:
        return client
    try:
        client.ping()
    except redis.RedisError as error:
        client.close()
        raise UnavailableError(
            f"Redis does not answer: {error}",
            where=str(parameters.get("path") or f"{parameters.get('host')}:{parameters.get('port', 6379)}"),
            remedy=(
                "Check the address in TAPELINE_REDIS_URL and that its server runs"
                if settings.redis_url
                else "Start the servers of this data folder with: tapeline up"
            ),
        ) from error
    return client
