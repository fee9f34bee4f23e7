"""The sparse way: one index lookup for each request, and on hypertables only in the chunks that can hold its row."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from tapeline.datasets.chunks import GROUP_COST, OPENED_CHUNK_COST, Chunks, ChunkWalk, Group
from tapeline.datasets.inquiry import Found, Inquiry
from tapeline.datasets.snapshot import Snapshot
from tapeline.storage.copy_reader import Column, arrow_schema, read_copy

LOOKUP_COST = 1.0
COLUMN_COST = 0.025
CHUNK_COST = 75.0
SEARCHED_CHUNK_COST = 2.8
"""What a lookup, a column that it fetches, a chunk that is asked by its name, and one that is searched in vain cost on top of what
PostgreSQL counts, in its units. As
with the merge, a unit is about 4 µs where two readers have a core each: measured with 300 to 200,000 requests for 4, 20 and
100 features of a million rows, and for 20 of them in 10, 160 and 1,000 chunks."""

GROUPS_PER_STATEMENT = 16
PARALLEL_REQUESTS_MIN = 4_000
"""Requests from which on several readers are worth their connections."""

_ID = Column("id", 20)


def estimate_lookups(inquiry: Inquiry, chunks: Chunks | None, rows_per_chunk: float = math.inf) -> float:
    """PostgreSQL's estimate of what all lookups cost: that of the one in the middle, times their number, and the planning.

    Parameters
    ----------
    inquiry
        The view and its requests.
    chunks
        Those of a hypertable.
    rows_per_chunk
        How many rows each key has in one. The fewer, the more chunks a request is looked for in: 0 gives the most that
        it can cost.
    """
    requests = inquiry.requests
    outputs, columns = inquiry.query.outputs(with_order=False)
    middle = len(requests) // 2
    group, planning, each = None, 0.0, LOOKUP_COST + len(columns) * COLUMN_COST
    if chunks is not None:
        walk = ChunkWalk(requests, inquiry.query.ttl_us, chunks, np.arange(len(requests), dtype=np.int64))
        asked = walk.first()
        if not len(asked):
            return 0.0
        planning = sum(1 for _ in walk.groups(asked)) * (CHUNK_COST if walk.by_chunk else GROUP_COST)
        each += 0.0 if walk.by_chunk else walk.width * OPENED_CHUNK_COST
        missed = 1 / (1 + 2 * rows_per_chunk)
        each += missed * min(1 / max(rows_per_chunk, 1e-9), len(chunks)) * SEARCHED_CHUNK_COST
        walk.width = 1
        middle = int(asked[len(asked) // 2])
        group = next(walk.groups(np.array([middle])))
    lookup = inquiry.query.lookup(inquiry.literal(middle), inquiry.matches, outputs)
    one = lookup.statement() if group is None else lookup.statement(events_us=group.events_us, table=group.table)
    return (inquiry.estimate(one)[0] + each) * len(requests) + planning


def look_up(inquiry: Inquiry, chunks: Chunks | None, *, with_order: bool, snapshot: Snapshot | None = None) -> Found:
    """Look every request up; on a hypertable chunk by chunk, see `ChunkWalk`.

    Parameters
    ----------
    inquiry
        The view and its requests.
    chunks
        Those of a hypertable.
    with_order
        Also give event, available and created time and sequence.
    snapshot
        Where more connections come from; none: this one does all.
    """
    count = len(inquiry.requests)
    _, columns = inquiry.query.outputs(with_order=with_order)
    every = np.arange(count, dtype=np.int64)
    if snapshot is None or snapshot.readers == 1 or count < PARALLEL_REQUESTS_MIN:
        answers = [_look_up_share(inquiry, every, chunks, with_order=with_order)]
    else:
        with snapshot.connections(snapshot.readers) as connections, ThreadPoolExecutor(len(connections)) as pool:
            shares = np.array_split(every, len(connections))  # of one time range each

            def read(number: int) -> tuple[NDArray[np.int64], pa.Table]:
                reader = replace(inquiry, connection=connections[number])
                return _look_up_share(reader, shares[number], chunks, with_order=with_order)

            answers = list(pool.map(read, range(len(connections))))
    taken = np.concatenate([ids for ids, _ in answers])
    index = np.full(count, -1, dtype=np.int64)
    index[taken] = np.arange(len(taken), dtype=np.int64)
    return Found(pa.concat_tables([arrow_schema(columns).empty_table(), *(rows for _, rows in answers)]), index)


def _look_up_share(
    inquiry: Inquiry, share: NDArray[np.int64], chunks: Chunks | None, *, with_order: bool
) -> tuple[NDArray[np.int64], pa.Table]:
    """Which of these requests have a row, and their rows."""
    if chunks is None or chunks.tables is None:
        return _walk(inquiry, share, chunks, with_order=with_order)
    try:
        with inquiry.connection.transaction():
            return _walk(inquiry, share, chunks, with_order=with_order)
    except psycopg.errors.UndefinedTable:  # a chunk was dropped meanwhile, which no snapshot holds off
        return _walk(inquiry, share, replace(chunks, tables=None), with_order=with_order)


def _walk(
    inquiry: Inquiry, share: NDArray[np.int64], chunks: Chunks | None, *, with_order: bool
) -> tuple[NDArray[np.int64], pa.Table]:
    outputs, columns = inquiry.query.outputs(with_order=with_order)
    pieces = [arrow_schema(columns).empty_table()]
    answered = [np.empty(0, dtype=np.int64)]
    walk = None if chunks is None else ChunkWalk(inquiry.requests, inquiry.query.ttl_us, chunks, share)
    asked = share if walk is None else walk.first()
    while len(asked):
        groups = [Group((0, len(asked) - 1))] if walk is None else list(walk.groups(asked))
        hit = np.zeros(len(asked), dtype=np.bool_)
        with inquiry.sent(asked, indexed=len(groups) > 1) as table:
            lookup = inquiry.query.lookup(table, inquiry.matches, outputs)
            for begin in range(0, len(groups), GROUPS_PER_STATEMENT):
                some = groups[begin : begin + GROUPS_PER_STATEMENT]
                statement = sql.SQL(" UNION ALL ").join(
                    sql.SQL("({})").format(lookup.statement(group.ids, group.events_us, group.table)) for group in some
                )
                found = read_copy(inquiry.connection, statement, [_ID, *columns])
                ids = found.column(0).to_numpy()
                hit[ids] = True
                answered.append(asked[ids])
                pieces.append(found.select(range(1, found.num_columns)))
        asked = np.empty(0, dtype=np.int64) if walk is None else walk.carry_on(asked[~hit])
    return np.concatenate(answered), pa.concat_tables(pieces)
