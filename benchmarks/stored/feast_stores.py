"""Feast feature stores over one table of minutes: with our offline store, with Feast's PostgreSQL store, with its DuckDB store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, String
from feast.value_type import ValueType
from psycopg.conninfo import conninfo_to_dict
from tapeline.feast_ext.source import TimescaleSource

from benchmarks.stored.minutes import Minutes


def ours(folder: Path, url: str, stored: Minutes, ttl: timedelta) -> FeatureStore:
    """A store of Tapeline."""
    source = TimescaleSource(
        table=f"public.{stored.table}",
        available_timestamp_column="available_timestamp",
        created_timestamp_column="created_timestamp",
        sequence_column="sequence",
    )
    return _store(folder, "ours", {"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": url}, source, stored, ttl)


def feast_postgres(folder: Path, url: str, stored: Minutes, ttl: timedelta) -> FeatureStore:
    """Feast's PostgreSQL store; it gets no created column, which spares it a pass."""
    address = conninfo_to_dict(url)
    settings = {
        "type": "postgres",
        "host": address["host"],
        "port": int(address.get("port") or 5432),
        "database": address["dbname"],
        "user": address["user"],
        "password": "none",
        "sslmode": "disable",
    }
    source = PostgreSQLSource(name=stored.table, table=f"public.{stored.table}", timestamp_field="event_timestamp")
    return _store(folder, "theirs", settings, source, stored, ttl)


def feast_duckdb(folder: Path, parquet: Path, stored: Minutes, ttl: timedelta) -> FeatureStore:
    """Feast's DuckDB store over a Parquet file."""
    from feast.infra.offline_stores.file_source import FileSource

    source = FileSource(name=stored.table, path=str(parquet), timestamp_field="event_timestamp")
    return _store(folder, "duckdb", {"type": "duckdb"}, source, stored, ttl)


def _store(
    folder: Path, name: str, offline: dict[str, Any], source: DataSource, stored: Minutes, ttl: timedelta
) -> FeatureStore:
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
    schema = [Field(name="symbol", dtype=String), *(Field(name=column, dtype=Float64) for column in stored.columns)]
    feature_store.apply(
        [entity, FeatureView(name=stored.table, entities=[entity], ttl=ttl, schema=schema, source=source)]
    )
    return feature_store
