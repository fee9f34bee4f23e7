"""How old a view's newest row is, by the clock and the calendar: in rows that should have followed it by now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from tapeline.core.timestamps import to_us
from tapeline.features.versions import Integers
from tapeline.features.view import LongerBars, Rows, SessionBars, TradeBars
from tapeline.quality.score import decay

_SESSIONS_OF = {"session": 1, "week": 5, "month": 21}


@dataclass(frozen=True)
class Sessions:
    """A calendar's sessions: int64 opens and closes in µs, rising."""

    open_us: Integers
    close_us: Integers

    def open_time_us(self, start_us: int, end_us: int) -> int:
        """How long the exchange was open from one moment to another."""
        begin, end = np.maximum(self.open_us, start_us), np.minimum(self.close_us, end_us)
        return int(np.maximum(end - begin, 0).sum())

    def closes_between(self, start_us: int, end_us: int) -> int:
        """How many sessions closed after one moment and up to another."""
        first, last = np.searchsorted(self.close_us, [start_us, max(start_us, end_us)], side="right")
        return int(last - first)


@dataclass(frozen=True)
class Freshness:
    """The age of a view's newest row.

    Attributes
    ----------
    newest
        Its event time; none if there are no rows.
    rows_behind
        How many rows should have followed it by the moment it was asked for.
    value
        The factor, 0 to 1.
    """

    newest: datetime | None
    rows_behind: float
    value: float


def freshness_of(
    connection: psycopg.Connection[Any],
    table: str,
    rows: Rows,
    sessions: Sessions,
    lag_us: int,
    at_us: int,
    half_life_rows: float,
) -> Freshness:
    """How fresh a view's table was at a moment.

    For bars that follow the clock, the rows behind are the sessions that closed, or the bars that ended while the exchange
    was open, since the newest row and up to the declared lag ago. For trades and bars that trades close, they are the open
    time since then in units of the mean spacing of the day's rows.

    Parameters
    ----------
    connection
        Inside or outside a transaction.
    table
        The view's table, with its schema.
    rows, sessions, lag_us
        What the view is computed over, its calendar, and its source's declared lag.
    at_us
        The moment: rows available later do not count.
    half_life_rows
        See :class:`tapeline.quality.definition.QualityDefinition`.
    """
    name = sql.Identifier(*table.split("."))
    at = sql.SQL("'1970-01-01 00:00Z'::timestamptz + {} * interval '1 us'").format(sql.Literal(at_us))
    row = connection.execute(
        sql.SQL(
            "SELECT max(event_timestamp) FROM {} WHERE event_timestamp <= {at} AND available_timestamp <= {at}"
        ).format(name, at=at)
    ).fetchone()
    if row is None or row[0] is None:
        return Freshness(None, float("inf"), 0.0)
    newest: datetime = row[0]
    newest_us, due_us = to_us(newest), at_us - lag_us
    if isinstance(rows, SessionBars):
        behind = float(sessions.closes_between(newest_us, due_us))
    elif isinstance(rows, LongerBars) and rows.frame.unit:
        behind = sessions.closes_between(newest_us, due_us) / _SESSIONS_OF[rows.frame.unit]
    else:
        behind = sessions.open_time_us(newest_us, due_us) / _spacing_us(connection, name, rows, newest, sessions)
    return Freshness(newest, behind, decay(behind, half_life_rows))


def _spacing_us(
    connection: psycopg.Connection[Any], table: sql.Identifier, rows: Rows, newest: datetime, sessions: Sessions
) -> float:
    """Expected time between rows while the exchange is open."""
    if isinstance(rows, TradeBars):
        return float(rows.width_us)
    if isinstance(rows, LongerBars):
        return float(rows.frame.width_us)
    row = connection.execute(
        sql.SQL(
            "SELECT count(*)::float8 / greatest(count(DISTINCT symbol), 1), min(event_timestamp) FROM {}"
            " WHERE event_timestamp > {} - interval '1 day' AND event_timestamp <= {}"
        ).format(table, sql.Literal(newest), sql.Literal(newest))
    ).fetchone()
    assert row is not None
    return max(sessions.open_time_us(to_us(row[1]), to_us(newest)) / max(float(row[0]), 1.0), 1.0)
