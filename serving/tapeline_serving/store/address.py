"""A Redis URL taken apart, as the server's own connection needs it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from tapeline.core.errors import ConfigurationError
from tapeline.storage import redis_address

_WHERE = "setting redis_url"


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis listens, and what to say on arrival.

    Attributes
    ----------
    path
        Unix socket; ``None`` over TCP.
    host, port
        Meaningless with a socket, and where sentinels know them.
    tls
        Whether to encrypt; meaningless with a socket.
    sentinels, master
        Host and port of sentinels, and the group whose leader they know; empty where the server itself is named.
    sentinel_username, sentinel_password
        For the sentinels themselves.
    ca_certs, certfile, keyfile
        Files of the authority to trust, and of a certificate of one's own; ``None``: as the system has it, and none.
    """

    path: str | None
    host: str
    port: int
    tls: bool
    database: int
    username: str | None
    password: str | None
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """The address of a ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://`` URL.

        Raises
        ------
        ConfigurationError
            If the URL is malformed, or leads to a cluster.
        """
        found = redis_address.RedisAddress.parse(url, where=_WHERE)
        if found.topology == "cluster":
            raise ConfigurationError(
                "the inference server reads from one server, and this leads to a cluster",
                where=_WHERE,
                remedy="Give it a server of its own, or a group under Sentinel: redis+sentinel://host:26379/group/0",
            )
        parts = urlsplit(found.plain_url)
        is_socket = parts.scheme == "unix"
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        database = options.get("db") or ("" if is_socket else parts.path.lstrip("/"))
        if database and not database.isdecimal():
            raise ConfigurationError(
                f"the Redis URL is malformed: {database!r} is no database",
                where=_WHERE,
                remedy="Write it like redis://host:6379/0 or unix:///run/redis.sock",
            )
        (host, port), *_ = found.nodes or (("localhost", 6379),)
        return cls(
            path=unquote(parts.path) if is_socket else None,
            host=host,
            port=port,
            tls=found.tls,
            database=int(database or 0),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            sentinels=found.nodes if found.topology == "sentinel" else (),
            master=found.master,
            sentinel_username=found.sentinel_username,
            sentinel_password=found.sentinel_password,
            ca_certs=options.get("ssl_ca_certs"),
            certfile=options.get("ssl_certfile"),
            keyfile=options.get("ssl_keyfile"),
        )

    def greeting(self) -> list[tuple[str, ...]]:
        """Commands that a new connection sends before any other."""
        commands = _login(self.username, self.password)
        if self.database:
            commands.append(("SELECT", str(self.database)))
        commands.append(("CLIENT", "SETNAME", "tapeline-serving"))
        return commands

    def sentinel_greeting(self) -> list[tuple[str, ...]]:
        """Commands for a sentinel; the last one's answer is host and port of the leader, or nothing."""
        commands = _login(self.sentinel_username, self.sentinel_password)
        return [*commands, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master)]

    def __str__(self) -> str:
        if self.sentinels:
            return f"group {self.master} of {', '.join(f'{host}:{port}' for host, port in self.sentinels)}"
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}"


def _login(username: str | None, password: str | None) -> list[tuple[str, ...]]:
    return [] if password is None else [("AUTH", *([username] if username else []), password)]
