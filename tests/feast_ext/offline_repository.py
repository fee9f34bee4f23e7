"""A small Feast repository over one database, for this offline store or for Feast's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from psycopg.conninfo import conninfo_to_dict

OFFLINE_STORE = "tapeline.feast_ext.offline_store.TimescaleOfflineStore"
NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)

DRIVERS = """
    CREATE TABLE public.driver_stats (driver_id bigint, at timestamptz, created timestamptz, conv_rate float8,
        trips bigint, note text);
    INSERT INTO public.driver_stats SELECT d, '2013-03-01 12:00Z'::timestamptz - h * interval '1 h',
        '2013-03-01 12:00Z'::timestamptz - h * interval '1 h' + interval '1 min', d + h / 100.0,
        CASE WHEN h % 5 = 0 THEN NULL ELSE h END, CASE WHEN h % 3 = 0 THEN NULL ELSE 'note ' || h END
        FROM generate_series(1, 4) d, generate_series(0, 30) h;
    -- a correction, recorded two hours later
    INSERT INTO public.driver_stats VALUES (1, '2013-03-01 10:00Z', '2013-03-01 12:00Z', 77, 7, 'corrected');
    CREATE TABLE public.routes (origin text, target text, event_timestamp timestamptz, created timestamptz,
        minutes float8);
    INSERT INTO public.routes SELECT o, t, '2013-03-01 00:00Z', '2013-03-01 00:00Z', length(o) * 10 + length(t)
        FROM (VALUES ('a'), ('ab'), ('abc')) a(o), (VALUES ('c'), ('bc'), ('d')) b(t);
    CREATE TABLE public.weather (event_timestamp timestamptz, created timestamptz, rain float8);
    INSERT INTO public.weather VALUES ('2013-03-01 11:30Z', '2013-03-01 11:30Z', 0.5);
"""


def ours(database: str, **settings: Any) -> dict[str, Any]:
    """This store, on a database given by its URL."""
    return {"type": OFFLINE_STORE, "url": database, **settings}


def theirs(database: str) -> dict[str, Any]:
    """Feast's own store on the same database."""
    address = conninfo_to_dict(database)
    return {
        "type": "postgres",
        "host": address.get("host", ""),
        "port": int(address.get("port") or 5432),
        "database": address["dbname"],
        "user": address.get("user", ""),
        "password": address.get("password") or "none",
        "sslmode": "disable",
    }


def open_store(folder: Path, offline_store: dict[str, Any], **settings: Any) -> FeatureStore:
    """A feature store whose registry and online store are files of a folder."""
    folder.mkdir(exist_ok=True)
    return FeatureStore(
        config=RepoConfig(
            project="drivers",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store=offline_store,
            entity_key_serialization_version=3,
            **settings,
        )
    )


def apply_drivers(store: FeatureStore, database: str) -> None:
    """Create the tables, and apply views over Feast's own kind of source, which both stores read."""
    with psycopg.connect(database) as connection:
        if connection.execute("SELECT to_regclass('public.driver_stats')").fetchone() == (None,):
            connection.execute(DRIVERS)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
    target = Entity(name="target", join_keys=["target"], value_type=ValueType.STRING)
    stats = FeatureView(
        name="driver_stats",
        entities=[driver],
        ttl=timedelta(hours=3),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="rate", dtype=Float64),
            Field(name="trips", dtype=Int64),
            Field(name="note", dtype=String),
        ],
        source=PostgreSQLSource(
            name="driver_stats",
            table="public.driver_stats",
            timestamp_field="at",
            created_timestamp_column="created",
            field_mapping={"conv_rate": "rate"},
        ),
    )
    routes = FeatureView(
        name="routes",
        entities=[origin, target],
        ttl=timedelta(days=0),
        schema=[
            Field(name="origin", dtype=String),
            Field(name="target", dtype=String),
            Field(name="minutes", dtype=Float64),
        ],
        source=PostgreSQLSource(
            name="routes",
            query="SELECT * FROM public.routes WHERE minutes > 0",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )
    weather = FeatureView(
        name="weather",
        entities=[],
        ttl=timedelta(hours=1),
        schema=[Field(name="rain", dtype=Float64)],
        source=PostgreSQLSource(
            name="weather",
            table="public.weather",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )

    @on_demand_feature_view(sources=[stats], schema=[Field(name="double_rate", dtype=Float64)], mode="pandas")
    def doubled(inputs):
        out = inputs[["rate"]] * 2
        out.columns = ["double_rate"]
        return out

    store.apply(
        [
            driver, origin, target, stats, routes, weather, doubled,
            FeatureService(name="drivers", features=[stats[["rate", "trips"]], routes]),
            FeatureService(name="doubled_drivers", features=[stats[["rate"]], doubled]),
        ]
    )  # fmt: skip
