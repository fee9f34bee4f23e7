"""The repository in ``feature_repo/`` with Feast's own command line and API, on real servers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
import redis
from feast import FeatureStore
from feast.data_source import PushMode
from feast.errors import FeatureViewPinConflict
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from tapeline.core.errors import ParameterError
from tapeline.core.settings import Settings, get_settings
from tapeline.core.timestamps import to_us
from tapeline.feast_ext.lineage import service_plans
from tapeline.feast_ext.resolve import retrieval_plan
from tapeline.feast_ext.views import feature_view
from tapeline.features.catalogue import VIEWS, view
from tapeline.kernels import cache_folder
from tapeline.lineage import find_node, read_lineage, record_all
from tapeline.lineage.consumers import service_name
from tapeline.storage.feature_tables import register_view
from tapeline.storage.keys import entity_key
from tapeline.storage.migrations import migrate
from tapeline.storage.online_reader import OnlineReader, ReadPlan
from tapeline.storage.packed import Layout, row_times

from tests.support.session import SessionServers

pytestmark = pytest.mark.filterwarnings("ignore")

REDIS_DATABASE = 7  # of its own: other tests empty theirs
REPOSITORY = Path(__file__).parents[2] / "feature_repo"
DAILY, INTRADAY = view("daily_technical"), view("intraday_technical")
AVERAGE, MISSING = DAILY.columns.index("sma_20"), DAILY.columns.index("dema_20")
CLOSE = datetime(2013, 3, 1, 21, tzinfo=UTC)
NOW = "2013-03-02T00:00:00+00:00"


class World:
    """A copy of the repository, the servers it finds by settings, and rows in its feature tables."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings
        self.repository = folder / "feature_repo"
        shutil.copytree(REPOSITORY, self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
            "TAPELINE_HOME": str(settings.home),
            "TAPELINE_POSTGRES_URL": str(settings.postgres_url),
            "TAPELINE_REDIS_URL": str(settings.redis_url),
            "TAPELINE_CLOCK": NOW,
            "FEAST_USAGE": "False",
        }

    def feast(self, *arguments: str, succeeds: bool = True, **environment: str) -> str:
        """Run Feast's command in the repository; its output."""
        done = subprocess.run(
            [Path(sys.executable).with_name("feast"), *arguments],
            cwd=self.repository,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) is succeeds, output
        return output

    def add(self, spec, symbol: str, event: datetime, *, lag: timedelta, sequence: int = 0, values=None) -> None:
        """One row of a feature table."""
        numbers = values if values is not None else np.arange(len(spec.columns)) + event.timestamp() % 1e4
        columns = ["symbol", "event_timestamp", "available_timestamp", "sequence", *spec.columns]
        with psycopg.connect(str(self.settings.postgres_url)) as connection:
            connection.execute(
                f"INSERT INTO features.{spec.table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",
                [symbol, event, event + lag, sequence, *(None if n is None else float(n) for n in numbers)],
            )


@pytest.fixture(scope="module")
def world(servers: SessionServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all tests of this module, applied: Feast takes seconds to start."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "kernels").symlink_to(cache_folder().parent)  # compiled code is this process's
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE feature_repo TEMPLATE template0")
    settings = Settings(
        home=folder, postgres_url=servers.postgres_url("feature_repo"), redis_url=servers.redis_url(REDIS_DATABASE)
    )
    with psycopg.connect(str(settings.postgres_url)) as connection:
        migrate(connection)
        for spec in VIEWS:
            register_view(connection, spec)
    world = World(folder, settings)
    for day in range(3):
        for number, symbol in enumerate(("AAPL", "MSFT")):
            values = np.arange(len(DAILY.columns)) + 100.0 * number + day
            values[MISSING] = np.nan
            world.add(DAILY, symbol, CLOSE - timedelta(days=day), lag=timedelta(minutes=15), values=values)
    world.add(INTRADAY, "ES", CLOSE, lag=timedelta(0), sequence=2**53 + 1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.environment.items():
            patch.setenv(name, value)
        get_settings.cache_clear()
        yield world
    get_settings.cache_clear()
    with psycopg.connect(servers.postgres_url("postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE feature_repo WITH (FORCE)")


@pytest.fixture
def client(world: World) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(str(world.settings.redis_url)) as connection:
        connection.flushdb()
        yield connection


@pytest.fixture
def store(world: World, client: redis.Redis) -> FeatureStore:
    """The repository, applied."""
    if not (world.repository / "applied").exists():
        world.feast("apply")
        (world.repository / "applied").touch()
    return FeatureStore(repo_path=str(world.repository))


def _columns(store: FeatureStore, service: str) -> list[str]:
    """What a service takes of the daily indicators."""
    (projection, *_) = store.get_feature_service(service).feature_view_projections
    return [feature.name for feature in projection.features]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_feast_command_line_from_apply_to_teardown(world: World, client: redis.Redis) -> None:
    assert "daily_technical" in world.feast("plan")
    world.feast("apply")
    with psycopg.connect(str(world.settings.postgres_url)) as connection:
        tables = {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'feast'")}
        public = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert "feature_views" in tables
    assert public == (0,)

    client.set("tl:tapeline:state:daily_technical@2:AAPL", b"state")
    client.set("tl:other:daily_technical@2:s4:AAPL", b"x")
    # The day's rows were available 15 minutes after the close: at the close itself, yesterday's are the newest.
    world.feast("materialize", "2013-01-01T00:00:00", "2013-03-01T21:00:00")
    apple = b"tl:tapeline:daily_technical@2:{s4:AAPL}"
    assert row_times(client.get(apple)).event_us == to_us(CLOSE - timedelta(days=1))
    world.feast("materialize-incremental", "2013-03-02T00:00:00")
    times = row_times(client.get(apple))
    assert times.event_us == to_us(CLOSE)
    assert times.available_us == to_us(CLOSE + timedelta(minutes=15))
    assert times.sequence == 0
    (future,) = [client.get(key) for key in client.scan_iter("tl:tapeline:intraday_technical@2:*")]
    assert row_times(future).sequence == 2**53 + 1

    store = FeatureStore(repo_path=str(world.repository))
    assert {view.name for view in store.list_feature_views()} == {spec.name for spec in VIEWS}
    response = store.get_online_features(
        features=store.get_feature_service("daily_model"), entity_rows=[{"symbol": "MSFT"}, {"symbol": "IBM"}]
    )
    answer = response.to_dict()
    assert list(answer) == ["symbol", *_columns(store, "daily_model")]
    assert answer["sma_20"] == [100.0 + AVERAGE, None]
    assert np.isnan(answer["dema_20"][0]), "a NaN stays a NaN"
    layout = Layout.of_floats("daily_technical", 2, DAILY.columns)
    matrix = OnlineReader(client, ReadPlan("tapeline", [layout])).read([entity_key({"symbol": "MSFT"})])
    assert matrix.values[0].tolist()[:3] == [100.0, 101.0, 102.0], "the direct reader sees the same"

    world.feast("teardown")
    assert sorted(client.keys()) == [b"tl:other:daily_technical@2:s4:AAPL", b"tl:tapeline:state:daily_technical@2:AAPL"]


@pytest.mark.timeout(280)
def test_retrieval_online_and_historical_agree_with_on_demand_features(store: FeatureStore) -> None:
    store.materialize(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 2, tzinfo=UTC))
    service = store.get_feature_service("daily_with_last_price")
    price = 1.5 * (100.0 + AVERAGE)
    online = store.get_online_features(features=service, entity_rows=[{"symbol": "MSFT", "last_price": price}])
    entities = pd.DataFrame(
        {"symbol": ["MSFT"], "event_timestamp": [datetime(2013, 3, 2, tzinfo=UTC)], "last_price": [price]}
    )
    historical = store.get_historical_features(entity_df=entities, features=service).to_df().iloc[0]
    answer = online.to_dict()
    assert "last_price" not in answer
    columns = _columns(store, "daily_with_last_price")
    for name in (*columns, "distance_to_sma_20", "position_in_bbands_20"):
        a, b = answer[name][0], historical[name]
        assert a == b or (pd.isna(a) and pd.isna(b)), name
    assert answer["distance_to_sma_20"] == [0.5]
    names = list(online.proto.metadata.feature_names.val)
    assert names == ["symbol", *columns, "distance_to_sma_20", "position_in_bbands_20"]

    missing = store.get_online_features(features=service, entity_rows=[{"symbol": "IBM", "last_price": 150.0}])
    assert missing.to_dict()["distance_to_sma_20"] == [None]
    statuses = dict(zip(missing.proto.metadata.feature_names.val, missing.proto.results, strict=True))
    assert list(statuses["sma_20"].statuses) == [FieldStatus.NOT_FOUND]


@pytest.mark.timeout(280)
def test_a_first_incremental_materialization_over_history_is_refused(
    world: World, store: FeatureStore, client: redis.Redis
) -> None:
    """Feast begins it a TTL before today; what it would leave out must not count as done."""
    spec = dataclasses.replace(DAILY, name="never_materialized")
    with psycopg.connect(str(world.settings.postgres_url)) as connection:
        register_view(connection, spec)
    view = feature_view(spec, store.get_entity("symbol"))
    store.apply([view])
    try:
        with pytest.raises(ParameterError, match=r"would run backwards.*feast materialize START END"):
            store.materialize_incremental(datetime(2013, 3, 2, tzinfo=UTC), feature_views=[spec.name])
        assert store.get_feature_view(spec.name).materialization_intervals == []
        assert client.keys() == []
    finally:
        store.apply([], objects_to_delete=[view], partial=False)


@pytest.mark.timeout(280)
def test_feasts_command_tells_an_error_in_a_line(world: World) -> None:
    away = {"TAPELINE_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none"}
    lines = world.feast("entities", "list", succeeds=False, **away).splitlines()
    assert lines[-1].startswith("error: UnavailableError: PostgreSQL does not answer")
    assert "TAPELINE_POSTGRES_URL" in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    assert "Traceback" in world.feast("--log-level", "DEBUG", "entities", "list", succeeds=False, **away)


@pytest.mark.timeout(280)
def test_a_flushed_store_is_rebuilt_by_one_command(world: World, store: FeatureStore, client: redis.Redis) -> None:
    store.materialize(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 2, tzinfo=UTC))
    values = "tl:tapeline:*_technical@2:*"
    before = {key: client.get(key) for key in client.scan_iter(values)}
    assert before
    client.flushdb()
    client.set("tl:tapeline:daily_technical@2:s4:AAPL", b"of the older form")
    done = subprocess.run(
        [Path(sys.executable).with_name("tapeline"), "rebuild-online", "--json"],
        cwd=world.repository.parent, env=world.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {key: client.get(key) for key in client.scan_iter(values)} == before
    assert told["seconds"] > 0
    assert {f"{row['view']}@{row['version']}": row["entities"] for row in told["views"]}["daily_technical@2"] == 2
    unknown = subprocess.run(
        [Path(sys.executable).with_name("tapeline"), "rebuild-online", "daily_tecnical"],
        cwd=world.repository.parent, env=world.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert unknown.returncode != 0
    assert "daily_technical" in unknown.stderr


@pytest.mark.timeout(280)
def test_push_writes_online_offline_or_both(world: World, store: FeatureStore, client: redis.Redis) -> None:
    def rows(symbol: str) -> pd.DataFrame:
        moment = CLOSE + timedelta(hours=2, minutes=30)
        times = {"event_timestamp": moment, "available_timestamp": moment, "created_timestamp": moment, "sequence": 7}
        return pd.DataFrame([{"symbol": symbol, **times, **dict.fromkeys(INTRADAY.columns, 1.5)}])

    def offline(symbol: str) -> int:
        with psycopg.connect(str(world.settings.postgres_url)) as connection:
            row = connection.execute(
                f"SELECT count(*) FROM features.{INTRADAY.table} WHERE symbol = %s AND sequence = 7", (symbol,)
            ).fetchone()
        assert row is not None
        return row[0]

    for symbol, mode, counts in (
        ("A", PushMode.ONLINE, (1, 0)),
        ("B", PushMode.OFFLINE, (0, 1)),
        ("C", PushMode.ONLINE_AND_OFFLINE, (1, 1)),
    ):
        store.push("intraday_technical_push", rows(symbol), to=mode)
        assert (client.exists(f"tl:tapeline:intraday_technical@2:{{s1:{symbol}}}"), offline(symbol)) == counts
    answer = store.get_online_features(
        features=["intraday_technical:rsi_14"], entity_rows=[{"symbol": "A"}, {"symbol": "B"}]
    ).to_dict()
    assert answer["rsi_14"] == [1.5, None]


@pytest.mark.timeout(280)
def test_a_changed_definition_needs_a_new_version(store: FeatureStore) -> None:
    changed = dataclasses.replace(DAILY, features=DAILY.features[:-1])
    with pytest.raises(FeatureViewPinConflict, match=r"daily_technical.*v2"):
        store.apply([feature_view(changed, store.get_entity("symbol"))])


def test_the_address_is_found_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``feast`` in a folder below the one where ``tapeline up`` ran finds its servers without any variable set."""
    for name in ("TAPELINE_HOME", "TAPELINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".tapeline").mkdir()
    below = tmp_path / "feature_repo" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Settings().home_path == tmp_path / ".tapeline"
    monkeypatch.setenv("TAPELINE_HOME", str(below))
    assert Settings().home_path == below


def test_the_lineage_of_services_and_on_demand_views(world: World, store: FeatureStore) -> None:
    with psycopg.connect(str(world.settings.postgres_url)) as connection:
        report = record_all(connection, service_plans(world.repository))
        assert (report.services, report.left_out) == (len(store.list_feature_services()), [])
        assert record_all(connection, service_plans(store)).edges_added == 0
        computed = read_lineage(connection, find_node(connection, "last_price_position@1:distance_to_sma_20"))
        service = read_lineage(connection, find_node(connection, "service:daily_model"), "up")
        plan = json.loads(json.dumps(retrieval_plan(store, "daily_model").to_dict()))
        assert service.start.name == service_name(plan)  # an export finds the same node
    features = {key.name for key in computed.nodes if key.kind == "feature" and key != computed.start}
    assert features == {
        f"daily_technical@2:{name}" for name in ("sma_20", "bbands_upper_20_2_2", "bbands_lower_20_2_2")
    }
    columns = {key.name for key in computed.nodes if key.kind == "column"}
    assert columns == {"us-daily.close", "corporate_actions.ratio", "last_price.last_price"}
    assert {key.name.partition("#")[0] for key in computed.nodes if key.kind == "service"} == {"daily_with_last_price"}
    selected = {edge.upstream.name for edge in service.up if edge.downstream == service.start}
    assert selected == {"daily_technical@2", *(f"daily_technical@2:{name}" for name in _columns(store, "daily_model"))}
