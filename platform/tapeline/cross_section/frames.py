"""Cross-sections of Polars and Arrow frames: one row for each symbol and moment in, the same rows with features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, NaiveTimestampError, ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us
from tapeline.cross_section.engine import CrossSection
from tapeline.cross_section.specification import CrossFeature
from tapeline.cross_section.universe import Universe

Frame = TypeVar("Frame", pl.DataFrame, pa.Table)


def cross_section(
    frame: Frame,
    features: Sequence[CrossFeature | str],
    *,
    value: str = "value",
    symbol: str = "symbol",
    time: str = "event_timestamp",
    group: str | None = None,
    index: str | None = None,
    available: str | None = None,
    universe: Universe | None = None,
) -> Frame:
    """Add features across the symbols of each moment.

    Parameters
    ----------
    frame
        One row for each symbol and moment, in any order.
    features
        What to add, such as ``["rank", "z_score:group", "beta:60:index"]``; see :class:`CrossFeature`.
    value
        Column the features are of; null, NaN and infinite values take no part.
    symbol, time
        Columns that name a row; times carry a time zone.
    group
        Column of the row's group as it was known at the moment, of any type; null: none.
    index
        Column of the index's value: one for each moment, which all of its rows repeat or leave null.
    available
        Column of when each row could have been known. In the result it says when the row's features could have been: the
        latest of all rows so far, since a cross-section needs all of its rows, and windows all moments before.
    universe
        Alive intervals, as of :meth:`Universe.of_instruments`: rows outside their symbol's listing take no part and get
        null. None: a symbol is alive whenever it has a row.

    Returns
    -------
    polars.DataFrame or pyarrow.Table
        As given, with a float64 column for each feature, null where it has no value.

    Raises
    ------
    InvalidDataError
        If a symbol has two rows at one moment, a row has no symbol or time, or an index has two values at one moment.
    UnknownNameError
        If a column or a feature does not exist, or a symbol is not in the universe.
    NaiveTimestampError
        If times have no time zone.
    ParameterError
        If a feature needs a group or an index and none is named, or a name is taken.
    """
    table = pl.DataFrame(pl.from_arrow(frame)) if isinstance(frame, pa.Table) else frame
    for name in (value, symbol, time, group, index, available):
        if name is not None and name not in table.columns:
            raise UnknownNameError("column", name, table.columns, where="frame of a cross-section")
    if table.height and table[symbol].null_count() + table[time].null_count():
        raise InvalidDataError("rows without a symbol or a time", where="frame of a cross-section")
    symbols = table[symbol].cast(pl.String)
    chosen = Universe.of_symbols(symbols.unique().to_list()) if universe is None else universe
    engine = CrossSection(features, chosen)
    _check_names(engine, table, group, index)
    event_us = _moments(table, time)
    column = chosen.columns(symbols.to_list(), event_us)
    rows = np.flatnonzero(column >= 0)
    rows = rows[np.lexsort((column[rows], event_us[rows]))]
    moments, first = np.unique(event_us[rows], return_index=True)
    offsets = np.append(first, len(rows)).astype(np.int64)
    _check_once(event_us[rows], column[rows], symbols, rows)
    out, known_us, _ = engine.batch(
        moments,
        offsets,
        column[rows],
        _floats(table, value)[rows],
        None if group is None else _groups(table[group])[rows],
        None if index is None else _index(_floats(table, index)[rows], offsets, moments),
        available_us=None if available is None else _latest(_moments(table, available)[rows], offsets),
    )
    wide = np.full((table.height, len(engine.outputs)), np.nan)
    wide[rows] = out
    added = [pl.Series(name, wide[:, i]).fill_nan(None) for i, name in enumerate(engine.outputs)]
    if available is not None:
        when = _moments(table, available).copy()
        when[rows] = np.repeat(known_us, np.diff(offsets))
        added.append(pl.Series(available, when).cast(pl.Datetime("us", "UTC")).cast(table.schema[available]))
    result = table.with_columns(added)
    return result.to_arrow() if isinstance(frame, pa.Table) else result


def _check_names(engine: CrossSection, table: pl.DataFrame, group: str | None, index: str | None) -> None:
    taken = sorted(set(engine.outputs) & set(table.columns))
    if taken:
        raise ParameterError(f"the frame has columns {', '.join(taken)} already", remedy="Rename or drop them")
    for needed, name, what in ((engine.needs_groups, group, "group"), (engine.needs_index, index, "index")):
        if needed and name is None:
            raise ParameterError(f"a feature needs a column of the {what}", remedy=f"Name it: {what}=…")


def _check_once(
    event_us: NDArray[np.int64], column: NDArray[np.int64], symbols: pl.Series, rows: NDArray[np.int64]
) -> None:
    twice = np.flatnonzero((np.diff(event_us) == 0) & (np.diff(column) == 0))
    if len(twice):
        raise InvalidDataError(
            f"{symbols[int(rows[twice[0]])]} has two rows at one moment",
            where=format_us(int(event_us[twice[0]])),
            remedy="Keep one row for each symbol and moment",
        )


def _moments(table: pl.DataFrame, name: str) -> NDArray[np.int64]:
    kind = table.schema[name]
    if not isinstance(kind, pl.Datetime):
        raise InvalidDataError(f"column {name} is {kind}, not a timestamp", where="frame of a cross-section")
    if kind.time_zone is None:
        raise NaiveTimestampError(table[name][0] if table.height else name, where=f"column {name}")
    if table[name].null_count():
        raise InvalidDataError(f"column {name} has nulls", where="frame of a cross-section")
    return table[name].dt.epoch("us").to_numpy().astype(np.int64)


def _floats(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    if not table.schema[name].is_numeric():
        raise InvalidDataError(f"column {name} is {table.schema[name]}, not a number", where="frame of a cross-section")
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def _groups(column: pl.Series) -> NDArray[np.int64]:
    """A number for each group, in the order of first appearance; −1 for none."""
    names = pl.DataFrame({"group": column.unique(maintain_order=True).drop_nulls()}).with_row_index("number")
    numbered = pl.DataFrame({"group": column}).join(names, on="group", how="left", maintain_order="left")
    return numbered["number"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)


def _index(values: NDArray[np.float64], offsets: NDArray[np.int64], moments: NDArray[np.int64]) -> NDArray[np.float64]:
    """The one value of each moment; NaN where no row has it."""
    if not len(moments):
        return np.empty(0)
    lowest = np.fmin.reduceat(values, offsets[:-1])
    highest = np.fmax.reduceat(values, offsets[:-1])
    two = np.flatnonzero(lowest < highest)
    if len(two):
        raise InvalidDataError(
            f"the index has values {lowest[two[0]]} and {highest[two[0]]} at one moment",
            where=format_us(int(moments[two[0]])),
        )
    return lowest


def _latest(available_us: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.maximum.reduceat(available_us, offsets[:-1]) if len(available_us) else np.empty(0, np.int64)
