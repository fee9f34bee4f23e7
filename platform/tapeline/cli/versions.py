"""``tapeline versions``: which versions of views there are, how they differ, and which one holds."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.cli.app import JsonOption, emit, names_in, notices, progress, span_us
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import format_us

if TYPE_CHECKING:
    from tapeline.datasets.version_difference import FeatureDifference, LargestDifference, VersionDiff

versions_app = typer.Typer(
    help="List, compare, promote, roll back and retire versions of feature views.", no_args_is_help=True
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the history.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(versions_app, name="versions")


@versions_app.command("list")
def list_versions(
    view: Annotated[str | None, typer.Argument(help="Only this view, with its history.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Registered versions: which one a reference without a version means, and which are retired."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.view_versions import promotion_history, version_states

    with connect() as connection:
        states = version_states(connection, view)
        history = promotion_history(connection, view) if view is not None else []
    rows = [
        {
            "view": state.view,
            "version": state.version,
            "state": state.state,
            "registered": format_us(state.registered_us),
            "since": format_us(state.decided_us) if state.decided_us is not None else None,
            "by": state.decided_by,
            "reason": state.reason or None,
            "lineage": state.lineage_hash,
        }
        for state in states
    ]
    decisions = [
        {
            "at": format_us(row.decided_us),
            "decision": row.decision,
            "version": row.version,
            "by": row.decided_by,
            "reason": row.reason or None,
        }
        for row in history
    ]
    if as_json:
        emit(rows if view is None else {"versions": rows, "history": decisions}, as_json=True)
        return
    shown = ("state", "registered", "reason")
    emit(
        [
            {
                "view": f"{row['view']}@{row['version']}",
                **{name: row[name] for name in shown},
                "lineage": str(row["lineage"])[:8],
            }
            for row in rows
        ],
        as_json=False,
        title="Versions",
        empty="No view is registered yet: tapeline backfill registers them.",
    )
    if decisions:
        emit(decisions, as_json=False, title="History")


@versions_app.command("diff")
def diff(
    before: Annotated[str, typer.Argument(help="VIEW@VERSION to compare from.", show_default=False)],
    after: Annotated[str, typer.Argument(help="VIEW@VERSION to compare with.", show_default=False)],
    entities: Annotated[str | None, typer.Option(help="Symbols such as AAPL,MSFT; all if none is given.")] = None,
    start: Annotated[str | None, typer.Option(help="First moment or day, such as 2005-01-03.")] = None,
    end: Annotated[str | None, typer.Option(help="Last moment or day.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show features without a difference, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How two versions differ: in definition, distributions, and values on the same rows."""
    from tapeline.datasets.version_diff import diff_versions
    from tapeline.storage.postgres import connect

    pair = [_view_version(text) for text in (before, after)]
    symbols = None if entities is None else names_in(entities)
    start_us, end_us = span_us(start, end)
    with progress(f"Comparing {before} with {after}") as advance, connect() as connection:
        found = diff_versions(
            connection,
            pair[0],
            pair[1],
            symbols=symbols,
            start_us=start_us,
            end_us=end_us,
            notify=advance,
        )
    if as_json:
        emit(_as_json(found), as_json=True)
        return
    changed = [feature for feature in found.features if feature.different]
    emit(
        {
            "definition": list(found.definition),
            "columns added": list(found.added),
            "columns removed": list(found.removed),
            "rows of both": found.rows,
            "rows of one only": f"{found.only_before} and {found.only_after}",
            "features of both": len(found.features),
            "of them equal": len(found.features) - len(changed),
        },
        as_json=False,
        title=f"From {before} to {after}",
    )
    emit(
        [_row(feature) for feature in (found.features if everything else changed)],
        as_json=False,
        title="Values on the same rows",
        empty="Every value that both have is equal, bit for bit.",
    )


@versions_app.command("promote")
def promote(
    version: Annotated[str, typer.Argument(help="VIEW@VERSION.", show_default=False)],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let references without a version mean this one from now on."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.view_decisions import promote as run

    view, number = _view_version(version)
    with connect() as connection:
        change = run(connection, view, number, by=_user(), reason=reason)
    _report(change, as_json=as_json)


@versions_app.command("rollback")
def rollback(
    view: Annotated[str, typer.Argument(help="The view.", show_default=False)],
    to: Annotated[int | None, typer.Option(help="The version; the one promoted before if none is given.")] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Go back to a version that was promoted before: one row, at once, for all readers."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.view_decisions import rollback as run

    with connect() as connection:
        change = run(connection, view, to, by=_user(), reason=reason)
    _report(change, as_json=as_json)


@versions_app.command("retire")
def retire(
    version: Annotated[str, typer.Argument(help="VIEW@VERSION.", show_default=False)],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Refuse a version to new exports, models and servers. Its values stay; promoting it takes it into use again."""
    from tapeline.storage.postgres import connect
    from tapeline.storage.view_decisions import retire as run

    view, number = _view_version(version)
    with connect() as connection:
        run(connection, view, number, by=_user(), reason=reason)
    if as_json:
        emit({"view": view, "version": number, "state": "retired"}, as_json=True)
    else:
        notices.print(f"{view}@{number} is retired", markup=False, highlight=False)


def _report(change: Any, *, as_json: bool) -> None:
    if as_json:
        emit({"view": change.view, "before": change.before, "after": change.after}, as_json=True)
    elif change.before == change.after:
        notices.print(f"{change.view}@{change.after} is promoted already", markup=False, highlight=False)
    else:
        notices.print(
            f"{change.view} is now version {change.after}, was {change.before}", markup=False, highlight=False
        )


def _view_version(text: str) -> tuple[str, int]:
    from tapeline.storage.view_versions import parse_view_version

    view, version = parse_view_version(text)
    if version is None:
        raise ParameterError(f"{text!r} names no version", remedy=f"Write it like {view}@2")
    return view, version


def _user() -> str:
    """Who runs the command; empty where the system has no name for it, and the database's role is noted."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def _row(feature: FeatureDifference) -> dict[str, Any]:
    largest = feature.largest_absolute
    return {
        "feature": feature.feature,
        "different": feature.different,
        "largest": largest.difference if largest else None,
        "relative": feature.largest_relative.difference if feature.largest_relative else None,
        "where": f"{largest.symbol} {format_us(largest.event_us)[:16]}" if largest else None,
        "mean": f"{_short(feature.before.mean)} → {_short(feature.after.mean)}",
        "NaN": f"{feature.before.nans} → {feature.after.nans}",
        "PSI": feature.psi,
        "KS": feature.ks,
    }


def _short(number: float | None) -> str:
    return "–" if number is None else f"{number:.4g}"


def _as_json(found: VersionDiff) -> dict[str, Any]:
    def largest(row: LargestDifference | None) -> dict[str, Any] | None:
        return None if row is None else {**vars(row), "event": format_us(row.event_us)}

    return {
        "before": f"{found.before.view}@{found.before.version}",
        "after": f"{found.after.view}@{found.after.version}",
        "definition": found.definition,
        "plan_hashes": [found.before.plan_hash, found.after.plan_hash],
        "lineage_hashes": [found.before.lineage_hash, found.after.lineage_hash],
        "added": found.added,
        "removed": found.removed,
        "rows": found.rows,
        "only_before": found.only_before,
        "only_after": found.only_after,
        "features": [
            {
                "feature": feature.feature,
                "equal": feature.equal,
                "different": feature.different,
                "largest_absolute": largest(feature.largest_absolute),
                "largest_relative": largest(feature.largest_relative),
                "psi": feature.psi,
                "ks": feature.ks,
                "before": vars(feature.before),
                "after": vars(feature.after),
            }
            for feature in found.features
        ],
    }
