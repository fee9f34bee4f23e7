"""Rows into the store: batches, pushes, logged features, saved data sets."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
from feast.data_source import PushMode
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LOG_TIMESTAMP_FIELD

from tests.feast_ext.conformance.contract import contract, rows
from tests.feast_ext.conformance.joining import drivers
from tests.feast_ext.conformance.world import World, at


def _row(driver: int, rate: float) -> pd.DataFrame:
    moment = pd.Timestamp(at("10:00"))
    return pd.DataFrame({"driver_id": [driver], "event_timestamp": [moment], "created": [moment], "rate": [rate]})


def _rate(world: World, view: str, driver: int) -> Any:
    return rows(world.historical(drivers((driver, at("11:00"))), [f"{view}:rate"]), "rate")[0]


@contract(7.0)
def a_written_batch_is_read(world: World) -> Any:
    world.store.write_to_offline_store("written", _row(7, 7.0))
    return _rate(world, "written", 7)


@contract(7.25)
def a_batch_of_reordered_columns_is_written(world: World) -> Any:
    row = _row(10, 7.25)
    world.store.write_to_offline_store("written", row[[*reversed(row.columns)]])
    return _rate(world, "written", 10)


@contract(7.5)
def a_batch_of_a_mapped_view_has_the_columns_of_its_table(world: World) -> Any:
    row = _row(7, 7.5).rename(columns={"event_timestamp": "at", "rate": "conv_rate"}).assign(trips=1)
    world.store.write_to_offline_store("mapped", row)
    return _rate(world, "mapped", 7)


@contract(1)
def a_batch_written_again_adds_nothing(world: World) -> Any:
    before = world.stored("written")
    for _ in range(2):
        world.store.write_to_offline_store("written", _row(8, 8.0))
    return world.stored("written") - before


@contract("refused")
def a_batch_with_other_columns_is_refused(world: World) -> Any:
    before = world.stored("written")
    try:
        world.store.write_to_offline_store("written", _row(9, 9.0).rename(columns={"rate": "speed"}))
    except ValueError:
        return "refused" if world.stored("written") == before else "half written"
    return "taken"


@contract(5.5)
def a_push_reaches_the_offline_store(world: World) -> Any:
    world.store.push("pushed_push", _row(5, 5.5), to=PushMode.OFFLINE)
    return _rate(world, "pushed", 5)


@contract([6.5, [6.5]])
def a_push_reaches_both_stores(world: World) -> Any:
    world.store.push("pushed_push", _row(6, 6.5), to=PushMode.ONLINE_AND_OFFLINE)
    online = world.store.get_online_features(["pushed:rate"], [{"driver_id": 6}]).to_dict()
    return [_rate(world, "pushed", 6), online["rate"]]


def _logs() -> pa.Table:
    moment = pa.timestamp("us", tz="UTC")
    names = ["driver_id", "stats__rate", "stats__rate__timestamp", "stats__rate__status"]
    columns = [pa.array([1]), pa.array([3.0]), pa.array([at("12:00")], moment), pa.array([1], pa.int32())]
    times = [pa.array([at("12:30")], moment), pa.array([at("12:30").date()], pa.date32()), pa.array(["r1"])]
    return pa.table([*columns, *times], names=[*names, LOG_TIMESTAMP_FIELD, "__log_date", "__request_id"])


@contract([[1, 3.0, "r1"]])
def logged_features_are_read_back(world: World) -> Any:
    service = world.store.get_feature_service("served")
    world.store.write_logged_features(_logs(), service)
    job = world.store._get_provider().retrieve_feature_service_logs(
        feature_service=service, start_date=at("12:00"), end_date=at("13:00"), config=world.store.config,
        registry=world.store._registry,
    )  # fmt: skip
    return rows(job.to_arrow(), "driver_id", "stats__rate", "__request_id", by="driver_id")


def _job(world: World) -> Any:
    return world.store.get_historical_features(drivers((1, at("09:00")), (1, at("12:00"))), ["stats:rate"])


@contract([1.0, 3.0])
def a_saved_data_set_comes_back(world: World) -> Any:
    world.store.create_saved_dataset(_job(world), "kept", world.storage("kept"))
    return rows(world.store.get_saved_dataset("kept").to_df(), "rate", by="event_timestamp")


@contract("refused")
def a_saved_data_set_is_not_overwritten(world: World) -> Any:
    _job(world).persist(world.storage("once"))
    try:
        _job(world).persist(world.storage("once"))
    except SavedDatasetLocationAlreadyExists:
        return "refused"
    return "overwritten"


@contract("overwritten")
def a_saved_data_set_is_overwritten_when_asked(world: World) -> Any:
    for _ in range(2):
        _job(world).persist(world.storage("again"), allow_overwrite=True)
    return "overwritten"
