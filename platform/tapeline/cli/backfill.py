"""``tapeline backfill`` and ``tapeline views``: compute feature tables, and see what views there are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, notices, progress
from tapeline.cli.vintage import AsOfOption, asked_vintage
from tapeline.core.errors import EmptyDataError, ParameterError

if TYPE_CHECKING:
    import psycopg
    import redis

    from tapeline.core.settings import Settings
    from tapeline.features.view import FeatureViewSpec

views_app = typer.Typer(help="See the feature views and what is registered of them.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backfill")(backfill)
    app.add_typer(views_app, name="views")


def backfill(
    views: Annotated[
        list[str] | None, typer.Argument(help="Views, as NAME or NAME@VERSION; all registered ones if none is given.")
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "-s", help="Only this symbol; may be repeated.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online/--no-online", help="Write the newest kernel states to Redis, too.")
    ] = True,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what is missing and why, by view and symbol; compute nothing.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Divide the symbols over a Ray cluster: 'local' for one on this machine while it is needed, 'auto', HOST:PORT"
            " or ray://HOST:PORT.",
        ),
    ] = None,
    ray_tasks: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most Ray tasks, each with a connection to the database, at a time; by default two a processor."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute features over all raw rows that a view has not seen yet, corrections included.

    Running it again adds nothing.
    """
    if plan:
        _show_plan(views, symbol, as_json=as_json)
        return
    if ray is None and ray_tasks is not None:
        raise ParameterError("--ray-tasks is for back-fills on Ray", remedy="Give --ray local or an address, too")
    from tapeline.core.settings import get_settings
    from tapeline.features.catalogue import VIEWS, view
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect
    from tapeline.storage.redis import connect_redis

    settings = get_settings()
    specs = [view(name) for name in views] if views else VIEWS
    client = connect_redis(settings) if online else None
    try:
        with connect(settings) as connection:
            require_schema(connection)
            with nullcontext() if ray is None else _quiet_cluster(ray, settings):
                reports = _run(
                    connection, specs, symbol, client, settings,
                    on_ray=ray is not None, tasks_max=ray_tasks, leave_out_empty=not views,
                )  # fmt: skip
    finally:
        if client is not None:
            client.close()
    if as_json:
        emit(reports, as_json=True)
        return
    shown = {"entities": "entities", "rows_read": "read", "rows_computed": "computed", "rows_added": "added",
             "snapshots_added": "snapshots", "quality": "quality", "seconds": "seconds"}  # fmt: skip
    emit(
        [{"view": f"{r['view']}@{r['version']}"} | {title: r[name] for name, title in shown.items()} for r in reports],
        as_json=False,
        title="Back-fill: rows of each view",
        empty="No view has rows to compute from. Ingest some first: tapeline ingest us-daily",
    )


@contextmanager
def _quiet_cluster(address: str, settings: Settings) -> Iterator[None]:
    """Be connected to a Ray cluster; what Ray prints, such as that a worker died, goes to standard error."""
    from tapeline.compute import ray_cluster

    with redirect_stdout(sys.stderr), ray_cluster(address, settings):
        yield


def _run(
    connection: psycopg.Connection[Any],
    specs: Sequence[FeatureViewSpec],
    symbols: list[str] | None,
    client: redis.Redis | None,
    settings: Settings,
    *,
    on_ray: bool,
    tasks_max: int | None,
    leave_out_empty: bool,
) -> list[dict[str, Any]]:
    """Fill one view after another; what was done for each."""
    from tapeline.compute import BackfillReport, backfill_on_ray
    from tapeline.compute import backfill as backfill_here
    from tapeline.lineage.openlineage import backfill_datasets, job_run

    fill: Callable[..., BackfillReport] = partial(backfill_on_ray, tasks_max=tasks_max) if on_ray else backfill_here
    reports: list[dict[str, Any]] = []
    for spec in specs:
        place = f"{spec.name}@{spec.version}"
        try:
            with progress(f"{place}: entities") as advance, job_run(f"backfill.{place}", settings) as told:
                report = fill(
                    connection, spec, symbols=symbols, redis=client, project=settings.project, on_entity=advance
                )
                told.describe(partial(backfill_datasets, connection, spec.name, spec.version, rows=report.rows_added))
        except EmptyDataError as error:
            if not leave_out_empty:
                raise
            notices.print(f"{place} was left out: {error}", markup=False, highlight=False)
        else:
            reports.append(report.as_dict())
    return reports


def _show_plan(names: list[str] | None, symbols: list[str] | None, *, as_json: bool) -> None:
    from tapeline.compute import MissingRows, backfill_plan
    from tapeline.features.catalogue import VIEWS, view
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    missing: list[MissingRows] = []
    with connect() as connection:
        require_schema(connection)
        for spec in [view(name) for name in names] if names else VIEWS:
            try:
                missing += backfill_plan(connection, spec, symbols=symbols)
            except EmptyDataError as error:
                if names:
                    raise
                notices.print(f"{spec.name}@{spec.version} was left out: {error}", markup=False, highlight=False)
    if as_json:
        emit([rows.as_dict() for rows in missing], as_json=True)
        return
    shown = [
        {
            "view": f"{rows.view}@{rows.version}",
            "symbol": rows.symbol,
            "from": rows.as_dict()["first_event"],
            "to": rows.as_dict()["last_event"],
            "raw rows": rows.raw_rows,
            "why": rows.reasons,
            "rows, about": rows.estimated_rows,
            "seconds, about": round(rows.estimated_s, 1),
        }
        for rows in missing
    ]
    emit(shown, as_json=False, title="Back-fill plan", empty="Nothing is missing: every raw row has been computed.")


@views_app.command("list")
def list_views(as_of: AsOfOption = None, as_json: JsonOption = False) -> None:
    """All views of the catalogue, and what the database has of them."""
    from tapeline.features.catalogue import VIEWS
    from tapeline.storage.feature_tables import registered_views, row_counts
    from tapeline.storage.postgres import connect

    with connect() as connection:
        vintage_us = asked_vintage(connection, as_of)
        registered = {(r.view, r.version): r for r in registered_views(connection, vintage_us)}
        counts = row_counts(connection, list(registered.values()), vintage_us)
    rows: list[dict[str, Any]] = []
    for spec in VIEWS:
        found = registered.pop((spec.name, spec.version), None)
        rows.append(
            {
                "view": spec.name,
                "version": spec.version,
                "source": spec.rows.source,
                "features": len(spec.columns),
                "lineage": spec.lineage_hash,
                "registered": _state(found.lineage_hash if found else None, spec.lineage_hash),
                "rows": counts.get((spec.name, spec.version)),
            }
        )
    rows += [
        {
            "view": found.view,
            "version": found.version,
            "source": found.definition["rows"]["source"],
            "features": None,
            "lineage": found.lineage_hash,
            "registered": "only in the database",
            "rows": counts.get((found.view, found.version)),
        }
        for found in registered.values()
    ]
    if not as_json:
        rows = [
            {"view": f"{row.pop('view')}@{row.pop('version')}", **row, "lineage": row["lineage"][:8]} for row in rows
        ]
    emit(rows, as_json=as_json, title="Feature views")


@views_app.command("show")
def show_view(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """One view: its rows, its features with units and warm-up, its lineage, and what the database has of it."""
    from tapeline.features.catalogue import view
    from tapeline.storage.feature_tables import qualified_name, registered_views, row_counts
    from tapeline.storage.postgres import connect

    spec = view(name)
    with connect() as connection:
        vintage_us = asked_vintage(connection, as_of)
        known = registered_views(connection, vintage_us)
        found = next((r for r in known if (r.view, r.version) == (spec.name, spec.version)), None)
        rows = row_counts(connection, [found], vintage_us).get((spec.name, spec.version)) if found else None
    facts = {
        "view": spec.name,
        "version": spec.version,
        "description": spec.description,
        "rows from": spec.definition()["rows"],
        "ttl (hours)": spec.ttl_us / 3.6e9,
        "lineage": spec.lineage_hash,
        "plan": spec.plan.hash,
        "registered": _state(found.lineage_hash if found else None, spec.lineage_hash),
        "table": qualified_name(spec),
        "rows": rows,
    }
    features = [
        {"feature": name, "unit": unit, "warm-up (rows)": rows_needed}
        for name, unit, rows_needed in zip(spec.columns, spec.plan.units, spec.plan.warm_up, strict=True)
    ]
    if as_json:
        emit({**facts, "features": features}, as_json=True)
        return
    emit(facts, as_json=False, title=f"{spec.name}@{spec.version}")
    emit(features, as_json=False, title="Features")


def _state(registered: str | None, lineage: str) -> str:
    if registered is None:
        return "no"
    return "yes" if registered == lineage else "with another definition: raise the version"
