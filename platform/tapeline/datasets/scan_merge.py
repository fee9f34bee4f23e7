"""The dense way: read every row that some request might take once, and merge in memory.

What was visible at the first request's moment is one row for each key; it may be looked up, so that only rows that became
visible later are read, or read with all the rows before it that the time to live allows, whichever costs less. The keys are
divided into portions, which are read over several connections in one snapshot, and bound the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa
from psycopg import sql

from tapeline.datasets.chunks import Chunks
from tapeline.datasets.index_lookup import estimate_lookups, look_up
from tapeline.datasets.inquiry import Inquiry, KeyedInquiry
from tapeline.datasets.requests import Requests
from tapeline.datasets.row_blocks import ColumnRoom, RowBlocks
from tapeline.datasets.snapshot import Snapshot
from tapeline.kernels.as_of import latest_visible
from tapeline.storage.copy_reader import ROWS_PER_BATCH, Column, arrow_schema, stream_copy

SCAN_BYTES_MAX = 5 << 29
"""Memory for rows that were read, of all readers together, by estimate; above it, keys are read in more portions."""

PARALLEL_ROWS_MIN = 200_000
"""Rows from which on several readers are worth their connections."""

ROW_COST = 0.07
COLUMN_COST = 0.0165
CHUNK_COST = 100.0
"""What fetching and decoding a row, and each of its columns, costs on top of scanning it, and a chunk that is planned and opened
by every reader, in PostgreSQL's units; see `tapeline.datasets.index_lookup` for what they were measured with. With 20 features,
lookups and the merge take equally long at about one request for seven rows, with 100 at one for three."""

CHUNKS_PLANNED_MAX = 32
"""Chunks that an estimate asks PostgreSQL about; what it says of them stands for all, as planning each takes its time."""

_ID = Column("id", 20)
_ORDER_COLUMNS = 4
_LEAST = int(np.iinfo(np.int64).min)
_CELL_BYTES = 9


@dataclass(frozen=True, slots=True)
class MergeEstimate:
    """How a merge would go.

    Attributes
    ----------
    cost
        In PostgreSQL's units, fetching included.
    rows
        To read.
    seeded
        Whether what was visible at the first moment is looked up.
    rows_per_chunk
        How many of them each key has in one chunk of a hypertable.
    """

    cost: float
    rows: float
    seeded: bool
    rows_per_chunk: float


def estimate_merge(inquiry: KeyedInquiry, chunks: Chunks | None) -> MergeEstimate:
    """What the merge costs, in the cheaper of its two ways."""
    scanned, rows, later, spanned = _estimate_scan(inquiry, chunks)
    density = rows / (inquiry.requests.keys.num_rows * spanned)
    each = ROW_COST + COLUMN_COST * len(inquiry.query.outputs(with_order=True)[1])
    seeds = estimate_lookups(_first_moment(inquiry), chunks, density)
    if seeds + later * each < rows * each:
        cost, read = scanned + seeds + later * each, later + inquiry.requests.keys.num_rows
        return MergeEstimate(cost, read, seeded=True, rows_per_chunk=density)
    return MergeEstimate(scanned + rows * each, rows, seeded=False, rows_per_chunk=density)


def _estimate_scan(inquiry: KeyedInquiry, chunks: Chunks | None) -> tuple[float, float, float, int]:
    """What scanning costs, how many rows it gives, how many of them became visible after the first moment, and of how many chunks.

    Few became visible only after a later one's event, so as many are later as have later events.
    """
    ttl_us = inquiry.query.ttl_us
    first_us, last_us = int(inquiry.requests.times_us[0]), int(inquiry.requests.times_us[-1])
    span_share = (last_us - first_us) / (last_us - first_us + ttl_us) if ttl_us else 1.0
    if chunks is None:
        scanned, rows = _asked(inquiry)
        return scanned, rows, rows * span_share if ttl_us else _asked(inquiry, (first_us, last_us))[1], 1
    starts_us = chunks.starts_us
    oldest, first, last = (
        max(int(np.searchsorted(starts_us, moment_us, side="right")) - 1, 0)
        for moment_us in (first_us - ttl_us if ttl_us else starts_us[0], first_us, last_us)
    )
    count = last - oldest + 1
    events_us, factor = None, 1.0
    if count > CHUNKS_PLANNED_MAX:
        begin = (oldest + last - CHUNKS_PLANNED_MAX) // 2
        events_us = (int(starts_us[begin]), int(starts_us[begin + CHUNKS_PLANNED_MAX]) - 1)
        factor = count / CHUNKS_PLANNED_MAX
    scanned, rows = _asked(inquiry, events_us)
    later = span_share if ttl_us else (last - first + 1) / count
    return scanned * factor + CHUNK_COST * count, rows * factor, rows * factor * later, count


def _asked(inquiry: KeyedInquiry, events_us: tuple[int, int] | None = None) -> tuple[float, float]:
    """PostgreSQL's estimate of a scan's cost and rows, of some event times if given."""
    ids = (0, inquiry.requests.keys.num_rows - 1)
    return inquiry.estimate(_scan(inquiry, ids, seeded=False, events_us=events_us)[0])


def merge(
    inquiry: KeyedInquiry,
    snapshot: Snapshot,
    chunks: Chunks | None,
    estimate: MergeEstimate,
    *,
    with_order: bool,
    bytes_max: int = SCAN_BYTES_MAX,
) -> pa.Table:
    """The row of every entity row, by scans of the view.

    Parameters
    ----------
    inquiry
        The view and its requests.
    snapshot
        Where more connections come from.
    chunks
        Those of a hypertable.
    estimate
        What `estimate_merge` gave.
    with_order
        Also give event, available and created time and sequence.
    bytes_max
        Memory for the rows read, by estimate.

    Returns
    -------
    pyarrow.Table
        A row for each entity row: features, then times if asked for; null where there is none.
    """
    requests = inquiry.requests
    _, columns = inquiry.query.outputs(with_order=True)
    wanted = columns if with_order else columns[:-_ORDER_COLUMNS]
    rooms = [ColumnRoom(field.type, len(requests.rows)) for field in arrow_schema(wanted)]
    readers = snapshot.readers if estimate.rows >= PARALLEL_ROWS_MIN else 1
    rounds = max(1, ceil(estimate.rows * _CELL_BYTES * len(columns) / bytes_max))
    portions = list(_portions(requests, readers * rounds))
    seeds = _seeds(inquiry, chunks, columns) if estimate.seeded else None

    def take(reader: KeyedInquiry, portion: tuple[int, int]) -> None:
        _merge_portion(reader, portion, columns, rooms, seeds)

    if readers == 1 or len(portions) == 1:
        for portion in portions:
            take(inquiry, portion)
    else:
        with (
            snapshot.connections(min(readers, len(portions))) as connections,
            ThreadPoolExecutor(len(connections)) as pool,
        ):
            shares = [portions[number :: len(connections)] for number in range(len(connections))]

            def read(number: int) -> None:
                with inquiry.keyed(connections[number]) as reader:
                    for portion in shares[number]:
                        take(reader, portion)

            list(pool.map(read, range(len(connections))))
    names = [column.name for column in wanted]
    return pa.table([room.array() for room in rooms], names=names)


def _portions(requests: Requests, count: int) -> Iterator[tuple[int, int]]:
    """First and last keys of portions with about equally many requests."""
    keys = requests.keys.num_rows
    asked = np.cumsum(np.bincount(requests.key_ids, minlength=keys))
    shares = np.arange(1, count + 1) * int(asked[-1]) / count
    ends = np.unique(np.searchsorted(asked, shares) + 1)
    begin = 0
    for end in ends.tolist():
        yield begin, min(end, keys) - 1
        begin = end


def _merge_portion(
    inquiry: KeyedInquiry,
    portion: tuple[int, int],
    columns: list[Column],
    rooms: list[ColumnRoom],
    seeds: pa.Table | None,
) -> None:
    first, last = portion
    requests, query = inquiry.requests, inquiry.query
    statement, _ = _scan(inquiry, portion, seeded=seeds is not None)
    batches = list(stream_copy(inquiry.connection, statement, [_ID, *columns]))
    if seeds is not None:
        ids = seeds.column(0).to_numpy()
        begin, end = np.searchsorted(ids, [first, last + 1])
        batches += seeds.slice(int(begin), int(end - begin)).to_batches()
    blocks = RowBlocks(arrow_schema([_ID, *columns]), batches, ROWS_PER_BATCH)
    del batches
    width = len(columns) + 1
    event = blocks.integers(width - 4, _LEAST)
    available = blocks.integers(width - 3, _LEAST) if query.selection.available_column else event
    created = blocks.integers(width - 2, _LEAST)
    visible = np.maximum(event, available)
    if query.created_by_request:
        visible = np.maximum(visible, created)
    whole = (first, last) == (0, requests.keys.num_rows - 1)
    asked = slice(None) if whole else np.flatnonzero((requests.key_ids >= first) & (requests.key_ids <= last))
    answer = np.full(len(requests) + 1, -1, dtype=np.int64)  # the last: of entity rows that ask for nothing
    answer[:-1][asked] = latest_visible(
        blocks.integers(0, _LEAST) - first,
        event,
        blocks.integers(width - 1, _LEAST),
        available,
        created,
        visible,
        last - first + 1,
        np.ascontiguousarray(requests.key_ids[asked] - first),
        np.ascontiguousarray(requests.times_us[asked]),
        query.ttl_us,
    )
    taken = answer[requests.rows]
    places = np.flatnonzero(taken >= 0)
    taken = taken[places]
    for number, room in enumerate(rooms):
        blocks.take(number + 1, taken, room, places)


def _seeds(inquiry: Inquiry, chunks: Chunks | None, columns: list[Column]) -> pa.Table:
    """What each key's row was at the first request's moment, as the scan gives rows, by key."""
    first = _first_moment(inquiry)
    found = look_up(first, chunks, with_order=True)
    hit = np.flatnonzero(found.index >= 0)
    rows = found.rows.take(pa.array(found.index[hit]))
    return pa.table([pa.array(hit), *rows.columns], schema=arrow_schema([_ID, *columns]))


def _first_moment(inquiry: Inquiry) -> Inquiry:
    """The inquiry that asks every key once, at the first moment."""
    keys, requests = inquiry.requests.keys, inquiry.requests
    numbers = np.arange(keys.num_rows, dtype=np.int64)
    moments = np.full(keys.num_rows, requests.times_us[0], dtype=np.int64)
    return Inquiry(inquiry.connection, inquiry.query, Requests(keys, numbers, moments, numbers), inquiry.matches)


def _scan(
    inquiry: KeyedInquiry, ids: tuple[int, int], *, seeded: bool, events_us: tuple[int, int] | None = None
) -> tuple[sql.Composable, list[Column]]:
    """The rows of some keys that requests might take: all of them, or what the seeds leave; or those of some event times."""
    query = inquiry.query
    outputs, columns = query.outputs(with_order=True)
    first_us, last_us = int(inquiry.requests.times_us[0]), int(inquiry.requests.times_us[-1])
    scan = query.scan(
        inquiry.keys,
        inquiry.matches,
        outputs,
        ids=ids,
        events_us=events_us or (first_us - query.ttl_us if query.ttl_us else None, last_us),
        visible_after_us=first_us if seeded else None,
    )
    return scan, columns
