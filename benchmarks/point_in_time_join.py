"""How long does ``FeatureStore.get_historical_features`` take on our offline store and on Feast's own PostgreSQL store?

The same call for the same entity rows on two feature stores over one table of one embedded server, in turn. The table has
one-minute rows of 50 symbols over 14 days and the index of Tapeline's feature tables. Feast's store gets no created
column, which spares it a pass. The results of every round are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, String
from feast.value_type import ValueType
from psycopg.conninfo import conninfo_to_dict
from tapeline.core.settings import Settings
from tapeline.feast_ext.source import TimescaleSource
from tapeline.storage.postgres import postgres_url
from tapeline.storage.servers.embedded import down, up

from benchmarks.harness import Result, compare, interleave

GROUP = "walk"
SYMBOLS = 50
MINUTES = 14 * 24 * 60
FEATURES = 20
ENTITY_ROWS = 10_000
TTL = timedelta(hours=1)
GOAL = 30.0
ROUNDS = 3
START = datetime(2013, 3, 1, tzinfo=UTC)
PEER = "feast PostgreSQLOfflineStore"


@contextmanager
def server() -> Iterator[str]:
    """The URL of an embedded PostgreSQL of this benchmark's own."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="tapeline-bench-") as folder:
        Path(folder).chmod(0o755)  # the server's own account must pass through
        settings = Settings(home=Path(folder) / "home", postgres_url=None, redis_url=None)
        up(settings)
        try:
            yield postgres_url(settings)
        finally:
            down(settings)


def fill(url: str) -> int:
    """Create and fill the table; the number of its rows."""
    columns = ", ".join(f"feature_{i} float8" for i in range(FEATURES))
    values = ", ".join(f"sin(s * {i + 1} + m / {i + 7}.0)" for i in range(FEATURES))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute(f"""
            CREATE TABLE public.minutes (symbol text, event_timestamp timestamptz, available_timestamp timestamptz,
                created_timestamp timestamptz DEFAULT now(), sequence bigint, {columns})
        """)
        connection.execute(f"""
            INSERT INTO public.minutes SELECT 'SYM' || s, t, t, now(), 0, {values}
            FROM generate_series(1, {SYMBOLS}) s, generate_series(1, {MINUTES}) m,
                LATERAL (SELECT '{START.isoformat()}'::timestamptz + m * interval '1 min') AS times(t)
        """)
        connection.execute("""
            CREATE INDEX ON public.minutes (symbol, event_timestamp DESC, sequence DESC, available_timestamp DESC,
                created_timestamp DESC)
        """)
        connection.execute("VACUUM ANALYZE public.minutes")
        count = connection.execute("SELECT count(*) FROM public.minutes").fetchone()
    return int(count[0]) if count else 0


def store(folder: Path, name: str, offline: dict[str, Any], source: DataSource) -> FeatureStore:
    """A feature store with one view of the table."""
    feature_store = FeatureStore(
        config=RepoConfig(
            project=name,
            provider="local",
            registry=str(folder / f"{name}.db"),
            online_store={"type": "sqlite", "path": str(folder / f"{name}_online.db")},
            offline_store=offline,
            entity_key_serialization_version=3,
        )
    )
    entity = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    schema = [Field(name="symbol", dtype=String), *(Field(name=f"feature_{i}", dtype=Float64) for i in range(FEATURES))]
    feature_store.apply([entity, FeatureView(name="minutes", entities=[entity], ttl=TTL, schema=schema, source=source)])
    return feature_store


def entity_rows(number: int) -> pd.DataFrame:
    """Entity rows of one round, distinct, over the whole range."""
    random = np.random.default_rng(number)
    seconds = random.choice(MINUTES * 60 * SYMBOLS, size=ENTITY_ROWS, replace=False)
    return pd.DataFrame(
        {
            "symbol": [f"SYM{1 + s % SYMBOLS}" for s in seconds],
            "event_timestamp": pd.to_datetime(START) + pd.to_timedelta(seconds // SYMBOLS, unit="s"),
        }
    )


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """One order of rows and one form of times: Feast's store gives neither order nor zone."""
    times = pd.to_datetime(frame["event_timestamp"], utc=True).astype("datetime64[us, UTC]")
    return frame.assign(event_timestamp=times).sort_values(["symbol", "event_timestamp"]).reset_index(drop=True)


def run() -> Iterator[Result]:
    """Measure."""
    with server() as url, tempfile.TemporaryDirectory() as temporary:
        rows = fill(url)
        address = conninfo_to_dict(url)
        folder = Path(temporary)
        ours = store(
            folder,
            "ours",
            {"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": url},
            TimescaleSource(
                table="public.minutes",
                available_timestamp_column="available_timestamp",
                created_timestamp_column="created_timestamp",
                sequence_column="sequence",
            ),
        )
        theirs = store(
            folder,
            "theirs",
            {
                "type": "postgres",
                "host": address["host"],
                "port": int(address.get("port") or 5432),
                "database": address["dbname"],
                "user": address["user"],
                "password": "none",
                "sslmode": "disable",
            },
            PostgreSQLSource(name="minutes", table="public.minutes", timestamp_field="event_timestamp"),
        )
        references = [f"minutes:feature_{i}" for i in range(FEATURES)]
        results: dict[tuple[str, int], pd.DataFrame] = {}

        def measured(name: str, feature_store: FeatureStore, number: int) -> None:
            job = feature_store.get_historical_features(entity_rows(number), references)
            results[name, number] = job.to_df()

        mine, other = interleave(
            lambda number: measured("ours", ours, number),
            lambda number: measured("theirs", theirs, number),
            rounds=ROUNDS,
        )
        for number in range(ROUNDS):
            a, b = in_order(results["ours", number]), in_order(results["theirs", number])
            pd.testing.assert_frame_equal(a, b[list(a.columns)], check_exact=True)
            if not a[f"feature_{FEATURES - 1}"].notna().sum() > ENTITY_ROWS * 0.9:
                raise AssertionError("too few entity rows found a value for the comparison to mean anything")
        yield compare(
            f"point-in-time join, {ENTITY_ROWS:,} entity rows × {FEATURES} features, 1 h TTL",
            ours=mine,
            theirs=other,
            peer=PEER,
            unit="s",
            better="lower",
            goal_ratio=GOAL,
            sizes={"stored_rows": rows, "symbols": SYMBOLS, "entity_rows": ENTITY_ROWS, "features": FEATURES},
            notes="results equal in every round; same server, table and index; to_df on both sides",
        )
