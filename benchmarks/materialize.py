"""How many entities a second does ``feast materialize`` bring from PostgreSQL to Redis, against Feast's own engine and stores?

One row of 20 features an entity, the same table for both, one Valkey. Ours: ``TimescaleOfflineStore``,
``PackedComputeEngine``, ``PackedRedisOnlineStore``. Feast's: its PostgreSQL store, its local engine, its Redis store, the call the
same. Feast's side takes minutes for what ours does in seconds, so that it is measured over fewer entities than a million (its
rate does not grow with their number) and both are measured over those in turn. What both stores answer afterwards is compared.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import redis
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, String
from feast.value_type import ValueType
from psycopg.conninfo import conninfo_to_dict
from tapeline.feast_ext import TimescaleSource
from tapeline.storage.migrations import migrate

from benchmarks.harness import Result, alone, compare, interleave
from benchmarks.online_read import valkey
from tests.support.session import SessionServers

GROUP = "online"
FEATURES = 20
MANY, FEW = 1_000_000, 30_000
ROUNDS, ROUNDS_MANY = 3, 2
GOAL = 10.0
PEER = "Feast's PostgreSQL store, local engine and Redis store"
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)


def fill(url: str, table: str, entities: int) -> None:
    """A table with a row of each entity."""
    columns = ", ".join(f"feature_{i} double precision" for i in range(FEATURES))
    values = ", ".join(f"sin(g * {i + 1}.0)" for i in range(FEATURES))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE public.{table} (symbol text, event_timestamp timestamptz, created timestamptz, {columns})"
        )
        connection.execute(
            f"INSERT INTO public.{table} SELECT 'SYM' || lpad(g::text, 7, '0'), timestamptz '2024-01-01 12:00Z', now(), {values}"
            f" FROM generate_series(1, {entities}) AS g"
        )
        connection.execute(f"VACUUM ANALYZE public.{table}")


def opened(folder: Path, url: str, port: int, *, ours: bool) -> FeatureStore:
    """A feature store over both tables."""
    address = conninfo_to_dict(url)
    stores: dict[str, Any] = {
        "offline_store": {"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": url},
        "online_store": {
            "type": "tapeline.feast_ext.PackedRedisOnlineStore",
            "connection_string": f"redis://127.0.0.1:{port}/0",
            "clock": END.isoformat(),
        },
        "batch_engine": {"type": "tapeline.feast_ext.engine.PackedComputeEngine"},
    }
    if not ours:
        stores = {
            "offline_store": {
                "type": "postgres", "host": address["host"], "port": int(address.get("port") or 5432),
                "database": address["dbname"], "db_schema": "public", "user": address["user"], "password": "none",
                "sslmode": "disable",
            },
            "online_store": {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"},
        }  # fmt: skip
    name = "ours" if ours else "theirs"
    store = FeatureStore(
        config=RepoConfig(
            project=name,
            provider="local",
            registry=str(folder / f"{name}.db"),
            entity_key_serialization_version=3,
            materialization={"pull_latest_features": True},
            **stores,
        )
    )
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    times = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"}
    views = [
        FeatureView(
            name=table,
            entities=[symbol],
            ttl=timedelta(days=7),
            schema=[Field(name="symbol", dtype=String)]
            + [Field(name=f"feature_{i}", dtype=Float64) for i in range(FEATURES)],
            source=TimescaleSource(name=f"{table}_rows", table=f"public.{table}", **times)
            if ours
            else PostgreSQLSource(name=f"{table}_rows", table=f"public.{table}", **times),
        )
        for table in ("few", "many")
    ]
    store.apply([symbol, *views])
    return store


def materialize(store: FeatureStore, port: int, database: int, view: str) -> None:
    """Into an empty store, without what Feast prints."""
    with redis.Redis(port=port, db=database) as client:
        client.flushdb()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        store.materialize(START, END, feature_views=[view])


def agree(ours: FeatureStore, theirs: FeatureStore, view: str, entities: int) -> None:
    """Ask both for some entities."""
    numbers = np.random.default_rng(1).integers(1, entities + 1, 200).tolist()
    rows = [{"symbol": f"SYM{number:07}"} for number in numbers]
    features = [f"{view}:feature_{i}" for i in range(FEATURES)]
    answers = [store.get_online_features(features, rows).to_dict() for store in (ours, theirs)]
    if answers[0] != answers[1] or None in answers[0]["feature_0"]:
        raise AssertionError("the two stores do not answer alike")


def run() -> Iterator[Result]:
    """Measure both sizes."""
    servers = SessionServers()
    try:
        url = servers.postgres_url("postgres")
        with psycopg.connect(url) as connection:
            migrate(connection)
        fill(url, "few", FEW)
        fill(url, "many", MANY)
        with valkey() as port, tempfile.TemporaryDirectory() as temporary:
            ours = opened(Path(temporary), url, port, ours=True)
            theirs = opened(Path(temporary), url, port, ours=False)
            mine, other = interleave(
                lambda _: materialize(ours, port, 0, "few"),
                lambda _: materialize(theirs, port, 1, "few"),
                rounds=ROUNDS,
                warm_up=1,
            )
            agree(ours, theirs, "few", FEW)
            yield _result(f"{FEW:,}", FEW / mine, FEW / other, {"entities": FEW}, "results equal")
            million = alone(lambda _: materialize(ours, port, 0, "many"), rounds=ROUNDS_MANY, warm_up=0)
            with redis.Redis(port=port) as client:
                if client.dbsize() < MANY:
                    raise AssertionError("entities are missing")
            pace = np.full(len(million), np.median(FEW / other))
            yield _result(
                f"{MANY:,}", MANY / million, pace, {"entities": MANY, "entities_of_peer": FEW},
                f"the peer's pace is that over {FEW:,} entities",
            )  # fmt: skip
    finally:
        servers.close()


def _result(entities: str, ours: Any, theirs: Any, sizes: dict[str, int | float | str], notes: str) -> Result:
    return compare(
        f"feast materialize, {entities} distinct entities × {FEATURES}",
        ours=ours,
        theirs=theirs,
        peer=PEER,
        unit="rows/s",
        better="higher",
        goal_ratio=GOAL,
        sizes=sizes,
        notes=notes,
    )
