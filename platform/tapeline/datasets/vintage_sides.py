"""The two data sets of a vintage diff: an exported one, the same at another moment, or one that was never written.

Here alone is what a diff needs to know of how an export is made and stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa

from tapeline.core.errors import ParameterError
from tapeline.core.timestamps import format_us
from tapeline.datasets.changes import Integers
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.entity_inputs import Entities, is_intraday, opened
from tapeline.datasets.inputs import describe_views, price_source
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.manifest import DatasetView, read_manifest
from tapeline.datasets.ordering import in_time_order, read_rows
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.rebuilding import read_recipe
from tapeline.datasets.slices import LABEL_COLUMNS, Recipe, make_rows
from tapeline.datasets.vintage import require_created, resolve_vintage


@dataclass(frozen=True)
class Side:
    """One of the two data sets.

    Attributes
    ----------
    name
        What to call it.
    recipe, views
        How its rows are made, and the definitions that are registered for what they are made of.
    rows
        Its entity rows, ordered by time.
    """

    name: str
    recipe: Recipe
    views: tuple[DatasetView, ...]
    rows: pa.Table

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return (*self.recipe.plan.entity_columns, TIME_COLUMN)

    @property
    def columns(self) -> tuple[str, ...]:
        """Its other columns, in order."""
        return self.recipe.columns[len(self.keys) :]

    def table(self, connection: psycopg.Connection[Any], rows: pa.Table) -> pa.Table:
        """What an export of these entity rows holds, with nulls for labels that are not known."""
        return make_rows(connection, replace(self.recipe, keep_without_label=True), rows)[0]

    def at(self, vintage_us: int) -> Side:
        """The same data set at another moment: the same entity rows, features and labels."""
        name = f"{self.name} as of {format_us(vintage_us)}"
        return replace(self, name=name, recipe=replace(self.recipe, vintage_us=vintage_us))


def exported_side(connection: psycopg.Connection[Any], folder: Path) -> Side:
    """The data set of a folder, to be joined again as of its own vintage.

    Raises
    ------
    IntegrityError
        If its manifest or entity rows are missing or altered, or it holds a query that this database never exported.
    VintageError
        If the database's safe horizon lies before its vintage.
    """
    manifest = read_manifest(folder)
    recipe, entities = read_recipe(connection, folder, manifest)
    return Side(str(folder), recipe, manifest.views, pa.concat_tables(read_rows(entities.files)))


def asked_side(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    entities: Entities,
    vintage_us: int | None,
    *,
    labels: LabelSpec | None = None,
    prices: str | None = None,
    keep_without_label: bool = False,
) -> Side:
    """The data set that an export with these choices would write, as of a moment; none: the safe horizon.

    Raises
    ------
    VintageError
        If the moment lies past the safe horizon, or a view has no created column.
    EmptyDataError, UnknownNameError, ParameterError
        As `tapeline.datasets.export`.
    """
    require_created(plan.views)
    vintage_us = resolve_vintage(connection, vintage_us)
    views = describe_views(connection, plan)
    source = price_source(connection, views, prices, intraday=is_intraday(entities, labels))
    with opened(connection, plan, entities, source, vintage_us) as stream:
        rows = pa.concat_tables(stream.tables)
    return Side(
        name=f"{plan.service} as of {format_us(vintage_us)}",
        recipe=Recipe(plan, vintage_us, labels, source, keep_without_label),
        views=views,
        rows=in_time_order(rows, plan.entity_columns),
    )


def refuse_unlike(before: Side, after: Side) -> None:
    """Refuse two data sets whose cells cannot be told one from the other.

    Raises
    ------
    ParameterError
        If they are of two services, have other keys or labels, or the first is the later one.
    """
    where = f"{before.name} and {after.name}"
    one, other = before.recipe, after.recipe
    if one.plan.service != other.plan.service or before.keys != after.keys:
        raise ParameterError(
            f"they are of services {one.plan.service} and {other.plan.service}",
            where=where,
            remedy="Compare two data sets of one service",
        )
    if one.labels != other.labels or one.source != other.source:
        raise ParameterError(
            f"their labels are {one.labels or 'none'} and {other.labels or 'none'}",
            where=where,
            remedy="Compare two data sets with the same labels, from the same prices",
        )
    if one.vintage_us > other.vintage_us:
        raise ParameterError("the first is the later one", where=where, remedy="Name the earlier one first")


def windows(before: pa.Table, after: pa.Table, size: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Slices of two tables ordered by time, such that rows of one moment are in the same one; about `size` rows each."""
    times = [np.asarray(table.column(TIME_COLUMN).cast(pa.int64()).to_numpy()) for table in (before, after)]
    places = [0, 0]
    while any(place < len(moments) for place, moments in zip(places, times, strict=True)):
        cut = min(
            int(moments[min(place + size, len(moments)) - 1])
            for place, moments in zip(places, times, strict=True)
            if place < len(moments)
        )
        ends = [int(np.searchsorted(moments, cut, side="right")) for moments in times]
        first, second = (
            table.slice(place, end - place) for table, place, end in zip((before, after), places, ends, strict=True)
        )
        yield first, second
        places = ends


def aligned(before: pa.Table, after: pa.Table, keys: tuple[str, ...]) -> tuple[Integers, Integers]:
    """Pairs of rows with the same keys: int64 places in the two tables, -1 where one lacks the row.

    Of a row that occurs several times, the first is paired with the first.
    """
    if before.equals(after):
        same = np.arange(before.num_rows, dtype=np.int64)
        return same, same
    first, second = (
        pl.DataFrame(pl.from_arrow(table.select(keys)))
        .with_row_index(name)
        .with_columns(_occurrence=pl.int_range(pl.len()).over(keys))
        for table, name in ((before, "_before"), (after, "_after"))
    )
    on = [*keys, "_occurrence"]
    pairs = first.join(second, on=on, how="full", coalesce=True, nulls_equal=True).sort(TIME_COLUMN, *keys)
    return tuple(  # type: ignore[return-value]
        pairs[name].cast(pl.Int64).fill_null(-1).to_numpy() for name in ("_before", "_after")
    )


def known_labels(side: Side, table: pa.Table | None, count: int) -> np.ndarray:
    """Which rows are in the data set: all, or those with a label where it drops the others."""
    if table is None or side.recipe.labels is None or side.recipe.keep_without_label:
        return np.ones(count, dtype=np.bool_)
    return np.asarray(table.column(LABEL_COLUMNS[2]).is_valid().to_numpy(), dtype=np.bool_)
