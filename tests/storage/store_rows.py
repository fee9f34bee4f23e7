"""Rows of a small registered view with everything that can be awkward, and the point-in-time rule in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import psycopg
import pyarrow as pa
from tapeline.core.timestamps import DAY_US, HOUR_US, from_us, to_us
from tapeline.features.request import FeatureRequest
from tapeline.features.view import FeatureViewSpec, SessionBars
from tapeline.storage.feature_tables import append_rows, register_view

TTL_US = 20 * DAY_US
START_US = to_us("2013-01-01T00:00:00+00:00")
DAYS = 90
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SPEC = FeatureViewSpec(
    name="small",
    version=1,
    rows=SessionBars(source="us-daily", calendar="XNYS"),
    features=(FeatureRequest.of("SMA", timeperiod=3), FeatureRequest.of("RSI", timeperiod=4)),
    ttl_us=TTL_US,
)


@dataclass(frozen=True)
class Row:
    symbol: str
    event_us: int
    sequence: int
    available_us: int
    created_us: int
    values: tuple[float | None, ...]


def random_batch(random: np.random.Generator, count: int) -> dict[str, np.ndarray | pa.Array]:
    """Rows that are early and late, of few distinct keys, some not available for weeks, some without values."""
    event = START_US + random.integers(0, DAYS, count) * DAY_US
    late = random.choice([0, HOUR_US, 3 * DAY_US, 40 * DAY_US], count, p=[0.4, 0.3, 0.2, 0.1])
    outputs = random.normal(size=(count, 2))
    outputs[random.random(outputs.shape) < 0.2] = np.nan
    return {
        "symbols": pa.array(random.choice(SYMBOLS[:3], count).tolist()),
        "event_us": event,
        "sequence": random.integers(0, 3, count),
        "available_us": event + late,
        "missing": random.random(count) < 0.1,
        "outputs": outputs,
    }


def fill(connection: psycopg.Connection, seed: int, batches: int = 6, rows: int = 60) -> None:
    """Register the view and add batches of rows, each in a transaction of its own."""
    random = np.random.default_rng(seed)
    register_view(connection, SPEC)
    for _ in range(batches):
        batch = random_batch(random, rows)
        # No ties within a transaction: nothing would say which row is the newer one.
        keys = list(
            zip(batch["symbols"].to_pylist(), batch["event_us"], batch["sequence"], batch["available_us"], strict=True)
        )
        first = np.array([keys.index(key) == place for place, key in enumerate(keys)])
        chosen = {
            name: values.filter(pa.array(first)) if name == "symbols" else values[first]
            for name, values in batch.items()
        }
        with connection.transaction(), connection.cursor() as cursor:
            append_rows(cursor, SPEC, **chosen)


def stored(connection: psycopg.Connection) -> list[Row]:
    rows = connection.execute(
        "SELECT symbol, event_timestamp, sequence, available_timestamp, created_timestamp, sma_3, rsi_4 FROM features.small__v1"
    ).fetchall()
    connection.commit()
    return [Row(s, to_us(e), q, to_us(a), to_us(c), (x, y)) for s, e, q, a, c, x, y in rows]


def rule(rows: list[Row], symbol: str, at_us: int, vintage_us: int | None = None, ttl_us: int = TTL_US) -> Row | None:
    """Of the rows that count, the one with the greatest (event, sequence, available, created)."""
    counting = [
        row
        for row in rows
        if row.symbol == symbol
        and row.event_us <= at_us
        and row.available_us <= at_us
        and (ttl_us == 0 or row.event_us >= at_us - ttl_us)
        and (vintage_us is None or row.created_us <= vintage_us)
    ]
    return max(counting, key=lambda r: (r.event_us, r.sequence, r.available_us, r.created_us), default=None)


def moments(random: np.random.Generator, count: int) -> list[int]:
    """Moments before, among and after the rows, and exactly on them."""
    found = (START_US - DAY_US + random.integers(0, (DAYS + 60) * 24, count) * HOUR_US).tolist()
    return [*found, START_US, START_US + 5 * DAY_US, to_us("2026-01-01T00:00:00+00:00")]


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


__all__ = [
    "DAYS",
    "SPEC",
    "START_US",
    "SYMBOLS",
    "TTL_US",
    "Row",
    "fill",
    "from_us",
    "moments",
    "rule",
    "same",
    "stored",
]
