"""What an export would do and about what it would cost, without running it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from tapeline.datasets.entity_inputs import Entities, is_intraday, opened, require_readable
from tapeline.datasets.inputs import describe_views, price_source
from tapeline.datasets.labels import LabelSpec
from tapeline.datasets.ordering import OrderedRows, read_rows, regrouped, write_ordered
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.point_in_time import JoinEstimate, estimate_join
from tapeline.datasets.production import Notify, Progress
from tapeline.datasets.slices import Recipe
from tapeline.datasets.vintage import require_created, resolve_vintage

SECONDS_PER_COST = 4e-6
"""What one of PostgreSQL's cost units takes, with two readers: see `tapeline.datasets.index_lookup`."""
SECONDS_PER_CELL = 6e-8
"""What decoding, hashing and writing a value takes on top."""


@dataclass(frozen=True, slots=True)
class ExportEstimate:
    """An export's plan.

    Attributes
    ----------
    views
        How each view would be joined to one slice: that in the middle.
    entity_rows, slices, slice_rows
        How many entity rows there are, and how they are cut.
    columns
        Of the data set.
    bytes
        Of the data set's values in memory, before compression: an upper bound for its files.
    seconds
        About how long it takes.
    first_us, last_us
        First and last moment, microseconds UTC.
    vintage_us
        As of which it would be.
    """

    views: tuple[JoinEstimate, ...]
    entity_rows: int
    slices: int
    slice_rows: int
    columns: int
    bytes: int
    seconds: float
    first_us: int
    last_us: int
    vintage_us: int


def explain(
    connection: psycopg.Connection[Any],
    plan: RetrievalPlan,
    entities: Entities,
    *,
    as_of_us: int | None = None,
    labels: LabelSpec | str | None = None,
    prices: str | None = None,
    slice_rows: int | None = None,
    notify: Notify = lambda _: None,
) -> ExportEstimate:
    """Plan an export: the entity rows are read, checked and put in order, in a temporary folder, and nothing is joined.

    Parameters
    ----------
    connection, plan, entities, as_of_us, labels, prices, slice_rows, notify
        As of `tapeline.datasets.export`.

    Raises
    ------
    TapelineError
        What `tapeline.datasets.export` would refuse before it joins anything.
    """
    spec = LabelSpec.parse(labels) if isinstance(labels, str) else labels
    if isinstance(entities, Path):
        require_readable(entities)
    if as_of_us is not None:
        require_created(plan.views)
    vintage_us = resolve_vintage(connection, as_of_us)
    source = price_source(connection, describe_views(connection, plan), prices, intraday=is_intraday(entities, spec))
    recipe = Recipe(plan, vintage_us, spec, source)
    rows_each = slice_rows or recipe.slice_rows
    with tempfile.TemporaryDirectory(prefix="tapeline-explain-") as folder:
        with opened(connection, plan, entities, source, vintage_us) as stream:
            rows = write_ordered(
                stream.tables,
                plan.entity_columns,
                Path(folder, "entities"),
                Path(folder, "spill"),
                advance=lambda count: notify(Progress("entity rows", count)),
            )
        return _estimate(connection, recipe, rows, rows_each)


def _estimate(
    connection: psycopg.Connection[Any], recipe: Recipe, rows: OrderedRows, slice_rows: int
) -> ExportEstimate:
    slices = -(-rows.rows // slice_rows)
    middle = (slices - 1) // 2
    sample = next(islice(regrouped(read_rows(rows.files, skip=middle * slice_rows), slice_rows), 1))
    views = estimate_join(connection, recipe.plan.views, sample, vintage_us=recipe.vintage_us)
    share = rows.rows / sample.num_rows
    cost = sum(min(view.lookup_cost, view.merge_cost) for view in views) * share
    cells = rows.rows * len(recipe.columns)
    return ExportEstimate(
        views=tuple(views),
        entity_rows=rows.rows,
        slices=slices,
        slice_rows=slice_rows,
        columns=len(recipe.columns),
        bytes=8 * cells,
        seconds=cost * SECONDS_PER_COST + cells * SECONDS_PER_CELL,
        first_us=rows.span_us[0],
        last_us=rows.span_us[1],
        vintage_us=recipe.vintage_us,
    )
