"""How long does a rollback of a feature view take, until every reader sees the version before?

Two versions of a view, a million rows in each table, both materialized. A rollback is one row; measured are the call, the
command with the start of its process, and the time until two readers that were warm on the newer version give the older
one: ``get_online_features`` of a store that is read on and on, and ``get_historical_features``. Every answer must be of one
whole version.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
from feast import FeatureStore
from tapeline.core.settings import Settings
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.migrations import migrate
from tapeline.storage.view_decisions import promote, rollback

from benchmarks.harness import Result, absolute
from tests.feast_ext.versioned_world import (
    CLOSE,
    V1,
    V2,
    add_version,
    apply,
    historical,
    is_whole,
    materialize,
    online,
    open_store,
    process_settings,
)
from tests.support.session import SessionServers

GROUP = ("offline",)
ROWS = 1_000_000
SYMBOLS = 200
ROUNDS = 15
GOAL_S = 1.0
FEATURES = ["small:sma_3"]


def fill(connection: psycopg.Connection, spec: FeatureViewSpec) -> None:
    """Add a million rows of other symbols to a version's table."""
    columns = ", ".join(spec.columns)
    values = ", ".join("sin(s + m)" for _ in spec.columns)
    with connection.transaction():
        connection.execute(
            f"INSERT INTO features.{spec.table} (symbol, event_timestamp, available_timestamp, sequence, {columns})"
            f" SELECT 'SYM' || s, t, t, 0, {values} FROM generate_series(1, {SYMBOLS}) s,"
            f" generate_series(1, {ROWS // SYMBOLS}) m,"
            " LATERAL (SELECT %s::timestamptz - m * interval '1 min') AS times (t)",
            (CLOSE - timedelta(hours=1),),
        )


def version_of(columns: dict[str, list]) -> int:
    """The version that an answer is of."""
    found = [spec.version for spec in (V1, V2) if is_whole(columns, spec)]
    if len(found) != 1:
        raise AssertionError(f"an answer of no single version: {columns}")
    return found[0]


def until(store: FeatureStore, version: int) -> tuple[float, float]:
    """When online and offline readers gave a version."""
    while version_of(online(store, FEATURES)) != version:
        pass
    seen_online = time.perf_counter()
    while version_of(historical(store, FEATURES)) != version:
        pass
    return seen_online, time.perf_counter()


def run() -> Iterator[Result]:
    """Measure the call, the command and what readers see."""
    sizes: dict[str, int | float | str] = {"rows": ROWS, "versions": 2, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        servers = SessionServers()
        stack.callback(servers.close)
        settings = Settings(
            home=Path(temporary), postgres_url=servers.postgres_url("postgres"), redis_url=servers.redis_url(0)
        )
        stack.enter_context(process_settings(settings))
        connection = stack.enter_context(psycopg.connect(str(settings.postgres_url)))
        migrate(connection)
        store = open_store(Path(temporary))
        for spec in (V1, V2):
            add_version(connection, spec)
            fill(connection, spec)
            apply(store, spec)
        materialize(store)
        call, seen_online, seen_offline = (np.empty(ROUNDS) for _ in range(3))
        for number in range(ROUNDS):
            promote(connection, "small", 2)
            until(store, 2)
            online(store, FEATURES)  # so that the reader has just asked which version holds
            begin = time.perf_counter()
            rollback(connection, "small")
            call[number] = time.perf_counter() - begin
            online_at, offline_at = until(store, 1)
            seen_online[number], seen_offline[number] = online_at - begin, offline_at - begin
        yield absolute("version rollback, the call", ours=call, unit="s", at_most=GOAL_S, sizes=sizes)
        yield absolute(
            "version rollback, until online reads give the version before",
            ours=seen_online, unit="s", at_most=GOAL_S, sizes=sizes,
            notes="a reader asks for promotions at most every 0.25 s",
        )  # fmt: skip
        yield absolute(
            "version rollback, until online reads and then a historical retrieval give it",
            ours=seen_offline, unit="s", at_most=GOAL_S, sizes=sizes,
        )  # fmt: skip
        command = np.empty(ROUNDS // 3)
        for number in range(len(command)):
            promote(connection, "small", 2)
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "tapeline", "versions", "rollback", "small"], check=True, capture_output=True
            )
            command[number] = time.perf_counter() - begin
        yield absolute(
            "version rollback, the command, start of its process included",
            ours=command, unit="s", at_most=GOAL_S, sizes=sizes,
            if_missed="starting Python and importing the command line take most of it",
        )  # fmt: skip
