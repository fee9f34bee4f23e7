"""``tapeline quality``: scores of views, statistics of their features, drift, and how late rows really arrive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tapeline.cli.app import JsonOption, console, emit, notices, progress
from tapeline.core.errors import EmptyDataError, UnknownNameError
from tapeline.core.settings import Settings, get_settings

if TYPE_CHECKING:
    import psycopg

    from tapeline.quality.daily import ViewTable
    from tapeline.quality.freshness import Sessions
    from tapeline.quality.lag import Delay, LearnedLag
    from tapeline.quality.report import ViewQuality
    from tapeline.quality.statistics import FeatureStatistics
    from tapeline.storage.feature_tables import RegisteredView

ViewArgument = Annotated[str, typer.Argument(help="NAME, for its newest version, or NAME@VERSION.")]
FeatureOption = Annotated[list[str] | None, typer.Option("--feature", "-f", help="Only this feature; repeatable.")]
StartOption = Annotated[str | None, typer.Option("--start", help="First day (UTC), such as 2013-01-02.")]
EndOption = Annotated[str | None, typer.Option("--end", help="The day after the last one.")]


def register(app: typer.Typer) -> None:
    """Add the ``quality`` commands."""
    commands = typer.Typer(help="See how good the rows of a view are, and how late they come.", no_args_is_help=True)
    commands.command("report")(report)
    commands.command("stats")(stats)
    commands.command("drift")(drift)
    commands.command("refresh")(refresh)
    commands.command("lag")(lag)
    app.add_typer(commands, name="quality")


def report(
    views: Annotated[
        list[str] | None, typer.Argument(help="Views, as NAME or NAME@VERSION; all with scores if none is given.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Judge freshness at this moment (ISO 8601); by default, at the clock's.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to this file, too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Scores of views by factor, the rules that rows break, and examples."""
    from tapeline.core.timestamps import SECOND_US, format_us, to_us
    from tapeline.quality.page import write_page
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    settings = get_settings()
    at_us = settings.make_clock().now_us() // SECOND_US * SECOND_US if at is None else to_us(at, where="--at")
    with connect(settings) as connection:
        require_schema(connection)
        found = _view_qualities(connection, views, at_us, settings)
        lags = _lags(connection, None) if html is not None else []
    if html is not None:
        write_page(found, lags, html, at=format_us(at_us))
        notices.print(f"The page is {html}", markup=False, highlight=False)
    if as_json:
        emit([view.as_dict() for view in found], as_json=True)
        return
    emit([_summary(view) for view in found], as_json=False, title=f"Quality; freshness as of {format_us(at_us)}")
    broken = [
        {"view": view.label, "rule": rule.rule, "rows": rule.rows, "blocks": rule.blocks, "action": rule.action,
         "features": ", ".join(list(rule.features)[:3]), "example": rule.examples[0] if rule.examples else ""}
        for view in found for rule in view.broken
    ]  # fmt: skip
    emit(broken, as_json=False, title="Broken rules", empty="Every row keeps every rule.")


def _summary(view: ViewQuality) -> dict[str, Any]:
    shares = {name: _coloured(value, view.warn_below) for name, value in view.factors.items()}
    newest = (
        None if view.freshness is None or view.freshness.newest is None else f"{view.freshness.newest:%Y-%m-%d %H:%M}"
    )
    return {
        "view": view.label, "score": _coloured(view.score, view.warn_below), **shares, "rows": view.counts.rows,
        "newest row": newest,
        "blocks": ", ".join(f"{count} {name}" for name, count in sorted(view.verdicts.items())),
    }  # fmt: skip


def _coloured(value: float, warn_below: float) -> Text:
    style = "green" if value >= warn_below else "yellow" if value >= 0.5 else "red"
    return Text(f"{value:.3f}" if value == 1.0 else f"{min(value, 0.999):.3f}", style=style)


def _view_qualities(
    connection: psycopg.Connection[Any], names: Sequence[str] | None, at_us: int, settings: Settings
) -> list[ViewQuality]:
    from tapeline.quality.report import view_quality
    from tapeline.quality.tables import scored_views
    from tapeline.storage.feature_tables import registered_views

    scored = scored_views(connection)
    registered = {(one.view, one.version): one for one in registered_views(connection)}
    connection.commit()
    chosen = scored if not names else [_version_of(name, scored) for name in names]
    if not chosen:
        raise EmptyDataError("no block of rows has a score yet", remedy="Write some: tapeline backfill")
    return [
        view_quality(
            connection,
            view,
            version,
            registered=registered.get((view, version)),
            sessions=_sessions_of(registered.get((view, version))),
            at_us=at_us,
            settings=settings,
        )
        for view, version in chosen
    ]


def _version_of(name: str, known: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """The view version that a name stands for: as written, else the newest."""
    from tapeline.storage.view_versions import parse_view_version

    view, number = parse_view_version(name)
    versions = [version for other, version in known if other == view and number in {None, version}]
    if not versions:
        raise UnknownNameError("view with recorded quality", name, [f"{view}@{version}" for view, version in known])
    return view, max(versions)


def _sessions_of(registered: RegisteredView | None) -> Sessions | None:
    from tapeline.compute.sessions import session_times
    from tapeline.quality.freshness import Sessions

    if registered is None:
        return None
    times = session_times(registered.definition["rows"]["calendar"])
    return Sessions(times.open_us, times.close_us)


def stats(
    view: ViewArgument,
    feature: FeatureOption = None,
    start: StartOption = None,
    end: EndOption = None,
    by_day: Annotated[
        bool, typer.Option("--by-day", help="A row for each day, rather than all days together.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Statistics of a view's features: counts, mean, spread, quantiles; computed again first where rows were added."""
    from tapeline.quality.daily import day_of, read_days, reference
    from tapeline.storage.postgres import connect

    first, last = (None if text is None else day_of(text) for text in (start, end))
    with connect() as connection:
        (table,) = _tables_of(connection, [view])
        places = [table.place_of(name) for name in feature] if feature else list(range(len(table.columns)))
        _refresh(connection, table)
        parts: list[tuple[date | None, FeatureStatistics]] = (
            [*read_days(connection, table, first, last)] if by_day else []
        )
        parts = parts or [(None, reference(connection, table, first, last))]
    rows = [
        {**({"day": day} if day is not None else {}), "feature": table.columns[place], **_figures(one, place)}
        for day, one in parts
        for place in places
    ]
    emit(rows, as_json=as_json, title=f"{table.view}@{table.version}: {len(parts)} {'days' if by_day else 'span'}")


def _figures(one: FeatureStatistics, place: int) -> dict[str, Any]:
    from tapeline.quality.statistics import QUANTILES

    middle = {f"p{at * 100:g}": float(value) for at, value in zip(QUANTILES, one.quantiles(place), strict=True)}
    return {
        "rows": one.rows, "null": int(one.nulls[place]), "nan": int(one.nans[place]), "inf": int(one.infinite[place]),
        "mean": float(one.mean[place]), "std": float(one.deviation[place]), "min": float(one.least[place]), **middle,
        "max": float(one.most[place]),
    }  # fmt: skip


def _tables_of(connection: psycopg.Connection[Any], names: Sequence[str]) -> list[ViewTable]:
    """The tables of these views, of all registered ones if none is named."""
    from tapeline.quality.daily import ViewTable
    from tapeline.storage.feature_tables import registered_views

    registered = {(one.view, one.version): one for one in registered_views(connection)}
    chosen = [_version_of(name, list(registered)) for name in names] if names else registered
    tables = [ViewTable.of(connection, registered[one]) for one in chosen]
    connection.commit()
    return tables


def _refresh(connection: psycopg.Connection[Any], table: ViewTable) -> int:
    from tapeline.quality.daily import refresh as run

    with progress(f"{table.view}@{table.version}: days") as advance:
        return run(connection, table, advance)


def refresh(
    views: Annotated[list[str] | None, typer.Argument(help="Views; all registered ones if none is given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute daily statistics again where rows were added. Reading them does it, too; this is for a timer."""
    from tapeline.storage.postgres import connect

    with connect() as connection:
        tables = _tables_of(connection, views or ())
        rows = [{"view": f"{t.view}@{t.version}", "days computed": _refresh(connection, t)} for t in tables]
    emit(rows, as_json=as_json, title="Daily statistics", empty="No view is registered yet.")


def drift(
    view: ViewArgument,
    reference_start: Annotated[
        str | None, typer.Option(help="First day of the reference; by default, of all rows.")
    ] = None,
    reference_end: Annotated[str | None, typer.Option(help="The day after its last; by default, --start.")] = None,
    start: StartOption = None,
    end: EndOption = None,
    feature: FeatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far features have moved from a reference span of days, the furthest first."""
    from tapeline.quality.daily import day_of, reference
    from tapeline.quality.distances import distances
    from tapeline.storage.postgres import connect

    first, last, before, until = (
        None if text is None else day_of(text) for text in (start, end, reference_start, reference_end or start)
    )
    with connect() as connection:
        (table,) = _tables_of(connection, [view])
        _refresh(connection, table)
        past = reference(connection, table, before, until)
        present = reference(connection, table, first, last)
        places = [table.place_of(name) for name in feature] if feature else range(len(table.columns))
        found = [(table.columns[place], distances(past, present, place)) for place in places]
    found.sort(key=lambda pair: -(pair[1]["psi"] or 0.0))
    rows = [{"feature": name, **figures} for name, figures in found]
    emit(rows, as_json=as_json, title=f"{table.view}@{table.version}: {present.rows} rows against {past.rows}")


def lag(
    source: Annotated[str | None, typer.Argument(help="A source; all that have rows if none is given.")] = None,
    by_symbol: Annotated[bool, typer.Option("--by-symbol", help="By symbol rather than by venue and class.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How late rows really arrive, and where the declared lag is too short."""
    from tapeline.storage.migrations import require_schema
    from tapeline.storage.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        require_schema(connection)
        found = _lags(connection, source, by_symbol=by_symbol)
    if as_json:
        emit([one.as_dict() for one in found], as_json=True)
        return
    rows = [
        _lag_row(one, name, delay)
        for one in found
        for name, delay in (("arrival", one.live), ("publication", one.published))
    ]
    emit(
        [row for row in rows if row is not None],
        as_json=False,
        title="Delays from the event on",
        empty="No source has rows that arrived live, or that say when they were published: a load of history tells nothing.",
    )
    if source is not None:
        groups = [{"group": one.group, "rows": one.rows, **_delays(one)} for one in found[0].groups]
        emit(groups, as_json=False, title="By symbols, and by hour of the session", empty="")
    for one in found:
        if one.advice:
            style = "bold yellow" if one.is_too_short else ""
            console.print(Text.assemble((f"{one.source.name}: ", style), f"{one.advice}."), highlight=False)


def _lag_row(one: LearnedLag, name: str, delay: Delay | None) -> dict[str, Any] | None:
    from tapeline.quality.lag import seconds_text

    if delay is None:
        return None
    declared = seconds_text(one.source.declared_lag_us)
    return {"source": one.source.name, "delay": name, "declared": declared, "rows": delay.rows, **_delays(delay)}


def _delays(delay: Delay) -> dict[str, Any]:
    from tapeline.quality.lag import seconds_text

    late = Text(f"{delay.violations}", style="red" if delay.violations else "green")
    return {**{name: seconds_text(value) for name, value in delay.quantiles_us.items()}, "too late": late}


def _lags(connection: psycopg.Connection[Any], name: str | None, *, by_symbol: bool = False) -> list[LearnedLag]:
    from tapeline.compute.sessions import session_times
    from tapeline.quality.lag import learn_lag, symbol_groups
    from tapeline.storage.reference import find_source, source_names

    names = source_names(connection)
    if name is not None and name not in names:
        raise UnknownNameError("source", name, names)
    groups = {} if by_symbol else symbol_groups(connection)
    connection.commit()
    found = []
    for one in [name] if name is not None else names:
        source = find_source(connection, one)
        if source is None or source.kind == "actions":
            continue
        opens = None if source.calendar is None else session_times(source.calendar).open_us
        found.append(learn_lag(connection, source, groups=groups, open_us=opens))
    return sorted(found, key=lambda learned: (not learned.is_too_short, learned.source.name))
