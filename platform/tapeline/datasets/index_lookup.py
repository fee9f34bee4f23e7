"""The sparse way: one index lookup for each request, and on hypertables only in the chunks that can hold its row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.datasets.inquiry import Found, Inquiry
from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.snapshot import Snapshot
from tapeline.storage.copy_reader import Column, arrow_schema, read_copy

GROUP_COST = 300.0
LOOKUP_COST = 1.0
OPENED_CHUNK_COST = 0.45
COLUMN_COST = 0.025
"""What planning a group of requests, a lookup, a chunk that it has to open and a column that it fetches cost on top of what
PostgreSQL counts, in its units. As with the merge, a unit is about 4 µs where two readers have a core each: measured with 300
to 200,000 requests for 4, 20 and 100 features of a million rows, and for 20 of them in 10, 160 and 1,000 chunks."""

GROUPS_PER_STATEMENT = 8
PARALLEL_REQUESTS_MIN = 4_000
"""Requests from which on several readers are worth their connections."""

_ID = Column("id", 20)
_CHUNKS = """
    SELECT (extract(epoch FROM c.range_start) * 1000000)::bigint
    FROM timescaledb_information.chunks c
    JOIN pg_namespace n ON n.nspname = c.hypertable_schema
    JOIN pg_class t ON t.relname = c.hypertable_name AND t.relnamespace = n.oid
    WHERE t.oid = to_regclass(%s) AND c.primary_dimension = %s AND c.range_start IS NOT NULL
    GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that are looked up by one statement.

    Attributes
    ----------
    ids
        First and last of them, by number; none: all.
    events_us
        Constant bounds of the event times that this statement looks at, both included; none: no bound.
    """

    ids: tuple[int, int] | None = None
    events_us: tuple[int | None, int | None] = (None, None)


def chunk_starts(connection: psycopg.Connection[Any], selection: ViewSelection) -> NDArray[np.int64] | None:
    """Where a hypertable's chunks begin, in microseconds UTC, ascending; none for any other table or query."""
    if selection.is_query:
        return None
    with connection.cursor(row_factory=tuple_row) as cursor:
        known = cursor.execute("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL").fetchone()
        if known is None or not known[0]:
            return None
        cursor.execute(_CHUNKS, (selection.table, selection.event_column))
        starts = np.array([row[0] for row in cursor.fetchall()], dtype=np.int64)
    return starts if len(starts) > 1 else None


def estimate_lookups(inquiry: Inquiry, chunks: NDArray[np.int64] | None) -> float:
    """PostgreSQL's estimate of what all lookups cost: that of the one in the middle, times their number, and the planning."""
    requests = inquiry.requests
    outputs, columns = inquiry.query.outputs(with_order=False)
    middle = len(requests) // 2
    events_us: tuple[int | None, int | None] = (None, None)
    groups, opened = 1, 0
    if chunks is not None:
        walk = _ChunkWalk(inquiry, chunks, np.arange(len(requests), dtype=np.int64))
        asked = walk.first()
        if not len(asked):
            return 0.0
        groups, opened = sum(1 for _ in walk.groups(asked)), walk.width
        walk.width = 1
        events_us = next(walk.groups(np.array([middle]))).events_us
    one = inquiry.query.lookup(inquiry.literal(middle), inquiry.matches, outputs, events_us=events_us)
    each = inquiry.estimate(one)[0] + LOOKUP_COST + opened * OPENED_CHUNK_COST + len(columns) * COLUMN_COST
    return each * len(requests) + groups * GROUP_COST


def look_up(
    inquiry: Inquiry, chunks: NDArray[np.int64] | None, *, with_order: bool, snapshot: Snapshot | None = None
) -> Found:
    """Look every request up.

    A lookup on a hypertable opens every chunk that its statement's constants do not rule out, so requests are grouped
    by the chunk they fall into and each group gets constant bounds. What finds nothing there is looked up again in
    the chunk before, then in the two before, then four, and so on.

    Parameters
    ----------
    inquiry
        The view and its requests.
    chunks
        Where the chunks of a hypertable begin.
    with_order
        Also give event, available and created time and sequence.
    snapshot
        Where more connections come from; none: this one does all.
    """
    count = len(inquiry.requests)
    _, columns = inquiry.query.outputs(with_order=with_order)
    readers = snapshot.readers if snapshot is not None and count >= PARALLEL_REQUESTS_MIN else 1
    shares = np.array_split(np.arange(count, dtype=np.int64), readers)  # of one time range each
    if snapshot is None or readers == 1:
        answers = [_look_up_share(inquiry, share, chunks, with_order=with_order) for share in shares]
    else:
        with snapshot.connections(readers) as connections, ThreadPoolExecutor(readers) as pool:

            def read(number: int) -> tuple[NDArray[np.int64], pa.Table]:
                reader = replace(inquiry, connection=connections[number])
                return _look_up_share(reader, shares[number], chunks, with_order=with_order)

            answers = list(pool.map(read, range(readers)))
    taken = np.concatenate([ids for ids, _ in answers])
    index = np.full(count, -1, dtype=np.int64)
    index[taken] = np.arange(len(taken), dtype=np.int64)
    return Found(pa.concat_tables([arrow_schema(columns).empty_table(), *(rows for _, rows in answers)]), index)


def _look_up_share(
    inquiry: Inquiry, share: NDArray[np.int64], chunks: NDArray[np.int64] | None, *, with_order: bool
) -> tuple[NDArray[np.int64], pa.Table]:
    """Which of these requests have a row, and their rows."""
    outputs, columns = inquiry.query.outputs(with_order=with_order)
    outputs = sql.SQL(outputs.as_string(None))  # composed once, not for every group
    pieces = [arrow_schema(columns).empty_table()]
    answered = [np.empty(0, dtype=np.int64)]
    walk = None if chunks is None else _ChunkWalk(inquiry, chunks, share)
    asked = share if walk is None else walk.first()
    while len(asked):
        groups = [Group()] if walk is None else list(walk.groups(asked))
        hit = np.zeros(len(asked), dtype=np.bool_)
        with inquiry.sent(asked, indexed=len(groups) > 1) as table:
            for begin in range(0, len(groups), GROUPS_PER_STATEMENT):
                statement = sql.SQL(" UNION ALL ").join(
                    sql.SQL("({})").format(
                        inquiry.query.lookup(table, inquiry.matches, outputs, ids=group.ids, events_us=group.events_us)
                    )
                    for group in groups[begin : begin + GROUPS_PER_STATEMENT]
                )
                found = read_copy(inquiry.connection, statement, [_ID, *columns])
                ids = found.column(0).to_numpy()
                hit[ids] = True
                answered.append(asked[ids])
                pieces.append(found.select(range(1, found.num_columns)))
        asked = np.empty(0, dtype=np.int64) if walk is None else walk.carry_on(asked[~hit])
    return np.concatenate(answered), pa.concat_tables(pieces)


class _ChunkWalk:
    """Which chunks each request still has to be looked for in, from its own backwards."""

    def __init__(self, inquiry: Inquiry, starts: NDArray[np.int64], share: NDArray[np.int64]) -> None:
        self._times_us = inquiry.requests.times_us
        self._ttl_us = inquiry.query.ttl_us
        self._starts_us = starts
        self._share = share
        self._last = np.searchsorted(starts, self._times_us, side="right") - 1
        # A group over w chunks with r requests in each: its own cost, and for each of r·w lookups, w chunks to open.
        each = len(share) / len(np.unique(self._last[share])) if len(share) else 1.0
        self.width = max(1, round(math.sqrt(GROUP_COST / (OPENED_CHUNK_COST * each))))

    def first(self) -> NDArray[np.int64]:
        """The requests that any chunk can answer."""
        return self._share[self._last[self._share] >= 0]

    def groups(self, asked: NDArray[np.int64]) -> Iterator[Group]:
        """Requests of the same chunks, in order of time; `asked` is in that order."""
        blocks = self._last[asked] // self.width
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(asked)]
        for begin, end in pairwise(edges):
            earliest_us, latest_us = int(self._times_us[asked[begin]]), int(self._times_us[asked[end - 1]])
            low_us = int(self._starts_us[self._lowest(asked[begin : begin + 1])[0]])
            if self._ttl_us:
                low_us = max(low_us, earliest_us - self._ttl_us)
            after = int(self._last[asked[end - 1]]) + 1
            if after < len(self._starts_us):
                latest_us = min(latest_us, int(self._starts_us[after]) - 1)
            yield Group((begin, end - 1), (low_us, latest_us))

    def carry_on(self, missed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the requests without a hit that earlier chunks may still answer."""
        lowest = self._lowest(missed)
        self._last[missed] = lowest - 1
        self.width *= 2
        more = lowest > 0
        if self._ttl_us:
            more &= self._times_us[missed] - self._ttl_us < self._starts_us[lowest]
        return missed[more]

    def _lowest(self, requests: NDArray[np.int64]) -> NDArray[np.int64]:
        """The earliest chunk that is looked at for each: one before its block, as its row often lies just before that."""
        return np.maximum(self._last[requests] // self.width * self.width - 1, np.int64(0))
