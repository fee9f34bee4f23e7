"""What runs, where, and in which version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tapeline.core.errors import TapelineError
from tapeline.core.settings import Settings
from tapeline.storage.migrations import migrations, schema_version
from tapeline.storage.postgres import connect, postgres_url
from tapeline.storage.redis import connect_redis, redis_url
from tapeline.storage.servers.place import Place
from tapeline.storage.servers.postgres_server import running_postgres
from tapeline.storage.servers.valkey_server import running_valkey

_EDITION = """
SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), ''),
       coalesce(current_setting('timescaledb.license', true), '')
"""


@dataclass(frozen=True)
class ServerInfo:
    """One server.

    Attributes
    ----------
    name
        ``postgresql`` or ``valkey``; an online store elsewhere may be Redis and is called ``redis``.
    running
        Whether it answers.
    embedded
        Whether it is a server of the data folder.
    address
        Where it answers, passwords left out.
    version, pid, data, size_bytes
        Its version, process number, data folder and size of the data, where known.
    problem
        Why it does not answer.
    """

    name: str
    running: bool
    embedded: bool
    address: str
    version: str | None = None
    pid: int | None = None
    data: str | None = None
    size_bytes: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ServerStatus:
    """Both servers of one data folder.

    Attributes
    ----------
    home
        The data folder.
    servers
        The database and the online store.
    edition
        TimescaleDB edition: ``none``, ``apache`` or ``community``; none at all if the database is away.
    timescaledb
        Version of the extension.
    schema_version, schema_expected
        Last migration applied, and the last this version of Tapeline knows.
    """

    home: str
    servers: tuple[ServerInfo, ...]
    edition: str | None
    timescaledb: str | None
    schema_version: int | None
    schema_expected: int

    @property
    def running(self) -> bool:
        """Whether both servers answer."""
        return all(server.running for server in self.servers)

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "servers": [asdict(server) for server in self.servers], "running": self.running}


def status(settings: Settings) -> ServerStatus:
    """Ask both servers how they are; a server that is away is reported, not raised."""
    place = Place.of_home(settings.home_path)
    facts: dict[str, Any] = {"edition": None, "timescaledb": None, "schema_version": None}
    database = _database(settings, place, facts)
    return ServerStatus(
        home=str(settings.home_path),
        servers=(database, _online_store(settings, place)),
        schema_expected=len(migrations()),
        **facts,
    )


def without_password(url: str) -> str:
    """An address that may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))


def _database(settings: Settings, place: Place, facts: dict[str, Any]) -> ServerInfo:
    embedded = settings.postgres_url is None

    def ask() -> dict[str, Any]:
        with connect(settings, autocommit=True) as connection:
            row = connection.execute("SHOW server_version").fetchone()
            size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            edition = connection.execute(_EDITION).fetchone()
            assert row is not None
            assert size is not None
            assert edition is not None
            facts["timescaledb"] = edition[0] or None
            facts["edition"] = "none" if not edition[0] else "apache" if edition[1] == "apache" else "community"
            facts["schema_version"] = schema_version(connection)
            return {"version": row[0], "size_bytes": size[0]}

    process = running_postgres(place) if embedded else None
    return _examine(
        "postgresql",
        embedded=embedded,
        address=postgres_url(settings),
        pid=process.pid if process else None,
        data=str(place.postgres_data) if embedded else None,
        ask=ask,
    )


def _online_store(settings: Settings, place: Place) -> ServerInfo:
    embedded = settings.redis_url is None

    def ask() -> dict[str, Any]:
        with connect_redis(settings) as client:
            info: dict[str, Any] = client.info()
            return {
                "version": str(info.get("valkey_version") or info["redis_version"]),
                "size_bytes": int(info["used_memory"]),
            }

    process = running_valkey(place) if embedded else None
    return _examine(
        "valkey" if embedded else "redis",
        embedded=embedded,
        address=redis_url(settings),
        pid=process.pid if process else None,
        data=str(place.valkey_data) if embedded else None,
        ask=ask,
    )


def _examine(
    name: str, *, embedded: bool, address: str, pid: int | None, data: str | None, ask: Callable[[], dict[str, Any]]
) -> ServerInfo:
    facts: dict[str, Any]
    try:
        facts = ask()
    except TapelineError as error:
        facts = {"problem": str(error)}
    there = data if data is not None and Path(data).exists() else None
    return ServerInfo(
        name=name,
        running="problem" not in facts,
        embedded=embedded,
        address=without_password(address),
        pid=pid,
        data=there,
        **facts,
    )
