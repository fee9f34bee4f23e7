"""What this store does beyond Feast's own: four time columns, vintages, pushes, saved data sets, its own errors."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
import tapeline
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, PushSource
from feast.data_source import PushMode
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.types import Float64, String
from feast.value_type import ValueType
from pydantic import ValidationError
from tapeline.core.errors import (
    ConfigurationError,
    InvalidDataError,
    NaiveTimestampError,
    ParameterError,
    SchemaError,
    UnavailableError,
    UnknownNameError,
    VintageError,
)
from tapeline.core.timestamps import to_us
from tapeline.feast_ext import (
    SavedDatasetTimescaleStorage,
    TimescaleLoggingDestination,
    TimescaleSource,
    retrieval_plan,
)
from tapeline.feast_ext.offline_store import TimescaleOfflineStoreConfig

from tests.feast_ext.offline_repository import NOON, apply_drivers, open_store, ours, theirs

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RATES = """
    CREATE TABLE public.rates (symbol text NOT NULL, event_timestamp timestamptz NOT NULL,
        available_timestamp timestamptz NOT NULL, created_timestamp timestamptz NOT NULL DEFAULT now(), sequence bigint,
        rate float8, CHECK (available_timestamp >= event_timestamp));
    INSERT INTO public.rates VALUES
        ('A', '2013-03-01 10:00Z', '2013-03-01 10:00Z', '2013-03-01 10:00Z', 0, 1),
        ('A', '2013-03-01 11:00Z', '2013-03-01 11:30Z', '2013-03-01 11:30Z', 0, 2),
        ('A', '2013-03-01 10:00Z', '2013-03-01 11:40Z', '2013-03-01 11:40Z', 0, 3),
        ('A', '2013-03-01 11:00Z', '2013-03-01 11:30Z', '2013-03-01 11:50Z', 1, 4),
        ('B', '2013-03-01 09:00Z', '2013-03-01 09:00Z', '2013-03-01 09:00Z', 0, NULL);
"""
ALL_TIMES = {
    "available_timestamp_column": "available_timestamp",
    "created_timestamp_column": "created_timestamp",
    "sequence_column": "sequence",
}


def source(**changes: Any) -> TimescaleSource:
    return TimescaleSource(**{"name": "rates", "table": "public.rates", **ALL_TIMES, **changes})


def apply_rates(store: FeatureStore, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(RATES)
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    view = FeatureView(
        name="rates",
        entities=[symbol],
        ttl=timedelta(hours=2),
        schema=[Field(name="symbol", dtype=String), Field(name="rate", dtype=Float64)],
        source=PushSource(name="rates_push", batch_source=source()),
        tags={"tapeline_version": "3"},
    )
    logged = LoggingConfig(destination=TimescaleLoggingDestination("public.served"))
    store.apply([symbol, view, FeatureService(name="rates_service", features=[view], logging_config=logged)])


@pytest.fixture
def store(tmp_path: Path, database: str) -> FeatureStore:
    opened = open_store(tmp_path / "repository", ours(database), coerce_tz_aware=False)
    apply_rates(opened, database)
    return opened


def rates(store: FeatureStore, *times: str, **arguments: Any) -> list[float | None]:
    rows = pd.DataFrame({"symbol": "A", "event_timestamp": pd.to_datetime([f"2013-03-01 {t}Z" for t in times])})
    table = store.get_historical_features(rows, ["rates:rate"], **arguments).to_arrow()
    return table.column("rate").to_pylist()


def test_rows_are_seen_once_available(store: FeatureStore) -> None:
    times = ("09:59", "10:00", "11:00", "11:29", "11:30", "11:45", "13:00", "13:01")
    assert rates(store, *times) == [None, 1, 1, 1, 4, 4, 4, None]


def test_vintages(store: FeatureStore, tmp_path: Path, database: str) -> None:
    with tapeline.as_of("2013-03-01T11:35:00+00:00"):
        assert rates(store, "12:00") == [2]
        job = store.get_historical_features(
            pd.DataFrame({"symbol": ["A"], "event_timestamp": [pd.Timestamp(NOON)]}), ["rates:rate"]
        )
    assert rates(store, "12:00") == [4]
    assert job.to_df().rate.tolist() == [2]  # it was asked for inside the block
    with tapeline.as_of("2999-01-01T00:00:00+00:00"), pytest.raises(VintageError):
        rates(store, "12:00")
    set_so = open_store(tmp_path / "repository", ours(database, vintage="2013-03-01T11:35:00+00:00"))
    assert rates(set_so, "12:00") == [2]
    with tapeline.as_of("2013-03-01T12:00:00+00:00"):
        assert rates(set_so, "12:00") == [4]
    assert rates(open_store(tmp_path / "repository", ours(database, vintage="horizon")), "12:00") == [4]
    with pytest.raises(NaiveTimestampError, match=r"offline_store\.vintage"):
        TimescaleOfflineStoreConfig(url=database, vintage="2013-03-01T11:35:00")
    with pytest.raises(ValidationError, match="either url or host"):
        TimescaleOfflineStoreConfig(url=database, host="localhost", database="x")


def test_by_created_time_of_each_row(store: FeatureStore) -> None:
    assert rates(store, "11:45", "11:50", filter_by_created_timestamp=True) == [2, 4]


def test_a_vintage_of_an_undated_source_is_refused(store: FeatureStore) -> None:
    view = store.get_feature_view("rates")
    undated = TimescaleSource(name="undated", table="public.rates", available_timestamp_column="available_timestamp")
    store.apply(FeatureView(name="undated", entities=[store.get_entity("symbol")], schema=view.schema, source=undated))
    rows = pd.DataFrame({"symbol": ["A"], "event_timestamp": [pd.Timestamp(NOON)]})
    assert store.get_historical_features(rows, ["undated:rate"]).to_df().rate.notna().all()
    with tapeline.as_of("2013-03-01T11:35:00+00:00"), pytest.raises(VintageError, match="no created column"):
        store.get_historical_features(rows, ["undated:rate"])


def test_pulls_take_a_vintage_too(store: FeatureStore, tmp_path: Path, database: str) -> None:
    """What materialization and saved data sets read: all rows of a span, or the newest, as recorded by a moment."""

    def pulled(offline: FeatureStore, what: str, created: str | None = "created_timestamp") -> list[float | None]:
        read = getattr(offline._get_provider().offline_store, f"pull_{what}_from_table_or_query")
        job = read(
            offline.config, source(), ["symbol"], ["rate"], "event_timestamp", created,
            start_date=NOON - timedelta(hours=5), end_date=NOON,
        )  # fmt: skip
        rows = job.to_arrow()
        return [r["rate"] for r in rows.sort_by("event_timestamp").to_pylist() if r["symbol"] == "A"]

    assert (pulled(store, "all"), pulled(store, "latest")) == ([3, 4], [4])
    with tapeline.as_of("2013-03-01T11:35:00+00:00"):
        assert (pulled(store, "all"), pulled(store, "latest")) == ([1, 2], [2])
        for what in ("all", "latest"):
            with pytest.raises(VintageError, match="no created column"):
                pulled(store, what, None)
    set_so = open_store(tmp_path / "repository", ours(database, vintage="2013-03-01T11:35:00+00:00"))
    assert (pulled(set_so, "all"), pulled(set_so, "latest")) == ([1, 2], [2])
    with tapeline.as_of("2999-01-01T00:00:00+00:00"):
        for what in ("all", "latest"):
            with pytest.raises(VintageError, match="safe horizon"):
                pulled(store, what)


def test_a_range_has_a_vintage(store: FeatureStore) -> None:
    span = {"start_date": NOON - timedelta(hours=2), "end_date": NOON}
    with tapeline.as_of("2013-03-01T11:35:00+00:00"):
        frame = store.get_historical_features(features=["rates:rate"], **span).to_df()
    assert frame.rate.tolist() == [1, 2]  # the correction of 11:40 was not recorded yet


def test_a_range_gives_every_moment_of_change(store: FeatureStore) -> None:
    frame = store.get_historical_features(
        features=["rates:rate"], start_date=NOON - timedelta(hours=2), end_date=NOON
    ).to_df()
    assert frame.rate.tolist() == [1, 4, 4]
    assert [f"{t:%H:%M}" for t in frame.event_timestamp] == ["10:00", "11:30", "11:40"]


def online(store: FeatureStore) -> list[float | None]:
    answer = store.get_online_features(["rates:rate"], [{"symbol": "A"}, {"symbol": "B"}]).to_dict()
    return list(answer["rate"])


@pytest.mark.parametrize("latest", [False, True])
def test_windows_bring_late_rows_once_and_none_early(tmp_path: Path, database: str, latest: bool) -> None:
    store = open_store(tmp_path / "repository", ours(database), materialization={"pull_latest_features": latest})
    apply_rates(store, database)
    first, second = NOON - timedelta(minutes=50), NOON
    store.materialize(NOON - timedelta(hours=4), first)
    assert online(store) == [1, None]  # the row of 11:00 is not available yet at 11:10
    store.materialize(first, second)
    assert online(store) == [4, None]


def test_latest_leaves_out_what_an_earlier_window_brought(store: FeatureStore) -> None:
    def latest(start_minutes: int, end_minutes: int) -> list[tuple[str, float | None]]:
        rows = store._get_provider().offline_store.pull_latest_from_table_or_query(
            store.config, source(), ["symbol"], ["rate"], "event_timestamp", "created_timestamp",
            NOON + timedelta(minutes=start_minutes), NOON + timedelta(minutes=end_minutes),
        ).to_arrow()  # fmt: skip
        return sorted(zip(rows.column("symbol").to_pylist(), rows.column("rate").to_pylist(), strict=True))

    assert latest(-300, 0) == [("A", 4), ("B", None)]
    assert latest(-300, -45) == [("A", 1), ("B", None)]
    assert latest(-24, 0) == []  # at 11:40 only the older moment was corrected: what is newest stays


def test_push_appends_and_the_database_dates_it(store: FeatureStore, database: str) -> None:
    pushed = pd.DataFrame(
        {
            "symbol": ["C"],
            "event_timestamp": [pd.Timestamp(NOON)],
            "available_timestamp": [pd.Timestamp(NOON)],
            "created_timestamp": [pd.Timestamp("1999-01-01", tz="UTC")],  # Feast asks for it; it does not count
            "sequence": [7],
            "rate": [9.5],
        }
    )
    store.push("rates_push", pushed, to=PushMode.OFFLINE)
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT rate, sequence, created_timestamp > '2020-01-01Z' FROM public.rates WHERE symbol = 'C'"
        ).fetchall()
        assert row == [(9.5, 7, True)]
        with pytest.raises(InvalidDataError, match="available before its event"):
            store.push(
                "rates_push",
                pushed.assign(available_timestamp=pd.Timestamp(NOON) - pd.Timedelta(hours=1)),
                to=PushMode.OFFLINE,
            )
        with pytest.raises(NaiveTimestampError):
            store.push("rates_push", pushed.assign(event_timestamp=pd.Timestamp("2013-03-01")), to=PushMode.OFFLINE)
        assert connection.execute("SELECT count(*) FROM public.rates").fetchone() == (6,)


def test_a_push_may_be_repeated_and_a_changed_row_is_a_correction(store: FeatureStore, database: str) -> None:
    moment = pd.Timestamp(NOON)
    row = {"symbol": "C", "event_timestamp": moment, "available_timestamp": moment, "created_timestamp": moment}
    pushed = pd.DataFrame([{**row, "sequence": number, "rate": 1.0} for number in (0, 1, 1)])

    def push(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
        store.push("rates_push", frame, to=PushMode.OFFLINE)
        with psycopg.connect(database) as connection:
            return connection.execute(
                "SELECT sequence, rate, available_timestamp > now() - interval '1 min' FROM public.rates"
                " WHERE symbol = 'C' ORDER BY sequence, available_timestamp"
            ).fetchall()

    first = [(0, 1.0, False), (1, 1.0, False)]
    assert push(pushed) == first
    assert push(pushed) == first
    corrected = [*first, (1, 2.0, True)]  # known from its arrival
    for _ in range(2):
        assert push(pushed.tail(1).assign(rate=2.0)) == corrected
    with pytest.raises(InvalidDataError, match=r"comes twice with different content.*symbol C"):
        push(pushed.tail(2).assign(rate=[3.0, 4.0]))
    with pytest.raises(InvalidDataError, match="rate is string"):
        push(pushed.tail(1).assign(rate="high"))
    assert push(pushed.head(1)) == corrected


def test_a_push_to_a_mapped_source_reaches_its_columns(tmp_path: Path, database: str) -> None:
    # By host, as Feast's own source, which it asks for its columns, connects by itself.
    settings = {**theirs(database), "type": ours(database)["type"]}
    drivers = open_store(tmp_path / "drivers", settings, coerce_tz_aware=False)
    apply_drivers(drivers, database)
    row = {
        "driver_id": [9],
        "at": pd.Timestamp(NOON),
        "created": pd.Timestamp(NOON),
        "conv_rate": 0.5,
        "trips": 3,
        "note": "x",
    }
    for rate in (0.5, 0.5, 0.7):
        drivers.write_to_offline_store("driver_stats", pd.DataFrame({**row, "conv_rate": rate}))
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT conv_rate FROM public.driver_stats WHERE driver_id = 9").fetchall()
    assert sorted(found) == [(0.5,), (0.7,)]


def test_saved_dataset_comes_back(store: FeatureStore) -> None:
    rows = pd.DataFrame({"symbol": ["A", "B"], "event_timestamp": pd.to_datetime(["2013-03-01 11:00Z"] * 2)})
    job = store.get_historical_features(rows, ["rates:rate"])
    storage = SavedDatasetTimescaleStorage("public.saved")
    store.create_saved_dataset(job, "saved", storage)
    back = store.get_saved_dataset("saved")
    assert back.storage == storage
    frame = back.to_df().sort_values("symbol")
    assert frame.rate.fillna(-1).tolist() == [1, -1]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)


def test_logged_features_are_appended_once(store: FeatureStore, database: str) -> None:
    service = store.get_feature_service("rates_service")
    logs = pa.table(
        {
            "symbol": ["A"],
            "rate": [1.0],
            "rate__timestamp": pa.array([NOON], pa.timestamp("us", tz="UTC")),
            "rate__status": pa.array([2], pa.int32()),
            "__log_timestamp": pa.array([NOON], pa.timestamp("us", tz="UTC")),
            "__log_date": pa.array([NOON.date()], pa.date32()),
            "__request_id": ["r1"],
        }
    ).rename_columns
    names = ["symbol", "rates__rate", "rates__rate__timestamp", "rates__rate__status"]
    table = logs([*names, "__log_timestamp", "__log_date", "__request_id"])

    def log(rows: pa.Table) -> int:
        store.write_logged_features(rows, service)
        with psycopg.connect(database) as connection:
            found = connection.execute("SELECT count(*) FROM public.served").fetchone()
        assert found is not None
        return int(found[0])

    assert log(table) == log(table) == 1
    twice = pa.concat_tables([table, table])  # a request that asked for the entity twice
    assert log(twice) == log(twice) == log(table) == 2
    assert log(table.set_column(6, "__request_id", pa.array(["r2"]))) == 3
    with pytest.raises(InvalidDataError, match=r"does not fit.*colour"):
        log(table.append_column("colour", pa.array(["red"])))
    with pytest.raises(InvalidDataError, match=r"lack __request_id"):
        log(table.drop_columns(["__request_id"]))
    assert log(table) == 3


def test_plan_of_a_service(store: FeatureStore, tmp_path: Path, database: str) -> None:
    plan = retrieval_plan(store, "rates_service")
    (view,) = plan.views
    assert (view.view, view.version, view.table, view.ttl_us) == ("rates", 3, "public.rates", 7_200_000_000)
    assert (view.entity_columns, view.join_keys, view.output_names) == (("symbol",), ("symbol",), ("rate",))
    assert (view.available_column, view.sequence_column) == ("available_timestamp", "sequence")
    with pytest.raises(UnknownNameError, match="Did you mean rates_service"):
        retrieval_plan(store, "rate_service")
    with pytest.raises(ConfigurationError, match=r"feature_store\.yaml"):
        retrieval_plan(tmp_path / "nothing", "rates_service")
    drivers = open_store(tmp_path / "drivers", ours(database))
    apply_drivers(drivers, database)
    plan = retrieval_plan(drivers, "drivers")
    assert plan.views[0].features == ("conv_rate", "trips")
    assert plan.output_names == ("rate", "trips", "minutes")
    assert plan.entity_columns == ("driver_id", "origin", "target")
    with pytest.raises(ParameterError, match="doubled"):
        retrieval_plan(drivers, "doubled_drivers")


def test_source_survives_the_registry(store: FeatureStore) -> None:
    assert store.get_feature_view("rates").batch_source == source()
    assert source() != source(sequence_column=None)
    query = source(table=None, query="SELECT * FROM public.rates")
    assert TimescaleSource.from_proto(query.to_proto()) == query
    with pytest.raises(ParameterError, match="either a table or a query"):
        source(query="SELECT 1")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"table": "public.rats"}, SchemaError, "does not exist"),
        ({"timestamp_field": "event_time"}, UnknownNameError, "Did you mean event_timestamp"),
        ({"sequence_column": "rate"}, InvalidDataError, "double precision"),
        ({"available_timestamp_column": "symbol"}, InvalidDataError, "text"),
        ({"table": None, "query": "SELEC 1"}, SchemaError, "cannot be read"),
    ],
)
def test_validation_names_what_is_wrong(
    store: FeatureStore, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    source().validate(store.config)
    with pytest.raises(error, match=words):
        source(**changes).validate(store.config)


def test_bad_entity_rows_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    naive = pd.DataFrame({"symbol": ["A"], "event_timestamp": [pd.Timestamp("2013-03-01")]})
    with pytest.raises(NaiveTimestampError):
        store.get_historical_features(naive, ["rates:rate"]).to_df()
    with pytest.raises(SchemaError, match="cannot be run"):
        store.get_historical_features("SELECT * FROM nowhere", ["rates:rate"]).to_df()
    mixed = pd.DataFrame({"symbol": ["A", 1], "event_timestamp": [pd.Timestamp(NOON)] * 2})
    with pytest.raises(InvalidDataError, match="mixes types"):
        store.get_historical_features(mixed, ["rates:rate"])
    away = open_store(tmp_path / "away", {"type": ours("")["type"], "url": "postgresql:///x?host=/nonexistent"})
    with pytest.raises(UnavailableError, match="does not answer"):
        source().validate(away.config)


def test_metadata_and_laziness(store: FeatureStore) -> None:
    query = "SELECT 'A' AS symbol, '2013-03-01 11:30'::timestamp AS event_timestamp FROM public.entities"
    job = store.get_historical_features(query, ["rates:rate"])  # the table is not there yet
    with psycopg.connect(store.config.offline_store.url) as connection:
        connection.execute("CREATE TABLE public.entities AS SELECT generate_series(1, 2)")
    assert job.to_df().rate.tolist() == [4, 4]
    assert (job.metadata.keys, job.metadata.features) == (["symbol"], ["rates:rate"])
    assert to_us(job.metadata.min_event_timestamp) == to_us("2013-03-01T11:30:00+00:00")
    with pytest.raises(NotImplementedError):
        job.to_sql()
