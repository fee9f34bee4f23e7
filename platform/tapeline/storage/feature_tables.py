"""Feature tables: one wide table per view version in the schema ``features``.

A row says what the features of an entity were after the event at (event, sequence), known from ``available_timestamp``
on. Rows are only ever added. The point-in-time rule needs nothing beside them: of the rows with event and available time
up to t, the one with the greatest (event, sequence, available, created) is right for t. In particular

- a correction adds rows for its event and every later one, available from the correction on;
- after a retraction, the retracted event's newest row repeats the values of the event before it, or is all NULL where
  there is none (NaN is a value: not warmed up, or not defined; NULL is none);
- where history that was available long ago is recorded late, rows are added with the same available time and a later
  created time, which wins; data sets of an earlier vintage stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from tapeline.core.errors import LineageError
from tapeline.core.timestamps import from_us
from tapeline.features.lineage import lineage_changes
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.arrow import copy_arrow
from tapeline.storage.copy_reader import read_query
from tapeline.storage.feature_definitions import write_definitions

SCHEMA = "features"
_TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class RegisteredView:
    """A row of ``tapeline.feature_view_versions``."""

    view: str
    version: int
    lineage_hash: str
    plan_hash: str
    table_name: str
    definition: dict[str, Any]


@dataclass(frozen=True)
class StoredRows:
    """Feature rows as they stand in a table, the newest of each (entity, event, sequence, available).

    Attributes
    ----------
    entity
        int64 (N,), ascending: place among the symbols that were asked for.
    event_us, sequence, available_us
        int64 (N,).
    missing
        bool (N,): all values are NULL.
    outputs
        float64 (N, features).
    """

    entity: NDArray[np.int64]
    event_us: NDArray[np.int64]
    sequence: NDArray[np.int64]
    available_us: NDArray[np.int64]
    missing: NDArray[np.bool_]
    outputs: NDArray[np.float64]


def qualified_name(spec: FeatureViewSpec) -> str:
    """A view's table with its schema, such as ``features.daily_technical__v2``."""
    return f"{SCHEMA}.{spec.table}"


def registered_views(connection: psycopg.Connection[Any], vintage_us: int | None = None) -> list[RegisteredView]:
    """All registered view versions, by name and version; with a vintage, those registered by then."""
    rows = connection.execute(
        "SELECT view, version, lineage_hash, plan_hash, table_name, definition FROM tapeline.feature_view_versions"
        " WHERE created_timestamp <= %s ORDER BY view, version",
        (_recorded_by(vintage_us),),
    ).fetchall()
    return [RegisteredView(*row) for row in rows]


def register_view(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> bool:
    """Register a view version, describe its features and create its table; nothing happens if all are there.

    Parameters
    ----------
    connection
        Used for one transaction.
    spec
        The view.

    Returns
    -------
    bool
        Whether it was new.

    Raises
    ------
    LineageError
        If the version is registered with another lineage hash; the message says what changed.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"tapeline:view:{spec.name}",))
        if is_registered(connection, spec):
            write_definitions(connection, spec)
            return False
        connection.execute(
            "INSERT INTO tapeline.feature_view_versions"
            " (view, version, lineage_hash, plan_hash, table_name, definition) VALUES (%s, %s, %s, %s, %s, %s)",
            (
                spec.name,
                spec.version,
                spec.lineage_hash,
                spec.plan.hash,
                qualified_name(spec),
                Jsonb(spec.definition()),
            ),
        )
        write_definitions(connection, spec)
        _create_table(connection, spec)
    return True


def is_registered(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> bool:
    """Whether a view version is registered.

    Raises
    ------
    LineageError
        If it is, with another lineage hash.
    """
    row = connection.execute(
        "SELECT lineage_hash, plan_hash, definition FROM tapeline.feature_view_versions WHERE view = %s AND version = %s",
        (spec.name, spec.version),
    ).fetchone()
    if row is not None:
        _require_same_lineage(spec, *row)
    return row is not None


def _require_same_lineage(spec: FeatureViewSpec, lineage: str, plan_hash: str, definition: dict[str, Any]) -> None:
    if lineage == spec.lineage_hash:
        return
    changes = lineage_changes(definition, plan_hash, spec.definition(), spec.plan.hash)
    raise LineageError(
        f"version {spec.version} of view {spec.name!r} is registered with another definition: "
        + ("; ".join(changes) or "the way in which rows are prepared changed"),
        where=f"table {qualified_name(spec)}, lineage {lineage[:12]} there and {spec.lineage_hash[:12]} here",
        remedy=f"Raise the view's version to {spec.version + 1}: values of two definitions never share a table",
    )


def _create_table(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> None:
    table = sql.Identifier(SCHEMA, spec.table)
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (symbol text NOT NULL, event_timestamp timestamptz NOT NULL,"
            " available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(),"
            " sequence bigint NOT NULL, {}, CHECK (available_timestamp >= event_timestamp))"
        ).format(table, sql.SQL(", ").join(sql.SQL("{} float8").format(sql.Identifier(c)) for c in spec.columns))
    )
    connection.execute(
        sql.SQL(
            "CREATE INDEX {} ON {} (symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC,"
            " created_timestamp DESC)"
        ).format(sql.Identifier(f"{spec.table}_key"), table)
    )
    connection.execute("SELECT tapeline.fit_feature_table(%s::regclass)", (qualified_name(spec),))


def append_rows(
    cursor: psycopg.Cursor[Any],
    spec: FeatureViewSpec,
    symbols: pa.Array,
    event_us: NDArray[np.int64],
    sequence: NDArray[np.int64],
    available_us: NDArray[np.int64],
    missing: NDArray[np.bool_],
    outputs: NDArray[np.float64],
) -> int:
    """Add feature rows, in the caller's transaction.

    Parameters
    ----------
    cursor
        Inside a transaction.
    spec
        The view, registered.
    symbols
        Text, one for each row.
    event_us, sequence, available_us
        int64 (N,).
    missing
        bool (N,): write NULL for all values of the row.
    outputs
        float64 (N, len(spec.columns)).

    Returns
    -------
    int
        Number of rows written.
    """
    if len(event_us) == 0:
        return 0
    columns: dict[str, pa.Array] = {
        "symbol": symbols,
        "event_timestamp": pa.array(event_us).cast(_TIMESTAMP),
        "available_timestamp": pa.array(available_us).cast(_TIMESTAMP),
        "sequence": pa.array(sequence),
    }
    mask = missing if missing.any() else None
    for place, name in enumerate(spec.columns):
        columns[name] = pa.array(np.ascontiguousarray(outputs[:, place]), mask=mask)
    return copy_arrow(cursor, pa.table(columns), qualified_name(spec), tuple(columns))


def read_stored(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    symbols: Sequence[str],
    since_event_us: Sequence[int],
) -> StoredRows:
    """The newest rows of each (event, sequence, available) from an event time on.

    Parameters
    ----------
    connection
        The rows are read in its transaction; in one of their own if there is none.
    spec
        The view, registered.
    symbols, since_event_us
        Entities, and for each the event time to begin with.
    """
    query = sql.SQL(
        "SELECT DISTINCT ON (a.place, f.event_timestamp, f.sequence, f.available_timestamp)"
        " a.place, f.event_timestamp, f.sequence, f.available_timestamp, {columns}"
        " FROM unnest({symbols}::text[], {since}::timestamptz[]) WITH ORDINALITY AS a (symbol, since, place)"
        " JOIN {table} f ON f.symbol = a.symbol AND f.event_timestamp >= a.since"
        " ORDER BY a.place, f.event_timestamp, f.sequence, f.available_timestamp, f.created_timestamp DESC"
    ).format(
        columns=sql.SQL(", ").join(sql.SQL("f.{}").format(sql.Identifier(column)) for column in spec.columns),
        table=sql.Identifier(SCHEMA, spec.table),
        symbols=list(symbols),
        since=[from_us(us) for us in since_event_us],
    )
    with connection.transaction():
        table = read_query(connection, query)
    outputs = np.empty((table.num_rows, len(spec.columns)))
    for place, name in enumerate(spec.columns):
        outputs[:, place] = table.column(name).to_numpy()
    missing = table.column(spec.columns[0]).is_null().to_numpy()
    return StoredRows(
        entity=table.column("place").to_numpy() - 1,
        event_us=table.column("event_timestamp").cast(pa.int64()).to_numpy(),
        sequence=table.column("sequence").to_numpy(),
        available_us=table.column("available_timestamp").cast(pa.int64()).to_numpy(),
        missing=missing,
        outputs=outputs,
    )


def row_counts(
    connection: psycopg.Connection[Any], views: Sequence[RegisteredView], vintage_us: int | None = None
) -> dict[tuple[str, int], int]:
    """Number of rows in the table of each registered view version; with a vintage, of those recorded by then."""
    counts: dict[tuple[str, int], int] = {}
    for registered in views:
        table = sql.Identifier(*registered.table_name.split("."))
        query = sql.SQL("SELECT count(*) FROM {} WHERE created_timestamp <= %s").format(table)
        row = connection.execute(query, (_recorded_by(vintage_us),)).fetchone()
        assert row is not None
        counts[(registered.view, registered.version)] = int(row[0])
    return counts


def _recorded_by(vintage_us: int | None) -> datetime | str:
    return "infinity" if vintage_us is None else from_us(vintage_us)
