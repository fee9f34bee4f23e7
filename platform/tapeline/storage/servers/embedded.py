"""Starting and stopping the servers of one data folder."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tapeline.core.errors import AlreadyRunningError, ConfigurationError, NotRunningError
from tapeline.core.settings import Settings
from tapeline.core.timestamps import parse_duration_us
from tapeline.storage.migrations import migrate
from tapeline.storage.postgres import connect
from tapeline.storage.servers.account import postgres_account
from tapeline.storage.servers.binaries import SHARED_FOLDER, postgres_programs, valkey_program
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.place import Place
from tapeline.storage.servers.postgres_server import running_postgres, start_postgres, stop_postgres
from tapeline.storage.servers.status import ServerStatus, status
from tapeline.storage.servers.valkey_server import running_valkey, start_valkey, stop_valkey

_TURN_S = 180.0


def up(settings: Settings, options: ServerOptions | None = None) -> ServerStatus:
    """Start the servers of a data folder that do not run, and bring the database's schema up to date.

    Servers that the settings place elsewhere are not started. After a crash, or when one of the two was killed, this starts what
    is missing; PostgreSQL recovers from its log.

    Parameters
    ----------
    settings
        Which data folder; which servers are elsewhere.
    options
        How they run; none: durable, sockets only.

    Raises
    ------
    AlreadyRunningError
        If nothing was left to start.
    ConfigurationError
        If both servers are set to be elsewhere, or the data folder cannot be used.
    UnavailableError
        If a server does not start; neither runs then that did not before.
    SchemaError
        If the database does not fit this version of Tapeline; the servers run on.
    """
    options = options or ServerOptions()
    if settings.postgres_url and settings.redis_url:
        raise ConfigurationError(
            "there is nothing to start: both servers have addresses of their own",
            where="settings postgres_url and redis_url",
            remedy="Run tapeline migrate to prepare that database, or unset them to use embedded servers",
        )
    place = Place.of_home(settings.home_path)
    with _one_at_a_time(place):
        start_database = not settings.postgres_url and running_postgres(place) is None
        start_store = not settings.redis_url and running_valkey(place) is None
        if not start_database and not start_store:
            raise AlreadyRunningError(
                f"the servers of {settings.home_path} run already",
                remedy="Use them, or stop them with: tapeline down. Another pair needs another TAPELINE_HOME",
            )
        # Known to be there before anything is written.
        if start_store:
            valkey_program()
        if start_database:
            postgres_programs(postgres_account())
        place.prepare(settings.home_path)
        if start_store:
            start_valkey(place, options)
        if start_database:
            try:
                start_postgres(place, options)
            except BaseException:
                if start_store:  # an `up` that fails leaves nothing running that it started
                    stop_valkey(place)
                raise
        with connect(settings) as connection:
            migrate(connection, chunk_interval_us=parse_duration_us(settings.chunk_interval))
    return status(settings)


def down(settings: Settings, *, erase: bool = False) -> list[str]:
    """Stop the servers of a data folder, everything acknowledged being on disk.

    Parameters
    ----------
    settings
        Which data folder.
    erase
        Remove their data too, wherever they lie.

    Returns
    -------
    list of str
        Names of the servers that were stopped.

    Raises
    ------
    NotRunningError
        If none ran and nothing was to be erased.
    """
    place = Place.of_home(settings.home_path)
    if not place.folder.is_dir():
        if erase:
            return []
        raise NotRunningError(f"no server was ever started in {settings.home_path}", remedy="Start with: tapeline up")
    with _one_at_a_time(place):
        stopped = [name for name, stop in (("postgresql", stop_postgres), ("valkey", stop_valkey)) if stop(place)]
        if erase:
            _erase(place)
    if not stopped and not erase:
        raise NotRunningError(f"no server of {settings.home_path} runs", remedy="Start with: tapeline up")
    return stopped


def _erase(place: Place) -> None:
    for folder in (place.postgres_data, place.postgres_run, place.valkey_data, place.valkey_run):
        if folder.exists():
            shutil.rmtree(folder)
    if place.postgres_data.is_relative_to(SHARED_FOLDER):
        shutil.rmtree(place.postgres_data.parent)
    shutil.rmtree(place.folder)


@contextmanager
def _one_at_a_time(place: Place) -> Iterator[None]:
    """Let only one `up` or `down` of a data folder work; a second waits for the first and then sees what it did."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("a") as file:
        deadline = time.monotonic() + _TURN_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AlreadyRunningError(
                        f"another up or down has been working for {_TURN_S:.0f} s",
                        where=str(place.folder / "lock"),
                        remedy="Wait for it, or end that process",
                    ) from None
                time.sleep(0.05)
        yield
