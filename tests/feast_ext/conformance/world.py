"""A small repository over the same data in every store's own kind of place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.data_source import DataSource, RequestSource
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
    SavedDatasetPostgreSQLStorage,
)
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from psycopg import sql
from tapeline.feast_ext import SavedDatasetTimescaleStorage, TimescaleLoggingDestination, TimescaleSource

from tests.feast_ext.conformance.feast_types import TYPES
from tests.feast_ext.offline_repository import ours, theirs

DAY = datetime(2013, 3, 1, tzinfo=UTC)


def at(clock: str, day: int = 1) -> datetime:
    """A moment of March 2013, UTC."""
    return datetime.fromisoformat(f"2013-03-{day:02d}T{clock}+00:00")


@dataclass(frozen=True)
class Table:
    """Columns with their SQL and Arrow types, and rows."""

    columns: dict[str, tuple[str, pa.DataType]]
    rows: Sequence[Sequence[Any]]

    def arrow(self) -> pa.Table:
        names = list(self.columns)
        return pa.table(
            {
                name: pa.array([row[i] for row in self.rows], kind)
                for i, (name, (_, kind)) in enumerate(self.columns.items())
            },
            schema=pa.schema([(name, self.columns[name][1]) for name in names]),
        )


TIME = ("timestamptz", pa.timestamp("us", tz="UTC"))
INT = ("bigint", pa.int64())
FLOAT = ("double precision", pa.float64())
TEXT = ("text", pa.string())
STATS = {"driver_id": INT, "at": TIME, "created": TIME, "conv_rate": FLOAT, "trips": INT}
PLAIN = {"driver_id": INT, "event_timestamp": TIME, "created": TIME, "rate": FLOAT}

TABLES = {
    "stats": Table(
        STATS,
        [
            (1, at("09:00"), at("09:01"), 1.0, 10),
            (1, at("10:00"), at("10:01"), 2.0, None),
            (1, at("10:00"), at("12:30"), 2.5, 20),  # a correction
            (1, at("12:00"), at("12:00"), 3.0, 30),
            (2, at("11:00"), at("11:01"), 4.0, 40),
        ],
    ),
    "routes": Table(
        {"origin": TEXT, "target": TEXT, "event_timestamp": TIME, "created": TIME, "minutes": FLOAT},
        [(o, t, at("00:00"), at("00:00"), 10.0 * len(o) + len(t)) for o in ("a", "ab") for t in ("c", "bc")],
    ),
    "weather": Table({"event_timestamp": TIME, "created": TIME, "rain": FLOAT}, [(at("11:30"), at("11:30"), 0.5)]),
    "typed": Table(
        {"driver_id": INT, "event_timestamp": TIME, "created": TIME}
        | {name: (case.sql, case.arrow) for name, case in TYPES.items()},
        [
            (1, at("09:00"), at("09:00"), *(case.value for case in TYPES.values())),
            (2, at("09:00"), at("09:00"), *(None for _ in TYPES)),
        ],
    ),
    "written": Table(PLAIN, [(1, at("09:00"), at("09:01"), 1.0)]),
    "pushed": Table(PLAIN, [(1, at("09:00"), at("09:01"), 1.0)]),
    "mapped": Table(STATS, [(1, at("09:00"), at("09:01"), 1.0, 10)]),
}


@dataclass
class World:
    """One store with the repository applied.

    Attributes
    ----------
    kind
        Which store; see `KINDS`.
    folder
        For files of its own.
    database
        URL of a database of its own.
    """

    kind: str
    folder: Path
    database: str
    store: FeatureStore = field(init=False)

    def __post_init__(self) -> None:
        for name, table in TABLES.items():
            if self.kind == "feast_duckdb":
                pq.write_table(table.arrow(), self.folder / f"{name}.parquet")
            else:
                _create(self.database, name, table)
        self.store = FeatureStore(
            config=RepoConfig(
                project="conformance",
                provider="local",
                registry={
                    "path": str(self.folder / "registry.db"),
                    "enable_online_feature_view_versioning": True,
                },
                online_store={"type": "sqlite", "path": str(self.folder / "online.db")},
                offline_store=KINDS[self.kind](self.database),
                entity_key_serialization_version=3,
                coerce_tz_aware=False,
            ),
            repo_path=str(self.folder),
        )
        self.store.apply(definitions(self))

    def source(self, table: str, *, moment: str = "event_timestamp", **options: Any) -> DataSource:
        """This store's kind of source over a table."""
        times = {"name": table, "timestamp_field": moment, "created_timestamp_column": "created", **options}
        if self.kind == "feast_duckdb":
            return FileSource(path=str(self.folder / f"{table}.parquet"), **times)
        if self.kind == "ours":
            return TimescaleSource(table=f"public.{table}", **times)
        return PostgreSQLSource(table=f"public.{table}", **times)

    def storage(self, name: str) -> Any:
        """Where this store keeps a saved data set."""
        if self.kind == "feast_duckdb":
            return SavedDatasetFileStorage(path=str(self.folder / f"{name}.parquet"))
        if self.kind == "feast_postgres":
            return SavedDatasetPostgreSQLStorage(name)
        return SavedDatasetTimescaleStorage(f"public.{name}")

    def logging_destination(self) -> Any:
        """Where this store keeps logged features."""
        if self.kind.startswith("ours"):
            return TimescaleLoggingDestination("public.served")
        (self.folder / "served").mkdir(exist_ok=True)
        return FileLoggingDestination(path=str(self.folder / "served"))

    def historical(self, entity_rows: Any, features: Any, **options: Any) -> pa.Table:
        """A retrieval, as Arrow."""
        return self.store.get_historical_features(entity_rows, features, **options).to_arrow()

    def stored(self, table: str) -> int:
        """Rows of a table."""
        if self.kind == "feast_duckdb":
            return int(pq.read_table(self.folder / f"{table}.parquet").num_rows)
        with psycopg.connect(self.database) as connection:
            row = connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table))
            ).fetchone()
        assert row is not None
        return int(row[0])


KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "ours": ours,
    "ours_switched": lambda url: {**theirs(url), "type": ours(url)["type"]},
    "feast_postgres": lambda url: {**theirs(url), "db_schema": "public"},
    "feast_duckdb": lambda url: {"type": "duckdb"},
}
"""This store; this store on Feast's PostgreSQL sources, as after a switch; Feast's PostgreSQL store; its DuckDB store."""


def _create(url: str, name: str, table: Table) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, (kind, _) in table.columns.items()
    )
    slots = sql.SQL(", ").join([sql.Placeholder()] * len(table.columns))
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier("public", name), columns))
        cursor.executemany(
            sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier("public", name), slots), table.rows
        )


def definitions(world: World) -> list[Any]:
    """Entities, views and services over a world's sources."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
    target = Entity(name="target", join_keys=["target"], value_type=ValueType.STRING)
    key = Field(name="driver_id", dtype=Int64)
    fields = [key, Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int64)]

    def stats_view(name: str, table: str, hours: int) -> FeatureView:
        source = world.source(table, moment="at", name=f"{name}_source", field_mapping={"conv_rate": "rate"})
        return FeatureView(name=name, entities=[driver], ttl=timedelta(hours=hours), schema=fields, source=source)

    def plain_view(name: str, source: DataSource) -> FeatureView:
        return FeatureView(name=name, entities=[driver], ttl=timedelta(0), schema=fields[:2], source=source)

    stats, forever = stats_view("stats", "stats", 3), stats_view("forever", "stats", 0)
    routes = FeatureView(
        name="routes", entities=[origin, target], ttl=timedelta(0), source=world.source("routes"),
        schema=[Field(name=name, dtype=String) for name in ("origin", "target")] + [Field(name="minutes", dtype=Float64)],
    )  # fmt: skip
    weather = FeatureView(
        name="weather", entities=[], ttl=timedelta(hours=1), source=world.source("weather"),
        schema=[Field(name="rain", dtype=Float64)],
    )  # fmt: skip
    typed = FeatureView(
        name="typed", entities=[driver], ttl=timedelta(hours=3), source=world.source("typed"),
        schema=[key, *(Field(name=name, dtype=case.feast) for name, case in TYPES.items())],
    )  # fmt: skip
    factor = RequestSource(name="factor", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[stats, factor], schema=[Field(name="scaled", dtype=Float64)], mode="pandas")
    def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["rate"] * inputs["factor"]})

    logged = LoggingConfig(destination=world.logging_destination())
    return [
        driver, origin, target, stats, forever, routes, weather, typed, scaled,
        plain_view("written", world.source("written")), stats_view("mapped", "mapped", 0),
        plain_view("pushed", PushSource(name="pushed_push", batch_source=world.source("pushed"))),
        FeatureService(name="drivers", features=[stats[["rate"]], routes]),
        FeatureService(name="scaled_drivers", features=[stats[["trips"]], scaled]),
        FeatureService(name="two_roles", features=[
            stats[["rate"]].with_name("first").with_join_key_map({"driver_id": "first_id"}),
            stats[["rate"]].with_name("second").with_join_key_map({"driver_id": "second_id"}),
        ]),
        FeatureService(name="served", features=[stats[["rate"]]], logging_config=logged),
    ]  # fmt: skip
