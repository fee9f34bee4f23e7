"""``tapeline latest``, ``retention`` and ``tiers``: the newest values, how long rows are kept, and what users may ask."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, names_in, notices
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import MICROSECOND, format_us, parse_duration_us, to_us

if TYPE_CHECKING:
    from tapeline.storage.retention import RetentionPlan

KeepOption = Annotated[str, typer.Argument(help="How long rows are kept, such as 730d, or 'forever'.")]
TableArgument = Annotated[str, typer.Argument(help="A table with its schema, such as tapeline.trades.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("latest")(latest)
    retention = typer.Typer(help="How long rows are kept; what is still needed stays.", no_args_is_help=True)
    retention.command("plan")(plan)
    retention.command("set")(set_rule)
    retention.command("apply")(apply)
    app.add_typer(retention, name="retention")
    tiers = typer.Typer(help="What users of each tier may ask of the server.", no_args_is_help=True)
    tiers.command("list")(list_tiers)
    tiers.command("set")(set_tier)
    app.add_typer(tiers, name="tiers")


def latest(
    view: Annotated[str, typer.Argument(help="NAME, its promoted version, or NAME@VERSION.")],
    symbols: Annotated[str, typer.Option("--symbols", "-s", help="AAPL,MSFT.", show_default=False)],
    features: Annotated[str | None, typer.Option("--features", "-f", help="rsi_14,sma_20; all if not given.")] = None,
    at: Annotated[str | None, typer.Option(help="As known at this moment (ISO 8601); now if none.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As recorded by this moment (ISO 8601).")] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest values of symbols that had become available by a moment."""
    from tapeline.core.settings import get_settings
    from tapeline.storage.feature_matrix import feature_matrix
    from tapeline.storage.postgres import connect

    settings = get_settings()
    at_us = settings.make_clock().now_us() if at is None else to_us(at, where="--at")
    vintage_us = None if as_of is None else to_us(as_of, where="--as-of")
    with connect(settings) as connection:
        matrix = feature_matrix(
            connection,
            view,
            names_in(symbols),
            None if features is None else names_in(features),
            at_us=at_us,
            vintage_us=vintage_us,
        )
    rows: list[dict[str, Any]] = []
    for place, symbol in enumerate(matrix.symbols):
        found = bool(matrix.found[place])
        values = {
            name: None if matrix.null[place, number] else float(matrix.values[place, number])
            for number, name in enumerate(matrix.features)
        }
        rows.append(
            {
                "symbol": symbol,
                "event": format_us(int(matrix.event_us[place])) if found else None,
                "available": format_us(int(matrix.available_us[place])) if found else None,
                **values,
            }
        )
    emit(rows, as_json=as_json, title=f"{matrix.view}@{matrix.version} at {format_us(matrix.at_us)}")


def plan(
    table: Annotated[str | None, typer.Argument(help="A table; all that have a rule if none.")] = None,
    keep: Annotated[str | None, typer.Option(help="How long its rows would be kept, such as 730d.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What applying the rules now would drop, and who holds what back. Nothing is changed."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.retention import plan_retention, retention_rules

    if keep is not None and table is None:
        raise ParameterError("--keep is for one table, and none is named")
    with connect() as connection:
        rules = retention_rules(connection)
        if table is not None:
            wanted = _duration(keep) if keep is not None else rules.get(table)
            if wanted is None:
                raise ParameterError("the table has no rule", where=table, remedy="Say how long with --keep 730d")
            rules = {table: wanted}
        plans = [plan_retention(connection, name, kept) for name, kept in rules.items()]
    emit(
        [_shown(one) for one in plans],
        as_json=as_json,
        title="Retention",
        empty="No table has a rule: everything is kept.",
    )


def set_rule(table: TableArgument, keep: KeepOption) -> None:
    """Set how long a table's rows are kept. Under TimescaleDB Community a daily job applies it."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.retention import set_retention

    with connect() as connection:
        set_retention(connection, table, None if keep == "forever" else _duration(keep))
    notices.print(f"{table}: rows are kept {'for ever' if keep == 'forever' else 'for ' + keep}.", highlight=False)


def apply(
    table: Annotated[str | None, typer.Argument(help="A table; all that have a rule if none.")] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", help="Release a data set first: first digits of its SHA-256; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Drop what the rules say, but nothing that a data set, a model in use or a state still needs."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.retention import apply_retention, forget_dataset, retention_rules

    with connect() as connection:
        for named in forget or []:
            notices.print(f"Data set {forget_dataset(connection, named)[:12]} is forgotten.", highlight=False)
        tables = [table] if table is not None else list(retention_rules(connection))
        results = [apply_retention(connection, name) for name in tables]
    rows = [
        {
            "table": one.table,
            "older than": format_us(one.cutoff_us),
            "dropped before": None if one.dropped_before_us is None else format_us(one.dropped_before_us),
            "dropped": one.dropped,
            "held by": list(one.held_by),
        }
        for one in results
    ]
    emit(rows, as_json=as_json, title="Retention", empty="No table has a rule: everything is kept.")


def list_tiers(as_json: JsonOption = False) -> None:
    """All tiers with their limits."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.tiers import read_tiers

    with connect() as connection:
        emit([asdict(tier) for tier in read_tiers(connection)], as_json=as_json, title="User tiers")


def set_tier(
    tier: Annotated[str, typer.Argument(help="Name; a new one is added.")],
    entities: Annotated[int, typer.Option(help="Entities of one request.")],
    live_rows: Annotated[int, typer.Option(help="Live rows of one request.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Requests a second; no limit if none.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    features: Annotated[
        str | None, typer.Option(help="view, view@version or view@version:feature, by commas; all if none.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Models, by commas; all if none.")] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Add a tier, or replace the one of its name."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.tiers import UserTier, write_tier

    with connect() as connection:
        write_tier(
            connection,
            UserTier(
                tier,
                rate,
                burst,
                entities,
                live_rows,
                None if features is None else names_in(features),
                None if models is None else names_in(models),
                description,
            ),
        )
    notices.print(f"Tier {tier} is set.", highlight=False)


def _shown(one: RetentionPlan) -> dict[str, Any]:
    return {
        "table": one.table,
        "keep (days)": one.keep / timedelta(days=1),
        "older than": format_us(one.cutoff_us),
        "can go before": "nothing" if one.drop_before_us is None else format_us(one.drop_before_us),
        "held by": [
            f"{need.kind} {need.name}, {'all' if need.from_us is None else 'from ' + format_us(need.from_us)}"
            for need in one.needs
        ],
    }


def _duration(text: str) -> timedelta:
    return parse_duration_us(text) * MICROSECOND
