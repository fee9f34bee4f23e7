"""A small market in a test's database: bars of real sessions, one registered view over them, and its values."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import psycopg
from psycopg.types.json import Jsonb
from tapeline.compute.sessions import SessionTimes, session_times
from tapeline.core.hashing import sha256_json
from tapeline.core.timestamps import from_us, to_us
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.storage.raw import append_bars

SOURCE = "us-daily"
LAG_US = 900_000_000
SPEC = FeatureViewSpec(
    name="tiny",
    version=1,
    rows=SessionBars(source=SOURCE, calendar="XNYS"),
    features=(FeatureRequest.of("SMA", timeperiod=3), FeatureRequest.of("RSI", timeperiod=4)),
    ttl_us=7 * 86_400_000_000,
)
PLAN = RetrievalPlan(
    service="tiny_model",
    views=(
        ViewSelection(
            view="tiny",
            version=1,
            table="features.tiny__v1",
            entity_columns=("symbol",),
            join_keys=("symbol",),
            features=SPEC.columns,
            output_names=SPEC.columns,
            ttl_us=SPEC.ttl_us,
        ),
    ),
)


def sessions_from(start: str, count: int) -> SessionTimes:
    every = session_times("XNYS")
    first = int(np.searchsorted(every.close_us, to_us(f"{start}T00:00:00+00:00")))
    return SessionTimes("XNYS", every.open_us[first : first + count], every.close_us[first : first + count])


def bars_of(symbol: str, sessions: SessionTimes, closes: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(closes),
            "start_timestamp": [from_us(moment) for moment in sessions.open_us],
            "event_timestamp": [from_us(moment) for moment in sessions.close_us],
            "open": closes,
            "high": closes + 1,
            "low": closes - 1,
            "close": closes,
            "volume": np.full(len(closes), 1e6),
        },
        schema_overrides={"start_timestamp": pl.Datetime("us", "UTC"), "event_timestamp": pl.Datetime("us", "UTC")},
    )


def add_prices(connection: psycopg.Connection, symbol: str, sessions: SessionTimes, closes: np.ndarray) -> None:
    append_bars(connection, bars_of(symbol, sessions, closes), SOURCE, declared_lag_us=LAG_US)


def add_values(
    connection: psycopg.Connection,
    symbol: str,
    sessions: SessionTimes,
    values: np.ndarray,
    available_us: int = 0,
    sequence: int = 0,
) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO features.tiny__v1 (symbol, event_timestamp, available_timestamp, sequence, sma_3, rsi_4)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (symbol, from_us(close), from_us(max(int(close) + LAG_US, available_us)), sequence, float(a), float(b))
                for close, (a, b) in zip(sessions.close_us, values, strict=True)
            ],
        )


def open_market(connection: psycopg.Connection, count: int = 40, seed: int = 0) -> SessionTimes:
    """Two symbols over `count` sessions from 2010-01-04; BBB begins ten sessions later."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, 'bars', %s, 'XNYS')",
            (SOURCE, LAG_US),
        )
        connection.execute(
            "CREATE TABLE features.tiny__v1 (symbol text, event_timestamp timestamptz, available_timestamp timestamptz,"
            " created_timestamp timestamptz DEFAULT now(), sequence bigint, sma_3 float8, rsi_4 float8)"
        )
        connection.execute(
            "INSERT INTO tapeline.feature_view_versions (view, version, lineage_hash, plan_hash, table_name, definition)"
            " VALUES ('tiny', 1, %s, %s, 'tiny__v1', %s)",
            (sha256_json("lineage"), sha256_json("plan"), Jsonb(SPEC.definition())),
        )
    random = np.random.default_rng(seed)
    sessions = sessions_from("2010-01-04", count)
    for symbol, skipped in (("AAA", 0), ("BBB", 10)):
        part = SessionTimes("XNYS", sessions.open_us[skipped:], sessions.close_us[skipped:])
        closes = 50 + np.cumsum(random.normal(size=count - skipped))
        add_prices(connection, symbol, part, closes)
        values = random.normal(size=(count - skipped, 2))
        values[:3] = np.nan
        add_values(connection, symbol, part, values)
    time.sleep(0.02)  # the safe horizon lies 10 ms back
    return sessions
