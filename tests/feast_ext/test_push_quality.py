"""Feast's pushes pass the quality gate: scores stand with the rows, and a refused push writes nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pandera.polars as pa
import psycopg
import pytest
from feast import Entity, FeatureStore
from feast.data_source import PushMode
from feast.value_type import ValueType
from tapeline.compute import backfill
from tapeline.core.errors import QualityError
from tapeline.core.settings import get_settings
from tapeline.feast_ext.views import feature_view
from tapeline.quality import definition as definitions
from tapeline.quality import quality_rules
from tapeline.storage.feature_tables import qualified_name

from tests.compute.oracle import BARS, record
from tests.feast_ext.offline_repository import NOON, open_store, ours
from tests.feast_ext.test_offline_store import apply_rates
from tests.quality.test_statistics import history

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_DEFINED", {})


@pytest.fixture
def own(tmp_path: Path, connection: psycopg.Connection, database: str) -> FeatureStore:
    """A repository with a view of Tapeline's own, thirty days of which are computed."""
    record(connection, BARS, [history("A", 30)], 0)
    backfill(connection, BARS)
    store = open_store(tmp_path, ours(database), coerce_tz_aware=False)
    symbol = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    store.apply([symbol, feature_view(BARS, symbol)])
    return store


def pushed(days: int, atr: float = 1.0, symbol: str = "A") -> pd.DataFrame:
    events = [NOON + timedelta(days=day) for day in range(days)]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "event_timestamp": events,
            "available_timestamp": events,
            "created_timestamp": events,
            "sequence": 0,
            "ema_2": 100.0,
            "atr_2": atr,
            "obv": 5.0,
            "return_1": 0.01,
        }
    )


def rows_of(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.commit()
    return row[0]


def scores(connection: psycopg.Connection) -> list[tuple]:
    rows = connection.execute(
        "SELECT view, version, verdict, rows, rows_valid, rows_corrected FROM tapeline.quality_scores"
        " WHERE origin = 'push' ORDER BY id"
    ).fetchall()
    connection.commit()
    return rows


def test_a_sound_push_is_scored_and_its_days_are_marked(own: FeatureStore, connection: psycopg.Connection) -> None:
    before = rows_of(connection, "tapeline.stale_statistics")
    own.push("bars_view_push", pushed(3), to=PushMode.OFFLINE)
    own.push("bars_view_push", pushed(1, atr=2.0), to=PushMode.OFFLINE)
    assert rows_of(connection, qualified_name(BARS)) == 34
    assert rows_of(connection, "tapeline.stale_statistics") == before + 2
    assert scores(connection) == [("bars_view", 1, "passed", 3, 3, 0), ("bars_view", 1, "warned", 1, 1, 1)]


def test_a_value_that_cannot_be_is_told_of(own: FeatureStore, connection: psycopg.Connection) -> None:
    own.push("bars_view_push", pushed(2, atr=-1.0), to=PushMode.OFFLINE)
    assert scores(connection) == [("bars_view", 1, "warned", 2, 0, 0)]
    fault = connection.execute("SELECT faults FROM tapeline.quality_scores WHERE origin = 'push'").fetchone()[0][0]
    assert (fault["rule"], fault["features"]) == ("range", {"atr_2": 2})
    own.push("bars_view_push", pushed(2, symbol="NEW"), to=PushMode.OFFLINE)  # ATR cannot have a value in its first row
    assert scores(connection)[-1] == ("bars_view", 1, "warned", 2, 0, 0)


def test_a_refused_push_writes_nothing_and_can_be_overridden(
    own: FeatureStore, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality_rules("bars_view", 1, actions={"range": "block"})(pa.DataFrameSchema({}))
    marks = rows_of(connection, "tapeline.stale_statistics")
    with pytest.raises(
        QualityError, match=r"rule range: .*atr_2.*A at 2013-03-01.*TAPELINE_QUALITY_OVERRIDE=bars_view@1"
    ):
        own.push("bars_view_push", pushed(2, atr=-1.0), to=PushMode.OFFLINE)
    assert rows_of(connection, qualified_name(BARS)) == 30
    assert rows_of(connection, "tapeline.stale_statistics") == marks
    assert scores(connection) == [("bars_view", 1, "blocked", 2, 0, 0)]
    monkeypatch.setenv("TAPELINE_QUALITY_OVERRIDE", "bars_view")
    get_settings.cache_clear()
    try:
        own.push("bars_view_push", pushed(2, atr=-1.0), to=PushMode.OFFLINE)
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
    assert rows_of(connection, qualified_name(BARS)) == 32
    assert scores(connection)[-1] == ("bars_view", 1, "overridden", 2, 0, 0)


def test_somebody_elses_view_has_its_own_rules(tmp_path: Path, connection: psycopg.Connection, database: str) -> None:
    store = open_store(tmp_path, ours(database), coerce_tz_aware=False)
    apply_rates(store, database)
    quality_rules("rates", action="block")(
        pa.DataFrameSchema({"rate": pa.Column(float, pa.Check.lt(10), nullable=True)})
    )
    rows = pd.DataFrame(
        {"symbol": ["A", "B"], "event_timestamp": NOON, "available_timestamp": NOON, "created_timestamp": NOON,
         "sequence": 0, "rate": [9.0, None]}
    )  # fmt: skip
    store.push("rates_push", rows, to=PushMode.OFFLINE)
    with pytest.raises(QualityError, match=r"rate: less_than\(10\).*B at 2013-03-01T12:00:00\+00:00: rate is 11"):
        store.push("rates_push", rows.assign(rate=[9.0, 11.0]), to=PushMode.OFFLINE)
    assert rows_of(connection, "public.rates") == 7
    assert [row[2:5] for row in scores(connection)] == [("passed", 2, 2), ("blocked", 2, 1)]
    assert rows_of(connection, "tapeline.stale_statistics") == 0
