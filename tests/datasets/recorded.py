"""A market whose features come from the back-fill, and what happens to it: late rows, corrections, retractions, splits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow.parquet as pq
from tapeline.compute import backfill
from tapeline.core.timestamps import HOUR_US, from_us
from tapeline.datasets.vintage import safe_horizon
from tapeline.storage.raw import append_bars, append_rows

from tests.datasets.market import LAG_US, SOURCE, SPEC, bars_of, sessions_from

SESSIONS = sessions_from("2010-01-04", 24)
_UTC = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Event:
    """Something that is recorded: of which symbol and session, and how many hours after its close it was published."""

    kind: str
    symbol: int
    session: int
    number: float
    hours: int | None


def open_source(connection: psycopg.Connection[Any]) -> None:
    """Declare the source; nothing is recorded yet."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, 'bars', %s, 'XNYS')",
            (SOURCE, LAG_US),
        )


def begin(
    connection: psycopg.Connection[Any], symbols: list[str], *, missing: frozenset[tuple[int, int]], seed: int
) -> None:
    """Bars of every session but the missing (symbol, session) pairs, back-filled."""
    random = np.random.default_rng(seed)
    for place, symbol in enumerate(symbols):
        kept = np.array([s not in {m for p, m in missing if p == place} for s in range(len(SESSIONS.close_us))])
        bars = bars_of(symbol, SESSIONS, 50 + np.cumsum(random.normal(size=len(kept))))
        append_bars(connection, bars.filter(pl.Series(kept)), SOURCE, declared_lag_us=LAG_US)
    compute(connection, symbols)


def compute(connection: psycopg.Connection[Any], symbols: list[str]) -> None:
    """Back-fill what was recorded, and wait until it is settled: the safe horizon trails the clock by milliseconds."""
    backfill(connection, SPEC, symbols=symbols)
    settle(connection)


def settle(connection: psycopg.Connection[Any]) -> None:
    """Wait until the safe horizon has passed everything that is recorded."""
    now_us = int(connection.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000000").fetchone()[0])
    connection.commit()
    deadline = time.monotonic() + 10
    while safe_horizon(connection) < now_us:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def record(connection: psycopg.Connection[Any], symbols: list[str], event: Event) -> None:
    """Write one event as its source would send it."""
    symbol, close_us = symbols[event.symbol], int(SESSIONS.close_us[event.session])
    published = None if event.hours is None else from_us(close_us + event.hours * HOUR_US)
    if event.kind == "split":
        action = {
            "symbol": [symbol],
            "kind": ["split"],
            "event_timestamp": [from_us(int(SESSIONS.open_us[event.session]))],
            "published_timestamp": [published],
            "ratio": [event.number],
        }
        frame = pl.DataFrame(action, schema_overrides={"event_timestamp": _UTC, "published_timestamp": _UTC})
        append_rows(connection, "actions", frame, "actions")
        return
    one = SESSIONS.__class__("XNYS", SESSIONS.open_us[event.session :][:1], SESSIONS.close_us[event.session :][:1])
    bars = bars_of(symbol, one, np.array([event.number]))
    bars = bars.with_columns(
        published_timestamp=pl.Series([published], dtype=_UTC), deleted=pl.Series([event.kind == "retraction"])
    )
    append_bars(connection, bars, SOURCE, declared_lag_us=LAG_US)


def cells_by_hand(before: Path, after: Path) -> dict[tuple[Any, ...], tuple[Any, Any]]:
    """What differs between two data sets, from their files alone: (symbol, moment, column) to both values, as text."""
    one, other = (_cells(folder) for folder in (before, after))
    return {
        key: (one.get(key, "absent"), other.get(key, "absent"))
        for key in one.keys() | other.keys()
        if one.get(key, "absent") != other.get(key, "absent")
    }


def _cells(folder: Path) -> dict[tuple[Any, ...], str]:
    cells = {}
    for row in pq.read_table(folder / "data").to_pylist():
        symbol, moment = row.pop("symbol"), row.pop("event_timestamp")
        cells |= {(symbol, moment, name): shown(value) for name, value in row.items()}
    return cells


def shown(value: Any) -> str:
    """A value as text that tells apart what differs in a bit, but NaNs."""
    if isinstance(value, float):
        return "NaN" if value != value else value.hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return "null" if value is None else str(value)
