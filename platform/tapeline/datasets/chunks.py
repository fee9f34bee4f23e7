"""The chunks of a hypertable, and which of them each request has to be looked for in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.rows import tuple_row

from tapeline.datasets.plan import ViewSelection
from tapeline.datasets.requests import Requests

GROUP_COST = 300.0
OPENED_CHUNK_COST = 0.45
"""What planning a group of requests over several chunks, and a chunk that each of its lookups opens, cost on top of what PostgreSQL
counts; see `tapeline.datasets.index_lookup` for the unit."""

PASSES_BY_CHUNK = 2
"""So often requests are looked up in single chunks, if most find something there; what is left is looked for in several at once."""

_CHUNKS = """
    SELECT (extract(epoch FROM c.range_start) * 1000000)::bigint, min(format('%%I.%%I', c.chunk_schema, c.chunk_name)),
        bool_and(h.num_dimensions = 1 AND NOT t.relrowsecurity AND NOT k.relrowsecurity
            AND has_schema_privilege(m.oid, 'USAGE') AND has_table_privilege(k.oid, 'SELECT'))
    FROM timescaledb_information.chunks c
    JOIN timescaledb_information.hypertables h USING (hypertable_schema, hypertable_name)
    JOIN pg_namespace n ON n.nspname = c.hypertable_schema
    JOIN pg_class t ON t.relname = c.hypertable_name AND t.relnamespace = n.oid
    JOIN pg_namespace m ON m.nspname = c.chunk_schema
    JOIN pg_class k ON k.relname = c.chunk_name AND k.relnamespace = m.oid
    WHERE t.oid = to_regclass(%s) AND c.primary_dimension = %s AND c.range_start IS NOT NULL AND NOT EXISTS (
        SELECT FROM _timescaledb_catalog.hypertable i JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = i.id
        WHERE i.schema_name = c.hypertable_schema AND i.table_name = c.hypertable_name
            AND d.column_name = c.primary_dimension AND d.partitioning_func IS NOT NULL)
    GROUP BY 1 ORDER BY 1
"""
"""A chunk's start is an event time only where no function stands between the two."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a hypertable along time.

    Attributes
    ----------
    starts_us
        Where they begin, ascending, microseconds UTC.
    tables
        The table that each is, as SQL. None if they may not be read one by one: where time is not all that divides them, or where the
        hypertable hides rows, or the role may read it but not its chunks.
    """

    starts_us: NDArray[np.int64]
    tables: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.starts_us)

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], selection: ViewSelection) -> Chunks | None:
        """Those of a view's table; none if it is no hypertable, or has a single one."""
        if selection.is_query:
            return None
        with connection.cursor(row_factory=tuple_row) as cursor:
            known = cursor.execute("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL").fetchone()
            if known is None or not known[0]:
                return None
            found = cursor.execute(_CHUNKS, (selection.table, selection.event_column)).fetchall()
        if len(found) < 2:
            return None
        readable = all(allowed for _, _, allowed in found)
        starts = np.array([start for start, _, _ in found], dtype=np.int64)
        return cls(starts, tuple(table for _, table, _ in found) if readable else None)


@dataclass(frozen=True, slots=True)
class Group:
    """Requests that are looked up by one statement.

    Attributes
    ----------
    ids
        First and last of them, by number.
    events_us
        Constant bounds of the event times that this statement looks at, both included; none: no bound.
    table
        The chunk to look in; none: the whole table.
    """

    ids: tuple[int, int]
    events_us: tuple[int | None, int | None] = (None, None)
    table: str | None = None


class ChunkWalk:
    """Which chunks each request still has to be looked for in, from its own backwards.

    A lookup on a hypertable opens every chunk that its statement's constants do not rule out, one after the other, so requests
    are grouped by the chunk that they fall into. Most find their row there or in the one before: these are asked for by their
    own names, which the planner has least to do with and where the first row of the index is the answer. What found nothing is
    looked for in several before that, then in twice as many, and so on, by the hypertable's name and constant bounds.
    """

    def __init__(self, requests: Requests, ttl_us: int, chunks: Chunks, share: NDArray[np.int64]) -> None:
        self._times_us = requests.times_us
        self._ttl_us = ttl_us
        self._starts_us = chunks.starts_us
        self._tables = chunks.tables
        self._share = share
        self._last = np.searchsorted(self._starts_us, self._times_us, side="right") - 1
        self._passes = 0
        self._asked = 0
        self.width = 1 if self.by_chunk else self._fitting_width(share)

    @property
    def by_chunk(self) -> bool:
        """Whether single chunks are asked by their names, now."""
        return self._tables is not None and self._passes < PASSES_BY_CHUNK

    def first(self) -> NDArray[np.int64]:
        """The requests that any chunk can answer."""
        return self._share[self._last[self._share] >= 0]

    def groups(self, asked: NDArray[np.int64]) -> Iterator[Group]:
        """Requests of the same chunks, in order of time; `asked` is in that order."""
        self._asked = len(asked)
        blocks = self._last[asked] // self.width
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(asked)]
        for begin, end in pairwise(edges):
            if self._tables is not None and self.by_chunk:
                yield Group((begin, end - 1), table=self._tables[blocks[begin]])
            else:
                yield Group((begin, end - 1), self._bounds_us(asked[begin], asked[end - 1]))

    def carry_on(self, missed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the requests without a hit that earlier chunks may still answer."""
        by_chunk, sparse = self.by_chunk, 2 * len(missed) > self._asked
        lowest = self._lowest(missed)
        self._last[missed] = lowest - 1
        more = lowest > 0
        if self._ttl_us:
            more &= self._times_us[missed] - self._ttl_us < self._starts_us[lowest]
        left = missed[more]
        self._passes = PASSES_BY_CHUNK if sparse else self._passes + 1
        if by_chunk:
            self.width = 1 if self.by_chunk else max(2, self._fitting_width(left))
        else:
            self.width *= 2
        return left

    def _bounds_us(self, first: np.int64, last: np.int64) -> tuple[int, int]:
        """The event times at which some request from the first to the last may find its row, in the chunks of this pass."""
        low_us = int(self._starts_us[self._lowest(np.array([first]))[0]])
        if self._ttl_us:
            low_us = max(low_us, int(self._times_us[first]) - self._ttl_us)
        latest_us, after = int(self._times_us[last]), int(self._last[last]) + 1
        if after < len(self._starts_us):
            latest_us = min(latest_us, int(self._starts_us[after]) - 1)
        return low_us, latest_us

    def _lowest(self, requests: NDArray[np.int64]) -> NDArray[np.int64]:
        """The earliest chunk that is looked at for each: of several, one before its block, as its row often lies just before that."""
        if self.by_chunk:
            return self._last[requests]
        return np.maximum(self._last[requests] // self.width * self.width - 1, np.int64(0))

    def _fitting_width(self, requests: NDArray[np.int64]) -> int:
        """How many chunks to look in at once: w with r requests in each cost a group, and for r·w lookups w chunks to open."""
        if not len(requests):
            return 1
        each = len(requests) / len(np.unique(self._last[requests]))
        return max(1, round(math.sqrt(GROUP_COST / (OPENED_CHUNK_COST * each))))
