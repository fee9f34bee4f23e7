"""One view's open question to the database: its SQL, and its requests sent to where the SQL can join them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.datasets.requests import UTC_US, Requests
from tapeline.datasets.view_query import ViewQuery, moment, request_type
from tapeline.storage.arrow import copy_arrow

_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Found:
    """What requests take of one view.

    Attributes
    ----------
    rows
        Features, then, where they were asked for, event, available and created time and sequence.
    index
        int64 (R,): row of each request; -1 for a miss.
    """

    rows: pa.Table
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Requests to one view.

    Attributes
    ----------
    connection
        Inside a transaction.
    query
        The view.
    requests
        What is asked.
    matches
        The condition that ``s``, the view's table, and ``q``, a table with key columns, have the same keys.
    """

    connection: psycopg.Connection[Any]
    query: ViewQuery
    requests: Requests
    matches: sql.Composable

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], query: ViewQuery, requests: Requests) -> Inquiry:
        """Ask over this connection.

        Raises
        ------
        InvalidDataError
            If an entity column is of another type than the view's key.
        """
        return cls(connection, query, requests, query.key_condition(requests.keys.schema))

    @contextmanager
    def keyed(self, connection: psycopg.Connection[Any] | None = None) -> Iterator[KeyedInquiry]:
        """Send the distinct keys, over this connection or another; the temporary table goes when the block ends."""
        with sent_keys(connection or self.connection, self.requests.keys) as keys:
            yield KeyedInquiry(connection or self.connection, self.query, self.requests, self.matches, keys)

    @contextmanager
    def sent(self, asked: NDArray[np.int64], *, indexed: bool = False) -> Iterator[sql.Identifier]:
        """Send some of the requests, numbered from 0 in the order given, as a table ``(id, t, k0, k1, …)``."""
        keys = self.requests.keys.take(pa.array(self.requests.key_ids[asked]))
        with sent_keys(self.connection, keys, self.requests.times_us[asked], indexed=indexed) as table:
            yield table

    def literal(self, request: int) -> sql.Composable:
        """One request as a query that yields what `sent` stores; for estimates."""
        values = [sql.SQL("0::bigint AS id"), sql.SQL("{} AS t").format(moment(int(self.requests.times_us[request])))]
        row = int(self.requests.key_ids[request])
        for number, column in enumerate(self.requests.keys.columns[1:]):
            kind, arrow = request_type(column.type)
            key = sql.Literal(column[row].cast(arrow).as_py())
            values.append(sql.SQL("{}::{} AS {}").format(key, sql.SQL(kind), sql.Identifier(f"k{number}")))
        return sql.SQL("(SELECT {})").format(sql.SQL(", ").join(values))

    def estimate(self, statement: sql.Composable) -> tuple[float, float]:
        """PostgreSQL's own estimate of a statement's cost and number of rows."""
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement)).fetchone()
        if row is None:
            raise AssertionError("EXPLAIN gives one row")
        plan = (json.loads(row[0]) if isinstance(row[0], str) else row[0])[0]["Plan"]
        return float(plan["Total Cost"]), float(plan["Plan Rows"])


@dataclass(frozen=True, slots=True)
class KeyedInquiry(Inquiry):
    """An inquiry whose distinct keys are in the database, for scans.

    Attributes
    ----------
    keys
        Temporary table ``(id, k0, k1, …)``.
    """

    keys: sql.Identifier


@contextmanager
def sent_keys(
    connection: psycopg.Connection[Any],
    keys: pa.Table,
    times_us: NDArray[np.int64] | None = None,
    *,
    indexed: bool = False,
) -> Iterator[sql.Identifier]:
    """A temporary table of keys, numbered anew, and of moments if given, for as long as the block runs."""
    name = f"tapeline_requests_{next(_serial)}"
    table = sql.Identifier("pg_temp", name)
    arrays: list[pa.Array | pa.ChunkedArray] = [pa.array(np.arange(keys.num_rows, dtype=np.int64))]
    declared = [("id", "bigint")]
    if times_us is not None:
        arrays.append(pa.array(times_us).view(UTC_US))
        declared.append(("t", "timestamptz"))
    for number, column in enumerate(keys.columns[1:]):
        kind, arrow = request_type(column.type)
        arrays.append(column.cast(arrow))
        declared.append((f"k{number}", kind))
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in declared
    )
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(name), columns))
        copy_arrow(cursor, pa.table(arrays, names=[column for column, _ in declared]), f"pg_temp.{name}")
        if indexed:
            cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (id)").format(table))
        cursor.execute(sql.SQL("ANALYZE {}").format(table))  # never analysed, a table counts as about 1,000 rows
        yield table
        cursor.execute(sql.SQL("DROP TABLE {}").format(table))
