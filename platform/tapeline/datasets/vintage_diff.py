"""Which cells of a data set differ between two recording times, and why.

Both data sets are joined again, each as recorded by its own moment, a slice of entity rows at a time, and compared bit by
bit: NaN is NaN, and no NaN is a null. What is named is exactly what differs between the two exports; causes are then
looked for among what was recorded in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tapeline.core.timestamps import format_us
from tapeline.datasets.changes import Cause, Change, Integers
from tapeline.datasets.diff_causes import DiffCauses, Explanation, entity_symbols
from tapeline.datasets.diff_cells import CellFile, cell_table
from tapeline.datasets.price_window import label_ahead_us
from tapeline.datasets.slices import LABEL_COLUMNS
from tapeline.datasets.vintage_sides import Side, aligned, known_labels, refuse_unlike, windows

SLICE_ROWS = 100_000
"""Entity rows that are compared at once."""
SHOWN_MAX = 1_000
"""Cells that are kept in memory to be shown."""
CHANGES_COUNTED_MAX = 10_000
"""Recorded rows of which it is counted how many cells they changed."""
_LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Cell:
    """One value that differs. ``row`` says whether both data sets have its row: ``both``, ``new`` or ``gone``."""

    keys: dict[str, Any]
    event_timestamp: str
    feature: str
    before: Any
    after: Any
    row: str
    cause: str
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        """The cell as JSON data; a NaN is the text ``NaN``, and a null is none."""
        return {
            **self.keys,
            "event_timestamp": self.event_timestamp,
            "feature": self.feature,
            "before": _json(self.before),
            "after": _json(self.after),
            "row": self.row,
            "cause": self.cause,
            "changes": [change.as_dict() for change in self.changes],
        }


@dataclass
class VintageDiff:
    """What differs between two data sets.

    Attributes
    ----------
    before, after
        Names of the two.
    before_us, after_us
        Their vintages.
    rows_before, rows_after, rows_changed, rows_added, rows_removed
        Rows of each, those in both with a cell that differs, and those in one only.
    cells
        Values that differ; of a row that is in one only, all of them.
    by_cause, by_feature
        How many of them.
    changes
        Recorded rows with the number of cells that name them, the first `CHANGES_COUNTED_MAX` of them.
    shown
        The first cells.
    """

    before: str
    after: str
    before_us: int
    after_us: int
    rows_before: int = 0
    rows_after: int = 0
    rows_changed: int = 0
    rows_added: int = 0
    rows_removed: int = 0
    cells: int = 0
    by_cause: Counter[str] = field(default_factory=Counter)
    by_feature: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: Counter[Change] = field(default_factory=Counter)
    shown: list[Cell] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The counts as JSON data."""
        return {
            "before": self.before,
            "before_as_of": format_us(self.before_us),
            "after": self.after,
            "after_as_of": format_us(self.after_us),
            "rows_before": self.rows_before,
            "rows_after": self.rows_after,
            "rows_changed": self.rows_changed,
            "rows_added": self.rows_added,
            "rows_removed": self.rows_removed,
            "cells": self.cells,
            "by_cause": dict(self.by_cause.most_common()),
        }


def vintage_diff(
    connection: psycopg.Connection[Any],
    before: Side,
    after: Side,
    *,
    shown: int = 20,
    parquet: Path | None = None,
    notify: Callable[[int], object] = lambda _: None,
) -> VintageDiff:
    """Compare two data sets of one service, cell by cell.

    Parameters
    ----------
    connection
        The database; not inside a transaction.
    before, after
        The data sets, from `tapeline.datasets.vintage_sides`.
    shown
        Cells to keep in the result, `SHOWN_MAX` at most.
    parquet
        A file for all cells, written whole or not at all.
    notify
        Told how many entity rows have been compared.

    Raises
    ------
    ParameterError
        If the two are of different services, the first is the later one, or the file exists.
    """
    refuse_unlike(before, after)
    diff = VintageDiff(before.name, after.name, before.recipe.vintage_us, after.recipe.vintage_us)
    causes = DiffCauses(connection, diff.before_us, diff.after_us)
    with CellFile(parquet, before) as file:
        for first, second in windows(before.rows, after.rows, SLICE_ROWS):
            for cells in _compare(_Slice.of(connection, before, after, first, second), causes, diff):
                file.write(cells)
                _keep(diff, cells, causes.found, before.recipe.plan.entity_columns, min(shown, SHOWN_MAX))
            causes.forget()
            notify(max(first.num_rows, second.num_rows))
    return diff


@dataclass(frozen=True)
class _Slice:
    """Some rows of both data sets, side by side.

    ``rows`` are the entity rows of either, ``at`` their places in the two tables (-1: not there), ``present`` whether
    each data set has them.
    """

    before: Side
    after: Side
    rows: pa.Table
    tables: tuple[pa.Table | None, pa.Table | None]
    at: tuple[Integers, Integers]
    present: tuple[NDArray[np.bool_], NDArray[np.bool_]]

    @classmethod
    def of(
        cls, connection: psycopg.Connection[Any], before: Side, after: Side, first: pa.Table, second: pa.Table
    ) -> _Slice:
        """Join both sides and align their rows."""
        keys = before.keys
        at = aligned(first, second, keys)
        either = pa.concat_tables([first.select(keys), second.select(keys)])
        rows = either.take(pa.array(np.where(at[0] >= 0, at[0], first.num_rows + at[1])))
        tables = [
            side.table(connection, part) if part.num_rows else None for side, part in ((before, first), (after, second))
        ]
        present = [
            (place >= 0) & known_labels(side, table, part.num_rows)[np.maximum(place, 0)]
            if part.num_rows
            else place >= 0
            for side, table, part, place in zip((before, after), tables, (first, second), at, strict=True)
        ]
        return cls(before, after, rows, (tables[0], tables[1]), at, (present[0], present[1]))

    def column(self, side: int, name: str, rows: Integers) -> pa.Array:
        """A column of one side at some rows; null where that side has no such column or row."""
        table = self.tables[side]
        if table is None or name not in table.column_names:
            return pa.nulls(len(rows))
        places = self.at[side][rows]
        return table.column(name).combine_chunks().take(pa.array(places, mask=~self.present[side][rows]))


def _compare(part: _Slice, causes: DiffCauses, diff: VintageDiff) -> Iterator[pa.Table]:
    here, there = part.present
    both, gone, new = (np.flatnonzero(mask) for mask in (here & there, here & ~there, there & ~here))
    columns = tuple(dict.fromkeys((*part.before.columns, *part.after.columns)))
    differing = {name: both[_differ(part, name, both)] for name in columns}
    diff.rows_before += int(here.sum())
    diff.rows_after += int(there.sum())
    diff.rows_added += len(new)
    diff.rows_removed += len(gone)
    changed = np.unique(np.concatenate(list(differing.values()))) if differing else both[:0]
    diff.rows_changed += len(changed)
    if not len(changed) and not len(gone) and not len(new):
        return
    explained = _explain(part, causes, differing)
    outside = _explain_rows(part, causes, gone, new)
    for name in columns:
        for rows, numbers, what in (
            (differing[name], explained[name], "both"),
            (gone, outside[gone], "gone"),
            (new, outside[new], "new"),
        ):
            sides = (name in part.before.columns, name in part.after.columns)
            if len(rows) == 0 or (what == "gone" and not sides[0]) or (what == "new" and not sides[1]):
                continue
            values = part.column(0, name, rows), part.column(1, name, rows)
            yield cell_table(part.rows.take(pa.array(rows)), name, *values, what, causes.found, numbers)


def _differ(part: _Slice, name: str, rows: Integers) -> NDArray[np.bool_]:
    """Where two columns differ in any bit, one NaN like another."""
    if name not in part.before.columns or name not in part.after.columns:
        return np.ones(len(rows), dtype=np.bool_)
    one, other = part.column(0, name, rows), part.column(1, name, rows)
    nulls = [np.asarray(column.is_null().to_numpy(zero_copy_only=False)) for column in (one, other)]
    if pa.types.is_floating(one.type) and pa.types.is_floating(other.type):
        a, b = (
            np.asarray(column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
            for column in (one, other)
        )
        same = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
    elif one.type == other.type:
        same = np.asarray(pc.equal(one, other).fill_null(True).to_numpy(zero_copy_only=False))
    else:
        same = np.asarray(
            pc.equal(one.cast(pa.string()), other.cast(pa.string())).fill_null(True).to_numpy(zero_copy_only=False)
        )
    return np.asarray((nulls[0] != nulls[1]) | (~nulls[0] & ~nulls[1] & ~same), dtype=np.bool_)


def _explain(part: _Slice, causes: DiffCauses, differing: dict[str, Integers]) -> dict[str, Integers]:
    """For each column, the number of the explanation of each row that differs in it."""
    explained: dict[str, Integers] = {}
    others = {view.view: view for view in part.after.recipe.plan.views}
    registered = {(view.view, view.version): view for view in part.after.views}
    lineages = [{(v.view, v.version): v.lineage_hash for v in side.views} for side in (part.before, part.after)]
    for selection in part.before.recipe.plan.views:
        other = others.get(selection.view)
        key = (selection.view, selection.version)
        same = other is not None and (other.version, other.table) == (selection.version, selection.table)
        names = [name for name in selection.output_names if len(differing[name])]
        if not same or lineages[0].get(key) != lineages[1].get(key):
            one = causes.number(Cause.VERSION) if names else 0
            explained |= {name: np.full(len(differing[name]), one, dtype=np.int64) for name in selection.output_names}
            continue
        numbers = np.full(part.rows.num_rows, -1, dtype=np.int64)
        if names:
            rows = np.unique(np.concatenate([differing[name] for name in names]))
            numbers[rows] = causes.of_view(selection, registered.get(key), part.rows.take(pa.array(rows)))
        explained |= {name: numbers[differing[name]] for name in selection.output_names}
    labels = [name for name in LABEL_COLUMNS if len(differing.get(name, ()))]
    if labels:
        rows = np.unique(np.concatenate([differing[name] for name in labels]))
        numbers = np.full(part.rows.num_rows, -1, dtype=np.int64)
        numbers[rows] = _explain_labels(part, causes, rows)
        spec = part.before.recipe.labels
        side = spec.side if spec else ""
        if side and side in explained:
            by_side = np.full(part.rows.num_rows, -1, dtype=np.int64)
            by_side[differing[side]] = explained[side]
            numbers = np.where(numbers < 0, by_side, numbers)
        numbers[rows] = np.where(numbers[rows] < 0, causes.number(Cause.UNKNOWN), numbers[rows])
        explained |= {name: numbers[differing[name]] for name in labels}
    for name, rows in differing.items():
        if name not in explained:
            explained[name] = np.full(len(rows), causes.number(Cause.VERSION) if len(rows) else 0, dtype=np.int64)
    return explained


def _explain_labels(part: _Slice, causes: DiffCauses, rows: Integers) -> Integers:
    """Numbers of explanations of labels that differ, or are there on one side only; -1 where no price says why."""
    spec, prices = part.after.recipe.labels, part.after.recipe.source
    if spec is None or prices is None:
        return np.full(len(rows), -1, dtype=np.int64)
    symbols, event_us = entity_symbols(part.rows.take(pa.array(rows)))
    ends = [_label_ends(part, side, rows) for side in (0, 1)]
    return causes.of_labels(prices, symbols, event_us, np.maximum(*ends), label_ahead_us(spec))


def _label_ends(part: _Slice, side: int, rows: Integers) -> Integers:
    ends = part.column(side, LABEL_COLUMNS[2], rows)
    return np.asarray(ends.cast(pa.int64()).fill_null(_LEAST).to_numpy(zero_copy_only=False), dtype=np.int64)


def _explain_rows(part: _Slice, causes: DiffCauses, gone: Integers, new: Integers) -> Integers:
    """Numbers of explanations of rows that only one of the two has: by what changed their label, if anything did."""
    numbers = np.full(part.rows.num_rows, -1, dtype=np.int64)
    outside = np.union1d(gone, new).astype(np.int64)
    if len(outside) == 0:
        return numbers
    known = np.flatnonzero((part.at[0][outside] >= 0) & (part.at[1][outside] >= 0))
    by_label = np.full(len(outside), -1, dtype=np.int64)
    if len(known):
        by_label[known] = _explain_labels(part, causes, outside[known])
    added = np.isin(outside, new)
    for place, row in enumerate(outside.tolist()):
        changes = causes.found[by_label[place]].changes if by_label[place] >= 0 else ()
        numbers[row] = causes.number(Cause.ROW_ADDED if added[place] else Cause.ROW_REMOVED, changes)
    return numbers


def _keep(
    diff: VintageDiff, cells: pa.Table, found: list[Explanation], entity_columns: tuple[str, ...], shown: int
) -> None:
    """Count cells, and keep the first."""
    numbers = np.asarray(cells.column("_explanation").to_numpy())
    feature = cells.column("feature")[0].as_py()
    diff.cells += cells.num_rows
    for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
        explanation = found[int(number)]
        diff.by_cause[explanation.cause] += int(count)
        diff.by_feature[feature, explanation.cause] += int(count)
        for change in explanation.changes:
            if change in diff.changes or len(diff.changes) < CHANGES_COUNTED_MAX:
                diff.changes[change] += int(count)
    for row in cells.slice(0, max(shown - len(diff.shown), 0)).to_pylist():
        explanation = found[row["_explanation"]]
        moment = row["event_timestamp"].isoformat()
        before, after = (row[side] if row[side] is not None else row[f"{side}_text"] for side in ("before", "after"))
        keys = {name: row[name] for name in entity_columns}
        diff.shown.append(Cell(keys, moment, feature, before, after, row["row"], row["cause"], explanation.changes))


def _json(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and np.isnan(value) else value
