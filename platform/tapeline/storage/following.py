"""Appends raw rows that come after everything stored of their symbols, as those of a stream do: without looking each one up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.timestamps import from_us
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.raw import AppendCounts, refuse_dropped
from tapeline.storage.raw_tables import RAW_TABLES, RawKind
from tapeline.storage.retrying import write_faults
from tapeline.storage.turns import turn


def append_following(
    connection: psycopg.Connection[Any],
    kind: RawKind,
    rows: pa.Table,
    source: str,
    *,
    symbols: Sequence[str],
    first_event_us: NDArray[np.int64],
    first_sequence: NDArray[np.int64],
    also: Callable[[psycopg.Cursor[Any], AppendCounts], None],
) -> AppendCounts | None:
    """Append first sightings whose keys lie after all stored ones of their symbols, in one transaction.

    Parameters
    ----------
    connection
        Not inside a transaction, as of :func:`tapeline.storage.raw.append_rows`.
    kind
        Which table.
    rows
        Its columns but for the source: no key twice, none deleted, each with its available time.
    source
        Name of the source.
    symbols, first_event_us, first_sequence
        Each symbol of the rows once, with the first of its keys.
    also
        Called in the same transaction with what the append did.

    Returns
    -------
    AppendCounts or None
        None: a row is stored that is not before these, so that nothing was written; append them with ``append_rows``.

    Raises
    ------
    InvalidDataError
        If a row lies before what retention dropped.
    """
    table = RAW_TABLES[kind]
    query = sql.SQL(
        "SELECT EXISTS (SELECT FROM unnest(%s::text[], %s::timestamptz[], %s::bigint[]) AS a (symbol, event, sequence)"
        " CROSS JOIN LATERAL (SELECT FROM {} r WHERE r.source = %s AND r.symbol = a.symbol"
        " AND r.event_timestamp >= a.event AND (r.event_timestamp, r.sequence) >= (a.event, a.sequence) LIMIT 1) found)"
    ).format(sql.Identifier(*table.name.split(".")))
    events = [from_us(us) for us in first_event_us.tolist()]
    counts = AppendCounts(added=rows.num_rows)
    with (
        write_faults(table.name),
        turn(connection, f"{table.name}{source}"),
        connection.transaction(),
        connection.cursor(row_factory=tuple_row) as cursor,
    ):
        refuse_dropped(cursor, table, min(events))
        found = cursor.execute(query, (list(symbols), events, first_sequence.tolist(), source)).fetchone()
        if found != (False,):
            return None
        named = rows.append_column("source", pa.repeat(pa.scalar(source), rows.num_rows))
        copy_arrow(cursor, named, table.name)
        also(cursor, counts)
    return counts
