"""A data set's rows, a slice of entity rows at a time: the join and the labels of each, all by one recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.compute.sessions import session_times
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.datasets.database import ReadDatabase
from tapeline.datasets.entities import TIME_COLUMN
from tapeline.datasets.inputs import PriceSource
from tapeline.datasets.label_paths import MISSING_US
from tapeline.datasets.labels import LabelSpec, compute_labels
from tapeline.datasets.ordering import OrderedRows, read_rows, regrouped
from tapeline.datasets.plan import RetrievalPlan
from tapeline.datasets.point_in_time import as_of_join
from tapeline.datasets.price_window import PriceWindow
from tapeline.datasets.requests import UTC_US

Run: TypeAlias = Callable[[Callable[[psycopg.Connection[Any]], Any]], Any]
"""Runs what reads over a connection, and gives what it gave."""

LABEL_COLUMNS = ("label", "label_return", "label_end_timestamp")
SLICE_BYTES = 64 << 20
"""Of the joined rows of one slice. The join holds them a few times over, and the slice before is still being written."""
JOIN_BYTES = 512 << 20
"""For rows of the store that the join of a slice reads."""
SLICE_ROWS_MIN, SLICE_ROWS_MAX = 4_096, 1_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes a data set's rows of its entity rows.

    Attributes
    ----------
    plan
        Which features of which views.
    vintage_us
        Only what was recorded by this moment counts.
    labels, source
        The label, and whose prices it takes; none: no labels.
    keep_without_label
        Keep rows without a label, with nulls.

    Raises
    ------
    ParameterError
        If there is no source of prices for the labels.
    UnknownNameError
        If a meta-label names a feature that the plan does not have.
    """

    plan: RetrievalPlan
    vintage_us: int
    labels: LabelSpec | None = None
    source: PriceSource | None = None
    keep_without_label: bool = False

    def __post_init__(self) -> None:
        spec = self.labels
        if spec is None:
            return
        if spec.side and spec.side not in self.plan.output_names:
            raise UnknownNameError("feature", spec.side, self.plan.output_names, where=f"label {spec}")
        if self.source is None:
            raise ParameterError(
                "labels need prices and no view of the service has a known source",
                where=f"service {self.plan.service}",
                remedy="Name the source of the prices",
            )

    @property
    def pinned(self) -> bool:
        """Whether the vintage pins all that is read; else only a snapshot does."""
        return all(view.created_column is not None for view in self.plan.views)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data set."""
        labels = LABEL_COLUMNS if self.labels is not None else ()
        return (*self.plan.entity_columns, TIME_COLUMN, *self.plan.output_names, *labels)

    @property
    def slice_rows(self) -> int:
        """Entity rows of a slice, so that its memory does not depend on the number of features."""
        return max(SLICE_ROWS_MIN, min(SLICE_ROWS_MAX, SLICE_BYTES // (8 * len(self.columns))))


@dataclass(frozen=True, slots=True)
class Slice:
    """The finished rows of a slice.

    Attributes
    ----------
    number
        From 0.
    rows
        The data set's rows, in order.
    entity_rows
        How many entity rows they were made of.
    without_label
        How many of those have no label.
    """

    number: int
    rows: pa.Table
    entity_rows: int
    without_label: int


def make_slices(
    database: ReadDatabase, recipe: Recipe, entities: OrderedRows, *, slice_rows: int, first: int = 0
) -> Iterator[Slice]:
    """Join and label one slice after another.

    Parameters
    ----------
    database
        Open.
    recipe
        How.
    entities
        The entity rows, in order.
    slice_rows
        Entity rows of a slice; the rows that come out do not depend on it.
    first
        Number of the first slice to make.
    """
    maker = _Maker(recipe, entities.symbols, entities.span_us)
    tables = regrouped(read_rows(entities.files, skip=first * slice_rows), slice_rows)
    for number, rows in enumerate(tables, start=first):
        table, without = maker.make(database.run, rows)
        yield Slice(number, table, rows.num_rows, without)


def make_rows(connection: psycopg.Connection[Any], recipe: Recipe, rows: pa.Table) -> tuple[pa.Table, int]:
    """Join and label entity rows that are held in memory, ordered by time; and how many of them have no label."""
    if rows.num_rows == 0:
        raise EmptyDataError("there are no entity rows", where=f"service {recipe.plan.service}")
    moments = rows.column(TIME_COLUMN).cast(pa.int64())
    symbols = sorted(set(rows.column("symbol").to_pylist())) if "symbol" in rows.column_names else []
    maker = _Maker(recipe, tuple(symbols), (moments[0].as_py(), moments[-1].as_py()))
    return maker.make(lambda read: read(connection), rows)


class _Maker:
    def __init__(self, recipe: Recipe, symbols: tuple[str, ...], span_us: tuple[int, int]) -> None:
        self._recipe = recipe
        self._window: PriceWindow | None = None
        if recipe.labels is not None and recipe.source is not None:
            if "symbol" not in recipe.plan.entity_columns:
                raise ParameterError("labels need entity rows with a symbol", where=f"service {recipe.plan.service}")
            self._sessions = session_times(recipe.source.calendar)
            self._window = PriceWindow(recipe.source, recipe.labels, symbols, span_us, recipe.vintage_us)

    def make(self, run: Run, rows: pa.Table) -> tuple[pa.Table, int]:
        recipe, window, spec = self._recipe, self._window, self._recipe.labels

        def join(connection: psycopg.Connection[tuple[object, ...]]) -> pa.Table:
            return as_of_join(connection, recipe.plan.views, rows, vintage_us=recipe.vintage_us, bytes_max=JOIN_BYTES)

        table = run(join)
        if spec is None or window is None:
            return table, 0
        event_us = np.asarray(rows.column(TIME_COLUMN).cast(pa.int64()).to_numpy())
        first_us, last_us = int(event_us[0]), int(event_us[-1])
        prices = run(lambda connection: window.around(connection, first_us, last_us))
        symbols = rows.column("symbol").to_numpy()
        labels = compute_labels(spec, symbols, event_us, prices, self._sessions, _side(table, spec))
        absent = labels.end_us == MISSING_US
        arrays = (
            pa.array(labels.value, mask=absent),
            pa.array(labels.forward_return, mask=absent),
            pa.array(labels.end_us, mask=absent).cast(UTC_US),
        )
        for name, column in zip(LABEL_COLUMNS, arrays, strict=True):
            table = table.append_column(name, column)
        if not recipe.keep_without_label and absent.any():
            table = table.filter(pa.array(~absent))
        return table, int(absent.sum())


def _side(table: pa.Table, spec: LabelSpec) -> NDArray[np.float64] | None:
    """The feature that a meta-label takes the side of its bet from."""
    if not spec.side:
        return None
    return np.asarray(table.column(spec.side).cast(pa.float64()).to_numpy(), dtype=np.float64)
