"""Embedded servers: started, stopped, killed, moved, and started again."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tapeline.core.errors import (
    AlreadyRunningError,
    ConfigurationError,
    MissingExtraError,
    NotRunningError,
    UnavailableError,
)
from tapeline.core.settings import Settings
from tapeline.storage.migrations import require_schema
from tapeline.storage.postgres import connect, postgres_url
from tapeline.storage.redis import connect_redis, redis_url
from tapeline.storage.servers import binaries, embedded, place
from tapeline.storage.servers.account import Account, postgres_account
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.place import Place
from tapeline.storage.servers.postgres_server import running_postgres
from tapeline.storage.servers.processes import ProcessIdentity, processes_inside
from tapeline.storage.servers.status import status, without_password
from tapeline.storage.servers.valkey_server import running_valkey

from tests.support.session import SessionServers

QUICK = ServerOptions(durable=False)
_numbers = itertools.count(1)
MakeHome = Callable[..., Settings]


@pytest.fixture(scope="module")
def watched() -> Iterator[Path]:
    """A folder whose servers end with the test process, although `up` leaves them running."""
    guard = SessionServers({})
    yield guard.folder
    guard.close()


@pytest.fixture
def make_home(watched: Path) -> Iterator[MakeHome]:
    """Makes settings with a data folder of their own; its servers are stopped afterwards."""
    made = []

    def make(name: str | None = None) -> Settings:
        settings = Settings(home=watched / (name or f"home{next(_numbers)}"))
        made.append(settings)
        return settings

    yield make
    for settings in made:
        if settings.home_path.exists():
            embedded.down(settings, erase=True)


def processes(settings: Settings) -> tuple[ProcessIdentity, ProcessIdentity]:
    where = Place.of_home(settings.home_path)
    database, store = running_postgres(where), running_valkey(where)
    assert database is not None
    assert store is not None
    return database, store


def write(settings: Settings, text: str) -> None:
    with connect(settings) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (text,))
    with connect_redis(settings) as client:
        client.rpush("kept", text)


def kept(settings: Settings) -> tuple[list[str], list[str]]:
    with connect(settings) as connection:
        rows = [text for (text,) in connection.execute("SELECT text FROM kept")]
    with connect_redis(settings) as client:
        return rows, [text.decode() for text in client.lrange("kept", 0, -1)]


def test_up_and_down_and_up_again_keep_what_was_written(make_home: MakeHome) -> None:
    settings = make_home()
    result = embedded.up(settings, QUICK)
    assert result.running
    assert (result.edition, result.schema_version) == ("none", result.schema_expected)
    with connect(settings) as connection:
        require_schema(connection)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
    write(settings, "before")
    with pytest.raises(AlreadyRunningError, match=r"run already.*tapeline down"):
        embedded.up(settings, QUICK)
    database, store = processes(settings)
    assert embedded.down(settings) == ["postgresql", "valkey"]
    assert not database.is_alive
    assert not store.is_alive
    with pytest.raises(NotRunningError, match="tapeline up"):
        embedded.down(settings)
    assert not status(settings).running
    embedded.up(settings, QUICK)
    assert kept(settings) == (["before"], ["before"])


def test_killed_servers_come_back_with_everything_acknowledged(make_home: MakeHome) -> None:
    settings = make_home()
    embedded.up(settings, QUICK)
    write(settings, "first")
    database, store = processes(settings)
    os.kill(database.pid, signal.SIGKILL)
    assert database.wait(5)
    embedded.up(settings, QUICK)  # only what is missing
    assert processes(settings)[1] == store
    write(settings, "second")
    os.kill(processes(settings)[1].pid, signal.SIGKILL)
    assert store.wait(5)
    embedded.up(settings, QUICK)
    assert kept(settings) == (["first", "second"], ["first", "second"])
    for process in processes(settings):
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(5)
    embedded.up(settings, QUICK)
    assert kept(settings) == (["first", "second"], ["first", "second"])


def test_a_lock_file_whose_number_is_now_somebody_else_s_does_not_bar_the_way(make_home: MakeHome) -> None:
    settings = make_home()
    embedded.up(settings, QUICK)
    write(settings, "kept")
    embedded.down(settings)
    where = Place.of_home(settings.home_path)
    impostor = subprocess.Popen(["cat"], stdin=subprocess.PIPE, **postgres_account().process_options)
    try:
        for file in (where.cluster / "postmaster.pid", where.postgres_socket_lock, where.valkey_data / "valkey.pid"):
            file.write_text(f"{impostor.pid}\n{where.cluster}\n1\n5432\n{where.postgres_run}\n\n   1   1\nready\n")
        assert not status(settings).running
        embedded.up(settings, QUICK)
        assert kept(settings) == (["kept"], ["kept"])
        assert impostor.poll() is None, "it was none of ours to stop"
    finally:
        impostor.communicate(b"\n")


def test_a_first_start_that_was_killed_half_way_is_done_again(make_home: MakeHome) -> None:
    settings = make_home()
    where = Place.of_home(settings.home_path)
    where.prepare(settings.home_path)
    (where.postgres_data / "draft" / "base").mkdir(parents=True)
    assert embedded.up(settings, QUICK).running


def test_a_start_that_fails_leaves_nothing_running(make_home: MakeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home()

    def fail(*_: object) -> None:
        raise UnavailableError("no space left on device")

    monkeypatch.setattr(embedded, "start_postgres", fail)
    with pytest.raises(UnavailableError, match="no space left"):
        embedded.up(home)
    assert running_valkey(Place.of_home(home.home_path)) is None


def test_two_homes_stand_side_by_side(make_home: MakeHome) -> None:
    one, other = make_home(), make_home()
    embedded.up(one, QUICK)
    embedded.up(other, QUICK)
    write(one, "one")
    write(other, "other")
    assert kept(one) == (["one"], ["one"])
    embedded.down(one)
    assert kept(other) == (["other"], ["other"])


def test_a_home_deeper_than_a_socket_path_and_with_odd_characters(make_home: MakeHome) -> None:
    settings = make_home("/".join(["a folder's näme with spaces?"] * 5))
    embedded.up(settings, QUICK)
    write(settings, "deep")
    assert kept(settings) == (["deep"], ["deep"])
    where = Place.of_home(settings.home_path)
    assert max(len(str(folder)) for folder in (where.postgres_run, where.valkey_run)) < 90
    embedded.down(settings, erase=True)
    assert not any(folder.exists() for folder in (where.postgres_run, where.valkey_run, where.folder))


def test_a_moved_home_takes_its_data_along(make_home: MakeHome) -> None:
    former = make_home()
    embedded.up(former, QUICK)
    write(former, "moved")
    embedded.down(former)
    latter = make_home()
    former.home_path.rename(latter.home_path)
    embedded.up(latter, QUICK)
    assert kept(latter) == (["moved"], ["moved"])


def test_only_the_owner_reaches_sockets_and_data(make_home: MakeHome) -> None:
    settings = make_home()
    embedded.up(settings, QUICK)
    where = Place.of_home(settings.home_path)
    for folder in (where.postgres_data, where.postgres_run, where.valkey_data, where.valkey_run):
        assert folder.stat().st_mode & 0o077 == 0, folder
    with connect(settings) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with connect_redis(settings) as client:
        assert list(client.config_get("port").values()) in ([b"0"], ["0"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs under another account")
def test_a_home_that_postgres_may_not_enter_has_its_database_elsewhere(
    make_home: MakeHome, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = watched / "shared"
    for module in (binaries, place, embedded):
        monkeypatch.setattr(module, "SHARED_FOLDER", shared)
    closed = watched / "closed"
    closed.mkdir(mode=0o700)
    settings = make_home("closed/home")
    embedded.up(settings, QUICK)
    write(settings, "apart")
    where = Place.of_home(settings.home_path)
    assert where.postgres_data.is_relative_to(shared)
    assert closed.stat().st_mode & 0o777 == 0o700, "no folder's mode is widened"
    embedded.down(settings)
    closed.chmod(0o755)
    embedded.up(settings, QUICK)
    assert kept(settings) == (["apart"], ["apart"]), "the place was chosen once"
    embedded.down(settings)
    copy = make_home("copy")
    settings.home_path.rename(copy.home_path)
    with pytest.raises(ConfigurationError, match="belongs to"):
        embedded.up(copy, QUICK)
    copy.home_path.rename(settings.home_path)
    embedded.down(settings, erase=True)
    assert not list(shared.glob("*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs under another account")
def test_programs_that_postgres_may_not_reach_are_copied(
    tmp_path: Path, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "SHARED_FOLDER", watched / "programs")
    account = postgres_account()
    direct = binaries.postgres_programs(account)
    monkeypatch.setattr(Account, "can_enter", lambda _, folder: folder.is_relative_to(watched))
    copied = binaries.postgres_programs(account)
    assert copied.is_relative_to(watched / "programs")
    ran = subprocess.run([copied / "postgres", "--version"], **account.process_options, capture_output=True, check=True)
    assert ran.stdout == subprocess.run([direct / "postgres", "--version"], capture_output=True, check=True).stdout


def test_both_servers_elsewhere_leave_nothing_to_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, postgres_url="postgresql://db/x", redis_url="redis://cache")
    with pytest.raises(ConfigurationError, match="nothing to start"):
        embedded.up(settings)


def test_the_wheel_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tapeline\[embedded\]"):
        binaries.valkey_program()


@pytest.mark.parametrize("connector", [connect, connect_redis])
def test_a_server_that_is_away_is_unavailable_with_a_remedy(connector: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="tapeline up"):
        connector(Settings(home=tmp_path))
    elsewhere = Settings(
        home=tmp_path,
        postgres_url="postgresql://me:secret@127.0.0.1:1/db",
        redis_url="redis://me:secret@127.0.0.1:1/0",
    )
    with pytest.raises(UnavailableError, match=r"TAPELINE_(POSTGRES|REDIS)_URL") as caught:
        connector(elsewhere)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("connector", [connect, connect_redis])
def test_a_malformed_address_is_a_wrong_setting(connector: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="malformed"):
        connector(Settings(home=tmp_path, postgres_url="postgresql://[", redis_url="http://x"))


def test_addresses_do_not_change_when_servers_stop(make_home: MakeHome) -> None:
    settings = make_home()
    before = postgres_url(settings), redis_url(settings)
    embedded.up(settings, QUICK)
    during = postgres_url(settings), redis_url(settings)
    embedded.down(settings)
    assert before == during == (postgres_url(settings), redis_url(settings))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("rediss://:secret@cache/0", "rediss://:***@cache/0"),
        ("unix:///run/valkey.sock?db=0", "unix:///run/valkey.sock?db=0"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def tapeline(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env={**os.environ, "TAPELINE_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


COMMAND = """
import sys, typer
from tapeline.cli import servers
from tapeline.core.errors import TapelineError
app = typer.Typer(pretty_exceptions_enable=False)
servers.register(app)
try:
    app()
except TapelineError as error:
    sys.stderr.write(str(error))
    sys.exit(error.exit_code)
"""


def test_of_two_ups_at_once_one_starts_and_the_other_says_so(make_home: MakeHome) -> None:
    settings = make_home()
    both = [tapeline(settings, "up", "--json") for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert sorted(process.returncode for process in both) == [0, 3]
    refused = next(error for process, (_, error) in zip(both, answers, strict=True) if process.returncode == 3)
    assert "run already" in refused
    started = next(out for process, (out, _) in zip(both, answers, strict=True) if process.returncode == 0)
    assert json.loads(started)["running"] is True


def test_the_commands_say_what_runs_by_exit_code_and_json(make_home: MakeHome) -> None:
    settings = make_home()

    def run(*arguments: str) -> tuple[int, str, str]:
        process = tapeline(settings, *arguments)
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    code, out, _ = run("status", "--json")
    assert code == 1
    assert [server["running"] for server in json.loads(out)["servers"]] == [False, False]
    assert run("doctor")[0] == 1
    code, out, error = run("down")
    assert (code, out) == (0, "")
    assert "tapeline up" in error
    assert run("up")[0] == 0
    code, out, _ = run("status", "--json")
    assert code == 0
    shown = json.loads(out)
    assert [server["name"] for server in shown["servers"]] == ["postgresql", "valkey"]
    assert all(server["pid"] and server["version"] and server["size_bytes"] for server in shown["servers"])
    code, out, _ = run("migrate", "--json")
    assert (code, json.loads(out)["applied"]) == (0, [])
    code, out, _ = run("doctor", "--json")
    assert (code, {check["verdict"] for check in json.loads(out)} <= {"ok", "warn"}) == (0, True)
    assert run("down", "--erase", "--yes")[0] == 0
    assert list(processes_inside(settings.home_path)) == []
