"""PackedRedisOnlineStore against Feast's own Redis store, and where it is better on purpose."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.value_type import ValueType
from tapeline.core.errors import ConfigurationError, IntegrityError, InvalidDataError, UnavailableError
from tapeline.feast_ext import packing
from tapeline.feast_ext.online_clients import address
from tapeline.feast_ext.online_store import PackedRedisOnlineStoreConfig
from tapeline.storage.keys import entity_key
from tapeline.storage.servers.binaries import valkey_program

pytestmark = pytest.mark.filterwarnings("ignore")

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
OURS = "tapeline.feast_ext.PackedRedisOnlineStore"
ROUTE = [Entity(name=name, join_keys=[name], value_type=ValueType.STRING) for name in ("origin", "target")]
SYMBOL = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
ACCOUNT = Entity(name="account", join_keys=["account"], value_type=ValueType.INT64)
TYPES = {
    "price": Float64,
    "ratio": Float32,
    "count": Int64,
    "small": Int32,
    "flag": Bool,
    "at": UnixTimestamp,
    "text": String,
    "numbers": Array(Float64),
}


def config(folder: Path, online: dict[str, Any], project: str = "p") -> RepoConfig:
    return RepoConfig(
        project=project,
        provider="local",
        registry={"path": str(folder / "registry.db"), "enable_online_feature_view_versioning": True},
        online_store=online,
        entity_key_serialization_version=3,
    )


def ours(folder: Path, url: str, clock: str = NOON.isoformat()) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    return FeatureStore(config=config(folder, {"type": OURS, "connection_string": url, "clock": clock}))


def view(name: str, entities: list[Entity], fields: dict[str, Any], ttl: timedelta = timedelta(days=1)) -> FeatureView:
    source = FileSource(name=f"{name}_source", path=f"{name}.parquet", timestamp_field="event_timestamp")
    keys = [Field(name=e.join_key, dtype=Int64 if e is ACCOUNT else String) for e in entities]
    schema = [*keys, *(Field(name=field, dtype=dtype) for field, dtype in fields.items())]
    return FeatureView(name=name, entities=entities, ttl=ttl, schema=schema, source=source)


ALL_TYPES = view("all_types", [SYMBOL], TYPES)
ROUTES = view("routes", ROUTE, {"minutes": Float64})
BALANCES = view("balances", [ACCOUNT], {"balance": Float64}, timedelta(hours=1))


def rows(event: datetime = NOON, **changes: Any) -> pd.DataFrame:
    row = {
        "price": 1.25, "ratio": np.float32(0.1), "count": 2**52 + 1, "small": -3, "flag": False,
        "at": datetime(2012, 1, 1, tzinfo=UTC), "text": "été", "numbers": [1.0, 2.5],
    }  # fmt: skip
    full = pd.DataFrame([row | changes | {"symbol": "A", "event_timestamp": event}])
    empty = pd.DataFrame([dict.fromkeys(row) | {"symbol": "B", "event_timestamp": event}])
    return pd.concat([full, empty.astype(object)], ignore_index=True).astype(dict.fromkeys(row, object))


@pytest.fixture
def store(tmp_path: Path, redis_url: str) -> FeatureStore:
    feature_store = ours(tmp_path, redis_url)
    feature_store.apply([SYMBOL, ACCOUNT, *ROUTE, ALL_TYPES, ROUTES, BALANCES])
    return feature_store


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server on a port, which is all that Feast's own store can use."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("valkey")
    command = [str(valkey_program()), "--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        for _ in range(500):
            try:
                redis.Redis(port=number).ping()
                break
            except redis.ConnectionError:
                time.sleep(0.01)
        yield number
        server.terminate()


def statuses(response: Any) -> dict[str, list[int]]:
    names = response.proto.metadata.feature_names.val
    return {name: list(result.statuses) for name, result in zip(names, response.proto.results, strict=True)}


def test_every_type_comes_back_as_from_feasts_own_store(tmp_path: Path, port: int) -> None:
    redis.Redis(port=port).flushall()
    both = []
    for name, online in (
        ("ours", {"type": OURS, "connection_string": f"127.0.0.1:{port},db=0", "clock": NOON.isoformat()}),
        ("theirs", {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"}),
    ):
        (tmp_path / name).mkdir()
        feature_store = FeatureStore(config=config(tmp_path / name, online))
        feature_store.apply([SYMBOL, ALL_TYPES])
        feature_store.write_to_online_store("all_types", df=rows())
        both.append(feature_store)
    references = [f"all_types:{name}" for name in TYPES]
    entities = [{"symbol": symbol} for symbol in ("B", "A", "missing", "A")]
    for full_names in (False, True):
        mine, other = (s.get_online_features(references, entities, full_feature_names=full_names) for s in both)
        assert mine.to_dict(include_event_timestamps=True) == other.to_dict(include_event_timestamps=True)
        pd.testing.assert_frame_equal(mine.to_df()[other.to_df().columns], other.to_df())
        assert mine.to_arrow().select(other.to_arrow().column_names).equals(other.to_arrow())
        by_name = dict(zip(other.proto.metadata.feature_names.val, other.proto.results, strict=True))
        for name, result in zip(mine.proto.metadata.feature_names.val, mine.proto.results, strict=True):
            assert result.values == by_name[name].values, name
            assert result.event_timestamps == by_name[name].event_timestamps, name
    found = statuses(mine)["all_types__price"]
    assert found == [FieldStatus.NULL_VALUE, FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.PRESENT]


def test_views_of_different_entities_are_one_round_trip_in_requested_order(store: FeatureStore, redis_url: str) -> None:
    store.write_to_online_store("all_types", df=rows())
    for origin, target, minutes in (("a", "bc", 1.0), ("ab", "c", 2.0)):
        frame = {"origin": [origin], "target": [target], "minutes": [minutes], "event_timestamp": [NOON]}
        store.write_to_online_store("routes", df=pd.DataFrame(frame))
    references = ["routes:minutes", "all_types:count", "all_types:price"]
    entities = {"origin": ["ab", "a"], "target": ["c", "bc"], "symbol": ["A", "A"]}
    store.get_online_features(references, entities)
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("commandstats")["cmdstat_mget"]["calls"]
        response = store.get_online_features(references, entities)
        assert client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1
    assert list(response.to_dict()) == ["origin", "target", "symbol", "minutes", "count", "price"]
    assert response.to_dict()["minutes"] == [2.0, 1.0], "composite keys do not collide"
    assert response.to_dict()["count"] == [2**52 + 1] * 2


def test_ttl_holds_by_the_injected_clock(tmp_path: Path, redis_url: str, store: FeatureStore) -> None:
    frame = pd.DataFrame({"account": [7], "balance": [5.0], "event_timestamp": [NOON - timedelta(hours=1)]})
    store.write_to_online_store("balances", df=frame)
    request = {"features": ["balances:balance"], "entity_rows": [{"account": 7}]}
    assert store.get_online_features(**request).to_dict()["balance"] == [5.0]
    expectations = [
        (NOON + timedelta(microseconds=1), FieldStatus.OUTSIDE_MAX_AGE),
        (NOON - timedelta(hours=1, microseconds=1), FieldStatus.NOT_FOUND),
        (NOON - timedelta(hours=1), FieldStatus.PRESENT),
    ]
    for moment, expected in expectations:
        response = ours(tmp_path, redis_url, moment.isoformat()).get_online_features(**request)
        assert statuses(response)["balance"] == [expected]
        assert response.to_dict()["balance"] == [5.0 if expected == FieldStatus.PRESENT else None]


def test_an_older_row_never_replaces_a_newer_one_and_a_correction_does(store: FeatureStore) -> None:
    def read() -> list[Any]:
        return store.get_online_features(["all_types:price"], [{"symbol": "A"}]).to_dict()["price"]

    store.write_to_online_store("all_types", df=rows(price=1.0))
    store.write_to_online_store("all_types", df=rows(NOON - timedelta(minutes=1), price=2.0))
    assert read() == [1.0]
    store.write_to_online_store("all_types", df=rows(price=3.0))
    assert read() == [3.0]
    both = pd.concat([rows(NOON, price=4.0), rows(NOON - timedelta(days=1), price=5.0)])
    store.write_to_online_store("all_types", df=both)
    assert read() == [4.0]


def test_async_reads_and_writes_are_the_same(store: FeatureStore) -> None:
    async def scenario() -> Any:
        await store.write_to_online_store_async("all_types", df=rows(price=8.0))
        return await store.get_online_features_async(["all_types:price"], [{"symbol": "A"}, {"symbol": "C"}])

    response = asyncio.run(scenario())
    assert response.to_dict() == {"symbol": ["A", "C"], "price": [8.0, None]}
    assert store.get_online_features(["all_types:price"], [{"symbol": "A"}]).to_dict()["price"] == [8.0]


def test_a_changed_view_reads_what_was_written_before(tmp_path: Path, redis_url: str, store: FeatureStore) -> None:
    store.write_to_online_store("all_types", df=rows(price=8.0))
    store.config.registry.enable_online_feature_view_versioning = False
    wider = ours(tmp_path, redis_url)
    wider.config.registry.enable_online_feature_view_versioning = False
    wider.apply([SYMBOL, view("all_types", [SYMBOL], {"added": Float64, **TYPES})])
    response = wider.get_online_features(["all_types:price", "all_types:added"], [{"symbol": "A"}])
    assert response.to_dict() == {"symbol": ["A"], "price": [8.0], "added": [None]}
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter("tl:p:layout:*"):
            client.delete(key)
    with pytest.raises(IntegrityError, match="unknown layout"):
        wider.get_online_features(["all_types:price"], [{"symbol": "A"}])


def test_versions_live_side_by_side(store: FeatureStore) -> None:
    store.write_to_online_store("all_types", df=rows(price=1.0))
    store.apply([view("all_types", [SYMBOL], {**TYPES, "added": Float64})])
    store.write_to_online_store("all_types", df=rows(price=2.0).assign(added=7.0))
    references = ["all_types@v0:price", "all_types@v1:price", "all_types@v1:added"]
    response = store.get_online_features(references, [{"symbol": "A"}], full_feature_names=True)
    assert response.to_dict() == {
        "symbol": ["A"], "all_types@v0__price": [1.0], "all_types@v1__price": [2.0], "all_types@v1__added": [7.0],
    }  # fmt: skip


def test_a_service_is_planned_again_after_a_change(store: FeatureStore) -> None:
    store.write_to_online_store("all_types", df=rows())
    service = FeatureService(name="service", features=[ALL_TYPES[["price"]]])
    store.apply([service])
    assert list(store.get_online_features(service, [{"symbol": "A"}]).to_dict()) == ["symbol", "price"]
    service = FeatureService(name="service", features=[ALL_TYPES[["count"]]])
    store.apply([service])
    assert list(store.get_online_features(service, [{"symbol": "A"}]).to_dict()) == ["symbol", "count"]


def test_dropped_views_lose_their_values_and_nothing_else_does(store: FeatureStore, redis_url: str) -> None:
    store.write_to_online_store("all_types", df=rows())
    frame = pd.DataFrame({"account": [7], "balance": [5.0], "event_timestamp": [NOON]})
    store.write_to_online_store("balances", df=frame)
    store.apply([], objects_to_delete=[store.get_feature_view("all_types")], partial=False)
    with redis.Redis.from_url(redis_url) as client:
        kept = [key for key in client.scan_iter() if b":layout:" not in key]
    assert kept == [b"tl:p:balances@0:{i1:7}"]


def test_a_server_that_comes_back_is_used_again(tmp_path: Path, redis_url: str, store: FeatureStore) -> None:
    store.write_to_online_store("all_types", df=rows(price=8.0))
    request = {"features": ["all_types:price"], "entity_rows": [{"symbol": "A"}]}
    assert store.get_online_features(**request).to_dict()["price"] == [8.0]
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert store.get_online_features(**request).to_dict()["price"] == [8.0]
    absent = ours(tmp_path, "unix:///nonexistent/redis.sock")
    with pytest.raises(UnavailableError):
        absent.get_online_features(**request)


def test_a_missing_join_key_is_feasts_own_error(store: FeatureStore) -> None:
    with pytest.raises(KeyError, match="symbol"):
        store.get_online_features(["all_types:price"], [{"nothing": "A"}])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("h:6380,db=3", "redis://h:6380/3"),
        ("h", "redis://h:6379/0"),
        ("h:1,ssl=true,password=x", "rediss://:x@h:1/0"),
    ],
)
def test_connection_strings(text: str, expected: str) -> None:
    assert address(PackedRedisOnlineStoreConfig(connection_string=text)) == expected


@pytest.mark.parametrize("text", ["", "h:port", "h:1,colour=red"])
def test_malformed_connection_strings_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        address(PackedRedisOnlineStoreConfig(connection_string=text))


def test_what_is_remembered_of_entities_is_what_would_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_ENTITIES", {})
    monkeypatch.setattr(packing, "_ENTITIES_MAX", 3)
    for values in (["AAPL", "é}"], ["é}", "AAPL", "AAPL"], ["B", "C"], ["A", "B", "C", "D"], ["1"], []):
        made = packing.single_entities(values, ValueType.STRING)
        assert made == [entity_key({"symbol": value}) for value in values]
        assert len(packing._ENTITIES) <= 3
    assert packing.single_entities([1, 2], ValueType.INT64) == [entity_key({"id": 1}), entity_key({"id": 2})]
    assert packing.single_entities([True], ValueType.BOOL) == [entity_key({"id": True})]
    with pytest.raises(InvalidDataError, match="no valid text"):
        packing.single_entities(["\ud800"], ValueType.STRING)
    assert set(packing._ENTITIES) <= {"AAPL", "é}", "B", "C", "1"}
