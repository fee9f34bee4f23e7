"""State snapshots: written after a back-fill, found again when it goes on, and the newest in Redis for streams and requests.

A snapshot is the state after a key as known at a moment. It may be continued as of a later moment if nothing at or before
its key became known in between, and if nothing was recorded since that had been available already. Both are asked of the
raw rows themselves, so no snapshot ever has to be marked as void, and any may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg import sql

from tapeline.core.timestamps import from_us, to_us
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.scripts import Call, Script
from tapeline.storage.state_codec import POSITION_OFFSET, SavedState, decode_state, encode_state, state_key

SNAPSHOTS_MAX = 96
"""An entity with more has the older ones thinned."""
SNAPSHOTS_KEPT = 32
"""The newest, which thinning leaves alone."""


@dataclass(frozen=True)
class Progress:
    """How far a back-fill of one entity has come: rows recorded and available by these moments have been computed."""

    recorded_us: int
    available_us: int


def raw_table(spec: FeatureViewSpec) -> sql.Identifier:
    """The table that a view's raw rows are in."""
    return sql.Identifier("tapeline", spec.rows.raw)


def action_kinds(spec: FeatureViewSpec) -> list[str]:
    """The kinds of corporate actions that a view is adjusted for."""
    return ["split", "dividend"] if spec.dividends else ["split"]


def read_progress(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, symbols: Sequence[str]
) -> dict[str, Progress]:
    """Progress of the entities that have any."""
    rows = connection.execute(
        "SELECT entity, recorded_timestamp, available_timestamp FROM tapeline.backfill_progress"
        " WHERE view = %s AND version = %s AND entity = ANY(%s)",
        (spec.name, spec.version, list(symbols)),
    ).fetchall()
    return {entity: Progress(to_us(recorded), to_us(available)) for entity, recorded, available in rows}


def write_progress(cursor: psycopg.Cursor[Any], spec: FeatureViewSpec, progress: Mapping[str, Progress]) -> None:
    """Set the progress of entities, in the caller's transaction."""
    cursor.executemany(
        "INSERT INTO tapeline.backfill_progress (view, version, entity, recorded_timestamp, available_timestamp)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (view, version, entity) DO UPDATE SET"
        " recorded_timestamp = EXCLUDED.recorded_timestamp, available_timestamp = EXCLUDED.available_timestamp",
        [
            (spec.name, spec.version, entity, from_us(p.recorded_us), from_us(p.available_us))
            for entity, p in progress.items()
        ],
    )


def find_bases(
    connection: psycopg.Connection[Any],
    spec: FeatureViewSpec,
    symbols: Sequence[str],
    since_us: Sequence[int],
    before_event_us: Sequence[int],
) -> dict[str, SavedState]:
    """For each entity the furthest snapshot that may be continued as of a moment.

    Parameters
    ----------
    connection
        Where the snapshots and the raw rows are.
    spec
        The view.
    symbols
        Entities.
    since_us
        For each: the state must be right for what was known just before this moment.
    before_event_us
        For each: the snapshot's key must lie before this event time.

    Raises
    ------
    IntegrityError
        If a snapshot's bytes are damaged.
    """
    # The trade at the moment of a split is on the new basis; the bar that ends there is not.
    reach_us = 1 if spec.rows.raw == "trades" else 0
    query = sql.SQL("""
        SELECT a.symbol, found.state
        FROM unnest(%(symbols)s::text[], %(since)s::timestamptz[], %(before)s::timestamptz[]) AS a (symbol, since, before)
        CROSS JOIN LATERAL (
            SELECT s.state FROM tapeline.state_snapshots s
            WHERE s.view = %(view)s AND s.version = %(version)s AND s.entity = a.symbol AND s.plan_hash = %(plan)s
                AND s.event_timestamp < a.before AND s.available_timestamp < a.since
                AND NOT EXISTS (
                    SELECT FROM {raw} r
                    WHERE r.source = %(source)s AND r.symbol = s.entity
                        AND (r.event_timestamp, r.sequence) <= (s.event_timestamp, s.sequence)
                        AND r.available_timestamp < a.since
                        AND (r.available_timestamp > s.available_timestamp
                             OR r.created_timestamp > s.recorded_timestamp))
                AND NOT EXISTS (
                    SELECT FROM tapeline.corporate_actions c
                    WHERE c.symbol = s.entity AND c.kind = ANY(%(kinds)s)
                        AND c.event_timestamp < s.event_timestamp + %(reach)s * interval '1 microsecond'
                        AND c.available_timestamp < a.since
                        AND (c.available_timestamp > s.available_timestamp
                             OR c.created_timestamp > s.recorded_timestamp))
            ORDER BY s.event_timestamp DESC, s.sequence DESC, s.available_timestamp DESC, s.created_timestamp DESC
            LIMIT 1
        ) found
    """).format(raw=raw_table(spec))
    rows = connection.execute(
        query,
        {
            "symbols": list(symbols),
            "since": [from_us(us) for us in since_us],
            "before": [from_us(us) for us in before_event_us],
            "view": spec.name,
            "version": spec.version,
            "plan": spec.plan.hash,
            "source": spec.rows.source,
            "reach": reach_us,
            "kinds": action_kinds(spec),
        },
    ).fetchall()
    return {
        symbol: decode_state(bytes(state), plan_hash=spec.plan.hash, where=f"snapshot of {symbol} in {spec.name}")
        for symbol, state in rows
    }


def newest_states(
    connection: psycopg.Connection[Any], spec: FeatureViewSpec, symbols: Sequence[str]
) -> dict[str, SavedState]:
    """For each entity that has any, the state at the end of its newest back-fill.

    Raises
    ------
    IntegrityError
        If a snapshot's bytes are damaged.
    """
    rows = connection.execute(
        "SELECT a.symbol, s.state FROM unnest(%s::text[]) AS a (symbol) CROSS JOIN LATERAL ("
        " SELECT state FROM tapeline.state_snapshots"
        " WHERE view = %s AND version = %s AND entity = a.symbol AND plan_hash = %s"
        " ORDER BY created_timestamp DESC, available_timestamp DESC, event_timestamp DESC, sequence DESC LIMIT 1) s",
        (list(symbols), spec.name, spec.version, spec.plan.hash),
    ).fetchall()
    return {
        symbol: decode_state(bytes(state), plan_hash=spec.plan.hash, where=f"snapshot of {symbol} in {spec.name}")
        for symbol, state in rows
    }


def write_snapshots(
    cursor: psycopg.Cursor[Any], spec: FeatureViewSpec, snapshots: Mapping[str, Sequence[SavedState]]
) -> int:
    """Add snapshots and thin out old ones, in the caller's transaction; returns how many were added."""
    rows = [
        (
            spec.name,
            spec.version,
            entity,
            from_us(saved.event_us),
            saved.sequence,
            from_us(saved.available_us),
            from_us(saved.recorded_us),
            saved.plan_hash,
            saved.rows_seen,
            encode_state(saved),
        )
        for entity, states in snapshots.items()
        for saved in states
    ]
    cursor.executemany(
        "INSERT INTO tapeline.state_snapshots (view, version, entity, event_timestamp, sequence, available_timestamp,"
        " recorded_timestamp, plan_hash, rows_seen, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %b)",
        rows,
    )
    cursor.execute(
        """
        DELETE FROM tapeline.state_snapshots s USING (
            SELECT entity, event_timestamp, sequence, created_timestamp,
                row_number() OVER (PARTITION BY entity ORDER BY event_timestamp DESC, sequence DESC,
                                   available_timestamp DESC, created_timestamp DESC) AS place,
                count(*) OVER (PARTITION BY entity) AS total
            FROM tapeline.state_snapshots WHERE view = %(view)s AND version = %(version)s AND entity = ANY(%(entities)s)
        ) old
        WHERE s.view = %(view)s AND s.version = %(version)s AND s.entity = old.entity
            AND s.event_timestamp = old.event_timestamp AND s.sequence = old.sequence
            AND s.created_timestamp = old.created_timestamp
            AND old.total > %(most)s AND old.place > %(kept)s AND old.place %% 2 = 0
        """,
        {
            "view": spec.name,
            "version": spec.version,
            "entities": list(snapshots),
            "most": SNAPSHOTS_MAX,
            "kept": SNAPSHOTS_KEPT,
        },
    )
    return len(rows)


# Newer means known later; of what is known equally late, recorded later; then further on. A retraction takes a state back to
# an earlier event. The numbers are exact in Lua's doubles: microseconds stay below 2**53 until the year 2255.
_PUBLISH = Script("""
local new, at = ARGV[1], tonumber(ARGV[2])
local old = redis.call('GETRANGE', KEYS[1], 0, at + 39)
if #old == at + 40 and string.sub(old, 1, at) == string.sub(new, 1, at) then
    local e0, s0, a0, r0 = struct.unpack('<i8i8i8i8', old, at + 1)
    local e1, s1, a1, r1 = struct.unpack('<i8i8i8i8', new, at + 1)
    for _, pair in ipairs({{a1, a0}, {r1, r0}, {e1, e0}, {s1, s0}}) do
        if pair[1] < pair[2] then return 0 end
        if pair[1] > pair[2] then break end
    end
end
redis.call('SET', KEYS[1], new)
return 1
""")


def publish_states(client: redis.Redis, project: str, spec: FeatureViewSpec, newest: Mapping[str, SavedState]) -> int:
    """Write the newest states to Redis, where streams and requests continue from; returns how many were written.

    A state is written unless the one there, of the same plan, is newer: by available time, then recorded time,
    event and sequence. One of another plan is replaced.

    Raises
    ------
    redis.RedisError
        If the server is away.
    """
    calls = [
        Call([state_key(project, spec.name, spec.version, entity)], [encode_state(saved), b"%d" % POSITION_OFFSET])
        for entity, saved in newest.items()
    ]
    written = 0
    for reply in _PUBLISH.run(client, calls):
        if isinstance(reply, Exception):
            raise reply
        written += int(reply)
    return written
