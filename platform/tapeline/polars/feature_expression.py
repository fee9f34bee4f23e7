"""A feature as a Polars expression: what it reads, and the plan that computes it over a whole column block."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from tapeline.core.errors import InvalidDataError, OutOfOrderError, ParameterError
from tapeline.features import FeaturePlan, FeatureRequest

IntoColumn = str | pl.Expr
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Auto:
    def __repr__(self) -> str:
        return "AUTO"


AUTO: Final = _Auto()
"""Time column to choose: the frame's only Date or Datetime column, or ``event_timestamp`` among several."""

Time = IntoColumn | None | _Auto

_TIME, _SPLIT, _OVER, _ORDER = "__time:", "split_ratio", "__over:", "__order:"


@cache
def _plan(requests: tuple[FeatureRequest, ...]) -> FeaturePlan:
    return FeaturePlan.of(requests)


@dataclass(frozen=True)
class _Order:
    by: tuple[pl.Expr, ...] = ()
    descending: bool = False
    nulls_last: bool = False


class Feature(pl.Expr):
    """One or more features of a frame's rows; a Polars expression of Float64 columns, one for each output.

    Made by the functions of this package, such as ``tl.rsi(14)``. Any method of :class:`polars.Expr` applies; to rename
    several columns at once use ``.name.prefix(...)``, to get them as one column ``pl.struct(tl.macd())``.

    Attributes
    ----------
    requests
        The features.
    """

    def __init__(
        self,
        requests: Sequence[FeatureRequest],
        columns: Mapping[str, IntoColumn],
        split_ratio: IntoColumn | None = None,
        time: Time = AUTO,
        partition: Sequence[pl.Expr] = (),
        order: _Order | None = None,
    ) -> None:
        self.requests = tuple(requests)
        self._columns = dict(columns)
        self._split_ratio = split_ratio
        self._time = time
        self._partition = tuple(partition)
        self._order = order or _Order()
        plan = _plan(self.requests)
        fields = [_expression(self._columns[name]).alias(name) for name in plan.inputs if name in self._columns]
        if split_ratio is not None:
            fields.append(_expression(split_ratio).alias(_SPLIT))
        if isinstance(time, _Auto):
            fields.append((cs.date() | cs.datetime()).name.prefix(_TIME))
        elif time is not None:
            named = _expression(time).meta.output_name(raise_if_undetermined=False) or "time"
            fields.append(_expression(time).alias(f"{_TIME}{named}"))
        fields += [key.alias(f"{_OVER}{i}") for i, key in enumerate(self._partition)]
        fields += [key.alias(f"{_ORDER}{i}") for i, key in enumerate(self._order.by)]
        computation = _Computation(self.requests, len(self._partition), self._order)
        made = pl.struct(fields).map_batches(
            computation, return_dtype=pl.Struct({name: pl.Float64() for name in plan.outputs})
        )
        self._pyexpr = made.struct.field(*plan.outputs)._pyexpr  # noqa: SLF001

    def over(
        self,
        partition_by: Any = None,
        *more_exprs: Any,
        order_by: Any = None,
        descending: bool = False,
        nulls_last: bool = False,
        mapping_strategy: str = "group_to_rows",
    ) -> pl.Expr:
        """Compute for each group by itself, such as each symbol, in parallel and in one call.

        Parameters
        ----------
        partition_by, *more_exprs
            Columns or expressions whose equal values make a group; None: all rows are one group, in the order asked for.
        order_by
            Columns or expressions to sort a group's rows by before computing; values go back to their rows. None: the
            rows' order, which must then be that of the time column if there is one.
        descending, nulls_last
            How ``order_by`` sorts.
        mapping_strategy
            Only Polars' default: values go to the rows that they belong to.

        Raises
        ------
        ParameterError
            If another mapping strategy is asked for, or the feature has its groups already.
        """
        if mapping_strategy != "group_to_rows":
            raise ParameterError(
                f"mapping_strategy {mapping_strategy!r} is not possible for a feature",
                remedy="Leave it out: each value goes to its row",
            )
        if self._partition or self._order.by:
            raise ParameterError("the feature has its groups already", remedy="Say .over(...) once, with all keys")
        keys = [*_several(partition_by), *(key for more in more_exprs for key in _several(more))]
        order = _Order(tuple(_several(order_by)), descending, nulls_last)
        return Feature(self.requests, self._columns, self._split_ratio, self._time, keys, order)


def fuse(*features: Feature | pl.Expr) -> Feature:
    """Several features as one expression, computed by one compiled plan in one pass over the rows.

    What they share is computed once. Worth it for many features; a single one keeps its own compiled plan, which serves
    every frame and every combination.

    Parameters
    ----------
    *features
        Features that read the same columns and have the same groups: set input names, ``time`` and ``over`` alike, or
        apply ``over`` to the result.

    Returns
    -------
    Feature
        All outputs, in order.

    Raises
    ------
    ParameterError
        If there is none, one is not a feature (an expression made from one is not), or they read different columns.

    Examples
    --------
    >>> import polars as pl, tapeline.polars as tl
    >>> fused = tl.fuse(tl.rsi(14), tl.macd()).over("symbol")
    """
    found = [feature for feature in features if isinstance(feature, Feature)]
    if not found or len(found) < len(features):
        raise ParameterError(
            "only features can be fused",
            where=f"given: {', '.join(type(feature).__name__ for feature in features) or 'nothing'}",
            remedy="Fuse first, such as tl.fuse(tl.rsi(14), tl.macd()), then go on with the columns",
        )
    columns: dict[str, IntoColumn] = {}
    for feature in found:
        for name, column in feature._columns.items():  # noqa: SLF001
            if name in columns and not _same(columns[name], column):
                raise ParameterError(
                    f"features that are fused read {name} from different columns",
                    remedy="Fuse those that read the same columns",
                )
            columns[name] = column
    first = found[0]
    for feature in found[1:]:
        if not _alike(first, feature):
            raise ParameterError(
                "features that are fused differ in their groups, order, time or split column",
                remedy="Set these alike, or apply .over(...) to the result of fuse",
            )
    requests = [request for feature in found for request in feature.requests]
    return Feature(requests, columns, first._split_ratio, first._time, first._partition, first._order)  # noqa: SLF001


def _alike(first: Feature, second: Feature) -> bool:
    return (
        _same(first._split_ratio, second._split_ratio)  # noqa: SLF001
        and _same(first._time, second._time)  # noqa: SLF001
        and _all_same(first._partition, second._partition)  # noqa: SLF001
        and _all_same(first._order.by, second._order.by)  # noqa: SLF001
        and (first._order.descending, first._order.nulls_last) == (second._order.descending, second._order.nulls_last)  # noqa: SLF001
    )


def _all_same(first: Sequence[pl.Expr], second: Sequence[pl.Expr]) -> bool:
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: Time, second: Time) -> bool:
    if isinstance(first, IntoColumn) and isinstance(second, IntoColumn):
        return _expression(first).meta.eq(_expression(second))
    return first is second


def _expression(column: IntoColumn) -> pl.Expr:
    return pl.col(column) if isinstance(column, str) else column


def _several(given: Any) -> list[pl.Expr]:
    if given is None:
        return []
    if isinstance(given, str | pl.Expr):
        return [_expression(given)]
    if isinstance(given, Iterable):
        return [_expression(key) for key in given]
    raise ParameterError(f"{given!r} is no column", remedy="Give a column's name or an expression")


class _Computation:
    """What Polars calls with a struct of the columns; returns a struct of the outputs.

    Polars may call it once for each output of one query, so the last result is kept until all have had it.
    """

    def __init__(self, requests: tuple[FeatureRequest, ...], keys: int, order: _Order) -> None:
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
        outputs = len(_plan(self.requests).outputs)
        with self._lock:
            if self._last is not None and self._last[0].equals(block, null_equal=True):
                block, result, left = self._last
            else:
                result, left = self._compute(block), outputs
            self._last = (block, result, left - 1) if left > 1 else None
            return result

    def _compute(self, block: pl.Series) -> pl.Series:
        plan, frame = _plan(self.requests), block.struct.unnest()
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
                rows[:, position] = 1.0 if name == _SPLIT and name not in frame.columns else _floats(frame[name])
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
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *_named(frame, _OVER), *_named(frame, _ORDER)
        )
        if self.orders:
            indexed = indexed.sort(
                _named(frame, _ORDER), descending=self.descending, nulls_last=self.nulls_last, maintain_order=True
            )
        if not self.keys:
            return indexed["row"].to_numpy(), np.array([0, len(frame)], dtype=np.int64)
        groups = indexed.group_by(_named(frame, _OVER), maintain_order=True).agg("row")["row"]
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
        times = frame[f"{_TIME}{name}"]
        keys = ", ".join(repr(frame[key][row]) for key in _named(frame, _OVER))
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
    candidates = _named(frame, _TIME)
    if len(candidates) > 1:
        names = [name.removeprefix(_TIME) for name in candidates]
        if "event_timestamp" not in names:
            raise ParameterError(
                f"the frame has several time columns: {', '.join(names)}",
                remedy=f"Name the one that orders rows: time={names[0]!r}; or time=None for no check",
            )
        candidates = [f"{_TIME}event_timestamp"]
    for candidate in candidates:
        series, name = frame[candidate], candidate.removeprefix(_TIME)
        if series.null_count():
            raise InvalidDataError(f"{series.null_count()} rows have no time", where=f"column {name}")
        if isinstance(series.dtype, pl.Datetime) or series.dtype == pl.Date:
            series = series.cast(pl.Datetime("us"))
        elif not series.dtype.is_integer():
            raise InvalidDataError(f"time column {name} holds {series.dtype}", remedy="Use Date, Datetime or whole µs")
        return name, series.to_physical().cast(pl.Int64).to_numpy()
    return "", None
