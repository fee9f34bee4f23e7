"""``tapeline rebuild-online``: the online store from the offline one."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices, row_progress
from tapeline.core.errors import EmptyDataError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rebuild-online")(rebuild)


def rebuild(
    views: Annotated[
        list[str] | None, typer.Argument(help="Views; all that are served online if none is given.")
    ] = None,
    repo: Annotated[Path, typer.Option(help="The Feast repository.")] = Path("feature_repo"),
    states: Annotated[
        bool, typer.Option("--states/--no-states", help="Kernel states, splits and dividends, too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Bring all online values back from PostgreSQL: after Redis was flushed or lost, or when the form of its keys has changed.

    Readers may go on meanwhile: what is not there yet is missing or stale, and never wrong.
    """
    from tapeline.feast_ext.rebuild import rebuild_online

    began = time.perf_counter()
    with row_progress("Rebuilding") as show:
        done: dict[str, int] = {}

        def told(label: str, count: int) -> None:
            done[label] = done.get(label, 0) + count
            show(label, done[label], None)

        shown = [asdict(rebuilt) | {"states": None} for rebuilt in rebuild_online(repo, views, show=told)]
    if states:
        _publish_states(shown, views)
    seconds = time.perf_counter() - began
    if as_json:
        emit({"views": shown, "seconds": seconds}, as_json=True)
        return
    rows = [{**row, "view": f"{row['view']}@{row['version']}"} for row in shown]
    for row in rows:
        del row["version"]
    emit(rows, as_json=False, title="Online values", empty="The repository has no view that is served online.")
    notices.print(f"The online store is rebuilt: {seconds:.1f} s.", markup=False, highlight=False)


def _publish_states(shown: list[dict[str, Any]], views: list[str] | None) -> None:
    """The newest kernel states of the views that Tapeline computes, into their rows of what is shown."""
    from tapeline.compute import publish
    from tapeline.core.settings import get_settings
    from tapeline.features.catalogue import VIEWS
    from tapeline.storage.feature_tables import registered_views
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis

    settings = get_settings()
    with connect(settings) as connection, connect_redis(settings) as client:
        registered = {(found.view, found.version) for found in registered_views(connection)}
        connection.commit()
        for spec in VIEWS:
            if (spec.name, spec.version) not in registered or (views and spec.name not in views):
                continue
            try:
                count = publish(connection, spec, client, settings.project)
            except EmptyDataError:
                continue
            for row in shown:
                if (row["view"], row["version"]) == (spec.name, spec.version):
                    row["states"] = count
