"""What goes in and what comes out: entity rows in every form, names, order, services, on-demand views, versions."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from tests.feast_ext.conformance.contract import contract, plain, rows
from tests.feast_ext.conformance.joining import drivers
from tests.feast_ext.conformance.world import World, at


@contract([2, 0, 1])
def rows_keep_their_order(world: World) -> Any:
    asked = drivers((2, at("11:00")), (1, at("12:00")), (1, at("09:00"))).assign(n=[2, 0, 1])
    return rows(world.historical(asked, ["stats:rate"]), "n", by=None)


@contract([[0, 3.0], [1, 3.0], [2, 3.0]])
def repeated_rows_stay(world: World) -> Any:
    return rows(world.historical(drivers(*[(1, at("12:00"))] * 3), ["stats:rate"]), "n", "rate")


@contract([3.0, 3.0])
def rows_alike_in_every_column_stay(world: World) -> Any:
    asked = drivers(*[(1, at("12:00"))] * 2).drop(columns="n")
    return rows(world.historical(asked, ["stats:rate"]), "rate", by=None)


@contract([["x", 0.5, True, 1.0], [None, None, False, 3.0]])
def extra_columns_come_back(world: World) -> Any:
    asked = drivers((1, at("09:00")), (1, at("12:00")), word=["x", None], number=[0.5, None], flag=[True, False])
    return rows(world.historical(asked, ["stats:rate"]), "word", "number", "flag", "rate")


@contract([True, "UTC"])
def times_keep_their_zone(world: World) -> Any:
    kind = world.historical(drivers((1, at("09:00"))), ["stats:rate"]).schema.field("event_timestamp").type
    return [pa.types.is_timestamp(kind), kind.tz]


@contract([["03-01 09:00:00", 1.0], ["03-01 12:00:00", 3.0]])
def moments_of_other_zones_are_the_same_moments(world: World) -> Any:
    asked = drivers((1, at("09:00")), (1, at("12:00")))
    asked["event_timestamp"] = asked["event_timestamp"].dt.tz_convert("America/New_York")
    return rows(world.historical(asked, ["stats:rate"]), "event_timestamp", "rate")


@contract([1.0])
def the_one_column_of_times_may_have_any_name(world: World) -> Any:
    asked = drivers((1, at("09:00"))).rename(columns={"event_timestamp": "seen at"})
    return rows(world.historical(asked, ["stats:rate"]), "rate")


@contract([])
def no_entity_rows_give_no_rows(world: World) -> Any:
    return rows(world.historical(drivers((1, at("09:00"))).head(0), ["stats:rate"]), "rate")


_QUERY = """
    SELECT d::bigint AS driver_id, timestamptz '2013-03-01 12:00Z' AS {time}, d AS n FROM generate_series(1, 2) d
"""


@contract([3.0, 4.0])
def entity_rows_may_be_a_query(world: World) -> Any:
    return rows(world.historical(_QUERY.format(time="event_timestamp"), ["stats:rate"]), "rate")


@contract([3.0, 4.0])
def a_query_may_name_its_time(world: World) -> Any:
    return rows(world.historical(_QUERY.format(time="moment"), ["stats:rate"]), "rate")


def _range(world: World, *features: str) -> pa.Table:
    job = world.store.get_historical_features(features=[*features], start_date=at("08:00"), end_date=at("12:00"))
    return job.to_arrow()


@contract(
    [[1, "03-01 09:00:00", 1.0], [1, "03-01 10:00:00", 2.5], [1, "03-01 12:00:00", 3.0], [2, "03-01 11:00:00", 4.0]]
)
def a_range_needs_no_entity_rows(world: World) -> Any:
    found = _range(world, "stats:rate")
    return sorted(rows(found, "driver_id", "event_timestamp", "rate", by=None))


@contract(["driver_id", "event_timestamp", "rate"])
def a_range_has_keys_time_and_features(world: World) -> Any:
    return sorted(_range(world, "stats:rate").column_names)


@contract([1, 2])
def a_range_over_two_views_has_every_entity(world: World) -> Any:
    return sorted(set(rows(_range(world, "stats:rate", "forever:trips"), "driver_id", by=None)))


@contract(["driver_id", "event_timestamp", "n", "rate", "trips"])
def columns_are_those_asked_for(world: World) -> Any:
    return sorted(world.historical(drivers((1, at("09:00"))), ["stats:rate", "stats:trips"]).column_names)


@contract([[1.0, 4.0]])
def full_names_tell_views_apart(world: World) -> Any:
    asked = drivers((1, at("09:00")))
    found = world.historical(asked, ["stats:rate", "forever:rate"], full_feature_names=True)
    names = ["driver_id", "event_timestamp", "forever__rate", "n", "stats__rate"]
    assert sorted(found.column_names) == names
    other = world.historical(drivers((2, at("11:00"))), ["stats:rate", "forever:rate"], full_feature_names=True)
    return [[rows(found, "stats__rate")[0], rows(other, "forever__rate")[0]]]


@contract([2.0, None, 12.0])
def on_demand_features_follow(world: World) -> Any:
    asked = drivers((1, at("09:00")), (99, at("09:00")), (1, at("12:00")), factor=[2.0, 2.0, 4.0])
    return rows(world.historical(asked, ["stats:rate", "scaled:scaled"]), "scaled")


@contract([[10, 2.0]])
def a_service_brings_on_demand_features(world: World) -> Any:
    asked = drivers((1, at("09:00")), factor=[2.0])
    return rows(world.historical(asked, world.store.get_feature_service("scaled_drivers")), "trips", "scaled")


@contract([[3.0, 22.0]])
def a_service_joins_its_views(world: World) -> Any:
    asked = drivers((1, at("12:00")), origin=["ab"], target=["bc"])
    return rows(world.historical(asked, world.store.get_feature_service("drivers")), "rate", "minutes")


@contract([3.0])
def a_reference_may_name_a_version(world: World) -> Any:
    return rows(
        world.historical(drivers((1, at("12:00"))), ["stats@v0:rate"], full_feature_names=True), "stats@v0__rate"
    )


@contract([True, True])
def frame_and_table_say_the_same(world: World) -> Any:
    asked = drivers((1, at("09:00")), (99, at("09:00")))
    job = world.store.get_historical_features(asked, ["stats:rate", "stats:trips"])
    table, frame = job.to_arrow(), job.to_df()
    names = table.column_names
    return [list(frame.columns) == names, rows(table, *names) == rows(frame, *names)]


@contract({"features": ["stats:rate"], "keys": ["driver_id", "n"], "first": "03-01 09:00:00", "last": "03-01 12:00:00"})
def a_retrieval_describes_itself(world: World) -> Any:
    asked = drivers((1, at("09:00")), (1, at("12:00")))
    metadata = world.store.get_historical_features(asked, ["stats:rate"]).metadata
    first, last = metadata.min_event_timestamp, metadata.max_event_timestamp
    first, last = (plain(pd.Timestamp(moment)) for moment in (first, last))
    return {"features": metadata.features, "keys": sorted(metadata.keys), "first": first, "last": last}


@contract(False)
def nothing_goes_to_remote_storage(world: World) -> Any:
    """All four are local; what Feast offers for warehouses is refused rather than half done."""
    job = world.store.get_historical_features(drivers((1, at("09:00"))), ["stats:rate"])
    return job.supports_remote_storage_export()
