"""Ad-hoc values through Feast, and daily summaries refused as sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field
from feast.types import Float64, String
from feast.value_type import ValueType
from tapeline.core.errors import InvalidDataError
from tapeline.feast_ext import adhoc_source
from tapeline.feast_ext.source import TimescaleSource
from tapeline.feast_ext.views import source
from tapeline.storage.feature_values import append_feature_values

from tests.feast_ext.offline_repository import open_store, ours
from tests.storage.store_rows import SPEC, fill

START = datetime(2013, 3, 1, tzinfo=UTC)


def test_feast_reads_a_namespace(database: str, tmp_path: Path) -> None:
    hours = [START + hour * timedelta(hours=1) for hour in range(3)]
    with psycopg.connect(database) as connection:
        append_feature_values(
            connection,
            "mood",
            pa.table(
                {
                    "symbol": ["AAPL"] * 3,
                    "event_timestamp": pa.array(hours, pa.timestamp("us", "UTC")),
                    "score": [1.0, None, 3.0],
                    "word": ["calm", "tense", None],
                }
            ),
        )
    store = open_store(tmp_path / "repository", ours(database))
    origin = adhoc_source("mood", ["score", "word"], texts=["word"])
    origin.validate(store.config)
    entity = Entity(name="symbol", join_keys=["symbol"], value_type=ValueType.STRING)
    schema = [Field(name="symbol", dtype=String), Field(name="score", dtype=Float64), Field(name="word", dtype=String)]
    store.apply([entity, FeatureView(name="mood", entities=[entity], schema=schema, source=origin, ttl=timedelta(0))])
    asked = pd.DataFrame({"symbol": ["AAPL"] * 3, "event_timestamp": [h + timedelta(minutes=5) for h in hours]})
    found = store.get_historical_features(asked, ["mood:score", "mood:word"]).to_df().sort_values("event_timestamp")
    assert found.score.fillna(-1).tolist() == [1.0, -1, 3.0]
    assert found.word.fillna("-").tolist() == ["calm", "tense", "-"]


def test_a_daily_summary_is_no_source(database: str, tmp_path: Path) -> None:
    store = open_store(tmp_path / "repository", ours(database))
    with psycopg.connect(database) as connection:
        fill(connection, 0)
        connection.execute(
            "CREATE VIEW public.over_it AS SELECT symbol, first_event, rows FROM tapeline.small__v1_daily"
        )
        connection.execute("CREATE VIEW public.over_that AS SELECT * FROM public.over_it")
    source(SPEC).validate(store.config)
    for given in (
        {"table": "tapeline.small__v1_daily"},
        {"table": "public.over_that"},
        {"name": "q", "query": "SELECT o.*, b.symbol FROM public.over_it o JOIN features.small__v1 b USING (symbol)"},
        {"name": "q", "query": "SELECT day AS first_event FROM tapeline.bars_daily"},
    ):
        with pytest.raises(InvalidDataError, match=r"_daily.*daily summary"):
            TimescaleSource(timestamp_field="first_event", **given).validate(store.config)


def test_no_view_of_the_catalogue_reads_a_summary(connection: psycopg.Connection) -> None:
    fill(connection, 0)
    tables = [name for (name,) in connection.execute("SELECT table_name FROM tapeline.feature_view_versions")]
    for table in (*tables, "tapeline.bars", "tapeline.trades", "tapeline.quotes", "tapeline.book_events"):
        assert connection.execute("SELECT tapeline.summaries_read_by(%s::regclass)", (table,)).fetchall() == []
    assert connection.execute("SELECT tapeline.summaries_read_by('tapeline.bars_daily')").fetchall() == [
        ("tapeline.bars_daily",)
    ]
