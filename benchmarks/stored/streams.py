"""A market for the benchmarks of streams, and a worker as a process of its own.

``python -m benchmarks.stored.streams HOME`` runs a worker on the servers of a data folder until it is told to end, and then
prints how long events took as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import redis
from tapeline.core.settings import Settings
from tapeline.core.timestamps import DAY_US, to_us
from tapeline.features.catalogue import view
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.migrations import migrate
from tapeline.storage.postgres import connect
from tapeline.storage.redis import redis_url
from tapeline.storage.servers.embedded import down, up
from tapeline.streaming.codec import EventKind, Events, make_events
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.worker import Worker

SPEC = view("daily_technical")
PLAN = StreamPlan("bench", SPEC.rows.source, partitions=1, project="bench")
SYMBOLS = [f"SYM{number:04}" for number in range(500)]
FIRST_US = to_us("1990-01-02T21:00:00+00:00")
"""So that histories of any number of days end before now."""


@contextmanager
def servers(spec: FeatureViewSpec = SPEC) -> Iterator[Settings]:
    """An embedded PostgreSQL with the schema and a view's source, and a Valkey, of this benchmark's own."""
    with TemporaryDirectory(dir="/tmp", prefix="tapeline-bench-") as folder:
        Path(folder).chmod(0o755)  # the server's own account must pass through
        settings = Settings(home=Path(folder) / "home", postgres_url=None, redis_url=None)
        up(settings)
        try:
            with connect(settings) as connection:
                migrate(connection)
                with connection.transaction():
                    connection.execute(
                        "INSERT INTO tapeline.sources (source, kind, declared_lag_us, calendar)"
                        " VALUES (%s, %s, 0, %s) ON CONFLICT DO NOTHING",
                        (spec.rows.source, spec.rows.raw, spec.rows.calendar),
                    )
            yield settings
        finally:
            down(settings)


def client(settings: Settings) -> redis.Redis:
    """A client of the Valkey."""
    return redis.Redis.from_url(redis_url(settings))


def bars(first: int, count: int) -> Events:
    """Daily bars: number n is of the symbol n mod 500 on the day n div 500."""
    numbers = np.arange(first, first + count)
    day, symbol = numbers // len(SYMBOLS), numbers % len(SYMBOLS)
    event_us = FIRST_US + day * DAY_US
    rng = np.random.default_rng(first)
    close = 100.0 + 5 * np.sin(day / 9.0 + symbol) + rng.normal(0, 0.5, count)
    open_ = close + rng.normal(0, 0.5, count)
    high, low = np.maximum(open_, close) + rng.random(count), np.minimum(open_, close) - rng.random(count)
    values = np.column_stack([event_us - 6 * 3_600_000_000, open_, high, low, close, rng.integers(1_000, 9_000, count)])
    return make_events(
        EventKind.bars,
        [SYMBOLS[number] for number in symbol.tolist()],
        event_us,
        np.zeros(count, dtype=np.int64),
        event_us,
        values,
    )


def worker(settings: Settings, *, feature_rows: bool = True) -> Worker:
    """A worker of the full daily plan."""
    return Worker(
        PLAN,
        [SPEC],
        redis=client(settings),
        connect=lambda: connect(settings),
        feature_rows=feature_rows,
        lease_ms=5_000,
    )


def main() -> None:
    """Work until told to end."""
    settings = Settings(home=Path(sys.argv[1]), postgres_url=None, redis_url=None)
    asked = [False]
    signal.signal(signal.SIGTERM, lambda *_: asked.__setitem__(0, True))
    sys.setswitchinterval(0.0002)
    running = worker(settings)
    while len(running.leases.owned) < PLAN.partitions:
        running.step(block_ms=1)
    print("ready", flush=True)
    begun = None
    while not asked[0]:
        running.step()
        if begun is None and running.counters.taken >= int(sys.argv[2]):  # what comes before has warmed it up
            begun = running.processing.counts.copy(), running.latency.counts.copy()
    running.close()
    processing, latency = (running.processing.counts, running.latency.counts) if begun is None else begun
    print(
        json.dumps(
            {
                "processing": running.processing.since(processing).as_dict(),
                "latency": running.latency.since(latency).as_dict(),
                "taken": running.counters.taken,
                "online": running.counters.online,
            }
        )
    )


if __name__ == "__main__":
    main()
