"""A small repository over one server, in this store's form or in Feast's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.data_source import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from tests.feast_ext.conformance.feast_types import TYPES

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
"""Now, by the clock of the store that has one."""
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@dataclass
class Answer:
    """What a request gave, in Python's own types."""

    columns: dict[str, list[Any]]
    statuses: dict[str, list[str]]
    events: dict[str, list[int]]

    @classmethod
    def of(cls, response: Any) -> Answer:
        """Event times become seconds before noon, 0 becomes none."""
        names = list(response.proto.metadata.feature_names.val)
        results = dict(zip(names, response.proto.results, strict=True))
        return cls(
            response.to_dict(),
            {name: [FieldStatus.Name(status) for status in result.statuses] for name, result in results.items()},
            {
                name: [None if not t.seconds else int(NOON.timestamp()) - t.seconds for t in result.event_timestamps]
                for name, result in results.items()
            },
        )


@dataclass
class World:
    """One store with the repository applied.

    Attributes
    ----------
    kind
        ``ours`` or ``feast_redis``.
    folder
        For its registry.
    port
        Of a server.
    database
        Of the server, this store's alone.
    """

    kind: str
    folder: Path
    port: int
    database: int
    project: str = "conformance"

    def __post_init__(self) -> None:
        self.client = redis.Redis(port=self.port, db=self.database)
        self.client.flushdb()
        self.store = self.opened()
        self.store.apply(definitions(self.folder))

    def opened(self, project: str | None = None, **settings: Any) -> FeatureStore:
        """A feature store over the same server."""
        name = project or self.project
        return FeatureStore(
            config=RepoConfig(
                project=name,
                provider="local",
                registry={"path": str(self.folder / f"{name}.db"), "enable_online_feature_view_versioning": True},
                online_store=KINDS[self.kind](self.port, self.database) | settings,
                offline_store={"type": "file"},
                entity_key_serialization_version=3,
            )
        )

    def write(self, view: str, *rows: Mapping[str, Any], store: FeatureStore | None = None) -> None:
        """Write rows in one batch; a row without an event time is of noon."""
        (store or self.store).write_to_online_store(view, df=frame(rows))

    def rate(self, driver: int, event: datetime = NOON, **values: Any) -> dict[str, Any]:
        """A row of ``stats``."""
        return {"driver_id": driver, "event_timestamp": event, "created": event, "rate": 1.0, "trips": 1, **values}

    def read(self, features: Any, entities: Any, *, store: FeatureStore | None = None, **options: Any) -> Answer:
        """Ask."""
        return Answer.of((store or self.store).get_online_features(features, entities, **options))

    def read_async(self, features: Any, entities: Any) -> Answer:
        """Ask on an event loop."""

        async def ask() -> Any:
            try:
                return await self.store.get_online_features_async(features, entities)
            finally:
                await self.store.close()

        return Answer.of(asyncio.run(ask()))

    def rates(self, *drivers: int) -> list[Any]:
        """The rates of drivers."""
        return self.read(["stats:rate"], [{"driver_id": driver} for driver in drivers]).columns["rate"]


KINDS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "ours": lambda port, database: {
        "type": "tapeline.feast_ext.PackedRedisOnlineStore",
        "connection_string": f"127.0.0.1:{port},db={database}",
        "clock": NOON.isoformat(),
    },
    "feast_redis": lambda port, database: {"type": "redis", "connection_string": f"127.0.0.1:{port},db={database}"},
}


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame whose columns keep their values' own types."""
    table = pd.DataFrame([{"event_timestamp": NOON, **row} for row in rows]).astype(object)
    for name in ("event_timestamp", "created"):
        if name in table:
            table[name] = pd.to_datetime(table[name], utc=True)
    return table


def definitions(folder: Path) -> list[Any]:
    """Entities, views and services."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
    target = Entity(name="target", join_keys=["target"], value_type=ValueType.STRING)
    key = Field(name="driver_id", dtype=Int64)

    def source(name: str) -> FileSource:
        return FileSource(
            name=f"{name}_source", path=str(folder / f"{name}.parquet"), timestamp_field="event_timestamp",
            created_timestamp_column="created",
        )  # fmt: skip

    def stats_view(name: str, ttl: timedelta, of: Any = None) -> FeatureView:
        fields = [key, Field(name="rate", dtype=Float64), Field(name="trips", dtype=Int64)]
        return FeatureView(name=name, entities=[driver], ttl=ttl, schema=fields, source=of or source(name))

    stats, forever = stats_view("stats", HOUR), stats_view("forever", timedelta(0))
    pushed = stats_view("pushed", timedelta(0), PushSource(name="pushed_push", batch_source=source("pushed")))
    routes = FeatureView(
        name="routes", entities=[origin, target], ttl=timedelta(0), source=source("routes"),
        schema=[Field(name=name, dtype=String) for name in ("origin", "target")] + [Field(name="minutes", dtype=Float64)],
    )  # fmt: skip
    weather = FeatureView(
        name="weather", entities=[], ttl=timedelta(0), source=source("weather"), schema=[Field(name="rain", dtype=Float64)]
    )  # fmt: skip
    typed = FeatureView(
        name="typed", entities=[driver], ttl=timedelta(0), source=source("typed"),
        schema=[key, *(Field(name=name, dtype=case.feast) for name, case in TYPES.items())],
    )  # fmt: skip
    factor = RequestSource(name="factor", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[stats, factor], schema=[Field(name="scaled", dtype=Float64)], mode="python")
    def scaled(inputs: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(inputs["rate"], inputs["factor"], strict=True)
        return {"scaled": [None if rate is None else rate * factor for rate, factor in pairs]}

    return [
        driver, origin, target, stats, forever, pushed, routes, weather, typed, scaled,
        FeatureService(name="drivers", features=[stats[["trips"]], routes]),
        FeatureService(name="scaled_drivers", features=[stats[["trips"]], scaled]),
        FeatureService(name="two_roles", features=[
            stats[["rate"]].with_name("first").with_join_key_map({"driver_id": "first_id"}),
            stats[["rate"]].with_name("second").with_join_key_map({"driver_id": "second_id"}),
        ]),
    ]  # fmt: skip
