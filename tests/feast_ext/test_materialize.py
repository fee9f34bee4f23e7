"""Materialization from PostgreSQL to Redis: late rows, kills, flushes, and everything brought back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from tapeline.core.errors import ConfigurationError, UnknownNameError, VintageError
from tapeline.datasets.vintage import as_of
from tapeline.feast_ext import TimescaleSource, rebuild_online
from tapeline.feast_ext.materialize import Materializer
from tapeline.storage import OnlineReader, ReadPlan, entity_key
from tapeline.storage.materialized import read_materialized
from tapeline.storage.packed import Layout

pytestmark = pytest.mark.filterwarnings("ignore")

FIRST = datetime(2013, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAYOUT = Layout.of_floats("stats", 0, ["rate", "load"])
MANY = 5_000


class World:
    """A table of rows, a view over it, and an online store of its own."""

    def __init__(self, folder: Path, database: str, redis_url: str, *, created: bool = True) -> None:
        self.database = database
        self.client = redis.Redis.from_url(redis_url)
        with psycopg.connect(database) as connection:
            connection.execute(
                "CREATE TABLE public.stats (symbol text, account bigint, at timestamptz, available timestamptz,"
                " created timestamptz NOT NULL DEFAULT now(), number bigint, rate float8, load float8)"
            )
            connection.execute("CREATE INDEX ON public.stats (account, symbol, at DESC)")
        self.config = RepoConfig(
            project="p",
            provider="local",
            registry={"path": str(folder / "registry.db")},
            offline_store={"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": database},
            online_store={
                "type": "tapeline.feast_ext.PackedRedisOnlineStore",
                "connection_string": redis_url,
                "clock": "2013-03-02T00:00:00+00:00",
            },
            batch_engine={"type": "tapeline.feast_ext.engine.PackedComputeEngine"},
            entity_key_serialization_version=3,
        )
        entities = [
            Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING),
            Entity(name="account", join_keys=["account"], value_type=ValueType.INT64),
        ]
        self.view = FeatureView(
            name="stats",
            entities=entities,
            ttl=timedelta(0),
            schema=[
                Field(name="symbol", dtype=String), Field(name="account", dtype=Int64), Field(name="rate", dtype=Float64),
                Field(name="load", dtype=Float64),
            ],
            source=TimescaleSource(
                name="stats", table="public.stats", timestamp_field="at", available_timestamp_column="available",
                created_timestamp_column="created" if created else None, sequence_column="number",
            ),
        )  # fmt: skip
        self.store = FeatureStore(config=self.config)
        self.store.apply([*entities, self.view])
        self.reader = OnlineReader(self.client, ReadPlan("p", [LAYOUT]))

    def add(self, account: int, hours: float, rate: float, *, lag: timedelta = timedelta(0), number: int = 0) -> None:
        at = FIRST + hours * HOUR
        with psycopg.connect(self.database) as connection:
            connection.execute(
                "INSERT INTO public.stats VALUES ('A', %s, %s, %s, DEFAULT, %s, %s, 0)",
                (account, at, at + lag, number, rate),
            )

    def add_many(self, rate: float = 1.0) -> None:
        with psycopg.connect(self.database) as connection:
            connection.execute(
                "INSERT INTO public.stats SELECT 'A', g, %s, %s, now(), 0, %s + g, 0 FROM generate_series(1, %s) g",
                (FIRST, FIRST, rate, MANY),
            )

    def rates(self, *accounts: int) -> list[float | None]:
        matrix = self.reader.read([entity_key({"symbol": "A", "account": account}) for account in accounts])
        return [None if np.isnan(rate) else rate for rate in matrix.values[:, 0].tolist()]

    def materializer(self) -> Materializer:
        store = FeatureStore(config=self.config)
        return Materializer(store.config, store._get_provider().online_store)

    def incremental(self, hours: float) -> None:
        self.store.materialize_incremental(FIRST + hours * HOUR)


@pytest.fixture
def world(tmp_path: Path, database: str, redis_url: str) -> Iterator[World]:
    made = World(tmp_path, database, redis_url)
    yield made
    made.client.close()


class KilledError(Exception):
    """What stands for a kill in the same process: nothing of the run's own code runs after it."""


def killed_after(batches: int) -> Any:
    seen = []

    def show(count: int) -> None:
        seen.append(count)
        if len(seen) == batches:
            raise KilledError

    return show


def test_rows_that_come_late_are_brought_by_the_next_run(world: World) -> None:
    for account in (1, 2, 3):
        world.add(account, 1, account)
    world.store.materialize(FIRST, FIRST + 2 * HOUR)
    assert world.rates(1, 2, 3, 4) == [1.0, 2.0, 3.0, None]
    world.add(1, 1.5, 10.0)  # of the range that is done
    world.add(2, 1, 20.0)  # a correction of a row that was brought
    world.add(3, 0.5, 30.0)  # older than what was brought
    world.add(4, -48, 40.0)  # of before all ranges
    world.add(5, 3.5, 50.0)  # not visible yet
    world.add(6, 1, 60.0, lag=4 * HOUR)  # not available yet
    world.incremental(3)
    assert world.rates(1, 2, 3, 4, 5, 6) == [10.0, 20.0, 3.0, 40.0, None, None]
    world.incremental(6)
    assert world.rates(1, 2, 3, 4, 5, 6) == [10.0, 20.0, 3.0, 40.0, 50.0, 60.0]


def test_a_run_reads_only_what_is_new(world: World) -> None:
    world.add_many()
    assert world.materializer().materialize(world.view, FIRST, FIRST + HOUR).entities == MANY
    world.add(7, 0.5, 70.0)
    again = world.materializer().materialize(world.view, FIRST + HOUR, FIRST + 2 * HOUR)
    assert (again.entities, again.values, again.resumed) == (1, 1, False)
    assert world.rates(7, 8) == [70.0, 9.0]


def test_a_run_over_an_earlier_range_does_not_hide_late_rows(world: World) -> None:
    world.add(1, 1, 1.0)
    world.store.materialize(FIRST, FIRST + 5 * HOUR)
    world.add(1, 4, 2.0)
    world.store.materialize(FIRST - HOUR, FIRST + 2 * HOUR)
    world.incremental(6)
    assert world.rates(1) == [2.0]


def test_a_killed_run_goes_on_where_it_stood(world: World) -> None:
    world.add_many()
    with pytest.raises(KilledError):
        world.materializer().materialize(world.view, FIRST, FIRST + HOUR, show=killed_after(1))
    written = len(list(world.client.scan_iter("tl:p:stats*")))
    assert 0 < written < MANY
    world.add(1, 0.5, 99.0)  # of an entity that was done, while the run lay dead
    world.add(MANY, 0.5, 98.0)  # and of one that was not
    resumed = world.materializer().materialize(world.view, FIRST, FIRST + HOUR)
    assert resumed.resumed
    assert resumed.entities < MANY
    assert None not in world.rates(*range(1, MANY + 1))
    assert world.rates(MANY) == [98.0]
    world.materializer().materialize(world.view, FIRST + HOUR, FIRST + 2 * HOUR)
    assert world.rates(1) == [99.0], "found by when it was recorded"
    assert read_materialized(world.client, "p", "stats", 0).run is None


def test_a_killed_run_is_ended_by_one_over_a_longer_range(world: World) -> None:
    world.add_many()
    with pytest.raises(KilledError):
        world.materializer().materialize(world.view, FIRST, FIRST + HOUR, show=killed_after(2))
    world.add(1, 1.5, 99.0)
    longer = world.materializer().materialize(world.view, FIRST, FIRST + 2 * HOUR)
    assert longer.resumed
    assert world.rates(1, 2) == [99.0, 3.0]
    assert None not in world.rates(*range(1, MANY + 1))


@pytest.mark.parametrize("start_hours", [-1.0, None])
def test_a_killed_run_is_given_up_by_one_over_another_range(world: World, start_hours: float | None) -> None:
    world.add_many()
    with pytest.raises(KilledError):
        world.materializer().materialize(world.view, FIRST, FIRST + HOUR, show=killed_after(1))
    start = None if start_hours is None else FIRST + start_hours * HOUR
    other = world.materializer().materialize(world.view, start, FIRST + HOUR)
    assert (other.resumed, other.entities) == (False, MANY)


def test_without_created_times_a_run_begins_again(tmp_path: Path, database: str, redis_url: str) -> None:
    world = World(tmp_path, database, redis_url, created=False)
    world.add_many()
    with pytest.raises(KilledError):
        world.materializer().materialize(world.view, FIRST, FIRST + HOUR, show=killed_after(1))
    again = world.materializer().materialize(world.view, FIRST, FIRST + HOUR)
    assert (again.resumed, again.entities) == (False, MANY)
    with as_of(FIRST), pytest.raises(VintageError, match="no created column"):
        world.materializer().materialize(world.view, FIRST, FIRST + HOUR)


def test_after_a_flush_an_incremental_run_brings_everything_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for account in (1, 2):
        world.add(account, 1, account)
    world.store.materialize(FIRST, FIRST + 2 * HOUR)
    world.client.flushdb()
    world.add(2, 2.5, 20.0)
    assert world.rates(1, 2) == [None, None], "missing, not wrong"
    world.incremental(3)
    assert world.rates(1, 2) == [1.0, 20.0]
    assert "brought again" in caplog.text


CHILD = """
import sys
from datetime import datetime
from feast import FeatureStore, RepoConfig
from tapeline.feast_ext.materialize import Materializer
store = FeatureStore(config=RepoConfig(**__import__("json").loads(sys.argv[1])))
def show(count):
    print(count, flush=True)
Materializer(store.config, store._get_provider().online_store).materialize(
    store.get_feature_view("stats"), datetime.fromisoformat(sys.argv[2]), datetime.fromisoformat(sys.argv[3]), show=show)
"""


@pytest.mark.timeout(200)
def test_a_process_that_is_killed_loses_nothing(world: World) -> None:
    with psycopg.connect(world.database) as connection:
        connection.execute(
            "INSERT INTO public.stats SELECT 'A', g, %s, %s, now(), 0, g, 0 FROM generate_series(1, 30000) g",
            (FIRST, FIRST),
        )
        connection.execute("ANALYZE public.stats")
    configuration = json.dumps(
        {
            "project": "p", "provider": "local", "registry": {"path": str(world.config.registry.path)},
            "offline_store": {"type": "tapeline.feast_ext.TimescaleOfflineStore", "url": world.database},
            "online_store": {
                "type": "tapeline.feast_ext.PackedRedisOnlineStore",
                "connection_string": world.config.online_store.connection_string, "clock": "live",
            },
            "entity_key_serialization_version": 3,
        }
    )  # fmt: skip
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        CHILD,
        configuration,
        FIRST.isoformat(),
        (FIRST + HOUR).isoformat(),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) > 0
        child.send_signal(signal.SIGKILL)
    resumed = world.materializer().materialize(world.view, FIRST, FIRST + HOUR)
    assert resumed.resumed
    assert 0 < resumed.entities < 30_000
    assert len(list(world.client.scan_iter("tl:p:stats*", count=10_000))) == 30_000
    assert world.rates(1, 15_000, 30_000) == [1.0, 15_000.0, 30_000.0]


def test_everything_is_brought_back_after_a_flush(world: World) -> None:
    world.add_many()
    world.add(1, 1, 11.0)
    world.add(2, 1, 22.0, number=7)
    world.store.materialize(FIRST, FIRST + 2 * HOUR)
    world.add(3, 12, 33.0)  # a stream may have brought it online, too: it is visible by the store's clock
    world.add(4, 48, 44.0)  # and this is not
    before = {key: world.client.get(key) for key in world.client.scan_iter("tl:p:stats*")}
    world.client.flushdb()
    world.client.set("tl:p:stats@0:s1:Ai1:1", b"of an older form")
    shown: list[tuple[str, int]] = []
    (rebuilt,) = rebuild_online(world.store, show=lambda label, count: shown.append((label, count)))
    assert (rebuilt.view, rebuilt.version, rebuilt.entities, rebuilt.values) == ("stats", 0, MANY, MANY)
    assert sum(count for _, count in shown) == MANY
    assert {label for label, _ in shown} == {"stats@0"}
    after = {key: world.client.get(key) for key in world.client.scan_iter("tl:p:stats*")}
    assert set(after) == set(before)
    assert [key for key in after if after[key] != before[key]] == [b"tl:p:stats@0:{i1:3s1:A}"]
    assert world.rates(1, 2, 3, 4, 5) == [11.0, 22.0, 33.0, 5.0, 6.0]
    (again,) = rebuild_online(world.store, ["stats"])
    assert (again.entities, again.values) == (MANY, 0)


def test_what_cannot_be_rebuilt_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="stats"):
        list(rebuild_online(world.store, ["stat"]))
    with pytest.raises(ConfigurationError, match="no Feast repository"):
        list(rebuild_online(tmp_path / "nowhere"))
    other = FeatureStore(
        config=RepoConfig(
            project="p", provider="local", registry=str(tmp_path / "other.db"),
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")}, entity_key_serialization_version=3,
        )
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="online store is another one"):
        list(rebuild_online(other))


def test_a_view_of_another_source_is_rebuilt_by_feasts_own_engine(world: World, tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "files.parquet"
    pd.DataFrame({"symbol": ["A"], "event_timestamp": [FIRST], "level": [4.5]}).to_parquet(path)
    symbol = world.store.get_entity("symbol")
    files = FeatureView(
        name="files", entities=[symbol], ttl=timedelta(0), source=FileSource(path=str(path), timestamp_field="event_timestamp"),
        schema=[Field(name="symbol", dtype=String), Field(name="level", dtype=Float64)],
    )  # fmt: skip
    config = world.config.model_copy()
    store = FeatureStore(
        config=RepoConfig(
            project="q", provider="local", registry=str(tmp_path / "q.db"), offline_store={"type": "file"},
            online_store=config.online_store.model_dump(), entity_key_serialization_version=3,
        )
    )  # fmt: skip
    store.apply([symbol, files])
    store.materialize(FIRST - HOUR, FIRST + HOUR)
    world.client.flushdb()
    (rebuilt,) = rebuild_online(store)
    assert (rebuilt.view, rebuilt.entities) == ("files", None)
    assert store.get_online_features(["files:level"], [{"symbol": "A"}]).to_dict()["level"] == [4.5]
