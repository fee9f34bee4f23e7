"""Addresses of the online store: one server, a group under Sentinel, or a cluster, as one URL.

==============================================  ===================================================================
``redis://user:password@host:6379/0``           one server; ``rediss://`` with TLS
``unix://user:password@/run/redis.sock?db=0``   one server on this machine
``redis+sentinel://h1:26379,h2:26379/main/0``   whichever server the sentinels say leads the group ``main``, database 0
``redis+cluster://h1:6379,h2:6379``             a cluster, found through any of these nodes; it has no databases
==============================================  ===================================================================

``rediss+sentinel`` and ``rediss+cluster`` encrypt. What follows a ``?`` are redis-py's own options, such as
``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` or ``socket_timeout``; sentinels that ask for a password of their own get
``sentinel_username`` and ``sentinel_password``. Characters that mean something in a URL are written as ``%40``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tapeline.core.errors import ConfigurationError

Topology = Literal["standalone", "sentinel", "cluster"]
NODES_MAX = 100
_TOPOLOGIES: dict[str, Topology] = {"": "standalone", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS: dict[Topology, int] = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}
_OWN_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class RedisAddress:
    """A URL taken apart.

    Attributes
    ----------
    topology
        What is there.
    nodes
        Host and port of the server, of the sentinels, or of some nodes of the cluster; empty for a socket.
    tls
        Whether to encrypt.
    plain_url
        The URL of the first node alone, which redis-py understands: credentials, database, options.
    master
        Name of the group that the sentinels watch; empty elsewhere.
    sentinel_username, sentinel_password
        For the sentinels themselves.
    """

    topology: Topology
    nodes: tuple[tuple[str, int], ...]
    tls: bool
    plain_url: str
    master: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def parse(cls, url: str, *, where: str = "setting redis_url") -> RedisAddress:
        """The address of a URL; see the module.

        Raises
        ------
        ConfigurationError
            If it is malformed.
        """
        scheme, separator, rest = url.partition("://")
        base, _, kind = scheme.partition("+")
        known = base in {"redis", "rediss", "unix"} and kind in _TOPOLOGIES
        if not separator or not known or (base == "unix" and kind):
            raise _malformed(f"scheme {scheme!r} is not understood", where)
        topology = _TOPOLOGIES[kind]
        if base == "unix":
            if not urlsplit(url).path:
                raise _malformed("the path of the socket is missing", where)
            return cls(topology, (), tls=False, plain_url=url)
        authority, tail = _split(rest)
        credentials, at, hosts = authority.rpartition("@")
        nodes = tuple(_node(host, _PORTS[topology], where) for host in hosts.split(","))
        if len(nodes) > NODES_MAX or (topology == "standalone" and len(nodes) > 1):
            raise _malformed(f"{len(nodes)} hosts are too many", where)
        path, _, query = tail.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        own = {name: options.pop(name, None) for name in _OWN_OPTIONS}
        master, database = "", path.strip("/")
        if topology == "sentinel":
            master, _, database = database.partition("/")
            if not master:
                raise _malformed("the name of the group is missing", where)
        if database and (not database.isdecimal() or (topology == "cluster" and int(database))):
            raise _malformed(f"{database!r} is no database of a {topology} server", where)
        (host, port), *_ = nodes
        shown = f"[{host}]" if ":" in host else host
        plain = f"{base}://{credentials}{at}{shown}:{port}/{database or 0}"
        return cls(
            topology,
            nodes,
            tls=base == "rediss",
            plain_url=plain + (f"?{urlencode(options)}" if options else ""),
            master=unquote(master),
            sentinel_username=own["sentinel_username"],
            sentinel_password=own["sentinel_password"],
        )

    def __str__(self) -> str:
        """Where it is, without passwords."""
        if not self.nodes:
            return f"unix://{urlsplit(self.plain_url).path}"
        hosts = ",".join(f"{host}:{port}" for host, port in self.nodes)
        return f"{hosts} ({self.topology} {self.master})".replace(" )", ")") if self.topology != "standalone" else hosts


def _split(rest: str) -> tuple[str, str]:
    """Authority, and path with query."""
    end = re.search(r"[/?]", rest)
    return (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])


def _node(text: str, port: int, where: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"redis://{text}")
        return parts.hostname or "localhost", parts.port or port
    except ValueError as error:
        raise _malformed(str(error), where) from None


def _malformed(reason: str, where: str) -> ConfigurationError:
    # The URL itself may hold a password and is not repeated.
    return ConfigurationError(
        f"the Redis address is malformed: {reason}",
        where=where,
        remedy="Write it like redis://host:6379/0, unix:///path/to/socket?db=0, redis+sentinel://host:26379/group/0 or"
        " redis+cluster://host:6379",
    )
