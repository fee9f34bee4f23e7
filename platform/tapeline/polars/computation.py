"""What Polars calls with a feature's columns: order, groups, and the plan's batch over them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.features import FeaturePlan, FeatureRequest

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

TIME, SPLIT, OVER, ORDER = "__time:", "split_ratio", "__over:", "__order:"
"""What the names of a block's fields begin with: time column, split ratio, keys of groups, keys of order."""


@lru_cache(maxsize=256)
def plan_of(requests: tuple[FeatureRequest, ...]) -> FeaturePlan:
    """One plan object for equal requests."""
    return FeaturePlan.of(requests)


@dataclass(frozen=True)
class Order:
    """How rows are sorted before computing."""

    by: tuple[pl.Expr, ...] = ()
    descending: bool = False
    nulls_last: bool = False


class Computation:
    """What Polars calls with a struct of the columns; returns a struct of the outputs.

    Polars may call it once for each output of one query, so the last result is kept until all have had it.
    """

    def __init__(self, requests: tuple[FeatureRequest, ...], keys: int, order: Order) -> None:
        self.requests = requests
        self.keys = keys
        self.orders = len(order.by)
        self.descending = order.descending
        self.nulls_last = order.nulls_last
        self._restart()

    def _restart(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[pl.Series, pl.Series, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._restart()

    def __call__(self, block: pl.Series) -> pl.Series:
        outputs = len(plan_of(self.requests).outputs)
        with self._lock:
            if self._last is not None and self._last[0].equals(block, null_equal=True):
                block, result, left = self._last
            else:
                result, left = self._compute(block), outputs
            self._last = (block, result, left - 1) if left > 1 else None
            return result

    def _compute(self, block: pl.Series) -> pl.Series:
        plan, frame = plan_of(self.requests), block.struct.unnest()
        time_name, event_us = _times(frame)
        rows = np.empty((len(frame), len(plan.inputs)))
        for position, name in enumerate(plan.inputs):
            if name == "time":
                if event_us is None:
                    raise InvalidDataError(
                        "the feature reads the rows' time", remedy='Name its column: time="timestamp"'
                    )
                rows[:, position] = event_us
            else:
                rows[:, position] = 1.0 if name == SPLIT and name not in frame.columns else _floats(frame[name])
        places, offsets = self._groups(frame)
        if places is not None:
            rows = rows[places]
        at = np.arange(len(frame), dtype=np.int64)
        if event_us is not None:
            ordered = event_us if places is None else event_us[places]
            self._check_order(frame, time_name, ordered, places, offsets)
            at = ordered.copy()  # Polars' buffers are read-only
        sequence = np.arange(len(frame), dtype=np.int64)
        features, _ = plan.batch(at, sequence, at, rows, offsets)
        if places is not None:
            back = np.empty_like(features)
            back[places] = features
            features = back
        columns = np.ascontiguousarray(features.T)
        return pl.DataFrame(dict(zip(plan.outputs, columns, strict=True))).to_struct(block.name)

    def _groups(self, frame: pl.DataFrame) -> tuple[Integers | None, Integers]:
        """Row numbers group by group, in the order in which they are computed (None: as they are), and the offsets."""
        if not self.keys and not self.orders:
            return None, np.array([0, len(frame)], dtype=np.int64)
        indexed = frame.select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *_named(frame, OVER), *_named(frame, ORDER)
        )
        if self.orders:
            indexed = indexed.sort(
                _named(frame, ORDER), descending=self.descending, nulls_last=self.nulls_last, maintain_order=True
            )
        if not self.keys:
            return indexed["row"].to_numpy(), np.array([0, len(frame)], dtype=np.int64)
        groups = indexed.group_by(_named(frame, OVER), maintain_order=True).agg("row")["row"]
        offsets = np.concatenate([[0], np.cumsum(groups.list.len().to_numpy())]).astype(np.int64)
        places = groups.explode(empty_as_null=False).to_numpy() if len(groups) else np.empty(0, np.int64)
        return None if np.array_equal(places, np.arange(len(frame))) else places, offsets

    def _check_order(
        self, frame: pl.DataFrame, name: str, event_us: Integers, places: Integers | None, offsets: Integers
    ) -> None:
        backwards = np.flatnonzero(np.diff(event_us) < 0) + 1
        backwards = backwards[~np.isin(backwards, offsets)]
        if not len(backwards):
            return
        first = int(backwards[0])
        row = first if places is None else int(places[first])
        before = first - 1 if places is None else int(places[first - 1])
        times = frame[f"{TIME}{name}"]
        keys = ", ".join(repr(frame[key][row]) for key in _named(frame, OVER))
        raise OutOfOrderError(
            f"rows are not sorted by time: {times[row]} comes after {times[before]}",
            where=f"{f'group {keys}, ' if keys else ''}row {row}, column {name}",
            remedy="Sort the frame by it, or say .over(..., order_by=...); for several symbols say .over('symbol')",
        )


def _named(frame: pl.DataFrame, prefix: str) -> list[str]:
    return [name for name in frame.columns if name.startswith(prefix)]


def _floats(series: pl.Series) -> Floats:
    """A column as float64, null as NaN."""
    if not series.dtype.is_numeric() and series.dtype not in {pl.Boolean, pl.Null}:
        raise InvalidDataError(f"column {series.name} holds {series.dtype}, not numbers", remedy="Cast it to Float64")
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _times(frame: pl.DataFrame) -> tuple[str, Integers | None]:
    """Name and values, in µs, of the rows' time; None if there is none."""
    candidates = _named(frame, TIME)
    if len(candidates) > 1:
        names = [name.removeprefix(TIME) for name in candidates]
        if "event_timestamp" not in names:
            raise ParameterError(
                f"the frame has several time columns: {', '.join(names)}",
                remedy=f"Name the one that orders rows: time={names[0]!r}; or time=None for no check",
            )
        candidates = [f"{TIME}event_timestamp"]
    for candidate in candidates:
        series, name = frame[candidate], candidate.removeprefix(TIME)
        if series.null_count():
            raise InvalidDataError(f"{series.null_count()} rows have no time", where=f"column {name}")
        if isinstance(series.dtype, pl.Datetime) or series.dtype == pl.Date:
            series = series.cast(pl.Datetime("us"))
        elif not series.dtype.is_integer():
            raise InvalidDataError(f"time column {name} holds {series.dtype}", remedy="Use Date, Datetime or whole µs")
        return name, series.to_physical().cast(pl.Int64).to_numpy()
    return "", None
