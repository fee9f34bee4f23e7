"""The point-in-time join: to each entity row, the features that a live system could have used at its moment.

Of a view's rows with the entity row's keys, those count whose event and available times are at or before its moment t,
whose event is no older than the TTL, and which had been recorded by the vintage k, if one is given. Of these the one
with the greatest (event time, sequence, available time, created time) is taken. A null sequence or created time is the
least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import psycopg
import pyarrow as pa

from tapeline.core.errors import ParameterError
from tapeline.datasets.chunks import Chunks
from tapeline.datasets.index_lookup import estimate_lookups, look_up
from tapeline.datasets.inquiry import Found, Inquiry
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.requests import Requests, distinct_requests, times_of
from tapeline.datasets.scan_merge import SCAN_BYTES_MAX, estimate_merge, merge
from tapeline.datasets.snapshot import Snapshot
from tapeline.datasets.view_query import ViewQuery
from tapeline.storage.copy_reader import arrow_schema

Method = Literal["auto", "lookup", "merge"]
"""How rows are found: by an index lookup for each request, by a scan and a merge, or by whichever costs less."""

UNPLANNED_COST = 10_000.0
"""Lookups that cost at most this, in PostgreSQL's units, are done without asking what a merge would cost: to find that out costs
about a third of it."""

TIME_NAMES = ("event_timestamp", "available_timestamp", "created_timestamp", "sequence")


def time_columns(selection: ViewSelection) -> tuple[str, ...]:
    """What `as_of_join` calls the times and the sequence of a view's rows: ``<view>__event_timestamp`` and so on."""
    return tuple(f"{selection.view}__{name}" for name in TIME_NAMES)


def as_of_join(
    connection: psycopg.Connection[Any],
    selections: Sequence[ViewSelection],
    entity_rows: pa.Table,
    *,
    vintage_us: int | None = None,
    with_times: bool = False,
    time_column: str = "event_timestamp",
    created_by_request: bool = False,
    method: Method = "auto",
    bytes_max: int = SCAN_BYTES_MAX,
) -> pa.Table:
    """Join the features of several views to entity rows, each as known at the row's moment.

    Everything is read from one snapshot, if the connection is not in a transaction already. Temporary tables are
    written, so the server must be a primary.

    Parameters
    ----------
    connection
        The database.
    selections
        The views. Their keys may differ.
    entity_rows
        N rows with `time_column` (a timestamp with its zone; finer than microseconds is rounded down) and the entity
        columns of every view. Other columns stay as they are.
    vintage_us
        Only rows recorded by this moment count, microseconds UTC; none: all that are there. That it is settled is for
        the caller to check, with `tapeline.datasets.vintage.resolve_vintage`.
    with_times
        Also give the event, available and created time and the sequence of each row taken, as `time_columns` names
        them.
    time_column
        Name of the entity rows' moment.
    created_by_request
        Only rows that had been recorded by the entity row's own moment count.
    method
        How to find the rows. All ways give the same; ``auto`` takes the cheaper one for each view.
    bytes_max
        Memory for rows that are read to be merged, beside the result, by estimate.

    Returns
    -------
    pyarrow.Table
        The entity rows, unchanged, in their order and number, then the features in the order of the selections, then
        times. A feature is null where no row counts or the row taken holds NULL; NaN stays NaN.

    Raises
    ------
    UnknownNameError
        If a column is missing from the entity rows or a view's table.
    NaiveTimestampError
        If the entity rows' moments have no time zone.
    InvalidDataError
        If a moment is missing, or an entity column is of another type than the view's key.
    ParameterError
        If two columns of the result would have the same name.
    SchemaError
        If a view's table does not exist.
    """
    names = [*entity_rows.column_names]
    for selection in selections:
        names += [*selection.output_names, *(time_columns(selection) if with_times else ())]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ParameterError(
            f"columns would occur twice in the result: {', '.join(repeated)}",
            where="point-in-time join",
            remedy="Rename the entity column, or ask for full feature names",
        )
    times_us = times_of(entity_rows, time_column)
    distinct: dict[tuple[str, ...], Requests] = {}
    result = entity_rows
    times: list[tuple[str, pa.ChunkedArray]] = []
    with Snapshot.of(connection) as snapshot:
        for selection in selections:
            columns = selection.entity_columns
            if columns not in distinct:
                distinct[columns] = distinct_requests(entity_rows, columns, times_us)
            query = ViewQuery.of(connection, selection, vintage_us=vintage_us, created_by_request=created_by_request)
            taken = _take(snapshot, query, distinct[columns], method, bytes_max, with_order=with_times)
            count = len(selection.output_names)
            for name, column in zip(selection.output_names, taken.columns[:count], strict=True):
                result = result.append_column(name, column)
            if with_times:
                times += zip(time_columns(selection), taken.columns[count:], strict=True)
    for name, column in times:
        result = result.append_column(name, column)
    return result


def _take(
    snapshot: Snapshot, query: ViewQuery, requests: Requests, method: Method, bytes_max: int, *, with_order: bool
) -> pa.Table:
    """The row of each entity row, found in the way that PostgreSQL's estimates say costs less; null where there is none.

    Lookups cost in proportion to their number (and, without a fitting index, to the table's size each time). The merge
    costs in proportion to the rows within the requests' time range, which have to be fetched.
    """
    if len(requests) == 0:
        _, columns = query.outputs(with_order=with_order)
        empty = Found(arrow_schema(columns).empty_table(), np.empty(0, dtype=np.int64))
        return _spread(empty, requests)
    inquiry = Inquiry.of(snapshot.connection, query, requests)
    chunks = Chunks.of(snapshot.connection, query.selection)
    if method == "merge" or (method == "auto" and estimate_lookups(inquiry, chunks, 0.0) > UNPLANNED_COST):
        with inquiry.keyed() as keyed:
            estimate = estimate_merge(keyed, chunks)
            if method == "merge" or estimate.cost < estimate_lookups(inquiry, chunks, estimate.rows_per_chunk):
                return merge(keyed, snapshot, chunks, estimate, with_order=with_order, bytes_max=bytes_max)
    return _spread(look_up(inquiry, chunks, with_order=with_order, snapshot=snapshot), requests)


def _spread(found: Found, requests: Requests) -> pa.Table:
    """The found rows, one for each entity row; nulls where there is none."""
    index = np.append(found.index, -1)[requests.rows]  # the last: of entity rows that ask for nothing
    return found.rows.take(pa.array(index, mask=index < 0))


@dataclass(frozen=True, slots=True)
class JoinEstimate:
    """What `as_of_join` would do for one view, without doing it.

    Attributes
    ----------
    view
        Such as ``daily@v1``.
    method
        ``lookup`` or ``merge``, whichever costs less.
    requests
        Distinct (keys, time) pairs.
    lookup_cost, merge_cost
        In PostgreSQL's cost units.
    merge_rows
        Stored rows that the merge would read.
    chunks
        Chunks of the view's hypertable; 0 for a plain table or a query.
    """

    view: str
    method: Literal["lookup", "merge"]
    requests: int
    lookup_cost: float
    merge_cost: float
    merge_rows: float
    chunks: int


def estimate_join(
    connection: psycopg.Connection[Any],
    selections: Sequence[ViewSelection],
    entity_rows: pa.Table,
    *,
    vintage_us: int | None = None,
    time_column: str = "event_timestamp",
) -> list[JoinEstimate]:
    """How `as_of_join` would find the rows of each view for these entity rows, and PostgreSQL's estimates of it."""
    times_us = times_of(entity_rows, time_column)
    found = []
    with Snapshot.of(connection) as snapshot:
        for selection in selections:
            requests = distinct_requests(entity_rows, selection.entity_columns, times_us)
            if len(requests) == 0:
                continue
            query = ViewQuery.of(connection, selection, vintage_us=vintage_us)
            chunks = Chunks.of(snapshot.connection, selection)
            with Inquiry.of(snapshot.connection, query, requests).keyed() as inquiry:
                merging = estimate_merge(inquiry, chunks)
                looking = estimate_lookups(inquiry, chunks, merging.rows_per_chunk)
            found.append(
                JoinEstimate(
                    f"{selection.view}@v{selection.version}",
                    "merge" if merging.cost < looking else "lookup",
                    len(requests),
                    looking,
                    merging.cost,
                    merging.rows,
                    0 if chunks is None else len(chunks),
                )
            )
    return found
