"""The dense way: read every row that some request might take once, and merge in memory."""

from __future__ import annotations

from math import ceil

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from tapeline.datasets.dense_merge import CandidateRows, latest_visible
from tapeline.datasets.inquiry import Found, Inquiry
from tapeline.storage.copy_reader import Column, arrow_schema, read_copy

SCAN_ROWS_MAX = 4_000_000
"""Rows that one scan may bring into memory, by estimate; above it, keys are read in several portions."""

ROW_COST = 0.04
COLUMN_COST = 0.0075
"""What fetching and decoding a row, and each of its columns, costs on top of scanning it, in PostgreSQL's cost units.
With 1 M rows of 50 symbols and 20 features, lookups and the merge take equally long at about one request for nine rows."""

_ID = Column("id", 20)
_LEAST = np.iinfo(np.int64).min


def estimate_merge(inquiry: Inquiry) -> tuple[float, float]:
    """What the merge costs, in PostgreSQL's cost units, and how many rows it reads."""
    statement, columns = _scan(inquiry, (0, inquiry.requests.keys.num_rows - 1))
    cost, rows = inquiry.estimate(statement)
    return cost + rows * (ROW_COST + COLUMN_COST * len(columns)), rows


def merge(inquiry: Inquiry, rows_expected: float) -> Found:
    """Find every request's row by scans of the view, each over a portion of the keys.

    Parameters
    ----------
    inquiry
        The view and its requests.
    rows_expected
        Estimate of the rows to read, which decides the number of portions.
    """
    requests = inquiry.requests
    key_count = requests.keys.num_rows
    step = max(1, key_count // max(1, ceil(rows_expected / SCAN_ROWS_MAX)))
    _, columns = _scan(inquiry, (0, 0))
    pieces = [arrow_schema(columns).empty_table()]
    index = np.full(len(requests), -1, dtype=np.int64)
    taken = 0
    for begin in range(0, key_count, step):
        statement, _ = _scan(inquiry, (begin, begin + step - 1))
        read = read_copy(inquiry.connection, statement, [_ID, *columns])
        asked = np.flatnonzero((requests.key_ids >= begin) & (requests.key_ids < begin + step))
        answer = latest_visible(
            _candidates(read, inquiry), requests.key_ids[asked], requests.times_us[asked], inquiry.query.ttl_us
        )
        wanted, position = np.unique(answer[answer >= 0], return_inverse=True)
        pieces.append(read.select(range(1, read.num_columns)).take(pa.array(wanted)))
        index[asked[answer >= 0]] = position + taken
        taken += len(wanted)
    return Found(pa.concat_tables(pieces), index)


def _scan(inquiry: Inquiry, ids: tuple[int, int]) -> tuple[sql.Composable, list[Column]]:
    outputs, columns = inquiry.query.outputs(with_order=True)
    times_us = (int(inquiry.requests.times_us[0]), int(inquiry.requests.times_us[-1]))
    return inquiry.query.scan(inquiry.keys, inquiry.matches, outputs, ids=ids, times_us=times_us), columns


def _candidates(read: pa.Table, inquiry: Inquiry) -> CandidateRows:
    event, available, created, sequence = (_int64(read.column(number - 4)) for number in range(4))
    if inquiry.query.selection.available_column is None:
        available = event
    visible = np.maximum(event, available)
    if inquiry.query.created_by_request:
        visible = np.maximum(visible, created)
    return CandidateRows(_int64(read.column(0)), event, available, created, sequence, visible)


def _int64(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).fill_null(_LEAST).to_numpy(), dtype=np.int64)
