"""``quarantine`` and ``instruments``: what was refused, and of which symbols rows may come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tapeline.cli.app import JsonOption, emit, notices
from tapeline.core.errors import ParameterError
from tapeline.core.settings import get_settings
from tapeline.core.timestamps import format_us


def register(app: typer.Typer) -> None:
    """Add the commands."""
    waiting = typer.Typer(help="Rows that validation refused.", no_args_is_help=True)
    waiting.command("list")(list_quarantine)
    waiting.command("replay")(replay_quarantine)
    app.add_typer(waiting, name="quarantine")
    master = typer.Typer(help="The instrument master.", no_args_is_help=True)
    master.command("list")(list_instruments)
    app.add_typer(master, name="instruments")


def list_quarantine(
    source: Annotated[str | None, typer.Option(help="Only rows of this source.")] = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Also those accepted since.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Refused rows with their reason, oldest first."""
    from tapeline.ingestion import list_refused
    from tapeline.storage.postgres import connect

    with connect(get_settings()) as connection:
        rows = [row.as_dict() for row in list_refused(connection, source=source, replayed=replayed, limit=limit)]
    if as_json:
        emit(rows, as_json=True)
    elif rows:
        shown = [{key: row[key] for key in ("id", "source", "location", "rule", "reason")} for row in rows]
        emit(shown, as_json=False, title="Quarantine")
    else:
        notices.print("The quarantine is empty.")


def replay_quarantine(
    ids: Annotated[list[int] | None, typer.Argument(help="Which rows; all that wait, if none.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="column=value, set in the rows named; an empty value: missing.")
    ] = None,
    edited: Annotated[
        Path | None,
        typer.Option(
            "--content", exists=True, dir_okay=False, help="JSON as `quarantine list --json` prints it, edited."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Validate refused rows again and store those that are good now.

    Exits with 1 if some are still refused.
    """
    from tapeline.ingestion import replay
    from tapeline.ingestion.quarantine import parse_edits
    from tapeline.storage.postgres import connect

    edits: dict[int, dict[str, str | None]] = {}
    if edited is not None:
        try:
            edits = parse_edits(json.loads(edited.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ParameterError(f"it is no JSON: {error}", where=str(edited)) from None
    if changes:
        if not ids:
            raise ParameterError("--set changes the rows that are named, and none is", remedy="Name their ids")
        values = _assignments(changes)
        for place in ids:
            edits.setdefault(place, {}).update(values)
    settings = get_settings()
    wanted = ids or (list(edits) if edits else None)
    with notices.status("Validating again …"), connect(settings) as connection:
        report = replay(connection, wanted, edits=edits, clock=settings.make_clock())
    found = report.as_dict()
    if as_json:
        emit(found, as_json=True)
    else:
        emit({**found, "refused": len(report.refused)}, as_json=False)
        for place, reason in list(report.refused.items())[:20]:
            notices.print(f"[yellow]still refused:[/] {place}: {reason}")
    if report.refused:
        raise typer.Exit(1)


def _assignments(changes: Sequence[str]) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for change in changes:
        column, equals, value = change.partition("=")
        if not equals or not column:
            raise ParameterError(f"{change!r} sets nothing", where="--set", remedy="Write it like high=12.5")
        values[column] = value or None
    return values


def list_instruments(as_json: JsonOption = False) -> None:
    """Symbols with venue, calendar, tick size, currency and the time for which they are listed."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.reference import read_instruments

    with connect(get_settings()) as connection:
        rows = [
            {
                "symbol": one.symbol,
                "venue": one.venue,
                "calendar": one.calendar,
                "asset_class": one.asset_class,
                "currency": one.currency,
                "tick_size": one.tick_size,
                "multiplier": one.multiplier,
                "valid_from": format_us(one.valid_from_us),
                "valid_to": None if one.valid_to_us is None else format_us(one.valid_to_us),
            }
            for one in read_instruments(connection)
        ]
    if as_json:
        emit(rows, as_json=True)
    elif rows:
        emit(rows, as_json=False, title="Instruments")
    else:
        notices.print("No instrument is known yet: `tapeline ingest us-daily` enters some.")
