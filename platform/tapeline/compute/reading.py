"""Reads what a back-fill has still to compute: which entities changed, since when, and their raw rows with all versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from tapeline.compute.history import Versions
from tapeline.core.errors import EmptyDataError, UnknownNameError
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.versions import ActionVersions, Integers
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.copy_reader import read_query
from tapeline.storage.snapshots import Progress, action_kinds, raw_table

BEGINNING_US = to_us("0001-01-01T00:00:00+00:00")
END_US = to_us("9999-12-31T00:00:00+00:00")
_BAR_COLUMNS = ("start_timestamp", "open", "high", "low", "close", "volume")
_TRADE_COLUMNS = ("price", "size")


@dataclass(frozen=True)
class Change:
    """What of an entity is to be computed: everything that became known from ``since_us`` to before ``until_us``.

    Attributes
    ----------
    symbol
        The entity.
    since_us, until_us
        Range of available times.
    before_event_us
        A state to continue must lie before this event time, or it would already contain what changed.
    rows
        Raw rows in the range.
    recorded_us
        Rows recorded later do not belong to it: batches of a source take turns, so no batch is taken in by half that a
        writer adds between two reads.
    """

    symbol: str
    since_us: int
    until_us: int
    before_event_us: int
    rows: int
    recorded_us: int = END_US


def source_symbols(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> list[str]:
    """Symbols of the view's source that have raw rows, in order."""
    query = sql.SQL(
        "WITH RECURSIVE found AS ("
        " (SELECT symbol FROM {raw} WHERE source = %(source)s ORDER BY symbol LIMIT 1) UNION ALL"
        " SELECT (SELECT symbol FROM {raw} WHERE source = %(source)s AND symbol > found.symbol ORDER BY symbol LIMIT 1)"
        " FROM found WHERE found.symbol IS NOT NULL)"
        " SELECT symbol FROM found WHERE symbol IS NOT NULL ORDER BY symbol"
    ).format(raw=raw_table(spec))
    return [symbol for (symbol,) in connection.execute(query, {"source": spec.rows.source}).fetchall()]


def choose_symbols(symbols: Sequence[str] | None, known: list[str], spec: FeatureViewSpec) -> list[str]:
    """Those of the source's symbols that are asked for, in order; all if none is named.

    Raises
    ------
    EmptyDataError
        If the source has none.
    UnknownNameError
        If it does not have one that is asked for.
    """
    source = spec.rows.source
    if not known:
        raise EmptyDataError(
            f"source {source!r} has no rows", where=f"view {spec.name}", remedy=f"Run: tapeline ingest {source}"
        )
    if symbols is None:
        return known
    for symbol in symbols:
        if symbol not in known:
            raise UnknownNameError("symbol", symbol, known, where=f"source {source}")
    return sorted(set(symbols))


def declared_lag_us(connection: psycopg.Connection[Any], spec: FeatureViewSpec) -> int:
    """How long after its event a row of the view's source is available; 0 if the source does not say."""
    row = connection.execute(
        "SELECT declared_lag_us FROM tapeline.sources WHERE source = %s", (spec.rows.source,)
    ).fetchone()
    return int(row[0]) if row else 0


def read_changes(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    symbols: Sequence[str],
    progress: Mapping[str, Progress],
    rows_max: int,
) -> list[Change]:
    """Which entities have something new, from when on, and how much.

    Parameters
    ----------
    connection
        Inside a transaction that sees one snapshot.
    spec
        The view.
    symbols
        Entities to look at.
    progress
        How far each has come; one that is not in it has not begun.
    rows_max
        Of an entity with more new raw rows, only about that many, the earliest to become known, are taken.
    """
    none = Progress(BEGINNING_US, BEGINNING_US)
    done = [progress.get(symbol, none) for symbol in symbols]
    query = sql.SQL("""
        SELECT a.symbol, new.since, counted.rows, greatest(counted.recorded, a.recorded)
        FROM unnest(%(symbols)s::text[], %(recorded)s::timestamptz[], %(available)s::timestamptz[])
            AS a (symbol, recorded, available)
        CROSS JOIN LATERAL (
            SELECT least(
                (SELECT min(r.available_timestamp) FROM {raw} r
                 WHERE r.source = %(source)s AND r.symbol = a.symbol
                    AND (r.created_timestamp > a.recorded OR r.available_timestamp > a.available)),
                (SELECT min(c.available_timestamp) FROM tapeline.corporate_actions c
                 WHERE c.symbol = a.symbol AND c.kind = ANY(%(kinds)s)
                    AND (c.created_timestamp > a.recorded OR c.available_timestamp > a.available))) AS since) new
        CROSS JOIN LATERAL (
            SELECT count(*) AS rows, max(r.created_timestamp) AS recorded FROM {raw} r
            WHERE r.source = %(source)s AND r.symbol = a.symbol AND r.available_timestamp >= new.since) counted
        WHERE new.since IS NOT NULL
    """).format(raw=raw_table(spec))
    rows = connection.execute(
        query,
        {
            "symbols": list(symbols),
            "recorded": [from_us(p.recorded_us) for p in done],
            "available": [from_us(p.available_us) for p in done],
            "source": spec.rows.source,
            "kinds": action_kinds(spec),
        },
    ).fetchall()
    changes = [
        Change(symbol, to_us(since), END_US, END_US, count, to_us(recorded)) for symbol, since, count, recorded in rows
    ]
    changes = [_window(connection, spec, c, rows_max) if c.rows > rows_max else c for c in changes]
    return _with_first_events(connection, spec, changes)


def _window(connection: psycopg.Connection[Any], spec: FeatureViewSpec, change: Change, rows_max: int) -> Change:
    """The first part of a change that is too large to be held in memory."""
    where = sql.SQL("FROM {} WHERE source = %s AND symbol = %s AND available_timestamp").format(raw_table(spec))
    names = (spec.rows.source, change.symbol)
    row = connection.execute(
        sql.SQL("SELECT available_timestamp {} >= %s ORDER BY available_timestamp OFFSET %s LIMIT 1").format(where),
        (*names, from_us(change.since_us), rows_max),
    ).fetchone()
    if row is None:
        return change
    until_us = to_us(row[0])
    if until_us <= change.since_us:  # what became known at one moment is computed together
        row = connection.execute(
            sql.SQL("SELECT min(available_timestamp) {} > %s").format(where), (*names, from_us(change.since_us))
        ).fetchone()
        until_us = END_US if row is None or row[0] is None else to_us(row[0])
    return replace(change, until_us=until_us)


def _with_first_events(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, changes: list[Change]
) -> list[Change]:
    query = sql.SQL("""
        SELECT
            (SELECT min(r.event_timestamp) FROM {raw} r
             WHERE r.source = %(source)s AND r.symbol = a.symbol
                AND r.available_timestamp >= a.since AND r.available_timestamp < a.until),
            (SELECT min(c.event_timestamp) FROM tapeline.corporate_actions c
             WHERE c.symbol = a.symbol AND c.kind = ANY(%(kinds)s)
                AND c.available_timestamp >= a.since AND c.available_timestamp < a.until)
        FROM unnest(%(symbols)s::text[], %(since)s::timestamptz[], %(until)s::timestamptz[])
            WITH ORDINALITY AS a (symbol, since, until, place)
        ORDER BY a.place
    """).format(raw=raw_table(spec))
    parameters = {"source": spec.rows.source, "kinds": action_kinds(spec), **_ranges(changes)}
    rows = connection.execute(query, parameters).fetchall()
    found = []
    for change, (first_row, first_action) in zip(changes, rows, strict=True):
        events = [] if first_row is None else [to_us(first_row)]
        if first_action is not None:  # the trade of that moment is on the new basis, the bar that ends then is not
            events.append(to_us(first_action) + (spec.rows.raw == "bars"))
        found.append(replace(change, before_event_us=min(events)))
    return found


def read_versions(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    changes: Sequence[Change],
    after: Sequence[tuple[int, int]],
) -> list[Versions]:
    """All versions, available before the end of each change, of the raw rows whose keys come after a given one.

    Parameters
    ----------
    connection
        The rows are read in its transaction; in one of their own if there is none.
    spec
        The view.
    changes
        One for each entity.
    after
        For each, the (event, sequence) that its rows come after.
    """
    is_trades = spec.rows.raw == "trades"
    names = _TRADE_COLUMNS if is_trades else _BAR_COLUMNS
    query = sql.SQL(
        "SELECT a.place, r.event_timestamp, r.sequence, r.available_timestamp, r.created_timestamp, r.deleted, {columns}"
        " FROM unnest({symbols}::text[], {until}::timestamptz[], {recorded}::timestamptz[],"
        " {event}::timestamptz[], {sequence}::bigint[])"
        " WITH ORDINALITY AS a (symbol, until, recorded, event, sequence, place)"
        " JOIN {raw} r ON r.symbol = a.symbol AND r.source = {source} AND r.available_timestamp < a.until"
        " AND r.created_timestamp <= a.recorded"
        " AND (r.event_timestamp, r.sequence) > (a.event, a.sequence)"
    ).format(
        raw=raw_table(spec),
        columns=sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(name)) for name in names),
        source=spec.rows.source,
        event=[from_us(event_us) for event_us, _ in after],
        sequence=[sequence for _, sequence in after],
        recorded=[from_us(change.recorded_us) for change in changes],
        **_ranges(changes),
    )
    with connection.transaction():
        table = read_query(connection, query)
    values = np.empty((table.num_rows, len(names)))
    for column, name in enumerate(names):
        values[:, column] = _integers(table, name) if name == "start_timestamp" else table.column(name).to_numpy()
    live = ~table.column("deleted").to_numpy()
    if is_trades:  # a trade without a usable price or size is in no bar
        price, size = values[:, 0], values[:, 1]
        live &= (price > 0) & np.isfinite(price) & (size >= 0) & np.isfinite(size)
    event, available, created = (
        _integers(table, name) for name in ("event_timestamp", "available_timestamp", "created_timestamp")
    )
    sequence = _integers(table, "sequence")
    return [
        Versions(event[part], sequence[part], available[part], created[part], live[part], values[part])
        for part in _parts(_integers(table, "place"), len(changes))
    ]


def read_actions(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, changes: Sequence[Change]
) -> list[ActionVersions]:
    """All versions of the entities' splits, and dividends if the view is adjusted for them, before the end of each change."""
    return _read_actions(connection, action_kinds(spec), changes)


def read_all_actions(connection: psycopg.Connection[Any], symbols: Sequence[str]) -> dict[str, ActionVersions]:
    """All versions of the splits and dividends of each symbol."""
    changes = [Change(symbol, BEGINNING_US, END_US, BEGINNING_US, 0) for symbol in symbols]
    return dict(zip(symbols, _read_actions(connection, ["split", "dividend"], changes), strict=True))


def _read_actions(
    connection: psycopg.Connection[Any], kinds: list[str], changes: Sequence[Change]
) -> list[ActionVersions]:
    query = sql.SQL(
        "SELECT a.place, c.event_timestamp, 2 * c.sequence + (c.kind = 'dividend')::int AS sequence,"
        " c.available_timestamp, c.created_timestamp, c.deleted, coalesce(c.ratio, 1) AS ratio,"
        " coalesce(c.amount, 0) AS amount"
        " FROM unnest({symbols}::text[], {until}::timestamptz[]) WITH ORDINALITY AS a (symbol, until, place)"
        " JOIN tapeline.corporate_actions c ON c.symbol = a.symbol AND c.kind = ANY({kinds})"
        " AND c.available_timestamp < a.until"
    ).format(kinds=kinds, **_ranges(changes))
    with connection.transaction():
        table = read_query(connection, query)
    event, sequence, available, created = (
        _integers(table, name) for name in ("event_timestamp", "sequence", "available_timestamp", "created_timestamp")
    )
    deleted, ratio, amount = (table.column(name).to_numpy() for name in ("deleted", "ratio", "amount"))
    return [
        ActionVersions(
            event[part], sequence[part], available[part], created[part], deleted[part], ratio[part], amount[part]
        )
        for part in _parts(_integers(table, "place"), len(changes))
    ]


def _ranges(changes: Sequence[Change]) -> dict[str, object]:
    return {
        "symbols": [change.symbol for change in changes],
        "since": [from_us(change.since_us) for change in changes],
        "until": [from_us(change.until_us) for change in changes],
    }


def _parts(place: Integers, count: int) -> list[Integers]:
    """Rows of each entity, which SQL numbers from 1."""
    order = np.argsort(place, kind="stable")
    return np.split(order, np.searchsorted(place[order], np.arange(2, count + 1)))


def _integers(table: pa.Table, name: str) -> Integers:
    return np.ascontiguousarray(table.column(name).cast(pa.int64()).to_numpy())
