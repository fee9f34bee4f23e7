"""A block of rows that is about to be written: its times, values, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tapeline.features.bounds import bounds_of
from tapeline.features.versions import Flags, Floats, Integers
from tapeline.features.view import FeatureViewSpec, TradedBars, Trades

Origin = Literal["backfill", "push"]

UNKNOWN_WARM_UP = -1
"""Of a column whose warm-up is counted in bars of a longer frame: how many rows that takes is not known."""


@dataclass(frozen=True)
class Expectations:
    """What is expected of a view's rows.

    Attributes
    ----------
    columns
        Names of the feature columns, F of them.
    lowest, highest
        float64 (F,): what a value can be.
    warm_up
        int64 (F,): an entity's first row, counted from 1, that should have a value; ``UNKNOWN_WARM_UP`` if nobody knows.
        None: values may be missing anywhere.
    lag_us
        The declared lag of the source: later than that after its event, a row is late. None: nothing is declared.
    regular
        Whether rows come by the clock, so that all entities should have one at the same times.
    """

    columns: tuple[str, ...]
    lowest: Floats
    highest: Floats
    warm_up: Integers | None
    lag_us: int | None
    regular: bool

    @classmethod
    def of(cls, spec: FeatureViewSpec, lag_us: int | None) -> Expectations:
        """What a view's specification says of its rows."""
        bounds = bounds_of(spec)
        warm_up = [
            UNKNOWN_WARM_UP if feature.frame is not None else expression.operation.warm_up
            for feature in spec.features
            for expression in feature.expressions
        ]
        return cls(
            columns=spec.columns,
            lowest=np.array([one.lowest for one in bounds], dtype=np.float64),
            highest=np.array([one.highest for one in bounds], dtype=np.float64),
            warm_up=np.array(warm_up, dtype=np.int64),
            lag_us=lag_us,
            regular=not isinstance(spec.rows, Trades | TradedBars),
        )

    @classmethod
    def of_columns(cls, columns: tuple[str, ...]) -> Expectations:
        """What can be expected of columns of which nothing is known but their names."""
        wide = np.full(len(columns), np.inf)
        return cls(columns, -wide, wide, None, None, regular=False)


@dataclass(frozen=True)
class Block:
    """Rows of a view version that are written together. Rows of one entity may come in any order.

    Attributes
    ----------
    view, version
        Whose rows; version 0 of a view without versions.
    origin
        Who writes them.
    expected
        What is expected of them.
    names
        The entities.
    entity
        int64 (N,): place among ``names``.
    event_us, sequence, available_us
        int64 (N,).
    row_number
        int64 (N,): the place of a row's key among its entity's, from 1; two versions of a key have the same.
    withdrawn
        int64 (entities,): how many of an entity's keys may have been withdrawn, and so warmed nothing up.
    known
        bool (N,): its key had a row before, in the table or in this block: it is a correction.
    retracted
        bool (N,): all its values are NULL on purpose.
    values
        float64 (N, F): features; NaN where missing. A feature that is no number is 0 where it has a value.
    """

    view: str
    version: int
    origin: Origin
    expected: Expectations
    names: tuple[str, ...]
    entity: Integers
    event_us: Integers
    sequence: Integers
    available_us: Integers
    row_number: Integers
    withdrawn: Integers
    known: Flags
    retracted: Flags
    values: Floats

    def __len__(self) -> int:
        return len(self.event_us)

    @property
    def label(self) -> str:
        """``view@version``."""
        return f"{self.view}@{self.version}" if self.version else self.view

    def frame(self, columns: list[str]) -> pl.DataFrame:
        """Times and some of the feature columns for rules to look at; NaN is null."""
        places = {name: place for place, name in enumerate(self.expected.columns)}
        times = {
            name: pl.Series(values).cast(pl.Datetime("us", "UTC"))
            for name, values in (("event_timestamp", self.event_us), ("available_timestamp", self.available_us))
        }
        features = {
            name: pl.Series(np.ascontiguousarray(self.values[:, places[name]])).fill_nan(None)
            for name in columns
            if name in places
        }
        symbols = pl.Series(self.names, dtype=pl.String).gather(self.entity)
        return pl.DataFrame(
            {"symbol": symbols, **times, "sequence": self.sequence, "row_number": self.row_number, **features}
        )


def key_order(entity: Integers, event_us: Integers, sequence: Integers, available_us: Integers) -> Integers:
    """Places of rows in the order of entity, event, sequence, available time; rows that agree stay in theirs."""
    return np.lexsort((available_us, sequence, event_us, entity))


def new_keys(order: Integers, *parts: Integers) -> NDArray[np.bool_]:
    """Of rows in an order, which begin a new key: differ in a part from the row before."""
    first = np.ones(len(order), dtype=np.bool_)
    if len(order):
        same = np.ones(len(order) - 1, dtype=np.bool_)
        for part in parts:
            ordered = part[order]
            same &= ordered[1:] == ordered[:-1]
        first[1:] = ~same
    return first


def numbered(
    entity: Integers, event_us: Integers, sequence: Integers, available_us: Integers, before: Integers
) -> tuple[Integers, Flags]:
    """Each row's number among the keys of its entity, and whether an earlier version of its key is among the rows.

    Parameters
    ----------
    entity, event_us, sequence, available_us
        int64 (N,): the rows, those that stand in a table among them.
    before
        int64 (entities,): how many keys each entity has before the first of these.
    """
    order = key_order(entity, event_us, sequence, available_us)
    new = new_keys(order, entity, event_us, sequence)
    start = new_keys(order, entity)
    count = np.cumsum(new)
    number = np.empty(len(order), dtype=np.int64)
    earlier = np.cumsum(start) - 1
    number[order] = count - (count[start] - 1)[earlier] + before[entity[order]] if len(order) else count
    known = np.empty(len(order), dtype=np.bool_)
    known[order] = ~new
    return number, known
