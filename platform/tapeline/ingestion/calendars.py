"""Rows against the sessions of an exchange calendar: when a session's bar ends, what lies outside, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.core.timestamps import DAY_US, from_us
from tapeline.ingestion.reading import UTC_US
from tapeline.storage.raw_tables import RawKind

_EPOCH_DAY = date(1970, 1, 1)
GAPS_MAX = 1_000
"""Gaps that one report names, at most."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive sessions of which a symbol has no row.

    Parameters
    ----------
    symbol
        The instrument.
    first, last
        The sessions at both ends, by their dates.
    sessions
        How many they are.
    """

    symbol: str
    first: date
    last: date
    sessions: int


def place_in_sessions(frame: pl.DataFrame, calendar: str | None, bar_width_us: int | None) -> pl.DataFrame:
    """Complete the times of bars, and say of each whether it lies in a session.

    A bar given by its session's date starts at the open and ends at the close; another may lack its start or its end,
    which its width then gives.

    Returns
    -------
    polars.DataFrame
        The frame with both times, and ``_session`` (null: not known) and ``_session_reason``.
    """
    if bar_width_us is not None:
        width = pl.duration(microseconds=bar_width_us)
        frame = frame.with_columns(
            event_timestamp=pl.coalesce("event_timestamp", pl.col("start_timestamp") + width),
            start_timestamp=pl.coalesce("start_timestamp", pl.col("event_timestamp") - width),
        )
    if calendar is None:
        return frame.with_columns(_session=pl.lit(None, pl.Boolean), _session_reason=pl.lit(None, pl.String))
    if frame["date"].null_count() < len(frame):
        frame = _by_date(frame, calendar)
    event = frame["event_timestamp"].dt.epoch("us")
    sessions = session_times(calendar)
    # The session that ends at or after the bar's end must have begun by the bar's start.
    index = np.searchsorted(sessions.close_us, event.fill_null(0).to_numpy(), side="left")
    opens = np.append(sessions.open_us, np.iinfo(np.int64).max)[index]
    start = frame["start_timestamp"].dt.epoch("us").fill_null(0).to_numpy()
    inside = pl.Series(start >= opens)
    dated = frame["date"].is_not_null()
    known = frame["event_timestamp"].is_not_null() & frame["start_timestamp"].is_not_null()
    return frame.with_columns(
        _session=pl.when(dated).then(known).otherwise(pl.when(known).then(inside)),
        _session_reason=pl.when(dated)
        .then(pl.format(f"{{}} is no session of {calendar} (known from 1980 on)", pl.col("date")))
        .otherwise(
            pl.format(
                f"{{}} to {{}} lies in no session of {calendar}", pl.col("start_timestamp"), pl.col("event_timestamp")
            )
        ),
    )


def _by_date(frame: pl.DataFrame, calendar: str) -> pl.DataFrame:
    sessions = session_times(calendar)
    table = pl.DataFrame(
        {
            "date": pl.Series(session_days(sessions)).cast(pl.Int32).cast(pl.Date),
            "_open": pl.Series(sessions.open_us).cast(UTC_US),
            "_close": pl.Series(sessions.close_us).cast(UTC_US),
        }
    )
    dated = pl.col("date").is_not_null()
    return (
        frame.join(table, on="date", how="left", maintain_order="left")
        .with_columns(
            event_timestamp=pl.when(dated).then("_close").otherwise("event_timestamp"),
            start_timestamp=pl.when(dated).then("_open").otherwise("start_timestamp"),
        )
        .drop("_open", "_close")
    )


@dataclass
class Coverage:
    """Remembers of which sessions each symbol has rows; a few bytes a session."""

    calendar: str
    _seen: dict[str, set[int]] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame) -> None:
        """Take note of good rows."""
        if frame.is_empty():
            return
        sessions = session_times(self.calendar)
        moments = frame["event_timestamp"].dt.epoch("us").to_numpy()
        index = np.searchsorted(sessions.close_us, moments, side="left")
        outside = np.append(sessions.open_us, np.iinfo(np.int64).max)[index] > moments
        days = pl.Series(np.append(session_days(sessions), 0)[index]).set(pl.Series(outside), None)
        by_symbol = pl.DataFrame({"symbol": frame["symbol"], "day": days}).drop_nulls().unique()
        for (symbol,), group in by_symbol.group_by("symbol"):
            self._seen.setdefault(str(symbol), set()).update(group["day"].to_list())

    def gaps(self, connection: psycopg.Connection[Any], kind: RawKind, source: str) -> list[Gap]:
        """Runs of sessions, between a symbol's first row and its last, of which nothing is stored.

        The last session stored before these rows counts too, so that a day left out between two files is seen.
        """
        found: list[Gap] = []
        for symbol, days in sorted(self._seen.items()):
            first = _day_us(min(days))
            before = _scalar(
                connection,
                sql.SQL(
                    "SELECT (extract(epoch FROM max(event_timestamp)) * 1000000)::bigint FROM {}"
                    " WHERE source = %s AND symbol = %s AND event_timestamp < %s"
                ).format(sql.Identifier("tapeline", kind)),
                (source, symbol, from_us(first)),
            )
            missing = self._missing(connection, kind, source, symbol, first if before is None else before, days)
            found += _runs(symbol, session_days(session_times(self.calendar)), missing)
            if len(found) >= GAPS_MAX:
                break
        return found[:GAPS_MAX]

    def _missing(
        self,
        connection: psycopg.Connection[Any],
        kind: RawKind,
        source: str,
        symbol: str,
        since_us: int,
        days: set[int],
    ) -> NDArray[np.bool_]:
        """For every session of the calendar, whether it should have rows and has none."""
        sessions = session_times(self.calendar)
        day = session_days(sessions)
        missing = ~np.isin(day, sorted(days)) & (sessions.close_us > since_us) & (day <= max(days))
        places = np.flatnonzero(missing)
        if not len(places):
            return missing
        statement = sql.SQL(
            "SELECT place FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) AS t (place, opens, closes)"
            " WHERE EXISTS (SELECT FROM {} WHERE source = %s AND symbol = %s AND event_timestamp BETWEEN opens AND closes)"
        ).format(sql.Identifier("tapeline", kind))
        opens = [from_us(value) for value in sessions.open_us[places]]
        closes = [from_us(value) for value in sessions.close_us[places]]
        with connection.transaction():
            rows = connection.execute(statement, (places.tolist(), opens, closes, source, symbol)).fetchall()
        missing[[row[0] for row in rows]] = False
        return missing


def session_days(sessions: SessionTimes) -> NDArray[np.int64]:
    """The date that names each session, in days since 1970-01-01: the day on which it ends.

    A session that ends at midnight, as that of a venue that never closes, belongs to the day before.
    """
    return (sessions.close_us - 1) // DAY_US


def _day_us(day: int) -> int:
    return day * DAY_US


def _scalar(connection: psycopg.Connection[Any], statement: sql.Composed, values: Sequence[object]) -> int | None:
    with connection.transaction():
        row = connection.execute(statement, values).fetchone()
    return None if row is None else row[0]


def _runs(symbol: str, days: NDArray[np.int64], missing: NDArray[np.bool_]) -> list[Gap]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(np.int8), [0]))))
    return [
        Gap(
            symbol,
            _EPOCH_DAY + timedelta(days=int(days[start])),
            _EPOCH_DAY + timedelta(days=int(days[stop - 1])),
            int(stop - start),
        )
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
