"""States from PostgreSQL: where none are kept, and where a late row changes what was computed.

The back-fill computes them. It sees the raw rows that the stream wrote, so the states stand where PostgreSQL's position stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from tapeline.compute import backfill
from tapeline.compute.reading import declared_lag_us, read_all_actions
from tapeline.compute.rows import EntityState
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.builders import NEVER_US
from tapeline.features.versions import ActionVersions
from tapeline.features.view import FeatureViewSpec
from tapeline.lineage import record_view
from tapeline.storage.feature_tables import SCHEMA, register_view
from tapeline.storage.packed import Layout, encode_many
from tapeline.storage.snapshots import newest_states, raw_table, read_progress
from tapeline.streaming.lane import Lane, Position
from tapeline.streaming.states import ViewStates


def open_views(connection: psycopg.Connection[Any], specs: Sequence[FeatureViewSpec]) -> list[ViewStates]:
    """Register views and make their tables if need be.

    Raises
    ------
    LineageError
        If a version is registered with another definition.
    """
    for spec in specs:
        with connection.transaction():
            if register_view(connection, spec):
                record_view(connection, spec)
    with connection.transaction():
        return [ViewStates(spec, declared_lag_us(connection, spec)) for spec in specs]


def compute_and_load(
    connection: psycopg.Connection[Any], lane: Lane, symbols: Sequence[str], position_of: dict[int, Position]
) -> list[str]:
    """Bring views up to the raw rows of some symbols, and take the states up.

    Parameters
    ----------
    connection
        Idle.
    lane
        Where the symbols have places.
    symbols
        Which.
    position_of
        PostgreSQL's position of each partition.

    Returns
    -------
    list of str
        The symbols that have raw rows.

    Raises
    ------
    TapelineError
        What a back-fill raises.
    """
    known = _recorded(connection, lane, symbols)
    if known:
        for view in lane.views:
            backfill(connection, view.spec, symbols=known)
    load(connection, lane, symbols, position_of)
    return known


def load(
    connection: psycopg.Connection[Any], lane: Lane, symbols: Sequence[str], position_of: dict[int, Position]
) -> None:
    """Take up the newest states of some symbols; a symbol without any is fresh."""
    with connection.transaction():
        saved = [newest_states(connection, view.spec, symbols) for view in lane.views]
        progress = [read_progress(connection, view.spec, symbols) for view in lane.views]
        recorded = _last_recorded(connection, lane, symbols)
    for symbol in symbols:
        place = lane.places[symbol]
        lane.reset(place, position_of[int(lane.partition[place])])
        key, available_us = recorded.get(symbol), -NEVER_US
        used = (0, 0)
        for view, found, reached in zip(lane.views, saved, progress, strict=True):
            state = found.get(symbol)
            view.put(
                place,
                None
                if state is None
                else EntityState(view.runner.plan.restore(state.plan_state), state.bar_state, state.outputs),
            )
            if state is not None:
                used = max(used, (state.event_us, state.sequence))
                available_us = max(
                    available_us, reached[symbol].available_us if symbol in reached else state.available_us
                )
        if key is not None:
            # A row that no feature is computed with counts for the order of keys, not for when others were available.
            lane.set_frontier(place, max(key, used), used, available_us)
    look_around(connection, lane, symbols)


def _last_recorded(
    connection: psycopg.Connection[Any], lane: Lane, symbols: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Key of the last raw row of each symbol that has any."""
    spec = lane.views[0].spec
    query = sql.SQL(
        "SELECT a.symbol, r.event_timestamp, r.sequence FROM unnest(%s::text[]) AS a (symbol) CROSS JOIN LATERAL ("
        " SELECT event_timestamp, sequence FROM {} WHERE source = %s AND symbol = a.symbol"
        " ORDER BY event_timestamp DESC, sequence DESC LIMIT 1) r"
    ).format(raw_table(spec))
    rows = connection.execute(query, (list(symbols), spec.rows.source)).fetchall()
    return {symbol: (to_us(event), sequence) for symbol, event, sequence in rows}


def look_around(connection: psycopg.Connection[Any], lane: Lane, symbols: Sequence[str]) -> None:
    """Look up what symbols that stand where they stand now come up to: splits and dividends, rows that are there."""
    if not symbols:
        return
    for view in lane.views:
        _look_up_open_rows(connection, lane, view, symbols)
    dividends = any(view.spec.dividends for view in lane.views)
    for symbol, actions in read_all_actions(connection, symbols).items():
        if len(actions):
            lane.watch_actions(lane.places[symbol], actions if dividends else _splits(actions))


def _look_up_open_rows(
    connection: psycopg.Connection[Any], lane: Lane, view: ViewStates, symbols: Sequence[str]
) -> None:
    ends = {symbol: view.open_end_us(lane.places[symbol]) for symbol in symbols}
    open_ends = {symbol: from_us(end_us) for symbol, end_us in ends.items() if end_us is not None}
    if not open_ends:
        return
    query = sql.SQL(
        "SELECT a.symbol, f.sequence, f.available_timestamp FROM unnest(%s::text[], %s::timestamptz[]) AS a (symbol, ends)"
        " JOIN {} f ON f.symbol = a.symbol AND f.event_timestamp = a.ends"
    ).format(sql.Identifier(SCHEMA, view.spec.table))
    with connection.transaction():
        rows = connection.execute(query, (list(open_ends), list(open_ends.values()))).fetchall()
    for symbol, sequence, available in rows:
        view.open_rows.setdefault(lane.places[symbol], set()).add((sequence, to_us(available)))


def _splits(actions: ActionVersions) -> ActionVersions:
    split = actions.sequence % 2 == 0
    return ActionVersions(
        actions.event_us[split],
        actions.sequence[split],
        actions.available_us[split],
        actions.created_us[split],
        actions.deleted[split],
        actions.ratio[split],
        actions.dividend[split],
    )


def _recorded(connection: psycopg.Connection[Any], lane: Lane, symbols: Sequence[str]) -> list[str]:
    """Those of the symbols that have raw rows."""
    spec = lane.views[0].spec
    query = sql.SQL(
        "SELECT a.symbol FROM unnest(%s::text[]) AS a (symbol)"
        " WHERE EXISTS (SELECT FROM {} r WHERE r.source = %s AND r.symbol = a.symbol)"
    ).format(raw_table(spec))
    with connection.transaction():
        return [symbol for (symbol,) in connection.execute(query, (list(symbols), spec.rows.source)).fetchall()]


def newest_packed(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, layout: Layout, symbols: Sequence[str]
) -> list[tuple[str, bytes]]:
    """The newest feature row of each symbol, as the online store holds it."""
    query = sql.SQL(
        "SELECT a.symbol, f.* FROM unnest(%s::text[]) AS a (symbol) CROSS JOIN LATERAL ("
        " SELECT event_timestamp, sequence, available_timestamp, created_timestamp, {} FROM {} WHERE symbol = a.symbol"
        " ORDER BY event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC LIMIT 1) f"
    ).format(sql.SQL(", ").join(map(sql.Identifier, spec.columns)), sql.Identifier(SCHEMA, spec.table))
    with connection.transaction():
        rows = connection.execute(query, (list(symbols),)).fetchall()
    if not rows:
        return []
    times = np.array([[to_us(row[1]), row[2], to_us(row[3]), to_us(row[4])] for row in rows], dtype=np.int64)
    nulls = np.array([[value is None for value in row[5:]] for row in rows], dtype=np.bool_)
    slots = np.array([[0.0 if value is None else value for value in row[5:]] for row in rows], dtype=np.float64)
    values = encode_many(layout, times, slots, nulls=nulls if nulls.any() else None)
    return [(row[0], value) for row, value in zip(rows, values, strict=True)]
