"""A store for leak checks: small views over each kind of rows, filled by real back-fills, with late rows and corrections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psycopg
from tapeline.compute import backfill
from tapeline.core.timestamps import DAY_US, MINUTE_US, from_us
from tapeline.datasets.plan import RetrievalPlan, ViewSelection
from tapeline.features.request import FeatureRequest
from tapeline.features.timeframes import TimeFrame
from tapeline.features.view import FeatureViewSpec, LongerBars, SessionBars, TradeBars, TradedBars, Trades

from tests.datasets.market import sessions_from
from tests.datasets.recorded import settle

LAG_US = 15 * MINUTE_US
DAILY = FeatureViewSpec(
    "small_daily",
    1,
    SessionBars("small-daily", "XNYS"),
    (
        FeatureRequest.of("EMA", timeperiod=3),
        FeatureRequest.of("RETURN", timeperiod=1),
        FeatureRequest.of("OBV"),
        FeatureRequest.of("RSI", timeperiod=4),
    ),
    7 * DAY_US,
)
WEEKLY = replace(DAILY, name="small_weekly", rows=LongerBars("small-daily", "XNYS", TimeFrame.parse("week")), ttl_us=0)
MINUTES = replace(DAILY, name="small_minutes", rows=TradeBars("small-trades", "XNYS", MINUTE_US), ttl_us=0)
DOLLARS = replace(DAILY, name="small_dollars", rows=TradedBars("small-trades", "XNYS", "dollar", 4_000.0), ttl_us=0)
TICKS = FeatureViewSpec(
    "small_ticks",
    1,
    Trades("small-trades", "XNYS"),
    (FeatureRequest.of("TICK_RULE"), FeatureRequest.of("REALIZED_VARIANCE", window=3)),
    0,
)


def selection(spec: FeatureViewSpec, **changes: object) -> ViewSelection:
    whole = ViewSelection(
        view=spec.name,
        version=spec.version,
        table=f'features."{spec.table}"',
        entity_columns=("symbol",),
        join_keys=("symbol",),
        features=spec.columns,
        output_names=tuple(f"{spec.name}__{column}" for column in spec.columns),
        ttl_us=spec.ttl_us,
    )
    return replace(whole, **changes)


def plan_of(*specs: FeatureViewSpec, **changes: object) -> RetrievalPlan:
    return RetrievalPlan("small", tuple(selection(spec, **changes) for spec in specs))


def daily(
    connection: psycopg.Connection, count: int = 320, *, adjusted: bool = False, source: str = "small-daily"
) -> None:
    """Daily bars of two symbols with a split, corrections, late rows and a retraction, as a vendor would deliver them."""
    sessions = sessions_from("2010-01-04", count)
    random = np.random.default_rng(3)
    _source(connection, source, "bars", "XNYS")
    at = int(sessions.open_us[count // 2])
    connection.execute(
        "INSERT INTO tapeline.corporate_actions (symbol, kind, event_timestamp, available_timestamp, ratio, source)"
        " VALUES ('AAA', 'split', %s, %s, 4, 'test')",
        (from_us(at), from_us(at - 5 * DAY_US)),
    )
    for symbol in ("AAA", "BBB"):
        close = 50 * np.exp(np.cumsum(random.normal(scale=0.02, size=count)))
        if symbol == "AAA" and not adjusted:
            close[sessions.close_us > at] /= 4
        for i, (start, end) in enumerate(zip(sessions.open_us.tolist(), sessions.close_us.tolist(), strict=True)):
            available = end + LAG_US + (2 * DAY_US if i % 37 == 5 else 0)
            _bar(connection, source, symbol, start, end, available, close[i])
            if i % 41 == 7:
                _bar(connection, source, symbol, start, end, available + 3 * DAY_US, close[i] * 1.1)
            if i % 97 == 60:
                _bar(connection, source, symbol, start, end, available + DAY_US, close[i], deleted=True)
    connection.commit()


def trades(
    connection: psycopg.Connection, minutes: int = 400, *, source: str = "small-trades", calendar: str = "XNYS"
) -> None:
    """Trades of one symbol with gaps, late ones and corrections."""
    sessions = sessions_from("2010-01-04", 2)
    random = np.random.default_rng(4)
    _source(connection, source, "trades", calendar)
    price, sequence = 100.0, 0
    rows = []
    for minute in range(minutes):
        if minute % 17 == 3:
            continue
        for second in sorted(random.choice(60, size=3, replace=False).tolist()):
            event = int(sessions.open_us[0]) + minute * MINUTE_US + second * 1_000_000
            price *= float(np.exp(random.normal(scale=0.001)))
            sequence += 1
            late = int(random.choice([0, 40, 200], p=[0.9, 0.05, 0.05])) * 1_000_000
            rows.append((event, event + LAG_US + late, sequence, price, float(random.integers(5, 30))))
            if sequence % 61 == 0:
                rows.append((event, event + LAG_US + late + 9 * MINUTE_US, sequence, price * 1.01, 7.0))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tapeline.trades (source, symbol, event_timestamp, available_timestamp, sequence, price, size)"
            " VALUES (%s, 'AAA', %s, %s, %s, %s, %s)",
            [(source, from_us(event), from_us(available), *rest) for event, available, *rest in rows],
        )
    connection.commit()


def fill(connection: psycopg.Connection, *specs: FeatureViewSpec) -> None:
    """Compute views, and wait until what was recorded is settled: a check right after sees all of it."""
    for spec in specs:
        backfill(connection, spec)
    settle(connection)


def _source(connection: psycopg.Connection, name: str, kind: str, calendar: str) -> None:
    connection.execute(
        "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar) VALUES (%s, %s, %s, %s)",
        (name, kind, LAG_US, calendar),
    )


def _bar(connection, source, symbol, start, end, available, close, *, deleted=False) -> None:
    connection.execute(
        "INSERT INTO tapeline.bars (source, symbol, start_timestamp, event_timestamp, available_timestamp, open, high, low,"
        " close, volume, deleted) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (source, symbol, from_us(start), from_us(end), from_us(available), close * 0.99, close * 1.02, close * 0.98, close,
         1e6 + end % 997, deleted),
    )  # fmt: skip
