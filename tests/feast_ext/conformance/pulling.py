"""What materialization reads: all rows of a span, or the newest of each entity; and what then is online."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from feast.infra.offline_stores.offline_store import RetrievalJob

from tests.feast_ext.conformance.contract import contract, rows
from tests.feast_ext.conformance.world import World, at


def _pull(world: World, what: str, start: datetime, end: datetime) -> RetrievalJob:
    read = getattr(world.store._get_provider().offline_store, f"pull_{what}_from_table_or_query")
    source = world.store.get_feature_view("stats").batch_source
    return read(
        world.store.config,
        source,
        ["driver_id"],
        ["conv_rate", "trips"],
        "at",
        "created",
        start_date=start,
        end_date=end,
    )


def _rates(world: World, what: str, start: str, end: str) -> list[Any]:
    return sorted(rows(_pull(world, what, at(start), at(end)).to_arrow(), "driver_id", "conv_rate", by=None))


@contract([[1, 1.0], [1, 2.0], [1, 2.5], [1, 3.0], [2, 4.0]])
def all_rows_of_a_span(world: World) -> Any:
    return _rates(world, "all", "08:00", "13:00")


@contract([[1, 2.0], [1, 2.5], [2, 4.0]])
def a_span_of_all_rows_includes_its_edges(world: World) -> Any:
    return _rates(world, "all", "10:00", "11:00")


@contract([[1, 3.0], [2, 4.0]])
def the_newest_row_of_each_entity(world: World) -> Any:
    return _rates(world, "latest", "08:00", "13:00")


@contract([[1, 2.5]])
def of_the_newest_moment_the_row_created_last(world: World) -> Any:
    return _rates(world, "latest", "09:30", "10:30")


@contract([[1, 1.0]])
def a_span_of_newest_rows_includes_its_edges(world: World) -> Any:
    return _rates(world, "latest", "09:00", "09:00")


@contract([])
def an_empty_span_has_no_rows(world: World) -> Any:
    return _rates(world, "all", "02:00", "03:00") + _rates(world, "latest", "02:00", "03:00")


@contract(5)
def a_pull_says_its_statement(world: World) -> Any:
    statement = _pull(world, "all", at("08:00"), at("13:00")).to_sql()
    with psycopg.connect(world.database) as connection:
        return len(connection.execute(statement).fetchall())


def _online(world: World, view: str, features: list[str], entity: dict[str, Any]) -> Any:
    world.store.materialize(at("00:00"), at("13:00"), feature_views=[view])
    return world.store.get_online_features(features, [entity]).to_dict()


@contract({"driver_id": [1], "rate": [3.0], "trips": [30]})
def the_newest_row_is_materialized(world: World) -> Any:
    return _online(world, "stats", ["stats:rate", "stats:trips"], {"driver_id": 1})


@contract({"origin": ["ab"], "target": ["c"], "minutes": [21.0]})
def composite_keys_are_materialized(world: World) -> Any:
    return _online(world, "routes", ["routes:minutes"], {"origin": "ab", "target": "c"})


@contract({"driver_id": [1], "rain": [0.5]})
def a_view_without_entities_is_materialized(world: World) -> Any:
    return _online(world, "weather", ["weather:rain"], {"driver_id": 1})
