"""A view's rows as they are stored: what a live system could have used at a moment, and every version of a span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.core.errors import LimitError, ParameterError, UnknownNameError
from tapeline.core.timestamps import from_us
from tapeline.datasets.inquiry import Inquiry
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.point_in_time import TIME_NAMES, as_of_join, time_columns
from tapeline.datasets.requests import UTC_US, distinct_requests, times_of
from tapeline.datasets.view_query import ViewQuery
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.copy_reader import Column, read_copy

ROWS_MAX = 1_000_000
"""Stored rows that are read at once."""
_ID = Column("id", 20)


def selection_of(spec: FeatureViewSpec, features: Sequence[str] = ()) -> ViewSelection:
    """Some features of a view, all if none is named.

    Raises
    ------
    UnknownNameError
        If the view has no such feature; the message names the nearest.
    """
    for name in features:
        if name not in spec.columns:
            raise UnknownNameError("feature", name, spec.columns, where=f"view {spec.name}@{spec.version}")
    names = tuple(dict.fromkeys(features)) or spec.columns
    return ViewSelection(
        view=spec.name,
        version=spec.version,
        table=f'features."{spec.table}"',
        entity_columns=("symbol",),
        join_keys=("symbol",),
        features=names,
        output_names=names,
        ttl_us=spec.ttl_us,
    )


def vectors_at(
    connection: psycopg.Connection[Any],
    selection: ViewSelection,
    symbols: Sequence[str],
    moment_us: int,
    *,
    vintage_us: int | None = None,
) -> pa.Table:
    """The row that the point-in-time rule takes of each symbol at a moment.

    Returns
    -------
    pyarrow.Table
        ``symbol``, the four times of the row taken, null where none counts, and the features.
    """
    rows = _entity_rows(symbols, moment_us)
    joined = as_of_join(connection, [selection], rows, vintage_us=vintage_us, with_times=True)
    plain = dict(zip(time_columns(selection), TIME_NAMES, strict=True))
    taken = joined.select(["symbol", *plain, *selection.output_names])
    return taken.rename_columns([plain.get(name, name) for name in taken.column_names])


def stored_rows(
    connection: psycopg.Connection[Any],
    selection: ViewSelection,
    symbols: Sequence[str],
    start_us: int,
    end_us: int,
    *,
    vintage_us: int | None = None,
) -> pa.Table:
    """Every stored row of some symbols whose event lies in a span, corrections beside what they correct.

    Parameters
    ----------
    connection
        The database.
    selection
        The view and its features.
    symbols
        Whose rows.
    start_us, end_us
        The span, both ends included.
    vintage_us
        Only rows recorded by then; none: all.

    Returns
    -------
    pyarrow.Table
        ``symbol``, the four times and the features, ordered by symbol and the order of the point-in-time rule.

    Raises
    ------
    LimitError
        If there are more than `ROWS_MAX`.
    ParameterError
        If the span ends before it begins.
    """
    if start_us > end_us:
        raise ParameterError("the span ends before it begins", where=f"{from_us(start_us)} to {from_us(end_us)}")
    times = (selection.event_column, "available_timestamp", "created_timestamp", "sequence")
    # Whatever was available when: the available time is a value here, and no condition.
    wanted = replace(
        selection,
        features=(*times, *selection.features),
        output_names=(*TIME_NAMES, *selection.output_names),
        available_column=None,
    )
    rows = _entity_rows(symbols, end_us)
    requests = distinct_requests(rows, ("symbol",), times_of(rows, "event_timestamp"))
    with connection.transaction():
        query = ViewQuery.of(connection, wanted, vintage_us=vintage_us)
        with Inquiry.of(connection, query, requests).keyed() as inquiry:
            outputs, columns = query.outputs(with_order=False)
            scan = query.scan(
                inquiry.keys, inquiry.matches, outputs,
                ids=(0, requests.keys.num_rows - 1), events_us=(start_us, end_us),
            )  # fmt: skip
            limited = sql.SQL("{} LIMIT {}").format(scan, sql.Literal(ROWS_MAX + 1))
            found = read_copy(connection, limited, [_ID, *columns])
    if found.num_rows > ROWS_MAX:
        raise LimitError(f"there are more than {ROWS_MAX} rows", remedy="Choose a shorter span or fewer symbols")
    names = requests.keys.column("k0").take(found.column(0))
    table = pa.table([names, *found.columns[1:]], names=["symbol", *wanted.output_names])
    order = ("symbol", "event_timestamp", "sequence", "available_timestamp", "created_timestamp")
    return table.sort_by([(name, "ascending") for name in order])


def _entity_rows(symbols: Sequence[str], moment_us: int) -> pa.Table:
    moments = pa.array([moment_us] * len(symbols), pa.int64()).cast(UTC_US)
    return pa.table({"symbol": pa.array(list(symbols), pa.string()), "event_timestamp": moments})
