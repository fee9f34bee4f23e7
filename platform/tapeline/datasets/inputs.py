"""What an export reads: the registered views, the source of prices, the entity rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import polars as pl
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from tapeline.compute.sessions import session_times
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us
from tapeline.datasets.entities import SESSION, entity_table, generate_entities
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.manifest import DatasetView
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.prices import lifetimes
from tapeline.features.view import FeatureViewSpec, SessionBars


@dataclass(frozen=True)
class PriceSource:
    """Where labels take their prices from."""

    source: str
    kind: Literal["bars", "trades"]
    calendar: str


@dataclass(frozen=True)
class Generated:
    """Entity rows to generate: see :func:`tapeline.datasets.entities.generate_entities`."""

    symbols: tuple[str, ...] | None = None
    every: str = SESSION
    start_us: int | None = None
    end_us: int | None = None

    def __str__(self) -> str:
        who = ",".join(self.symbols) if self.symbols is not None else "all"
        start = f" from {format_us(self.start_us)}" if self.start_us is not None else ""
        end = f" to {format_us(self.end_us)}" if self.end_us is not None else ""
        return f"{who} every {self.every}{start}{end}"


Entities: TypeAlias = pa.Table | pl.DataFrame | Generated
"""Entity rows (entity columns and an aware ``event_timestamp``), or what to generate."""


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


def is_intraday(entities: Entities, spec: LabelSpec | None) -> bool:
    """Whether prices inside a session matter, rather than one a session."""
    if spec is not None:
        return spec.hours > 0
    return isinstance(entities, Generated) and entities.every != SESSION


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


def entity_rows(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    entities: Entities,
    source: PriceSource | None,
    vintage_us: int,
) -> pa.Table:
    """The entity rows, checked or generated.

    Raises
    ------
    UnknownNameError
        If a symbol has no data; the message names the nearest.
    ParameterError
        If rows are to be generated for a service whose views or entities are not Tapeline's.
    """
    if not isinstance(entities, Generated):
        table = entity_table(entities, plan.entity_columns)
        if source is not None and "symbol" in table.column_names:
            known = lifetimes(connection, source.kind, source.source, vintage_us=vintage_us)
            for symbol in table.column("symbol").unique().to_pylist():
                if symbol not in known:
                    raise UnknownNameError("symbol", symbol, known, where=f"source {source.source}")
        return table
    if source is None or plan.entity_columns != ("symbol",):
        raise ParameterError(
            "entity rows can only be generated for services over Tapeline's views",
            where=f"service {plan.service}",
            remedy="Give a file of entity rows",
        )
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(
            "SELECT declared_lag_us FROM tapeline.sources WHERE source = %s", (source.source,)
        ).fetchone()
    return generate_entities(
        lifetimes(connection, source.kind, source.source, vintage_us=vintage_us),
        session_times(source.calendar),
        symbols=entities.symbols,
        every=entities.every,
        lag_us=int(row[0]) if row else 0,
        start_us=entities.start_us,
        end_us=entities.end_us,
    )
