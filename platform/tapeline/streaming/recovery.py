"""States from PostgreSQL: where none are kept, and where a late row changes what was computed.

The back-fill computes them. It sees the raw rows that the stream wrote, so the states stand where PostgreSQL's position stands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from tapeline.compute import backfill
from tapeline.compute.reading import declared_lag_us, read_all_actions
from tapeline.compute.rows import EntityState
from tapeline.core.errors import ContinuityError, IntegrityError, InvalidDataError, OutOfOrderError
from tapeline.core.timestamps import from_us, to_us
from tapeline.features.builders import NEVER_US
from tapeline.features.versions import ActionVersions
from tapeline.features.view import FeatureViewSpec
from tapeline.kernels.stream_order import AVAILABLE, EVENT, SEEN
from tapeline.lineage import record_view
from tapeline.storage.feature_tables import SCHEMA, register_view
from tapeline.storage.packed import Layout, encode_many
from tapeline.storage.snapshots import newest_states, raw_table, read_progress
from tapeline.streaming.actions import OVERLAP
from tapeline.streaming.lane import Aside, Lane, Position
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.states import ViewStates

OF_A_SYMBOL = (InvalidDataError, ContinuityError, OutOfOrderError, IntegrityError)
"""Errors of a back-fill that lie in the rows of some symbol; all others end the worker."""
RETRY_S, RETRY_S_MAX = 60.0, 3_600.0
"""After the first a symbol whose features could not be computed is tried again, then after twice as long, and so on up to the second;
or after twenty times as long as trying takes."""
_WINDOW_US_MAX = 10**15
EARLY_ROWS_MAX = 10_000
"""Rows of a symbol that are taken up before they are available; later ones come online with the symbol's next row."""


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
        read_all_actions(
            connection, [""]
        )  # what reads them is compiled before the first event comes, not while it waits
        return [ViewStates(spec, declared_lag_us(connection, spec)) for spec in specs]


def compute_and_load(
    connection: psycopg.Connection[Any],
    plan: StreamPlan,
    lane: Lane,
    symbols: Sequence[str],
    position_of: dict[int, Position],
) -> list[str]:
    """Bring views up to the raw rows of some symbols, and take the states up.

    Parameters
    ----------
    connection
        Idle.
    plan
        The stream.
    lane
        Where the symbols have places.
    symbols
        Which.
    position_of
        PostgreSQL's position of each partition.

    Returns
    -------
    list of str
        The symbols that have raw rows. Those whose rows are refused are set aside; some of their views may have been brought up.

    Raises
    ------
    TapelineError
        What a back-fill raises that no symbol's rows are to blame for.
    """
    known = _recorded(connection, lane, symbols)
    before = {symbol: lane.aside[symbol].rest_s for symbol in symbols if symbol in lane.aside}
    began = time.monotonic()
    reasons = _bring_up(connection, lane, symbols, set(known), position_of)
    now = time.monotonic()
    asides = {}
    for symbol, reason in reasons.items():
        rest_s = min(RETRY_S_MAX, 2 * before[symbol]) if symbol in before else RETRY_S
        asides[symbol] = Aside(reason, rest_s, now + max(rest_s, 20 * (now - began)))
    _stand_aside(connection, plan, lane, asides, position_of)
    return known


def _bring_up(
    connection: psycopg.Connection[Any],
    lane: Lane,
    symbols: Sequence[str],
    known: set[str],
    position_of: dict[int, Position],
) -> dict[str, str]:
    """Compute and load symbols; returns those for which that cannot be done, with the reasons."""
    try:
        if recorded := [symbol for symbol in symbols if symbol in known]:
            for view in lane.views:
                backfill(connection, view.spec, symbols=recorded)
        load(connection, lane, symbols, position_of)
    except OF_A_SYMBOL as error:
        if len(symbols) == 1:
            return {symbols[0]: f"{error.what} ({error.where})" if error.where else error.what}
        half = len(symbols) // 2
        return {
            symbol: reason
            for part in (symbols[:half], symbols[half:])
            for symbol, reason in _bring_up(connection, lane, part, known, position_of).items()
        }
    return {}


def _stand_aside(
    connection: psycopg.Connection[Any],
    plan: StreamPlan,
    lane: Lane,
    asides: Mapping[str, Aside],
    position_of: dict[int, Position],
) -> None:
    """Set symbols aside that stand where PostgreSQL stands: their next rows are recorded behind those that it has."""
    if not asides:
        return
    with connection.transaction():
        recorded = _last_recorded(connection, lane, list(asides))
        available = _last_available(connection, plan, lane, list(asides))
    for symbol, aside in asides.items():
        place = lane.places[symbol]
        lane.reset(place, position_of[int(lane.partition[place])])
        if symbol in recorded:
            key = recorded[symbol]
            lane.set_frontier(place, key, key, available[symbol])
        lane.set_aside(symbol, aside)


def _last_available(
    connection: psycopg.Connection[Any], plan: StreamPlan, lane: Lane, symbols: Sequence[str]
) -> dict[str, int]:
    """When all raw rows of each symbol were available that lie within the late window."""
    spec = lane.views[0].spec
    query = sql.SQL(
        "SELECT a.symbol, max(r.available_timestamp) FROM unnest(%(symbols)s::text[]) AS a (symbol) CROSS JOIN LATERAL ("
        " SELECT max(event_timestamp) AS newest FROM {table} WHERE source = %(source)s AND symbol = a.symbol) l"
        " JOIN {table} r ON r.source = %(source)s AND r.symbol = a.symbol AND r.event_timestamp >= l.newest - %(window)s"
        " GROUP BY a.symbol"
    ).format(table=raw_table(spec))
    window = timedelta(microseconds=min(plan.late_window_us, _WINDOW_US_MAX))
    values = {"symbols": list(symbols), "source": spec.rows.source, "window": window}
    return {symbol: to_us(available) for symbol, available in connection.execute(query, values).fetchall()}


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


def acted_on(connection: psycopg.Connection[Any], lane: Lane, looked_us: Mapping[str, int]) -> list[str]:
    """Symbols of which a split or dividend that was recorded since the moment given changes what their states contain."""
    changed: list[str] = []
    if not looked_us:
        return changed
    for symbol, actions in read_all_actions(connection, list(looked_us)).items():
        seen, event_us, available_us = lane.table[lane.places[symbol], [SEEN, EVENT, AVAILABLE]].tolist()
        since_us = looked_us[symbol] - OVERLAP // timedelta(microseconds=1)
        contained = (actions.event_us <= event_us) & (actions.available_us <= available_us)
        if seen and (contained & (actions.created_us > since_us)).any():
            changed.append(symbol)
    return changed


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
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, layout: Layout, symbols: Sequence[str], now_us: int
) -> dict[str, tuple[int, bytes]]:
    """The newest feature row of each symbol that readers are to find at a moment: its event time, and as the online store holds it."""
    query = sql.SQL(
        "SELECT a.symbol, f.* FROM unnest(%(symbols)s::text[]) AS a (symbol) CROSS JOIN LATERAL ("
        " SELECT event_timestamp, sequence, available_timestamp, created_timestamp, {} FROM {} WHERE symbol = a.symbol"
        " AND (available_timestamp <= %(now)s OR available_timestamp = event_timestamp)"
        " ORDER BY event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC LIMIT 1) f"
    ).format(sql.SQL(", ").join(map(sql.Identifier, spec.columns)), sql.Identifier(SCHEMA, spec.table))
    with connection.transaction():
        rows = connection.execute(query, {"symbols": list(symbols), "now": from_us(now_us)}).fetchall()
    return {symbol: (times[0], value) for symbol, times, value in _packed(rows, layout)}


def early_packed(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    layout: Layout,
    since_us: Mapping[str, int | None],
    now_us: int,
) -> list[tuple[str, int, bytes]]:
    """The newest of each key and available time of the rows that are not available at a moment: symbol, available time, packed value.

    Parameters
    ----------
    connection
        Idle.
    spec, layout
        The view, and how the online store holds it.
    since_us
        By symbol the event time of the newest row that is available; none: there is none.
    now_us
        The moment.
    """
    if not since_us:
        return []
    query = sql.SQL(
        "SELECT a.symbol, f.* FROM unnest(%(symbols)s::text[], %(since)s::timestamptz[]) AS a (symbol, since)"
        " CROSS JOIN LATERAL (SELECT DISTINCT ON (event_timestamp, sequence, available_timestamp)"
        "  event_timestamp, sequence, available_timestamp, created_timestamp, {} FROM {} WHERE symbol = a.symbol"
        "  AND event_timestamp >= %(least)s AND (a.since IS NULL OR event_timestamp >= a.since)"
        "  AND available_timestamp > greatest(%(now)s, event_timestamp)"
        "  ORDER BY event_timestamp, sequence, available_timestamp, created_timestamp DESC LIMIT %(most)s) f"
    ).format(sql.SQL(", ").join(map(sql.Identifier, spec.columns)), sql.Identifier(SCHEMA, spec.table))
    since = [None if us is None else from_us(us) for us in since_us.values()]
    known = [us for us in since if us is not None]
    least = min(known) if len(known) == len(since) else "-infinity"
    values = {"symbols": list(since_us), "since": since, "least": least, "now": from_us(now_us), "most": EARLY_ROWS_MAX}
    with connection.transaction():
        rows = connection.execute(query, values).fetchall()
    return [(symbol, times[2], value) for symbol, times, value in _packed(rows, layout)]


def _packed(rows: Sequence[tuple[Any, ...]], layout: Layout) -> Iterator[tuple[str, list[int], bytes]]:
    """Symbol, times (event, sequence, available, created) and packed value of stored rows."""
    if not rows:
        return iter(())
    times = np.array([[to_us(row[1]), row[2], to_us(row[3]), to_us(row[4])] for row in rows], dtype=np.int64)
    nulls = np.array([[value is None for value in row[5:]] for row in rows], dtype=np.bool_)
    slots = np.array([[0.0 if value is None else value for value in row[5:]] for row in rows], dtype=np.float64)
    values = encode_many(layout, times, slots, nulls=nulls if nulls.any() else None)
    return zip([row[0] for row in rows], times.tolist(), values, strict=True)
