"""Feast's own Ray engine beside ours, over the same rows: ``python -m tests.feast_ext.ray_engine DATABASE REDIS FOLDER``.

Prints as JSON what each wrote online for a view whose rows are fresh, for one whose rows are older than its time to live, and
for one without a time to live. A process of its own: Feast starts Ray in it.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.types import Float64, String
from feast.value_type import ValueType
from tapeline.feast_ext import TimescaleSource

SYMBOLS = ["A", "B", "C"]
NOW = datetime.now(UTC).replace(microsecond=0)
OLD = datetime(2013, 3, 1, 21, tzinfo=UTC)
VIEWS = {"fresh": (NOW, timedelta(days=7)), "old": (OLD, timedelta(days=7)), "lasting": (OLD, timedelta(0))}
ENGINES: dict[str, dict[str, Any]] = {
    "ours": {"type": "tapeline.feast_ext.engine.PackedComputeEngine"},
    "ray": {
        "type": "ray.engine",
        "ray_conf": {"num_cpus": 2, "object_store_memory": 100 << 20},
    },
}


def fill(connection: psycopg.Connection[Any], name: str, end: datetime) -> None:
    """Some days of each symbol, with a correction of the newest."""
    connection.execute(
        f"CREATE TABLE public.{name} (symbol text, event_timestamp timestamptz, available_timestamp timestamptz,"
        " created_timestamp timestamptz DEFAULT clock_timestamp(), sequence bigint, price float8, size float8)"
    )
    for day in range(3):
        for number, symbol in enumerate(SYMBOLS):
            event = end - timedelta(days=day)
            row = (symbol, event, event, 0, 100.0 * number + day, None if number == 1 else 7.0)
            connection.execute(
                f"INSERT INTO public.{name} (symbol, event_timestamp, available_timestamp, sequence, price, size)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                row,
            )
    connection.execute(
        f"INSERT INTO public.{name} (symbol, event_timestamp, available_timestamp, sequence, price, size)"
        " VALUES ('A', %s, %s, 0, 55.5, 8)",
        (end, end),
    )


def opened(database: str, redis: str, folder: Path, engine: str, clock: str) -> FeatureStore:
    """A feature store with our two stores and one of the engines; its clock is for reading."""
    return FeatureStore(
        config=RepoConfig(
            project=f"engine_{engine}",
            provider="local",
            registry=str(folder / f"{engine}.db"),
            offline_store={"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": database},
            online_store={
                "type": "tapeline.feast_ext.PackedRedisOnlineStore",
                "connection_string": redis,
                "clock": clock,
            },
            batch_engine=ENGINES[engine],
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
            coerce_tz_aware=False,
        )
    )


def materialized(database: str, redis: str, folder: Path, engine: str) -> dict[str, Any]:
    """Online values of every view after one engine materialized them, as of soon after their newest rows."""
    store = opened(database, redis, folder, engine, "live")
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=name,
            entities=[symbol],
            ttl=ttl,
            schema=[
                Field(name="symbol", dtype=String), Field(name="price", dtype=Float64), Field(name="size", dtype=Float64)
            ],
            source=TimescaleSource(
                name=f"{name}_source",
                table=f"public.{name}",
                available_timestamp_column="available_timestamp",
                created_timestamp_column="created_timestamp",
                sequence_column="sequence",
            ),
        )
        for name, (_, ttl) in VIEWS.items()
    ]  # fmt: skip
    store.apply([symbol, *views])
    found: dict[str, Any] = {}
    for name, (end, _) in VIEWS.items():
        try:
            store.materialize(end - timedelta(days=10), end + timedelta(minutes=1), feature_views=[name])
        except Exception as error:  # noqa: BLE001 - it is what is asked
            found[name] = f"{type(error).__name__}: {error}"
            continue
        then = opened(database, redis, folder, engine, (end + timedelta(hours=1)).isoformat())
        answer = then.get_online_features(
            features=[f"{name}:price", f"{name}:size"], entity_rows=[{"symbol": symbol} for symbol in SYMBOLS]
        )
        found[name] = answer.to_dict()
    return found


def main() -> None:
    """Fill the tables, let both engines work, tell."""
    database, redis, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    with psycopg.connect(database) as connection:
        for name, (end, _) in VIEWS.items():
            fill(connection, name, end)
    out = sys.stdout
    with redirect_stdout(sys.stderr):
        found = {engine: materialized(database, redis, Path(folder), engine) for engine in ENGINES}
    print(json.dumps(found), file=out)


if __name__ == "__main__":
    main()
