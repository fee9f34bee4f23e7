"""A Redis URL taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from tapeline.core.errors import ConfigurationError


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis listens, and what to say on arrival.

    Attributes
    ----------
    path
        Unix socket; ``None`` over TCP.
    host, port, tls
        Meaningless with a socket.
    """

    path: str | None
    host: str
    port: int
    tls: bool
    database: int
    username: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """The address of a ``redis://``, ``rediss://`` or ``unix://`` URL.

        Raises
        ------
        ConfigurationError
            If the URL has another scheme or a malformed port or database.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise _malformed(f"scheme {parts.scheme!r} is none of redis, rediss, unix")
        is_socket = parts.scheme == "unix"
        # unix://user:password@/path has its path after the first slash; unix:///path has no authority at all.
        path = unquote(parts.path) if is_socket else None
        if is_socket and not path:
            raise _malformed("the path of the socket is missing")
        database = parse_qs(parts.query).get("db", [""])[0] or ("" if is_socket else parts.path.lstrip("/"))
        try:
            return cls(
                path=path,
                host=parts.hostname or "localhost",
                port=parts.port or 6379,
                tls=parts.scheme == "rediss",
                database=int(database or 0),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
            )
        except ValueError as error:
            raise _malformed(str(error)) from None

    def greeting(self) -> list[tuple[str, ...]]:
        """Commands that a new connection sends before any other."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        commands.append(("CLIENT", "SETNAME", "tapeline-serving"))
        return commands

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}"


def _malformed(reason: str) -> ConfigurationError:
    # The URL itself may hold a password and is not repeated.
    return ConfigurationError(
        f"the Redis URL is malformed: {reason}",
        where="setting redis_url",
        remedy="Write it like redis://host:6379/0 or unix:///run/redis.sock",
    )
