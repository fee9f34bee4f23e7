"""``up``, ``down``, ``status``, ``doctor``, ``migrate``: the servers and the schema."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from tapeline.cli.app import JsonOption, console, emit, notices
from tapeline.core.errors import NotRunningError
from tapeline.core.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)
    app.command()(migrate)


def up(as_json: JsonOption = False) -> None:
    """Start PostgreSQL and Valkey in the data folder and prepare the database.

    Exits with 1 if they run already.
    """
    from tapeline.storage.servers import embedded

    with notices.status("Starting the servers …"):
        result = embedded.up(get_settings())
    if as_json:
        emit(result.as_json(), as_json=True)
    else:
        _show(result)


def down(
    erase: Annotated[bool, typer.Option("--erase", help="Remove the servers' data too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before erasing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop the servers of the data folder. When none runs it says so, and is content."""
    from tapeline.storage.servers import embedded

    settings = get_settings()
    if erase and not yes:
        typer.confirm(f"Remove the database and the online store of {settings.home_path} for good?", abort=True)
    try:
        with notices.status("Stopping the servers …"):
            stopped = embedded.down(settings, erase=erase)
    except NotRunningError as error:
        stopped = []
        notices.print(str(error), markup=False, highlight=False)
    if as_json:
        emit({"stopped": stopped, "erased": erase}, as_json=True)
    elif stopped:
        console.print(f"Stopped {' and '.join(stopped)}.")


def status(as_json: JsonOption = False) -> None:
    """Show which servers run, where, and in which version. Exits with 1 if one does not answer."""
    from tapeline.storage.servers.status import status as examine

    result = examine(get_settings())
    if as_json:
        emit(result.as_json(), as_json=True)
    else:
        _show(result)
    if not result.running:
        sys.exit(1)


def doctor(as_json: JsonOption = False) -> None:
    """Check servers, schema, disk and settings, and say what to do about each problem. Exits with 1 if a check failed."""
    from tapeline.storage.servers.doctor import examine

    checks = examine(get_settings())
    if as_json:
        emit([check.as_json() for check in checks], as_json=True)
    else:
        marks = {"ok": Text("ok", "green"), "warn": Text("warn", "yellow"), "fail": Text("FAIL", "bold red")}
        rows = [
            {"": marks[check.verdict], "check": check.name, "found": check.found, "what to do": check.remedy or ""}
            for check in checks
        ]
        emit(rows, as_json=False)
    if any(check.verdict == "fail" for check in checks):
        sys.exit(1)


def migrate(as_json: JsonOption = False) -> None:
    """Bring the database's schema up to this version of Tapeline."""
    from tapeline.core.timestamps import parse_duration_us
    from tapeline.storage.migrations import migrate as apply
    from tapeline.storage.migrations import schema_version
    from tapeline.storage.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        applied = apply(connection, chunk_interval_us=parse_duration_us(settings.chunk_interval))
        version = schema_version(connection)
    if as_json:
        emit({"applied": applied, "schema_version": version}, as_json=True)
        return
    for name in applied:
        console.print(f"applied {name}", highlight=False)
    console.print(f"The schema is at {version}{'' if applied else ', nothing to do'}.", highlight=False)


def _show(result: object) -> None:
    from tapeline.storage.servers.status import ServerStatus

    assert isinstance(result, ServerStatus)
    rows = [
        {
            "server": server.name,
            "state": "runs" if server.running else "away",
            "version": server.version,
            "pid": server.pid,
            "size": None if server.size_bytes is None else f"{server.size_bytes / 2**20:.1f} MB",
            "address": server.address,
        }
        for server in result.servers
    ]
    emit(rows, as_json=False, title=f"Servers of {result.home}")
    for server in result.servers:
        if server.problem:
            notices.print(f"{server.name}: {server.problem}", markup=False, highlight=False)
    if result.edition is not None:
        edition = result.edition if result.timescaledb is None else f"{result.edition} {result.timescaledb}"
        console.print(
            f"TimescaleDB: {edition} · schema {result.schema_version} of {result.schema_expected}", highlight=False
        )
