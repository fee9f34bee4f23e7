"""What an export reads beside its entity rows: the registered views and the source of prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.rows import tuple_row

from tapeline.core.errors import UnknownNameError
from tapeline.datasets.manifest import DatasetView
from tapeline.datasets.plan import RetrievalPlan
from tapeline.features.view import FeatureViewSpec, SessionBars


@dataclass(frozen=True)
class PriceSource:
    """Where labels take their prices from."""

    source: str
    kind: Literal["bars", "trades"]
    calendar: str


def describe_views(connection: psycopg.Connection[Any], plan: RetrievalPlan) -> tuple[DatasetView, ...]:
    """The plan's views with the hashes that the database has registered for them."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(
            "SELECT view, version, plan_hash, lineage_hash, definition FROM tapeline.feature_view_versions"
        ).fetchall()
    known = {(row[0], row[1]): row[2:] for row in rows}
    views = []
    for view in plan.views:
        plan_hash, lineage_hash, definition = known.get((view.view, view.version), (None, None, None))
        views.append(
            DatasetView(
                view=view.view,
                version=view.version,
                plan_hash=plan_hash,
                lineage_hash=lineage_hash,
                definition=definition,
            )
        )
    return tuple(views)


def price_source(
    connection: psycopg.Connection[Any], views: Sequence[DatasetView], wanted: str | None, *, intraday: bool
) -> PriceSource | None:
    """Where labels take their prices from: the source of that name, else the source of a view.

    Of the views, the first whose rows fit the horizon counts, else the first.

    Raises
    ------
    UnknownNameError
        If there is no such source of bars or trades.
    """
    if wanted is not None:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            known = cursor.execute("SELECT source, kind, calendar FROM tapeline.sources").fetchall()
        kinds = {
            source: (kind, calendar) for source, kind, calendar in known if kind in {"bars", "trades"} and calendar
        }
        if wanted not in kinds:
            raise UnknownNameError("source of prices", wanted, kinds)
        return PriceSource(wanted, *kinds[wanted])
    rows_of = [FeatureViewSpec.from_definition(view.definition).rows for view in views if view.definition]
    rows_of.sort(key=lambda rows: isinstance(rows, SessionBars) == intraday)
    if not rows_of:
        return None
    rows = rows_of[0]
    return PriceSource(rows.source, rows.raw, rows.calendar)
