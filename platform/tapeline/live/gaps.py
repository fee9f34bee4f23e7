"""What a live source missed: the record of it, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from tapeline.core.timestamps import from_us, to_us
from tapeline.streaming.codec import EventKind

UNNUMBERED = -1
"""In place of a number that the venue does not give."""
LISTED_MAX = 10_000


class GapState(Enum):
    """What became of a gap."""

    found = "found"
    filled = "filled"
    unfillable = "unfillable"


class GapReason(Enum):
    """How a gap was noticed."""

    sequence = "sequence"
    disconnect = "disconnect"
    downtime = "downtime"
    checksum = "checksum"
    renumbered = "renumbered"


class Remedy(Enum):
    """What filled a gap."""

    none = ""
    stream = "stream"
    history = "history"
    snapshot = "snapshot"


@dataclass(frozen=True)
class Gap:
    """What is missing of one symbol.

    Attributes
    ----------
    kind, symbol
        Of the rows; the symbol is the one here.
    found_us
        When it was noticed, µs.
    first, last
        Numbers of the venue, both missing; ``UNNUMBERED`` where it has none.
    since_us, until_us
        Times of the rows around it; 0 if unknown.
    reason, state, remedy
        How it was noticed, what became of it, by what.
    missing
        How many numbers are still missing.
    changed_us
        When the state was reached.
    detail
        For people.
    """

    kind: EventKind
    symbol: str
    found_us: int
    first: int
    last: int
    since_us: int
    until_us: int
    reason: GapReason
    state: GapState
    remedy: Remedy
    missing: int
    changed_us: int
    detail: str = ""

    def as_dict(self) -> dict[str, object]:
        """For people and scripts."""
        return {
            "symbol": self.symbol,
            "kind": self.kind.name,
            "found": from_us(self.found_us),
            "first": self.first if self.first != UNNUMBERED else None,
            "last": self.last if self.last != UNNUMBERED else None,
            "reason": self.reason.value,
            "state": self.state.value,
            "remedy": self.remedy.value,
            "missing": self.missing,
            "detail": self.detail,
        }


_COLUMNS = (
    "kind", "symbol", "found_timestamp", "first_number", "last_number", "since_timestamp", "until_timestamp", "reason",
    "state", "remedy", "missing", "changed_timestamp", "detail",
)  # fmt: skip


def write_gaps(connection: psycopg.Connection[Any], source: str, gaps: Sequence[Gap]) -> None:
    """Record gaps; one that is recorded already gets its new state.

    Parameters
    ----------
    connection
        Idle.
    source
        Source of the rows.
    gaps
        In the order in which their states were reached.
    """
    if not gaps:
        return
    query = sql.SQL(
        "INSERT INTO tapeline.live_gaps (source, {columns}) VALUES ({values})"
        " ON CONFLICT (source, kind, symbol, found_timestamp, first_number) DO UPDATE SET state = excluded.state,"
        " remedy = excluded.remedy, missing = excluded.missing, detail = excluded.detail,"
        " until_timestamp = excluded.until_timestamp, changed_timestamp = excluded.changed_timestamp"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)),
        values=sql.SQL(", ").join([sql.Placeholder()] * (1 + len(_COLUMNS))),
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(query, [(source, *_values(gap)) for gap in gaps])


def _values(gap: Gap) -> tuple[Any, ...]:
    since, until = (from_us(moment) if moment else None for moment in (gap.since_us, gap.until_us))
    return (
        gap.kind.name, gap.symbol, from_us(gap.found_us), gap.first, gap.last, since, until, gap.reason.value,
        gap.state.value, gap.remedy.value, gap.missing, from_us(gap.changed_us), gap.detail,
    )  # fmt: skip


def list_gaps(
    connection: psycopg.Connection[Any],
    source: str | None = None,
    *,
    state: GapState | None = None,
    kind: EventKind | None = None,
    limit: int = 100,
) -> list[Gap]:
    """Gaps, the newest first.

    Parameters
    ----------
    connection
        Idle.
    source, state, kind
        Only those; none: all.
    limit
        How many at most.
    """
    query = sql.SQL(
        "SELECT {} FROM tapeline.live_gaps WHERE (%(source)s::text IS NULL OR source = %(source)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)"
        " ORDER BY found_timestamp DESC, symbol, kind, first_number LIMIT %(limit)s"
    ).format(sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)))
    wanted = {
        "source": source,
        "state": state.value if state else None,
        "kind": kind.name if kind else None,
        "limit": min(limit, LISTED_MAX),
    }
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        return [_gap(row) for row in cursor.execute(query, wanted).fetchall()]


def _gap(row: tuple[Any, ...]) -> Gap:
    kind, symbol, found, first, last, since, until, reason, state, remedy, missing, changed, detail = row
    return Gap(
        EventKind[kind],
        symbol,
        to_us(found),
        first,
        last,
        to_us(since) if since else 0,
        to_us(until) if until else 0,
        GapReason(reason),
        GapState(state),
        Remedy(remedy),
        missing,
        to_us(changed),
        detail,
    )
