"""``tapeline vintage``: what changed between two recording times, and which moments are settled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tapeline.cli.app import JsonOption, console, emit, progress
from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import format_us, to_us

if TYPE_CHECKING:
    import psycopg

    from tapeline.datasets.vintage_diff import Cell, VintageDiff
    from tapeline.datasets.vintage_sides import Side

HORIZON = "horizon"
AsOfOption = Annotated[
    str | None,
    typer.Option(help="As recorded by this moment (ISO 8601), not past the safe horizon; all there is if none."),
]
_CHANGES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Data as it had been recorded by a moment.", no_args_is_help=True)
    commands.command("diff")(diff)
    commands.command("horizon")(horizon)
    app.add_typer(commands, name="vintage")


def asked_vintage(connection: psycopg.Connection[Any], as_of: str | None) -> int | None:
    """The moment of ``--as-of``, microseconds UTC; none if it was not given.

    Raises
    ------
    VintageError
        If it lies past the safe horizon.
    """
    from tapeline.datasets.vintage import resolve_vintage

    return None if as_of is None else resolve_vintage(connection, to_us(as_of, where="--as-of"))


def horizon(as_json: JsonOption = False) -> None:
    """The latest moment for which "as recorded by" can no longer change: note it before you change data."""
    from tapeline.datasets.vintage import safe_horizon
    from tapeline.storage.postgres import connect

    with connect() as connection:
        moment = format_us(safe_horizon(connection))
    if as_json:
        emit({"safe_horizon": moment}, as_json=True)
    else:
        console.print(moment, highlight=False)


def diff(
    before: Annotated[str, typer.Argument(help="The folder of an exported data set, or a moment (ISO 8601).")],
    after: Annotated[
        str, typer.Argument(help="Another folder of the same service, or a moment; the newest settled one if none.")
    ] = HORIZON,
    service: Annotated[str | None, typer.Option(help="Feature service; for two moments.")] = None,
    entities: Annotated[
        str, typer.Option(help="For two moments: a .parquet or .csv file of entity rows; or AAPL,MSFT; or all.")
    ] = "all",
    every: Annotated[str, typer.Option(help="Moments of symbols: each session's close, or a grid such as 5m.")] = (
        "session"
    ),
    start: Annotated[str | None, typer.Option(help="First moment or day.")] = None,
    end: Annotated[str | None, typer.Option(help="Last moment or day.")] = None,
    labels: Annotated[str | None, typer.Option(help="Labels of two moments, such as direction:5d.")] = None,
    prices: Annotated[str | None, typer.Option(help="Source of the labels' prices, if not the view's own.")] = None,
    repo: Annotated[Path, typer.Option(help="The Feast repository, for two moments.")] = Path("feature_repo"),
    limit: Annotated[int, typer.Option(min=0, max=1_000, help="Cells to print.")] = 10,
    parquet: Annotated[Path | None, typer.Option(help="Write all cells to this Parquet file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which cells of an export changed between two recording times, and why.

    A data set's folder and a moment: the same entity rows, joined again as recorded by then. Two folders: what they hold.
    Two moments and --service: the exports that would be made of them.
    """
    from tapeline.datasets.vintage_diff import vintage_diff
    from tapeline.storage.postgres import connect

    asked = _Asked(service, entities, every, start, end, labels, prices, repo)
    folders = [side for side in (before, after) if _is_folder(side)]
    if folders and asked != _Asked(repo=repo):
        raise ParameterError(
            "a data set says itself which service, entity rows and labels it has",
            where=folders[0],
            remedy="Leave out --service and the options of its entity rows and labels",
        )
    if not folders and service is None:
        raise ParameterError(
            f"{before} is no data set",
            remedy="Name a folder that tapeline export wrote, or give --service and two moments",
        )
    moments = {side: _moment(side) for side in (before, after) if not _is_folder(side)}
    with connect() as connection:
        if folders:
            sides = _stored_sides(connection, before, after, moments)
        else:
            sides = [asked.side(connection, moments[text]) for text in (before, after)]
        with progress("Comparing", total=sides[0].rows.num_rows) as advance:
            found = vintage_diff(connection, *sides, shown=limit, parquet=parquet, notify=advance)
    _show(found, parquet, as_json=as_json)


@dataclass(frozen=True)
class _Asked:
    """A data set that is described on the command line."""

    service: str | None = None
    entities: str = "all"
    every: str = "session"
    start: str | None = None
    end: str | None = None
    labels: str | None = None
    prices: str | None = None
    repo: Path = Path("feature_repo")

    def side(self, connection: psycopg.Connection[Any], vintage_us: int | None) -> Side:
        """The data set as of a moment."""
        from tapeline.cli.export import asked_entities
        from tapeline.datasets.labels import LabelSpec
        from tapeline.datasets.vintage_sides import asked_side
        from tapeline.feast_ext.resolve import retrieval_plan

        chosen = asked_entities(self.entities, None, None, self.every, self.start, self.end)
        spec = LabelSpec.parse(self.labels) if self.labels is not None else None
        plan = retrieval_plan(self.repo, str(self.service))
        return asked_side(connection, plan, chosen, vintage_us, labels=spec, prices=self.prices)


def _is_folder(text: str) -> bool:
    return Path(text).exists()


def _moment(text: str) -> int | None:
    """Microseconds; none: the horizon."""
    if text == HORIZON:
        return None
    try:
        return to_us(text, where="a recording time")
    except ParameterError:
        raise ParameterError(
            f"{text!r} is neither a data set's folder nor a moment",
            remedy="Write a moment like 2013-03-01T21:00:00+00:00",
        ) from None


def _stored_sides(
    connection: psycopg.Connection[Any], before: str, after: str, moments: dict[str, int | None]
) -> list[Side]:
    """Two folders, or a folder and the same at another moment."""
    from tapeline.datasets.vintage import resolve_vintage
    from tapeline.datasets.vintage_sides import exported_side

    stored = [None if text in moments else exported_side(connection, Path(text)) for text in (before, after)]
    one = next(side for side in stored if side is not None)
    return [
        one.at(resolve_vintage(connection, moments[text])) if side is None else side
        for text, side in zip((before, after), stored, strict=True)
    ]


def _show(found: VintageDiff, parquet: Path | None, *, as_json: bool) -> None:
    changes = found.changes.most_common(_CHANGES_SHOWN)
    if as_json:
        by_feature = [
            {"feature": feature, "cause": cause, "cells": count}
            for (feature, cause), count in found.by_feature.most_common()
        ]
        named = [change.as_dict() | {"cells": count} for change, count in changes]
        data = found.summary() | {"by_feature": by_feature, "changes": named}
        data |= {"shown": [cell.as_dict() for cell in found.shown], "parquet": str(parquet) if parquet else None}
        emit(data, as_json=True)
        return
    facts = found.summary()
    facts.pop("by_cause")
    emit(facts, as_json=False, title="Vintage diff")
    if not found.cells:
        console.print("\nNo cell differs.", highlight=False)
        return
    console.print()
    emit(_by_feature(found), as_json=False, title="Cells by cause")
    if changes:
        console.print()
        emit([{"recorded in between": str(c), "cells": n} for c, n in changes], as_json=False, title="What caused them")
    if found.shown:
        console.print()
        emit([_row(cell) for cell in found.shown], as_json=False, title=f"First cells of {found.cells:,}")
    if parquet is not None:
        console.print(f"\nAll cells: {parquet}", highlight=False, soft_wrap=True)


def _by_feature(found: VintageDiff) -> list[dict[str, Any]]:
    """A row for each feature, most cells first, a column for each cause; the tail as one row."""
    causes = [cause for cause, _ in found.by_cause.most_common()]
    totals: dict[str, dict[str, int]] = {}
    for (feature, cause), count in found.by_feature.most_common():
        totals.setdefault(feature, dict.fromkeys(causes, 0))[cause] += count
    ordered = sorted(totals.items(), key=lambda item: -sum(item[1].values()))
    rest = ordered[_CHANGES_SHOWN:]
    rows = [{"feature": feature, **counts} for feature, counts in ordered[:_CHANGES_SHOWN]]
    if rest:
        rows.append({"feature": f"{len(rest)} more", **{c: sum(counts[c] for _, counts in rest) for c in causes}})
    rows.append({"feature": "all", **{cause: found.by_cause[cause] for cause in causes}})
    return rows


def _row(cell: Cell) -> dict[str, Any]:
    return {
        **cell.keys,
        "event_timestamp": cell.event_timestamp,
        "feature": cell.feature,
        "before": _shown(cell.before),
        "after": _shown(cell.after),
        "row": cell.row,
        "cause": cell.cause,
    }


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return Text("NaN" if math.isnan(value) else f"{value:.8g}")
    return value
