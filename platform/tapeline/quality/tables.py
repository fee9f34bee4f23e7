"""Scores in the database: written with the rows they judge, read for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tapeline.core.timestamps import DAY_US, from_us
from tapeline.quality.block import Block
from tapeline.quality.score import Assessment, Counts, Verdict

ENTITIES_MAX = 256
"""Entities of a block that are recorded by name."""
BLOCKS_MAX = 10_000
"""Blocks of a view that a report reads, the newest."""

_COUNTS = tuple(Counts.__dataclass_fields__)


@dataclass(frozen=True)
class ScoredBlock:
    """A row of ``tapeline.quality_scores``."""

    id: int
    view: str
    version: int
    origin: str
    verdict: Verdict
    entities: list[str]
    first_event: datetime
    last_event: datetime
    counts: Counts
    freshness: float
    score: float
    faults: list[dict[str, Any]]
    definition_sha256: str
    created_timestamp: datetime


def record(cursor: psycopg.Cursor[Any], assessment: Assessment, verdict: Verdict) -> None:
    """Add a block's score, and what it was judged by if that is new, in the caller's transaction."""
    block, definition, sha256 = assessment.block, assessment.definition, assessment.definition.sha256
    cursor.execute(
        "INSERT INTO tapeline.quality_definitions (definition_sha256, view, version, definition)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (sha256, block.view, block.version, Jsonb(definition.as_dict())),
    )
    row: dict[str, Any] = {
        "view": block.view,
        "version": block.version,
        "origin": block.origin,
        "verdict": verdict,
        "entities": list(block.names[:ENTITIES_MAX]),
        "first_event": from_us(int(block.event_us.min())),
        "last_event": from_us(int(block.event_us.max())),
        **vars(assessment.counts),
        "freshness": assessment.freshness,
        "score": assessment.score,
        "faults": Jsonb([fault.as_dict() for fault in assessment.faults]),
        "definition_sha256": sha256,
    }
    cursor.execute(
        sql.SQL("INSERT INTO tapeline.quality_scores ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
        ),
        row,
    )


def mark_stale(cursor: psycopg.Cursor[Any], block: Block) -> None:
    """Note in the caller's transaction that the block's days need new statistics."""
    days = [from_us(int(us) // DAY_US * DAY_US).date() for us in (block.event_us.min(), block.event_us.max())]
    cursor.execute(
        "INSERT INTO tapeline.stale_statistics (view, version, first_day, last_day) VALUES (%s, %s, %s, %s)",
        (block.view, block.version, *days),
    )


def scored_views(connection: psycopg.Connection[Any]) -> list[tuple[str, int]]:
    """View versions that have scores, by name and version."""
    query = "SELECT DISTINCT view, version FROM tapeline.quality_scores ORDER BY 1, 2"
    return [(view, version) for view, version in connection.execute(query).fetchall()]


def totals(connection: psycopg.Connection[Any], view: str, version: int) -> tuple[Counts, float, dict[str, int]]:
    """What a view version's written blocks add up to, their row-weighted freshness, and how many blocks had each verdict."""
    sums = sql.SQL(", ").join(
        sql.SQL("coalesce(sum({}) FILTER (WHERE verdict <> 'blocked'), 0)::bigint").format(sql.Identifier(name))
        for name in _COUNTS
    )
    row = connection.execute(
        sql.SQL(
            "SELECT {}, coalesce(sum(freshness * rows) FILTER (WHERE verdict <> 'blocked')"
            " / sum(rows) FILTER (WHERE verdict <> 'blocked'), 1)::float8"
            " FROM tapeline.quality_scores WHERE view = %s AND version = %s"
        ).format(sums),
        (view, version),
    ).fetchone()
    assert row is not None
    verdicts = connection.execute(
        "SELECT verdict, count(*) FROM tapeline.quality_scores WHERE view = %s AND version = %s GROUP BY 1",
        (view, version),
    ).fetchall()
    return Counts(*row[:-1]), float(row[-1]), {str(name): int(count) for name, count in verdicts}


def blocks(
    connection: psycopg.Connection[Any], view: str, version: int, limit: int = BLOCKS_MAX
) -> Sequence[ScoredBlock]:
    """The newest blocks of a view version, newest first."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(
            "SELECT * FROM tapeline.quality_scores WHERE view = %s AND version = %s"
            " ORDER BY created_timestamp DESC, id DESC LIMIT %s",
            (view, version, min(limit, BLOCKS_MAX)),
        ).fetchall()
    return [ScoredBlock(counts=Counts(**{name: row.pop(name) for name in _COUNTS}), **row) for row in rows]
