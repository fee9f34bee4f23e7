"""A feature as a Polars expression: what it reads, and the plan that computes it over a whole column block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl
import polars.selectors as cs

from tapeline.core.errors import ParameterError
from tapeline.features import FeatureRequest
from tapeline.polars.computation import ORDER, OVER, SPLIT, TIME, Computation, Order, plan_of

IntoColumn = str | pl.Expr


class _Auto:
    def __repr__(self) -> str:
        return "AUTO"


AUTO: Final = _Auto()
"""Time column to choose: the frame's only Date or Datetime column, or ``event_timestamp`` among several."""

Time = IntoColumn | None | _Auto


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
        order: Order | None = None,
    ) -> None:
        self.requests = tuple(requests)
        self._columns = dict(columns)
        self._split_ratio = split_ratio
        self._time = time
        self._partition = tuple(partition)
        self._order = order or Order()
        plan = plan_of(self.requests)
        fields = [_expression(self._columns[name]).alias(name) for name in plan.inputs if name in self._columns]
        if split_ratio is not None:
            fields.append(_expression(split_ratio).alias(SPLIT))
        if isinstance(time, _Auto):
            fields.append((cs.date() | cs.datetime()).name.prefix(TIME))
        elif time is not None:
            named = _expression(time).meta.output_name(raise_if_undetermined=False) or "time"
            fields.append(_expression(time).alias(f"{TIME}{named}"))
        fields += [key.alias(f"{OVER}{i}") for i, key in enumerate(self._partition)]
        fields += [key.alias(f"{ORDER}{i}") for i, key in enumerate(self._order.by)]
        computation = Computation(self.requests, len(self._partition), self._order)
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
        order = Order(tuple(_several(order_by)), descending, nulls_last)
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
