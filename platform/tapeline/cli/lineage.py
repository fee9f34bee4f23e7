"""``tapeline lineage``: what something came from, and what came from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, console, emit, notices, progress
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import to_us

if TYPE_CHECKING:
    from tapeline.lineage import Lineage


def register(app: typer.Typer) -> None:
    """Add the ``lineage`` commands."""
    commands = typer.Typer(help="What came from what, from a source's column to a prediction.", no_args_is_help=True)
    commands.command("show")(show)
    commands.command("record")(record)
    app.add_typer(commands, name="lineage")


def show(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="us-daily.close, view@2, view@2:rsi_14, service:NAME, dataset:SHA256, model@1.0.0, model@champion or "
            "prediction:REQUEST_ID.",
        ),
    ],
    up: Annotated[bool, typer.Option("--up", help="Only what it came from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what came from it.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Both ways; what is shown unless another is asked for.")] = False,
    depth: Annotated[int, typer.Option(help="Steps away, at most.")] = 32,
    limit: Annotated[int, typer.Option(help="Edges in each direction, at most; the nearest are shown.")] = 10_000,
    predictions: Annotated[int, typer.Option(help="Newest predictions of each model.")] = 5,
    as_of: Annotated[str | None, typer.Option(help="Only what had been recorded by this moment (ISO 8601).")] = None,
    html: Annotated[Path | None, typer.Option(help="Draw it into this file instead.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show long lists whole.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the lineage of something as a tree, as JSON, or as a picture."""
    from tapeline.lineage import find_node, read_lineage
    from tapeline.storage.postgres import connect

    if html is not None and as_json:
        raise ParameterError("--html and --json are both given", remedy="Leave one of them out")
    as_of_us = None if as_of is None else to_us(as_of, where="--as-of")
    with connect() as connection:
        found = read_lineage(
            connection,
            find_node(connection, reference, as_of_us=as_of_us),
            "both" if both or up == down else "up" if up else "down",
            depth_max=depth,
            rows_max=limit,
            predictions_max=predictions,
            as_of_us=as_of_us,
        )
        rows = _rows_of(connection, found)
    if as_json:
        emit(_as_data(found) | ({"rows": rows} if rows else {}), as_json=True)
    elif html is not None:
        _draw(found, html)
    else:
        from tapeline.cli.lineage_tree import print_trees

        print_trees(console, found, everything=everything)
        if rows:
            emit([_row_text(row) for row in rows], as_json=False, title="Rows it was served from")
    if found.cut:
        notices.print("[yellow]There is more[/] than the limits let through; raise --depth or --limit.")


def record(
    repo: Annotated[
        Path | None, typer.Option(help="Also the services of this Feast repository, on-demand views included.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record the lineage of what is registered already. Running it again adds nothing.

    What is registered from now on is recorded by itself; this is for what was there before, and for feature services
    that nothing was exported from yet.
    """
    from tapeline.lineage import record_all
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    with progress("Recording lineage"), connect() as connection:
        require_schema(connection)
        services: Any = ()
        if repo is not None:
            from tapeline.feast_ext.lineage import service_plans

            services = service_plans(repo)
        report = record_all(connection, services)
    emit({name.replace("_", " "): value for name, value in vars(report).items()} if not as_json else vars(report),
         as_json=as_json, title="Lineage")  # fmt: skip


def _draw(found: Lineage, file: Path) -> None:
    from tapeline.lineage.picture import write_picture

    shown, nodes = write_picture(found, file)
    emit({"file": str(file), "nodes": nodes, "boxes": shown}, as_json=False, title="Picture")


def _as_data(found: Lineage) -> dict[str, Any]:
    def edges(part: Any) -> list[dict[str, str]]:
        return [{"from": str(edge.upstream), "to": str(edge.downstream), "role": edge.role} for edge in part]

    return {
        "start": str(found.start),
        "nodes": [
            {"node": str(key), "kind": key.kind, "name": key.name, "attributes": found.attributes.get(key, {})}
            for key in sorted(found.nodes)
        ],
        "upstream": edges(found.up),
        "downstream": edges(found.down),
        "comes_from": [str(key) for key in found.ends("up")],
        "leads_to": [str(key) for key in found.ends("down")],
        "cut": found.cut,
    }


def _rows_of(connection: Any, found: Lineage) -> list[dict[str, Any]]:
    from tapeline.lineage import used_rows

    return used_rows(connection, found.start.name) if found.start.kind == "prediction" else []


def _row_text(row: dict[str, Any]) -> dict[str, Any]:
    from tapeline.core.timestamps import format_us

    def moment(name: str) -> str | None:
        return None if row.get(name) is None else format_us(int(row[name]))

    return {
        "entity": row["entity"],
        "view": f"{row['view']}@{row['version']}",
        "origin": row["origin"],
        "event": moment("event_us"),
        "available": moment("available_us"),
        "sequence": row.get("sequence"),
    }
